"""What a key may still spend, told to whoever holds the key: it is its own credential, found in the key registry.

Guarantees: nobody learns anything of a key they cannot show in plain; guesses and eager askers are slowed down; of
budgets that are not the key's own no more is told than the tenant's `deny_detail` allows. Nothing is held.
"""

import re
from collections import OrderedDict
from decimal import Decimal
from uuid import UUID

import msgspec

from service.access.tokens import Caller
from service.checks.answer import format_micro_usd
from service.checks.denial import is_of_own_key, may_show_figures
from service.checks.dialects.schemas import QuotaAnswer, QuotaBudget
from service.checks.hold import DEFAULT_TTL_SECONDS
from service.checks.outcome import Explanation, Standing
from service.checks.request import CheckRequest
from service.checks.schemas import WindowView
from service.checks.service import CheckService
from service.errors import Forbidden, StateConflict, TooManyRequests, Unauthenticated
from service.identity.dimensions import Dimensions
from service.identity.known_key import KnownKey
from service.identity.service import KeyService
from service.kit.clock import monotonic
from service.kit.throttle import Throttle

_ASKS_PER_SECOND, _ASKS_AT_ONCE = 2.0, 10
_GUESSES_PER_SECOND, _GUESSES_AT_ONCE = 5.0, 50
_MOST_KNOWN = 10_000
_NO_TOKEN = UUID(int=0)
# Whatever else is asked for is nobody's name, and may not even be a text the database takes.
_TENANT_ID = re.compile(r"[a-z0-9_-]{1,63}")


class QuotaService:
    """Answers keys that ask about themselves."""

    def __init__(self, checks: CheckService, keys: KeyService) -> None:
        self._checks = checks
        self._keys = keys
        self._asks = Throttle(monotonic, per_second=_ASKS_PER_SECOND, burst=_ASKS_AT_ONCE)
        self._guesses = Throttle(monotonic, per_second=_GUESSES_PER_SECOND, burst=_GUESSES_AT_ONCE)
        # Those that were found lately: who guesses from the same address, behind one proxy, does not stop them.
        self._known: OrderedDict[str, None] = OrderedDict()

    async def get(
        self, api_key: str, *, asked_from: str, tenant_id: str | None = None, model: str | None = None
    ) -> QuotaAnswer:
        """Return what is left in every budget each call of a key counts in; with `model`, in those of its calls, too.

        Raises Unauthenticated, Forbidden (`key_blocked`), StateConflict (`ambiguous_key`), TooManyRequests.
        """
        is_known = api_key in self._known
        if not self._asks.take(api_key) or not (is_known or self._guesses.take(asked_from)):
            raise TooManyRequests("Ask less often.")
        owner, known = await self._find_owner(api_key, tenant_id)
        self._remember(api_key)
        if known.is_blocked:
            raise Forbidden("This key is blocked.", code="key_blocked")
        caller = Caller(tenant_id=owner, token_id=_NO_TOKEN, name="a client key", roles=frozenset())
        outcome = await self._checks.check(caller, _question(api_key, model))
        explanation = outcome.explanation
        return QuotaAnswer(
            api_key=api_key,
            alias=known.declared.alias or known.learned.alias,
            degraded=explanation.is_degraded,
            budgets=[
                _quota_budget(standing, explanation)
                for standing in explanation.standings
                if standing.counter.budget.mode == "enforce" and _is_shown(standing, explanation)
            ],
        )

    async def _find_owner(self, api_key: str, tenant_id: str | None) -> tuple[str, KnownKey]:
        is_possible = tenant_id is None or _TENANT_ID.fullmatch(tenant_id) is not None
        owners = await self._keys.find_owners(api_key, tenant_id=tenant_id, most=2) if is_possible else []
        if not owners:
            self._known.pop(api_key, None)
            raise Unauthenticated("This key is not known.")
        if len(owners) > 1:
            raise StateConflict("More than one tenant knows this key: name yours (?tenant=).", code="ambiguous_key")
        return owners[0]

    def _remember(self, api_key: str) -> None:
        self._known[api_key] = None
        self._known.move_to_end(api_key)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)


def _question(api_key: str, model: str | None) -> CheckRequest:
    return CheckRequest(
        request_id=None,
        wants_hold=False,
        ttl_seconds=DEFAULT_TTL_SECONDS,
        dimensions=Dimensions(api_key=api_key),
        model=model,
        provider=None,
        deployment=None,
        fallback_models=(),
        call_type="",
        input_tokens=0,
        max_output_tokens=0,
        service_tier=None,
        estimated_cost_usd=Decimal(0),
    )


def _is_shown(standing: Standing, explanation: Explanation) -> bool:
    return is_of_own_key(standing) or explanation.settings.deny_detail != "none"


def _quota_budget(standing: Standing, explanation: Explanation) -> QuotaBudget:
    window, is_own = standing.window, is_of_own_key(standing)
    shown = QuotaBudget(
        name=standing.counter.budget.name,
        is_own=is_own,
        resets_at=standing.resets_at,
        window=WindowView(window.start, window.end),
    )
    if not is_own and not may_show_figures(standing, explanation.settings):
        return shown
    return msgspec.structs.replace(
        shown,
        limit_usd=format_micro_usd(standing.limit_micro_usd),
        posted_usd=_text(standing.posted_micro_usd),
        held_usd=_text(standing.held_micro_usd),
        available_usd=_text(standing.available_micro_usd),
    )


def _text(amount: int | None) -> str | None:
    return None if amount is None else format_micro_usd(amount)
