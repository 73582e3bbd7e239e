"""Holds of one process, in memory."""

from service.checks.local_holds import LocalHolds


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_hold_counts_until_it_is_released_or_its_time_is_over():
    clock = Clock()
    holds = LocalHolds(clock)
    holds.place("t", "a", dict.fromkeys(["x", "y"], 5), 10)
    holds.place("t", "b", dict.fromkeys(["x"], 7), 20)
    assert (holds.held_micro_usd("x"), holds.held_micro_usd("y")) == (12, 5)
    clock.now = 10
    holds.drop_lapsed()
    assert (holds.held_micro_usd("x"), holds.held_micro_usd("y")) == (7, 0)
    assert holds.release("t", "b")
    assert not holds.release("t", "b")
    assert holds.held_micro_usd("x") == 0


def test_a_hold_placed_again_ends_by_its_new_time():
    clock = Clock()
    holds = LocalHolds(clock)
    holds.place("t", "a", dict.fromkeys(["x"], 5), 10)
    holds.place("t", "a", dict.fromkeys(["x"], 6), 30)
    clock.now = 10
    holds.drop_lapsed()
    assert holds.held_micro_usd("x") == 6
    assert holds.has("t", "a")
    clock.now = 30
    holds.drop_lapsed()
    assert holds.held_micro_usd("x") == 0


def test_released_holds_leave_nothing_behind():
    holds = LocalHolds(Clock())
    for number in range(1_000):
        holds.place("t", f"r{number}", {"x": 1}, 86_400)
        holds.release("t", f"r{number}")
    assert len(holds._ends) < 100
    assert holds.held_micro_usd("x") == 0
