"""What is known of aliases and keys, loaded from Postgres; keys are remembered by each process for the hot paths.

Guarantees: a change is heard at once (LISTEN) and takes at most 5 s when the news is lost; a key nobody knows is asked
for each time, so that a declaration counts for the very next call. While Postgres does not answer, or not in time, what
was known up to 15 min ago goes on being used, even of a key that is known to have changed: a key without its team and
its block would pass by all of their budgets. Blocked keys stay blocked whatever cannot be read. Learning is done beside
recording: its failure fails nobody.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import structlog
from psycopg import AsyncConnection

from service.db.news import follow_news
from service.db.pools import PostgresPool, connected
from service.errors import Unavailable
from service.identity import repository
from service.identity.aliases import AliasBook
from service.identity.known_key import KeyLesson, KnownKey, LearnedFacts, merge_lessons
from service.kit.batching import MicroBatcher
from service.kit.clock import monotonic
from service.kit.patience import patience
from service.kit.stopping import stop

_log = structlog.get_logger(__name__)

_FRESH_SECONDS = 5.0
_BEAT_SECONDS = 2.0
# All news heard or not, what is used is read again now and then: beside the requests, and not in one of them.
_RENEWAL_SECONDS = 60.0
_USABLE_SECONDS = 900.0
_KEYS_KEPT = 50_000
_ABSENT_KEPT = 50_000
_BLOCKED_KEPT = 50_000
_KEYS_PER_STATEMENT = 500
_MAX_WAITING = 10_000
_STATEMENT_SECONDS = 3.0
_ANSWER_SECONDS = 5.0
# A check has 50 ms in all: with something older at hand it does not wait longer than this for something newer.
_RENEWAL_WAIT_SECONDS = 0.025
_TROUBLE_SECONDS = 1.0
_BLOCKED_SECONDS = 30.0

Wanted = tuple[str, str]  # (tenant_id, api_key)


async def load_aliases(connection: AsyncConnection[Any], tenant_id: str, known: AliasBook) -> AliasBook:
    """Return the alias book of a tenant: the known one itself, with its eras, while its aliases are still the same."""
    aliases = tuple(row.rule for row in await repository.fetch_aliases(connection, tenant_id))
    return known if known.holds(aliases) else AliasBook(aliases)


class _Remembered:
    """A key as it was read, whether it has changed since, and the newest event heard of it by this process."""

    __slots__ = ("has_changed", "key", "newest_lesson", "read_at")

    def __init__(self, key: KnownKey, read_at: float) -> None:
        self.key = key
        self.read_at = read_at
        self.has_changed = False
        self.newest_lesson: datetime | None = key.learned_from_occurred_at


class KeyRegistry:
    """The keys one process knows. `start` lets it follow what other processes change, `close` ends that.

    That all news was heard is known by a beat: a notice of our own, which comes after those before it. Without one a
    key is asked for again after 5 s. Blocked keys are few: all are known while the news is followed (up to 50,000).
    That a key had no entry is remembered too, but told only while nobody can be asked, and not to recording; news of
    the key ends it. Such keys have a memory of their own: a flood of them pushes out others without an entry, of any
    tenant, never a known key.
    """

    def __init__(
        self,
        pool: PostgresPool,
        *,
        clock: Callable[[], float] = monotonic,
        statement_seconds: float = _STATEMENT_SECONDS,
        beat_seconds: float = _BEAT_SECONDS,
    ) -> None:
        self._pool = pool
        self._beat_seconds = beat_seconds
        self._clock = clock
        self._statement_seconds = statement_seconds
        self._keys: dict[Wanted, _Remembered] = {}
        self._absent: dict[Wanted, float] = {}  # read then, and without an entry; read longest ago first
        self._blocked: dict[Wanted, KnownKey] = {}
        self._distrusted_until = float("-inf")  # what was read before may have changed unheard
        self._heard_until = float("-inf")  # what changed before, and after the above, has been heard
        self._lookups: MicroBatcher[Wanted, KnownKey | None] = MicroBatcher(
            self._ask, _KEYS_PER_STATEMENT, max_wait_ms=0
        )
        self._in_flight: set[Wanted] = set()
        self._changed_in_flight: set[Wanted] = set()
        self._renewals: dict[Wanted, asyncio.Task[None]] = {}
        self._trouble_until = float("-inf")
        self._follower: asyncio.Task[None] | None = None

    async def find(self, tenant_id: str, api_key: str, *, patience_seconds: float = _ANSWER_SECONDS) -> KnownKey | None:
        """Return what is known of a key. Raises Unavailable when nobody can be asked in time and nothing is at hand.

        None: it has no entry, or had none when it was read within the last 15 min.
        """
        wanted = (tenant_id, api_key)
        try:
            return await self._find(wanted, patience_seconds)
        except Unavailable:
            if not self._was_absent(wanted):
                raise
            return None

    async def find_many(self, tenant_id: str, api_keys: Iterable[str]) -> dict[str, KnownKey]:
        """Return what is known of some keys, with one statement for all that are not at hand.

        Raises Unavailable also for a key that had no entry a while ago: what is recorded stays, and can be sent again.
        """
        distinct = dict.fromkeys(api_keys)
        known = {api_key: key for api_key in distinct if (key := self._find_fresh((tenant_id, api_key))) is not None}
        missing = [api_key for api_key in distinct if api_key not in known]
        found = await asyncio.gather(*[self._find((tenant_id, api_key), _ANSWER_SECONDS) for api_key in missing])
        return known | {api_key: key for api_key, key in zip(missing, found, strict=True) if key is not None}

    async def learn(self, tenant_id: str, lessons: Sequence[KeyLesson]) -> int:
        """Store what recorded events teach of their keys, if it is new; return of how many keys it was.

        Never raises for trouble of the database: the next event of the key teaches the same.
        """
        new = [facts for facts in merge_lessons(lessons) if self._is_new(tenant_id, facts)]
        if not new:
            return 0
        try:
            async with connected(self._pool) as connection, connection.transaction():
                changed = await repository.learn_keys(connection, tenant_id, new)
        except Unavailable:
            _log.warning("keys_not_learned", keys=len(new))
            return 0
        for key in changed:
            self.forget(tenant_id, key.api_key)
        return len(changed)

    def forget(self, tenant_id: str, api_key: str) -> None:
        """Ask anew for a key, also if a statement under way answers: it has just changed."""
        wanted = (tenant_id, api_key)
        self._absent.pop(wanted, None)
        remembered = self._keys.get(wanted)
        if remembered is not None:
            remembered.has_changed = True
        if wanted in self._in_flight:
            self._changed_in_flight.add(wanted)

    def start(self, database_url: str) -> None:
        """Follow the changes other processes make."""
        self._follower = asyncio.create_task(follow_news(database_url, repository.KEY_CHANNEL, self._hear))

    async def close(self) -> None:
        """Stop following, and let the statement under way finish."""
        await stop(self._follower)
        await asyncio.gather(*self._renewals.values())
        await self._lookups.close()

    async def _find(self, wanted: Wanted, patience_seconds: float) -> KnownKey | None:
        fresh = self._find_fresh(wanted)
        if fresh is not None:
            return fresh
        if self._find_unchanged(wanted) is None:
            return await self._look_up_or_recall(wanted, patience_seconds)
        await self._await_renewal(wanted, min(patience_seconds, _RENEWAL_WAIT_SECONDS))
        # Meanwhile a message may have told that it changed.
        unchanged = self._find_unchanged(wanted)
        return unchanged if unchanged is not None else await self._look_up_or_recall(wanted, patience_seconds)

    def _find_fresh(self, wanted: Wanted) -> KnownKey | None:
        remembered = self._keys.get(wanted)
        if remembered is None or remembered.has_changed or remembered.read_at <= self._distrusted_until:
            return None
        now = self._clock()
        if now - max(remembered.read_at, self._heard_until) > _FRESH_SECONDS:
            return None
        if now - remembered.read_at > _RENEWAL_SECONDS:
            self._start_renewal(wanted)
        return remembered.key

    def _find_unchanged(self, wanted: Wanted) -> KnownKey | None:
        """Return a key that may be old, but is not known to have changed."""
        remembered = self._keys.get(wanted)
        return None if remembered is None or remembered.has_changed else self._recall(wanted)

    def _recall(self, wanted: Wanted) -> KnownKey | None:
        """Return a key as it was read within the last 15 min."""
        remembered = self._keys.get(wanted)
        if remembered is None or self._clock() - remembered.read_at > _USABLE_SECONDS:
            return None
        return remembered.key

    def _was_absent(self, wanted: Wanted) -> bool:
        read_at = self._absent.get(wanted)
        return read_at is not None and self._clock() - read_at <= _USABLE_SECONDS

    async def _look_up_or_recall(self, wanted: Wanted, patience_seconds: float) -> KnownKey | None:
        try:
            return await self._look_up(wanted, patience_seconds)
        except Unavailable:
            recalled = self._blocked.get(wanted) or self._recall(wanted)
            if recalled is None:
                raise
            return recalled

    async def _look_up(self, wanted: Wanted, patience_seconds: float) -> KnownKey | None:
        if self._lookups.queued_items >= _MAX_WAITING:
            raise Unavailable("Too many keys are waiting to be looked up.")
        try:
            # The answer may be there while the loop is busy with other requests: that is no silence of the database.
            async with patience(patience_seconds):
                return await self._lookups.submit(wanted)
        except TimeoutError as error:
            raise _unanswered() from error

    async def _await_renewal(self, wanted: Wanted, wait_seconds: float) -> None:
        """Ask anew for a key that is known, once at a time, and wait a moment for the answer."""
        renewal = self._start_renewal(wanted)
        if self._clock() >= self._trouble_until:
            await asyncio.wait([renewal], timeout=wait_seconds)
            if not renewal.done():
                self._trouble_until = self._clock() + _TROUBLE_SECONDS

    def _start_renewal(self, wanted: Wanted) -> "asyncio.Task[None]":
        renewal = self._renewals.get(wanted)
        if renewal is None:
            renewal = asyncio.create_task(self._renew(wanted))
            self._renewals[wanted] = renewal
            renewal.add_done_callback(lambda _: self._renewals.pop(wanted, None))
        return renewal

    async def _renew(self, wanted: Wanted) -> None:
        try:
            await self._look_up(wanted, _ANSWER_SECONDS)
        except Unavailable as error:
            _log.debug("key_not_renewed", reason=error.detail)

    async def _ask(self, batch: list[Wanted]) -> list[KnownKey | None]:
        """Answer a batch with one statement; ask again for the keys that changed meanwhile."""
        open_keys = set(batch)
        answers: dict[Wanted, KnownKey | None] = {}
        while open_keys:
            self._in_flight, self._changed_in_flight = open_keys, set()
            try:
                answers |= await self._ask_once(open_keys)
                open_keys = self._changed_in_flight
            finally:
                self._in_flight, self._changed_in_flight = set(), set()
        return [answers[wanted] for wanted in batch]

    async def _ask_once(self, open_keys: set[Wanted]) -> dict[Wanted, KnownKey | None]:
        asked_at = self._clock()
        try:
            async with (
                asyncio.timeout(self._statement_seconds),
                connected(self._pool, self._statement_seconds) as connection,
            ):
                found = await repository.find_keys(connection, sorted(open_keys))
        except (Unavailable, TimeoutError) as error:
            self._trouble_until = self._clock() + _TROUBLE_SECONDS
            _log.warning("keys_not_looked_up", keys=len(open_keys))
            raise _unanswered() from error
        self._trouble_until = float("-inf")
        for wanted in open_keys - self._changed_in_flight:
            self._remember(wanted, found.get(wanted), asked_at)
        return {wanted: found.get(wanted) for wanted in open_keys}

    def _remember(self, wanted: Wanted, key: KnownKey | None, asked_at: float) -> None:
        former = self._keys.pop(wanted, None)
        if key is None or not key.is_blocked:
            self._blocked.pop(wanted, None)
        self._absent.pop(wanted, None)
        if key is None:
            while len(self._absent) >= _ABSENT_KEPT:
                self._absent.pop(next(iter(self._absent)))
            self._absent[wanted] = asked_at
            return
        remembered = _Remembered(key, asked_at)
        if former is not None and not former.has_changed and former.newest_lesson is not None:
            remembered.newest_lesson = max(former.newest_lesson, remembered.newest_lesson or former.newest_lesson)
        while len(self._keys) >= _KEYS_KEPT:
            self._keys.pop(next(iter(self._keys)))
        self._keys[wanted] = remembered

    def _note_block(self, wanted: Wanted, key: KnownKey | None) -> None:
        if key is None or not key.is_blocked:
            self._blocked.pop(wanted, None)
        elif wanted in self._blocked or len(self._blocked) < _BLOCKED_KEPT:
            self._blocked[wanted] = key

    def _is_new(self, tenant_id: str, lesson: LearnedFacts) -> bool:
        remembered = self._keys.get((tenant_id, lesson.api_key))
        if remembered is None or remembered.has_changed:
            return True
        newest = remembered.newest_lesson
        if newest is not None and lesson.occurred_at < newest:
            return False
        remembered.newest_lesson = lesson.occurred_at
        return lesson.facts.adds_to(remembered.key.learned)

    async def _hear(self, connection: AsyncConnection[Any]) -> None:
        """Hear the news until the connection breaks, or does not answer any more."""
        self._distrusted_until = self._clock()
        own_beat = repository.new_beat()
        async with asyncio.timeout(_BLOCKED_SECONDS):
            self._blocked = await repository.find_blocked_keys(connection, _BLOCKED_KEPT)
        changed: set[Wanted] = set()
        while True:
            sent_at = self._clock()
            async with asyncio.timeout(_ANSWER_SECONDS):
                await repository.send_beat(connection, own_beat)
            await self._read_blocks(connection, changed)
            async for notice in connection.notifies(timeout=self._beat_seconds):
                if notice.payload == own_beat:
                    self._heard_until = sent_at
                elif not repository.is_beat(notice.payload):
                    tenant_id, _, api_key = notice.payload.partition(" ")
                    self.forget(tenant_id, api_key)
                    changed.add((tenant_id, api_key))

    async def _read_blocks(self, connection: AsyncConnection[Any], changed: set[Wanted]) -> None:
        """Learn which of the keys that have changed are blocked now."""
        while changed:
            portion = [changed.pop() for _ in range(min(len(changed), _KEYS_PER_STATEMENT))]
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await repository.find_keys(connection, portion)
            for wanted in portion:
                self._note_block(wanted, found.get(wanted))


def _unanswered() -> Unavailable:
    return Unavailable("The key registry cannot be asked at the moment.")
