"""Says whom a token speaks for: from memory on almost every request, from Postgres otherwise.

Guarantees: a revocation is heard at once (LISTEN) and takes at most 5 s when the news is lost; tokens nobody knows cost
one shared statement at a time, however many are tried. While Postgres cannot be asked, callers confirmed within
the last 15 min may still check, and nothing else.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from psycopg import AsyncConnection

from service.access import repository
from service.access.caller_cache import CachedCaller, CallerCache
from service.access.tokens import Caller
from service.db.news import follow_news
from service.db.pools import PostgresPool, connected
from service.errors import Unauthenticated, Unavailable
from service.kit.batching import MicroBatcher
from service.kit.clock import monotonic
from service.kit.stopping import stop

_log = structlog.get_logger(__name__)

_DIGESTS_PER_STATEMENT = 500
_MAX_WAITING = 10_000
_STATEMENT_SECONDS = 3.0
_RETRY_SECONDS = 0.02
# A check has 50 ms in all; half of it is spent on finding out that Postgres does not answer, and once a second only.
_CHECK_WAIT_SECONDS = 0.025
_TROUBLE_SECONDS = 1.0


class CallerDirectory:
    """The callers of one process. `start` lets it follow what other processes change, `close` ends that."""

    def __init__(
        self,
        pool: PostgresPool,
        *,
        clock: Callable[[], float] = monotonic,
        statement_seconds: float = _STATEMENT_SECONDS,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._statement_seconds = statement_seconds
        self._cache = CallerCache()
        self._lookups: MicroBatcher[str, CachedCaller | None] = MicroBatcher(
            self._ask, _DIGESTS_PER_STATEMENT, max_wait_ms=0
        )
        self._in_flight: set[str] = set()
        self._changed_in_flight: set[str] = set()
        self._renewals: dict[str, asyncio.Task[None]] = {}
        self._trouble_until = 0.0
        self._follower: asyncio.Task[None] | None = None

    def find_cached(self, digest: str) -> Caller | None:
        """Return the caller if it is known well enough to be used unasked. Raises Unauthenticated when it expired."""
        cached = self._cache.find(digest)
        if cached is None:
            return None
        now = self._clock()
        if now >= cached.fresh_until:
            return None
        if now >= cached.renewed_from:
            self._renew(digest)
        return _unexpired(cached, now)

    async def get_caller(self, digest: str, *, survives_outage: bool = False) -> Caller:
        """Return the caller of a token. Raises Unauthenticated, or Unavailable when nobody can be asked.

        With `survives_outage` a caller confirmed within the last 15 min stands in while Postgres does not answer.
        """
        caller = self.find_cached(digest)
        if caller is not None:
            return caller
        if self._cache.is_unknown(digest, self._clock()):
            raise _unknown_token()
        cached = await (self._look_up_or_make_do(digest) if survives_outage else self._look_up(digest))
        if cached is None:
            raise _unknown_token()
        return _unexpired(cached, self._clock())

    def forget(self, digest: str) -> None:
        """Drop what is known of a token, and what a statement under way may say of it: it has just changed."""
        self._cache.forget(digest)
        if digest in self._in_flight:
            self._changed_in_flight.add(digest)

    def start(self, database_url: str) -> None:
        """Follow the changes other processes make."""
        self._follower = asyncio.create_task(follow_news(database_url, repository.TOKEN_CHANNEL, self._hear))

    async def close(self) -> None:
        """Stop following, and let the statement under way finish."""
        await stop(self._follower)
        await asyncio.gather(*self._renewals.values())
        await self._lookups.close()

    async def _look_up(self, digest: str) -> CachedCaller | None:
        if self._lookups.queued_items >= _MAX_WAITING:
            raise Unavailable("Too many tokens are waiting to be looked up.")
        try:
            # It may have to wait for the statement before its own.
            async with asyncio.timeout(2 * self._statement_seconds):
                return await self._lookups.submit(digest)
        except TimeoutError as error:
            raise _unanswered() from error

    async def _look_up_or_make_do(self, digest: str) -> CachedCaller | None:
        """Look the token up, but not for long when an older answer could do."""
        if not self._is_usable(digest):
            return await self._look_up(digest)
        renewal = self._renew(digest)
        if self._clock() >= self._trouble_until:
            await asyncio.wait([renewal], timeout=_CHECK_WAIT_SECONDS)
            if not renewal.done():
                self._trouble_until = self._clock() + _TROUBLE_SECONDS
        # The renewal may have found out that the token is gone, or a message may have told so meanwhile.
        return self._cache.find(digest) if self._is_usable(digest) else await self._look_up(digest)

    def _is_usable(self, digest: str) -> bool:
        cached = self._cache.find(digest)
        return cached is not None and self._clock() < cached.usable_until

    def _renew(self, digest: str) -> "asyncio.Task[None]":
        """Ask for a token beside the requests, once at a time."""
        renewal = self._renewals.get(digest)
        if renewal is None:
            renewal = asyncio.create_task(self._renew_quietly(digest))
            self._renewals[digest] = renewal
            renewal.add_done_callback(lambda _: self._renewals.pop(digest, None))
        return renewal

    async def _renew_quietly(self, digest: str) -> None:
        try:
            await self._look_up(digest)
        except Unavailable as error:
            _log.debug("token_not_renewed", reason=error.detail)

    async def _ask(self, digests: list[str]) -> list[CachedCaller | None]:
        """Answer a batch of digests with one statement; ask again for those that changed meanwhile."""
        open_digests = set(digests)
        answers: dict[str, CachedCaller | None] = {}
        while open_digests:
            self._in_flight, self._changed_in_flight = open_digests, set()
            try:
                answers |= await self._ask_once(open_digests)
                open_digests = self._changed_in_flight
            finally:
                self._in_flight, self._changed_in_flight = set(), set()
        return [answers[digest] for digest in digests]

    async def _ask_once(self, digests: set[str]) -> dict[str, CachedCaller | None]:
        asked_at = self._clock()
        try:
            async with asyncio.timeout(self._statement_seconds):
                found = await self._find_live_tokens(sorted(digests))
        except TimeoutError as error:
            self._trouble_until = self._clock() + _TROUBLE_SECONDS
            _log.warning("tokens_not_looked_up", digests=len(digests))
            raise _unanswered() from error
        self._trouble_until = 0.0
        return {digest: self._keep(digest, found.get(digest), asked_at) for digest in digests}

    async def _find_live_tokens(self, digests: list[str]) -> dict[str, repository.LiveToken]:
        """Try until it works: after a failover every pooled connection fails once before the pool replaces it."""
        while True:
            try:
                async with connected(self._pool) as connection:
                    return await repository.find_live_tokens(connection, digests)
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)

    def _keep(self, digest: str, found: repository.LiveToken | None, asked_at: float) -> CachedCaller | None:
        if digest in self._changed_in_flight:
            return None
        if found is None:
            self._cache.keep_unknown(digest, asked_at=asked_at)
            return None
        return self._cache.keep(digest, found.caller, asked_at=asked_at, seconds_left=found.seconds_left)

    async def _hear(self, connection: AsyncConnection[Any]) -> None:
        self._cache.distrust()
        async for notice in connection.notifies():
            self.forget(notice.payload)


def _unexpired(cached: CachedCaller, now: float) -> Caller:
    if now >= cached.expires_at:
        raise Unauthenticated("The token has expired.", code="token_expired")
    return cached.caller


def _unanswered() -> Unavailable:
    return Unavailable("Tokens cannot be looked up at the moment.")


def _unknown_token() -> Unauthenticated:
    return Unauthenticated("The token is not valid.")
