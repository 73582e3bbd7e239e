"""One check by one configuration at one instant: either may prove outdated before it is decided. Pure."""

from datetime import datetime

import msgspec

from service.budgets.matching import BudgetCounter
from service.checks.appraisal import Appraisal, appraise
from service.checks.asking import MOST_COUNTERS, hold_ask
from service.checks.hold import HoldAsk
from service.checks.request import CheckRequest
from service.checks.route_plan import RoutePlan, plan_routes
from service.checks.routes import NOTHING_SEEN, RecentUse
from service.config.snapshot import TenantConfig
from service.identity.dimensions import KEY_DIMENSIONS, CompletedDimensions
from service.identity.tag_names import with_kept_tags
from service.pricing.price_book import PriceBook


class Asked(msgspec.Struct, frozen=True):
    """What stays the same however often the question is put. `asked_by`: this check, and no other of the same id.

    `is_key_unread`: the call has a key, and what is known of it could not be read in time.
    """

    request: CheckRequest
    dimensions: CompletedDimensions
    reservation_id: str
    fingerprint: str
    asked_by: str
    recent: RecentUse = NOTHING_SEEN
    is_key_unread: bool = False

    @property
    def untold(self) -> tuple[str, ...]:
        """Return the dimensions the call has no value of and its key might have told, could it have been read."""
        if not self.is_key_unread:
            return ()
        return tuple([name for name in KEY_DIMENSIONS if getattr(self.dimensions.values, name) is None])


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One way to put the question. `plan` has all counters that match; `ask` the first 64 of them.

    `dimensions`: those of `asked` with the tags that count by this configuration.
    """

    asked: Asked
    dimensions: CompletedDimensions
    config: TenantConfig
    at: datetime
    book: PriceBook
    appraisal: Appraisal
    plan: RoutePlan
    ask: HoldAsk

    @property
    def counters(self) -> list[BudgetCounter]:
        """Return all counters that match, whichever way the call goes."""
        return self.plan.counters

    @property
    def is_enforced(self) -> bool:
        """Tell whether a denial of this tenant stops anybody."""
        return self.config.enforcement == "enforce"


def prepare_attempt(asked: Asked, config: TenantConfig, book: PriceBook, at: datetime) -> Attempt:
    """Return the question as this configuration puts it."""
    dimensions = with_kept_tags(asked.dimensions, config.tag_names)
    appraisal = appraise(asked.request, dimensions.values, config, book, at, asked.recent)
    plan = plan_routes(config, appraisal, at)
    ask = hold_ask(
        asked.request,
        config,
        appraisal,
        plan.counters[:MOST_COUNTERS],
        at=at,
        reservation_id=asked.reservation_id,
        fingerprint=asked.fingerprint,
        placed_by=asked.asked_by,
        wants_hold=asked.request.wants_hold and not plan.is_refused,
        routes=plan.asks(MOST_COUNTERS),
    )
    return Attempt(
        asked=asked, dimensions=dimensions, config=config, at=at, book=book, appraisal=appraisal, plan=plan, ask=ask
    )
