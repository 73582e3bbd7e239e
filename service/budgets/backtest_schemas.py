"""Wire shapes of back-tests."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from service.budgets.backtest import SubjectResult, Totals
from service.budgets.backtest_service import BacktestResult
from service.budgets.budget import BudgetDraft
from service.budgets.period_document import describe_period, period_document
from service.budgets.schemas import BudgetTermsRequest, WindowBounds
from service.errors import InvalidInput
from service.identity.conditions import match_document
from service.kit.money import format_amount

MAX_ROWS: Final = 1_000
_DRAFT_SLUG: Final = "draft"

_Text = Annotated[str, Meta(max_length=4_096)]


class BacktestBudget(BudgetTermsRequest, kw_only=True, forbid_unknown_fields=True):
    """A budget that need not exist: what POST takes."""

    slug: str | None = None

    def to_tested(self) -> BudgetDraft:
        """Return the budget. Raises InvalidInput with the path of the field."""
        try:
            return self.to_draft(_DRAFT_SLUG if self.slug is None else self.slug)
        except InvalidInput as error:
            field = "budget" if error.field is None else f"budget.{error.field}"
            raise InvalidInput(error.detail, code=error.code, field=field) from error


class BacktestRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """A budget, and the range of calls it is tried on: `from` inclusive, `to` exclusive, at most 400 days."""

    budget: BacktestBudget
    start: _Text
    end: _Text
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = 100


class BacktestTotals(msgspec.Struct, kw_only=True):
    """Every call once. `denied_usd`: what would not have been spent."""

    calls: int
    spent_usd: str
    denied_calls: int
    denied_usd: str
    subjects: int
    denied_subjects: int


class DeniedWindowView(msgspec.Struct, kw_only=True):
    """A window in which calls would have been denied."""

    window: WindowBounds
    first_denied_at: datetime
    denied_calls: int
    denied_usd: str


class BacktestSubject(msgspec.Struct, kw_only=True):
    """One counter. `windows`: the first of those with denials; none of a rolling period, which has no windows."""

    subject: dict[str, str]
    calls: int
    spent_usd: str
    denied_calls: int
    denied_usd: str
    first_denied_at: datetime | None
    denied_windows: int
    windows: list[DeniedWindowView]


class BacktestView(msgspec.Struct, kw_only=True, rename={"start": "from", "end": "to"}):
    """Who would have been denied: most denied amount first; `totals` are of all subjects, shown or not."""

    start: datetime
    end: datetime
    match: dict[str, Any]
    limit_usd: str
    period: dict[str, Any]
    period_meaning: str
    totals: BacktestTotals
    subjects: list[BacktestSubject]


def backtest_view(draft: BudgetDraft, result: BacktestResult, limit: int) -> BacktestView:
    """Return the wire shape with at most `limit` subjects."""
    ranked = sorted(
        result.subjects, key=lambda each: (-each.denied_usd, -each.denied_calls, -each.spent_usd, each.subject)
    )
    return BacktestView(
        start=result.time_range.start,
        end=result.time_range.end,
        match=match_document(draft.match),
        limit_usd=format_amount(draft.terms.limit_usd),
        period=period_document(draft.period),
        period_meaning=describe_period(draft.period),
        totals=_totals(result.totals, result.subjects),
        subjects=[_subject(each) for each in ranked[:limit]],
    )


def _totals(totals: Totals, subjects: list[SubjectResult]) -> BacktestTotals:
    return BacktestTotals(
        calls=totals.calls,
        spent_usd=format_amount(totals.spent_usd),
        denied_calls=totals.denied_calls,
        denied_usd=format_amount(totals.denied_usd),
        subjects=len(subjects),
        denied_subjects=sum(each.denied_calls > 0 for each in subjects),
    )


def _subject(result: SubjectResult) -> BacktestSubject:
    return BacktestSubject(
        subject=result.values,
        calls=result.calls,
        spent_usd=format_amount(result.spent_usd),
        denied_calls=result.denied_calls,
        denied_usd=format_amount(result.denied_usd),
        first_denied_at=result.first_denied_at,
        denied_windows=result.denied_windows,
        windows=[
            DeniedWindowView(
                window=WindowBounds(start=each.window.start, end=each.window.end),
                first_denied_at=each.first_denied_at,
                denied_calls=each.denied_calls,
                denied_usd=format_amount(each.denied_usd),
            )
            for each in result.windows
        ],
    )
