"""Checks with holds, four budgets each, of keys that are known."""

from benchmarks import events, report
from benchmarks.stage import SECONDS, SECONDS_OF_BODIES, Stage, numbers_of_processes, stage

_AIMED_PART_OF_EMPTY = 0.5


def main() -> None:
    """Measure with one server process, and with two where there is room for them."""
    for processes in numbers_of_processes():
        with stage(processes) as opened:
            report.title(f"Checks with holds, {processes} server process(es), {SECONDS:.0f} s each, four budgets each")
            _measure(opened)


def _measure(opened: Stage) -> None:
    bodies = opened.directory / "checks"
    for connections in (64, 1):
        events.write_checks(bodies, bodies=12_000 * SECONDS_OF_BODIES, seed=connections)
        checked = opened.load("/v1/check", bodies, connections)
        empty = opened.load_empty(bodies, connections)
        name = "one at a time" if connections == 1 else f"{connections} connections"
        report.rate_row(f"checks/s, {name}", checked.per_second, checked)
        report.floor(
            f"empty handler, the same bodies, p50 {empty.p50_ms:.2f} ms",
            empty.per_second,
            checked.per_second,
            aim=_AIMED_PART_OF_EMPTY,
        )


if __name__ == "__main__":
    main()
