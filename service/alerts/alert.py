"""An alert: a counter of a budget has reached a share of its limit, or will exhaust it at its present pace. Pure.

There is one per (budget, subject, window, kind, threshold), for good. What it says is what was so when it was raised.
"""

from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, Literal
from uuid import UUID

import msgspec

from service.budgets.subject import subject_values
from service.kit.money import format_amount

Kind = Literal["threshold", "projected_exhaustion"]
Event = Literal["budget.threshold_reached", "budget.projected_exhaustion", "webhook.test"]

EVENT_OF_KIND: Final[dict[Kind, Event]] = {
    "threshold": "budget.threshold_reached",
    "projected_exhaustion": "budget.projected_exhaustion",
}
TEST_EVENT: Final[Event] = "webhook.test"

# The share of the limit a projected exhaustion is about: all of it.
WHOLE_LIMIT: Final = Decimal(1)

_SHOWN = Decimal("0.000001")
_TEXT_OF_TIME = "%Y-%m-%d %H:%M UTC"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. `threshold`: the share of the limit it is about; 1 for a projected exhaustion.

    `bucket` names the window exactly once, also for a rolling period, whose window moves on all the time.
    """

    alert_id: UUID
    tenant_id: str
    budget_id: UUID
    slug: str
    name: str
    subject: str
    bucket: datetime
    kind: Kind
    threshold: Decimal
    is_rolling: bool
    window_start: datetime
    window_end: datetime | None
    posted_usd: Decimal
    limit_usd: Decimal
    projected_spend_usd: Decimal | None = None
    projected_exhaustion_at: datetime | None = None
    raised_at: datetime


def percent(share: Decimal) -> int | float:
    """Return a share in percent as a number that reads well: 80, 99.5."""
    value = share * 100
    return int(value) if value == value.to_integral_value() else float(value)


def describe(alert: Alert) -> str:
    """Return the alert as one English sentence."""
    budget = f"Budget {alert.name!r}{_subject_text(alert.subject)}"
    limit, posted = _amount_text(alert.limit_usd), _amount_text(alert.posted_usd)
    if alert.kind == "threshold":
        reached = f"has reached {percent(alert.threshold)} % of its limit"
        return f"{budget} {reached}: {posted} of {limit} USD{_window_text(alert)}."
    when = "soon" if alert.projected_exhaustion_at is None else f"on {_time_text(alert.projected_exhaustion_at)}"
    spend = "" if alert.projected_spend_usd is None else f", {_amount_text(alert.projected_spend_usd)} USD by its end"
    return f"{budget} will exhaust its limit of {limit} USD {when}: {posted} USD so far{spend}{_window_text(alert)}."


def _subject_text(subject: str) -> str:
    values = ", ".join(f"{dimension} {value}" for dimension, value in subject_values(subject).items())
    return f" ({values})" if values else ""


def _window_text(alert: Alert) -> str:
    if alert.window_end is None:
        return ""
    return f" in the window from {_time_text(alert.window_start)} to {_time_text(alert.window_end)}"


def _time_text(instant: datetime) -> str:
    return instant.strftime(_TEXT_OF_TIME)


def _amount_text(amount: Decimal) -> str:
    return format_amount(amount.quantize(_SHOWN, rounding=ROUND_HALF_EVEN))
