"""Waits after failures: each name by itself, longer each time, forgotten once it succeeds."""

from service.kit.retries import Retries


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nobody_waits_before_a_failure_and_others_never():
    retries = Retries(4, 300, clock=Clock())
    assert not retries.is_waiting("a")
    retries.failed("a")
    assert retries.is_waiting("a")
    assert not retries.is_waiting("b")


def test_each_failure_doubles_the_wait_up_to_the_longest():
    clock = Clock()
    retries = Retries(4, 20, clock=clock)
    assert [retries.failed("a") for _ in range(5)] == [4, 8, 16, 20, 20]
    clock.now = 19.9
    assert retries.is_waiting("a")
    clock.now = 20
    assert not retries.is_waiting("a")


def test_a_success_and_having_nothing_left_to_do_end_the_waits():
    retries = Retries(4, 300, clock=Clock())
    for name in ("a", "b", "c"):
        retries.failed(name)
    retries.succeeded("a")
    retries.keep({"a", "b"})
    assert [retries.is_waiting(name) for name in ("a", "b", "c")] == [False, True, False]
    assert retries.failed("c") == 4
