"""What comes of a question about spend. Pure values."""

from datetime import datetime
from typing import Any

import msgspec

from service.spend.spend_query import PositionValue


class SpendRow(msgspec.Struct, frozen=True):
    """Sums of one group in one bucket; `bucket` is the index of its start, None without granularity."""

    bucket: int | None
    groups: dict[str, str | None]
    measures: dict[str, Any]  # Decimal for amounts, int for counts


class SpendAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of rows, the sums of all rows of all pages (each charge once), the position of the next page."""

    rows: list[SpendRow]
    totals: dict[str, Any]
    next: tuple[PositionValue, ...] | None
    complete_through: datetime | None
