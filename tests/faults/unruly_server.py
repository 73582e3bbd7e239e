"""`tallygate serve` whose batches are published twice, late, or in the opposite order: never as they were committed."""

import asyncio
from collections.abc import Sequence
from random import Random
from uuid import UUID

from service.checks.publisher import Publisher
from service.ledger.posts import CommittedPosts
from tests.faults.watched_server import run_watched

_LONGEST_DELAY_SECONDS = 2.0

_publish = Publisher.publish
_random = Random(17)
_held_back: list[Sequence[CommittedPosts]] = []
_late: set[asyncio.Task[None]] = set()


async def _unruly_publish(publisher: Publisher, posts: Sequence[CommittedPosts]) -> set[UUID]:
    fate = _random.choice(("twice", "late", "late"))
    if fate == "late":
        _held_back.append(posts)
        task = asyncio.create_task(_publish_held_back(publisher))
        _late.add(task)
        task.add_done_callback(_late.discard)
        return set()
    await _publish(publisher, posts)
    return await _publish(publisher, posts)


async def _publish_held_back(publisher: Publisher) -> None:
    """The newest first; what is this late may have been published from the outbox long ago."""
    await asyncio.sleep(_random.uniform(0, _LONGEST_DELAY_SECONDS))
    while _held_back:
        await _publish(publisher, _held_back.pop())


if __name__ in ("__main__", "__mp_main__"):
    Publisher.publish = _unruly_publish  # type: ignore[method-assign]

if __name__ == "__main__":
    run_watched()
