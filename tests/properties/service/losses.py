"""Publishers that lose what they were told to, as a process does that dies between its commit and its publish.

Or they are late: what they publish then is long in the past. The outbox is worked off when a test says so, and then at
once: nothing else repairs what was lost.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args
from unittest.mock import patch
from uuid import UUID

import msgspec

from service.checks import publisher as module
from service.checks.publisher import Publisher
from service.ledger.posts import CommittedPosts

# Where the process "dies": before its publish, after the states of half of the counters, or before it noted the end.
Loss = Literal["before", "between", "after", "late"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


class Losses:
    """What the next publish loses, and all publishers there are."""

    def __init__(self) -> None:
        self.next: Loss | None = None
        self.publishers: list[Publisher] = []
        self._late: list[tuple[Publisher, Sequence[CommittedPosts]]] = []
        self._publish = Publisher.publish

    async def repair(self) -> None:
        """Work off the outbox, whoever left it."""
        while any([await publisher.work_off() for publisher in self.publishers]):
            pass

    async def publish_late(self) -> None:
        """Publish what was held back, the newest first."""
        while self._late:
            publisher, posts = self._late.pop()
            await self._publish(publisher, posts)

    def forget(self) -> None:
        """Lose nothing more, and what was held back for good."""
        self.next = None
        self._late.clear()

    async def publish(self, publisher: Publisher, posts: Sequence[CommittedPosts]) -> set[UUID]:
        """Publish, or lose as was planned."""
        loss, self.next = self.next, None
        match loss:
            case "late":
                self._late.append((publisher, posts))
            case "between":
                await self._publish(publisher, [_half(each) for each in posts])
            case "after":
                await self._publish(publisher, posts)
            case None:
                return await self._publish(publisher, posts)
        return set()


@contextmanager
def losing_publishers() -> Iterator[Losses]:
    losses = Losses()

    def start(publisher: Publisher) -> None:
        losses.publishers.append(publisher)

    async def publish(publisher: Publisher, posts: Sequence[CommittedPosts]) -> set[UUID]:
        return await losses.publish(publisher, posts)

    with (
        patch.object(module, "_OUTBOX_AGE_SECONDS", -60.0),
        patch.object(Publisher, "start", start),
        patch.object(Publisher, "publish", publish),
    ):
        yield losses


def _half(posts: CommittedPosts) -> CommittedPosts:
    return msgspec.structs.replace(posts, counters=posts.counters[: len(posts.counters) // 2], settlements=())
