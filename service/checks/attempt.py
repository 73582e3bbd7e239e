"""One check by one configuration at one instant: either may prove outdated before it is decided. Pure."""

from datetime import datetime

import msgspec

from service.budgets.matching import BudgetCounter
from service.checks.appraisal import Appraisal, appraise
from service.checks.asking import MOST_COUNTERS, hold_ask, match_counters
from service.checks.hold import HoldAsk
from service.checks.request import CheckRequest
from service.config.snapshot import TenantConfig
from service.identity.dimensions import CompletedDimensions
from service.pricing.price_book import PriceBook


class Asked(msgspec.Struct, frozen=True):
    """What stays the same however often the question is put. `asked_by`: this check, and no other of the same id."""

    request: CheckRequest
    dimensions: CompletedDimensions
    reservation_id: str
    fingerprint: str
    asked_by: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One way to put the question. `counters`: all that match; `ask` holds the first 64 of them."""

    asked: Asked
    config: TenantConfig
    at: datetime
    book: PriceBook
    appraisal: Appraisal
    counters: list[BudgetCounter]
    ask: HoldAsk

    @property
    def is_enforced(self) -> bool:
        """Tell whether a denial of this tenant stops anybody."""
        return self.config.enforcement == "enforce"


def prepare_attempt(asked: Asked, config: TenantConfig, book: PriceBook, at: datetime) -> Attempt:
    """Return the question as this configuration puts it."""
    appraisal = appraise(asked.request, asked.dimensions.values, config, book, at)
    counters = match_counters(config, appraisal, at)
    is_refused = config.enforcement == "enforce" and appraisal.is_unpriced and any(map(refuses_unpriced, counters))
    ask = hold_ask(
        asked.request,
        config,
        appraisal,
        counters[:MOST_COUNTERS],
        reservation_id=asked.reservation_id,
        fingerprint=asked.fingerprint,
        placed_by=asked.asked_by,
        wants_hold=asked.request.wants_hold and not is_refused,
    )
    return Attempt(asked=asked, config=config, at=at, book=book, appraisal=appraisal, counters=counters, ask=ask)


def refuses_unpriced(counter: BudgetCounter) -> bool:
    """Tell whether a budget stops calls nobody knows a price for."""
    return counter.budget.on_unpriced == "deny" and counter.budget.mode == "enforce"
