"""Tells which charges have no price of ours, and which of them would have one by now.

The latter are offered for repricing: in the report, and to whoever declares a price or an alias.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog
from prometheus_client import Counter

from service.errors import InvalidInput, Unavailable
from service.identity.repricing_offer import RepricingOffer
from service.kit.clock import utc_now
from service.kit.patience import patience
from service.spend.report_query import ReportQuery
from service.spend.unpriced import UNPRICED_STATES, UnpricedAnswer, offered_range, parse_unpriced_query
from service.spend.unpriced_queries import UnpricedQueries

_log = structlog.get_logger(__name__)

OFFERED_REQUESTS = Counter(
    "tallygate_repricing_offered_requests",
    "Requests without a price that a price, an alias or a rule gave one to, as offered when it arrived.",
)

# Whoever declares an alias waits this long at most for what it would change.
_PATIENCE_SECONDS = 5.0
_MOST_OFFERS = 100


class PriceJudge(Protocol):
    """Tells whether the prices, aliases and rules of today give a charge its price."""

    async def are_priced_now(self, tenant_id: str, charge_ids: Sequence[UUID]) -> list[bool]:
        """Return it for each charge."""
        ...


class UnpricedService:
    """Answers about one tenant at a time."""

    def __init__(self, queries: UnpricedQueries, judge: PriceJudge, clock: Callable[[], datetime] = utc_now) -> None:
        self._queries = queries
        self._judge = judge
        self._clock = clock

    async def answer(self, tenant_id: str, query: ReportQuery) -> tuple[UnpricedAnswer, list[bool]]:
        """Return the groups asked for, and of each whether it would be priced by now. Raises Unavailable."""
        answer = await self._queries.answer(tenant_id, query)
        judged = await self._judge.are_priced_now(tenant_id, [row.sample_charge_id for row in answer.rows])
        return answer, judged

    async def find_offers(self, tenant_id: str) -> list[RepricingOffer] | None:
        """Return what of the last 30 days could be repriced, most requests first; None if it takes too long to tell.

        Never raises for trouble of its own: what was declared is in force, whatever becomes of this.
        """
        try:
            async with patience(_PATIENCE_SECONDS):
                offers = await self._find(tenant_id)
        except (Unavailable, InvalidInput, TimeoutError) as error:
            _log.warning("repricing_offers_not_found", tenant_id=tenant_id, error=type(error).__name__)
            return None
        if offers:
            requests = sum(offer.requests for offer in offers)
            OFFERED_REQUESTS.inc(requests)
            _log.info("repricing_offered", tenant_id=tenant_id, offers=len(offers), requests=requests)
        return offers

    async def _find(self, tenant_id: str) -> list[RepricingOffer]:
        parameters = {"state": list(UNPRICED_STATES), "limit": [str(_MOST_OFFERS)]}
        query = parse_unpriced_query(parameters, {}, self._clock())
        answer, judged = await self.answer(tenant_id, query)
        return [
            RepricingOffer(requests=row.requests, repricing=offered_range(row.groups, query))
            for row, is_priced in zip(answer.rows, judged, strict=True)
            if is_priced
        ]
