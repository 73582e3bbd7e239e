"""Checks with holds, of keys that are known: in 1, 4 and 8 budgets each, at once and one by one, and at half the pace.

`make bench ARGS=checks` measures among 100 budgets and 1,000 counters; `ARGS=checks-matrix` goes on among up to 100,000
budgets and 1,000,000 counters, and asks for keys nobody has asked for before. Beside every figure stand its floors of
the same minute: an empty handler that takes the same bodies and sends answers of the same size, and the bare script.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import check_bodies, crowd, report
from benchmarks.bare_script import bare_script_per_second
from benchmarks.load import LoadPlan, LoadResult, run_in_processes
from benchmarks.serving import TOKEN, processor_seconds
from benchmarks.stage import SECONDS, WARM_UP_SECONDS, Stage, empty_handler, numbers_of_processes, stage

_AIMED_PART_OF_EMPTY = 0.6
_AIMED_P99_MS = 5.0
_CONNECTIONS = 64
# More than any of these machines decides, or an empty handler answers; a file that runs out ends the load early.
_MOST_PER_SECOND = 14_000
_CROWD_BUDGET = {
    "slug": "crowd",
    "name": "crowd, each end user",
    "match": {"project": crowd.PROJECT, "end_user": "*"},
    "limit_usd": "1000000",
    "period": check_bodies.MONTH,
}


@dataclass(frozen=True)
class Among:
    """What exists beside what the checks ask for."""

    budgets: int
    counters: int

    def __str__(self) -> str:
        return f"among {self.budgets:,} budgets and {self.counters:,} counters"


SMALL = Among(budgets=100, counters=1_000)


def main() -> None:
    """Measure among few, with one server process, and with two where there is room for them."""
    for processes in numbers_of_processes():
        with crowded_stage(processes) as (opened, people):
            people.grow(budgets=SMALL.budgets, counters=SMALL.counters)
            for budgets in check_bodies.NUMBERS_OF_BUDGETS:
                measure(opened, SMALL, budgets, SECONDS)


@contextmanager
def crowded_stage(processes: int) -> Iterator[tuple[Stage, crowd.Crowd]]:
    """Set up a server with the budgets the checks count in, and what can grow beside them."""
    with stage(processes, check_bodies.budget_bodies()) as opened:
        budget = opened.post("/v1/budgets", _CROWD_BUDGET)
        yield opened, crowd.Crowd(opened.database_url, opened.redis_url, budget["budget_id"])


def measure(opened: Stage, among: Among, budgets: int, seconds: float) -> None:
    """Print the figures of checks that count in so many budgets each, and their floors."""
    named = f"{opened.processes} server process(es), {seconds:.0f} s each"
    report.title(f"Checks with holds in {budgets} budget(s) each, {among}; {named}")
    load = _Load(opened, budgets, seconds, seed=f"{among.budgets}-{among.counters}")
    example = opened.post("/v1/check", check_bodies.check_body(f"example-{load.seed}", 0, budgets))
    ours = _Target(opened.port, opened.process_id, "/v1/check")
    with empty_handler(opened.processes, len(report.as_json(example))) as address:
        floor = _Target(*address, "/empty")
        saturated, empty = load.run(ours, _CONNECTIONS), load.run(floor, _CONNECTIONS)
        _print_beside(f"checks/s, {_CONNECTIONS} connections", saturated, empty)
        bare = bare_script_per_second(opened.database_url, opened.redis_url, load.bodies)
        report.floor("bare script, 32 at a time over one connection", bare, saturated.result.per_second)
        _print_beside("checks/s, one at a time", load.run(ours, 1), load.run(floor, 1))
        pace = saturated.result.per_second / 2
        paced, empty = load.run(ours, _CONNECTIONS, pace), load.run(floor, _CONNECTIONS, pace)
        report.latency_row("latency at half the pace", paced.result, aimed_p99_ms=_AIMED_P99_MS)
        report.latency_row("  beside: empty handler, at the same pace", empty.result)


def _print_beside(name: str, ours: "_Loaded", empty: "_Loaded") -> None:
    report.rate_row(name, ours.result.per_second, ours.result)
    floor = f"empty handler, same bodies and sizes, p50 {empty.result.p50_ms:.2f} ms"
    report.floor(floor, empty.result.per_second, ours.result.per_second, aim=_AIMED_PART_OF_EMPTY)
    # What a machine does beside stretches the time, of both, but hardly the processor time each takes.
    report.row(
        "  processor time of the server, us each",
        f"{ours.processor_us:,.0f}",
        f"empty handler {empty.processor_us:,.0f}: {empty.processor_us / ours.processor_us:.0%} of ours",
    )


@dataclass(frozen=True)
class _Target:
    port: int
    process_id: int
    path: str


@dataclass(frozen=True)
class _Loaded:
    result: LoadResult
    processor_us: float


class _Load:
    """Loads servers with checks, each of a request of its own."""

    def __init__(self, opened: Stage, budgets: int, seconds: float, seed: str) -> None:
        self.bodies: Path = opened.directory / "checks"
        self.seed = f"{budgets}-{seed}"
        self._processes = opened.processes
        self._budgets = budgets
        self._plan = LoadPlan("127.0.0.1", 0, "", TOKEN, str(self.bodies), 0, WARM_UP_SECONDS, seconds)

    def run(self, target: _Target, connections: int, per_second: float = 0.0) -> _Loaded:
        """Return what came back, and what processor time the server took for each request."""
        self.seed += "+"
        seconds = self._plan.warmup_seconds + self._plan.seconds
        count = int((seconds + 1) * (per_second or _MOST_PER_SECOND))
        check_bodies.write_checks(self.bodies, bodies=count, seed=self.seed, budgets=self._budgets)
        plan = replace(self._plan, port=target.port, path=target.path, connections=connections, per_second=per_second)
        before = processor_seconds(target.process_id)
        result = run_in_processes(plan, self._processes)
        used = processor_seconds(target.process_id) - before
        return _Loaded(result, used / result.answers * 1e6)


if __name__ == "__main__":
    main()
