"""`tallygate serve` that kills itself at a named point: the server of the crash tests.

The points are wrapped around the product from outside. The file named by CRASH_PLAN says what is planned: a point, at
which of its turns, and a seed. It is removed before the crash, so that what is started next lives.
"""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NoReturn
from uuid import UUID

import msgspec

from service.checks.publisher import Publisher
from service.ledger import repository
from service.ledger.posts import CommittedPosts
from tests.faults.watched_server import run_watched

POINTS = (
    "before_commit",
    "during_commit",
    "after_commit",
    "before_publish",
    "between_publishes",
    "after_publish",
)
_LONGEST_COMMIT_SECONDS = 0.012

_plan_file = Path(os.environ.get("CRASH_PLAN", "no-plan"))
_record_batch = repository.record_batch
_publish = Publisher.publish
_passed: dict[str, int] = {}


def _is_due(*points: str) -> dict[str, Any] | None:
    """Return the plan when its point is one of these and its turn has come."""
    try:
        plan: dict[str, Any] = json.loads(_plan_file.read_text())
    except FileNotFoundError:
        return None
    if plan["point"] not in points:
        return None
    _passed[plan["point"]] = _passed.get(plan["point"], 0) + 1
    return plan if _passed[plan["point"]] >= plan["turn"] else None


def _crash() -> NoReturn:
    _plan_file.unlink()
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("still alive")


async def _crashing_record_batch(*arguments: Any) -> repository.BatchWritten:
    plan = _is_due("before_commit", "during_commit", "after_commit")
    if plan is None:
        return await _record_batch(*arguments)
    if plan["point"] == "before_commit":
        _crash()
    writing = asyncio.create_task(_record_batch(*arguments))
    if plan["point"] == "during_commit":
        await asyncio.sleep(Random(plan["seed"]).uniform(0, _LONGEST_COMMIT_SECONDS))
        _crash()
    await writing
    _crash()


async def _crashing_publish(publisher: Publisher, posts: Sequence[CommittedPosts]) -> set[UUID]:
    plan = _is_due("before_publish", "between_publishes", "after_publish")
    if plan is None:
        return await _publish(publisher, posts)
    if plan["point"] == "between_publishes":
        await _publish(publisher, [_half(each) for each in posts])
    if plan["point"] == "after_publish":
        await _publish(publisher, posts)
    _crash()


def _half(posts: CommittedPosts) -> CommittedPosts:
    counters = posts.counters[: len(posts.counters) // 2]
    return msgspec.structs.replace(posts, counters=counters, settlements=posts.settlements[::2])


# The supervisor imports this as `__main__`, its worker as `__mp_main__`; tests import the names only.
if __name__ in ("__main__", "__mp_main__"):
    repository.record_batch = _crashing_record_batch  # type: ignore[assignment]
    Publisher.publish = _crashing_publish  # type: ignore[method-assign]

if __name__ == "__main__":
    run_watched()
