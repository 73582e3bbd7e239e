"""`make bench ARGS=checks-matrix`: whether checks depend on how many budgets and counters exist; takes some minutes."""

import time

from benchmarks import check_bodies, crowd, report
from benchmarks.checks import SMALL, Among, crowded_stage, measure
from benchmarks.load import LoadPlan, run_in_processes
from benchmarks.serving import TOKEN
from benchmarks.stage import SECONDS, Stage

_AMONG = (SMALL, Among(budgets=100, counters=1_000_000), Among(budgets=100_000, counters=1_000_000))
_PER_SECOND = 500.0


def main() -> None:
    """Measure with one server process."""
    with crowded_stage(1) as (opened, people):
        for among in _AMONG:
            started = time.monotonic()
            people.grow(budgets=among.budgets, counters=among.counters)
            _wait_for_reload(opened)
            report.title(f"What exists grows: {among}, {time.monotonic() - started:.0f} s")
            for budgets in check_bodies.NUMBERS_OF_BUDGETS:
                measure(opened, among, budgets, SECONDS / 2)
        _measure_unknown(opened)


def _wait_for_reload(opened: Stage) -> None:
    """Ask once: the answer comes by the newest configuration, whoever has to load it."""
    for number in range(3):
        opened.post("/v1/check", check_bodies.check_body(f"reload-{time.monotonic_ns()}-{number}", 0, 1))
        time.sleep(1)


def _measure_unknown(opened: Stage) -> None:
    """Print what the first check of a key meets: nothing of key, budget or counter is in memory, nor the copy fresh."""
    report.title(f"Checks of keys nobody asked for before, one budget each, {_PER_SECOND:.0f} a second")
    bodies = opened.directory / "unknown"
    keys = _AMONG[-1].budgets
    check_bodies.write_checks(
        bodies, bodies=int((SECONDS + 2) * _PER_SECOND), seed="unknown", budgets=0, first_key=crowd.FIRST_KEY, keys=keys
    )
    plan = LoadPlan("127.0.0.1", opened.port, "/v1/check", TOKEN, str(bodies), 64, 1, SECONDS, per_second=_PER_SECOND)
    report.latency_row("latency of the first check of a key", run_in_processes(plan, 1))


if __name__ == "__main__":
    main()
