"""Ingest, durable, end to end over HTTP: four budgets per event, in batches and singly."""

import asyncio
import time

from benchmarks import events, floors, report
from benchmarks.stage import SECONDS, SECONDS_OF_BODIES, Stage, numbers_of_processes, stage

_AIMED_EVENTS_PER_SECOND = 5_000.0
_BATCH = 100


def main() -> None:
    """Measure with one server process, and with two where there is room for them."""
    for processes in numbers_of_processes():
        with stage(processes) as opened:
            report.title(f"Ingest, {processes} server process(es), {SECONDS:.0f} s each, four budgets per event")
            _measure_batches(opened)
            _measure_singles(opened)


def _measure_batches(opened: Stage) -> None:
    bodies = opened.directory / "batches"
    events.write_bodies(
        bodies, bodies=120 * SECONDS_OF_BODIES, events_per_body=_BATCH, now=time.time(), seed=opened.processes
    )
    loaded = opened.load("/v1/events?results=none", bodies, 8)
    empty = opened.load_empty(bodies, 8)
    copied = floors.copy_rows_per_second(opened.database_url, 20_000)
    bare = {
        size: asyncio.run(floors.batch_statement_per_second(opened.database_url, batch=size, batches=count))
        for size, count in ((100, 60), (500, 12))
    }
    rate = loaded.per_second * _BATCH
    aim = _AIMED_EVENTS_PER_SECOND if opened.processes == 1 else None
    report.rate_row(f"events/s in batches of {_BATCH}, 8 connections", rate, loaded, aim=aim)
    for size, per_second in bare.items():
        report.floor(f"bare batch statement, {size} events, one connection", per_second, rate)
    report.floor("raw COPY of the same rows", copied, rate)
    report.floor("empty handler, the same bodies", empty.per_second * _BATCH, rate)


def _measure_singles(opened: Stage) -> None:
    for connections, per_second in ((64, 4_000), (1, 1_000)):
        bodies = opened.directory / "singles"
        events.write_bodies(
            bodies, bodies=per_second * SECONDS_OF_BODIES, events_per_body=1, now=time.time(), seed=1_000 + connections
        )
        loaded = opened.load("/v1/events", bodies, connections)
        empty = opened.load_empty(bodies, connections)
        name = "one at a time" if connections == 1 else f"{connections} connections"
        report.rate_row(f"events/s singly, {name}", loaded.per_second, loaded)
        report.floor("empty handler, the same bodies", empty.per_second, loaded.per_second)


if __name__ == "__main__":
    main()
