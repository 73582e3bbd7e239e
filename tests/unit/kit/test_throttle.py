from service.kit.throttle import Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_admitted_then_as_many_as_come_back_with_time():
    clock = Clock()
    throttle = Throttle(clock, per_second=2, burst=3)
    assert [throttle.take("a") for _ in range(4)] == [True, True, True, False]
    clock.now = 0.4
    assert not throttle.take("a")
    clock.now = 0.5
    assert throttle.take("a")
    clock.now = 1000
    assert [throttle.take("a") for _ in range(4)] == [True, True, True, False]


def test_one_name_takes_nothing_from_another():
    throttle = Throttle(Clock(), per_second=1, burst=1)
    assert throttle.take("a")
    assert not throttle.take("a")
    assert throttle.take("b")


def test_only_so_many_names_are_remembered_those_used_last():
    throttle = Throttle(Clock(), per_second=1, burst=1, most_names=2)
    for name in ("a", "b", "a", "c"):
        throttle.take(name)
    assert not throttle.take("a")
    assert throttle.take("b")
