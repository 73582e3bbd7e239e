"""Wire shapes of temporary increases of a limit."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from service.budgets.budget import Increase
from service.budgets.subject import subject_values
from service.errors import InvalidInput
from service.kit.instants import checked_instant
from service.kit.money import AmountError, AmountText, format_amount, parse_amount

LONGEST_INCREASE: Final = timedelta(days=366)
MAX_REASON_CHARACTERS: Final = 500

_Text = Annotated[str, Meta(max_length=4_096)]


class IncreaseRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A limit to be raised until a time: of one counter (`subject`, such as {"user": "u1"}), or of every counter."""

    amount_usd: AmountText
    until: _Text
    reason: _Text
    subject: dict[str, _Text] | None = None

    def checked_amount(self) -> Decimal:
        """Return the amount. Raises InvalidInput unless it is above 0."""
        try:
            amount = parse_amount(self.amount_usd)
        except AmountError as error:
            raise InvalidInput(
                f"The increase is no amount: {error}.", code="invalid_amount", field="amount_usd"
            ) from error
        if amount <= 0:
            raise InvalidInput(
                "An increase is above 0; to lower a limit, change the budget.",
                code="invalid_amount",
                field="amount_usd",
            )
        return amount

    def checked_until(self, now: datetime) -> datetime:
        """Return the end. Raises InvalidInput unless it is in the future, at most a year ahead."""
        until = checked_instant(self.until, "until")
        if not now < until <= now + LONGEST_INCREASE:
            raise InvalidInput(
                f"An increase ends in the future, at most {LONGEST_INCREASE.days} days ahead, not {until.isoformat()}.",
                code="invalid_until",
                field="until",
            )
        return until

    def checked_reason(self) -> str:
        """Return the reason. Raises InvalidInput for none, and for what no database keeps."""
        if not 1 <= len(self.reason.strip()) <= MAX_REASON_CHARACTERS or "\x00" in self.reason:
            raise InvalidInput(f"A reason is a text of 1 to {MAX_REASON_CHARACTERS} characters.", field="reason")
        return self.reason.strip()


class IncreaseView(msgspec.Struct, kw_only=True):
    """A limit raised for a time, [granted_at, until); `subject` null = every counter of the budget."""

    increase_id: UUID
    amount_usd: str
    subject: dict[str, str] | None
    granted_at: datetime
    until: datetime
    reason: str
    granted_by: str


class IncreaseList(msgspec.Struct, kw_only=True):
    """A page of increases, by the time they were granted."""

    increases: list[IncreaseView]
    next_cursor: str | None


def increase_view(increase: Increase) -> IncreaseView:
    """Return the wire shape."""
    return IncreaseView(
        increase_id=increase.increase_id,
        amount_usd=format_amount(increase.amount_usd),
        subject=None if increase.subject is None else subject_values(increase.subject),
        granted_at=increase.granted_at,
        until=increase.until,
        reason=increase.reason,
        granted_by=increase.author,
    )
