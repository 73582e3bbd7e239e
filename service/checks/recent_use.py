"""Remembers what the ledger saw lately of requested models: which ways their calls went, how much they put out.

Guarantees: a check waits for the ledger only when it asks for a model for the first time, and no longer than it says;
what is older than a minute is read anew beside the answer; one read per model at a time, and few at once. While the
ledger is silent what was known up to 15 min ago goes on being used.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

import psycopg
import structlog

from service.checks.request import CheckRequest, Route
from service.checks.routes import NOTHING_SEEN, RecentUse, names_to_look_up
from service.config.snapshot import TenantConfig
from service.db.pools import PostgresPool, connected
from service.errors import Unavailable
from service.kit.clock import monotonic
from service.kit.patience import patience
from service.kit.stopping import stop
from service.ledger.served_queries import read_output_tokens, read_routes

_log = structlog.get_logger(__name__)

_FRESH_SECONDS: Final = 60.0
_USABLE_SECONDS: Final = 900.0
_TROUBLE_SECONDS: Final = 1.0
_STATEMENT_SECONDS: Final = 2.0
_MOST_KNOWN: Final = 20_000
_MOST_UNDER_WAY: Final = 500
_MOST_AT_ONCE: Final = 2


class _Wanted(NamedTuple):
    kind: Literal["routes", "output_tokens"]
    tenant_id: str
    model: str


class _Known(NamedTuple):
    value: Any
    read_at: float


class RecentUseReader:
    """Asks the ledger. One instance per process."""

    def __init__(self, pool: PostgresPool, *, now: Callable[[], float] = monotonic) -> None:
        self._pool = pool
        self._now = now
        self._known: dict[_Wanted, _Known] = {}
        self._under_way: dict[_Wanted, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)
        self._trouble_until = float("-inf")

    async def find(self, request: CheckRequest, config: TenantConfig, *, patience_seconds: float) -> RecentUse:
        """Return what is known for a call: its routes where budgets name them, its outputs where it does not say."""
        routes_of = names_to_look_up(request) if config.budgets.route_dimensions else []
        outputs_of = _models_without_bound(request)
        if not routes_of and not outputs_of:
            return NOTHING_SEEN
        routes = [_Wanted("routes", config.tenant_id, model) for model in routes_of]
        outputs = [_Wanted("output_tokens", config.tenant_id, model) for model in outputs_of]
        missing = [wanted for wanted in (*routes, *outputs) if not self._is_at_hand(wanted)]
        if missing:
            await self._load_all(missing, patience_seconds)
        return self._recent(routes, outputs)

    async def close(self) -> None:
        """Stop reading."""
        for task in list(self._under_way.values()):
            await stop(task)

    def _is_at_hand(self, wanted: _Wanted) -> bool:
        known = self._find(wanted)
        if known is not None and self._now() - known.read_at > _FRESH_SECONDS:
            self._start_loading(wanted)
        return known is not None

    def _find(self, wanted: _Wanted) -> _Known | None:
        known = self._known.get(wanted)
        return None if known is None or self._now() - known.read_at > _USABLE_SECONDS else known

    def _recent(self, routes: Sequence[_Wanted], outputs: Sequence[_Wanted]) -> RecentUse:
        seen = {each.model: known.value for each in routes if (known := self._find(each)) is not None}
        tokens = {each.model: known.value for each in outputs if (known := self._find(each)) is not None}
        return RecentUse(
            routes=seen,
            output_tokens={model: most for model, most in tokens.items() if most is not None},
            is_known=len(seen) == len(routes),
        )

    async def _load_all(self, missing: Sequence[_Wanted], patience_seconds: float) -> None:
        tasks = [task for wanted in missing if (task := self._start_loading(wanted)) is not None]
        if not tasks:
            return
        try:
            async with patience(patience_seconds):
                await asyncio.wait(tasks)
        except TimeoutError:
            return  # they go on, for the next one who asks

    def _start_loading(self, wanted: _Wanted) -> asyncio.Task[None] | None:
        """Return the read of this that is under way; None = now is no time for one."""
        task = self._under_way.get(wanted)
        if task is None and self._now() >= self._trouble_until and len(self._under_way) < _MOST_UNDER_WAY:
            task = self._under_way[wanted] = asyncio.create_task(self._load(wanted))
            task.add_done_callback(lambda _: self._under_way.pop(wanted, None))
        return task

    async def _load(self, wanted: _Wanted) -> None:
        async with self._places:
            if self._now() < self._trouble_until:
                return
            try:
                async with patience(_STATEMENT_SECONDS), connected(self._pool, _STATEMENT_SECONDS) as connection:
                    value = await _read(connection, wanted)
            except (Unavailable, psycopg.Error, OSError, TimeoutError) as error:
                self._trouble_until = self._now() + _TROUBLE_SECONDS
                _log.warning("recent_use_not_read", kind=wanted.kind, error=type(error).__name__)
                return
        self._known.pop(wanted, None)
        if len(self._known) >= _MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[wanted] = _Known(value, self._now())


async def _read(connection: psycopg.AsyncConnection[Any], wanted: _Wanted) -> Any:
    if wanted.kind == "output_tokens":
        return await read_output_tokens(connection, wanted.tenant_id, wanted.model)
    seen = await read_routes(connection, wanted.tenant_id, wanted.model)
    return tuple([Route(**route._asdict()) for route in seen])


def _models_without_bound(request: CheckRequest) -> list[str]:
    """Return the models whose output tokens nobody bounds, where that matters."""
    if request.max_output_tokens is not None or request.estimated_cost_usd is not None:
        return []
    return list(dict.fromkeys(name for name in (request.model, *request.fallback_models) if name))
