"""What ingest counts about prices: requests without one of ours, and costs that part from the gateway's figure.

The price keys that label a counter are those of the price book: there are only so many, and no tenant chose them.
"""

from collections.abc import Iterable

from prometheus_client import Counter

from service.kit.money import EXACT
from service.ledger.charge import ChargeDraft, Recorded, RecordOutcome
from service.pricing.divergence import OWN_STATES, Tolerance
from service.pricing.registry import PriceBooks

UNPRICED_REQUESTS = Counter(
    "tallygate_requests_without_price",
    "Recorded requests without a price of ours: unpriced, or reported (the gateway's figure is used).",
    ["price_state", "fees_price_state", "reason"],
)
DIVERGING_REQUESTS = Counter(
    "tallygate_diverging_requests",
    "Recorded requests whose cost differs from the gateway's figure by more than the tolerance.",
    ["price_key"],
)
DIVERGENCE = Counter(
    "tallygate_divergence_usd",
    "Differences beyond the tolerance between the gateway's figure and our cost, in USD, by who says more.",
    ["price_key", "more"],
)

_NOT_IN_BOOK = "other"


class PriceObserver:
    """Counts the charges that were recorded."""

    def __init__(self, prices: PriceBooks, tolerance: Tolerance) -> None:
        self._prices = prices
        self._tolerance = tolerance

    def observe(self, outcomes: Iterable[RecordOutcome]) -> None:
        """Count what became a charge just now; repetitions and conflicts are none."""
        for outcome in outcomes:
            if isinstance(outcome, Recorded):
                self._observe(outcome.charge)

    def _observe(self, draft: ChargeDraft) -> None:
        if draft.price_state not in OWN_STATES:
            # A code may name after a colon what it is about: that is for the report.
            reason = (draft.price_reason or "").partition(":")[0]
            UNPRICED_REQUESTS.labels(draft.price_state, draft.fees_price_state, reason).inc()
            return
        reported = draft.reported_cost_usd
        if reported is None or not self._tolerance.is_exceeded(draft.cost_usd, reported):
            return
        difference = EXACT.subtract(reported, draft.cost_usd)
        key = self._label(draft)
        DIVERGING_REQUESTS.labels(key).inc()
        DIVERGENCE.labels(key, "gateway" if difference > 0 else "tallygate").inc(float(abs(difference)))

    def _label(self, draft: ChargeDraft) -> str:
        """Return the price key if the book knows it: an override may price a name that is the tenant's own."""
        key = draft.price_key
        if key is None or self._prices.at(draft.tenant_id, draft.occurred_at).find(key) is None:
            return _NOT_IN_BOOK
        return key
