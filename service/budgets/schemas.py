"""Wire shapes of budgets: amounts are strings (numbers are taken too, by their text); periods are answered in long."""

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from service.budgets.budget import Budget, BudgetDraft, BudgetTerms, HoldBasis, Mode, OnUnavailable, OnUnpriced, State
from service.budgets.match import parse_match
from service.budgets.period_document import describe_period, parse_period, period_document
from service.budgets.service import WindowState
from service.errors import InvalidInput, NotFound
from service.identity.conditions import match_document
from service.kit.ids import new_id
from service.kit.money import AmountError, check_amount, format_amount

# Redis counts integer micro-USD in Lua, whose numbers are exact up to 2^53.
MAX_LIMIT_USD: Final = Decimal(9_000_000_000)
MAX_NAME_CHARACTERS: Final = 200
MAX_THRESHOLDS: Final = 20
_MAX_THRESHOLD: Final = Decimal(10)
_THRESHOLD_PLACES: Final = 4

_SLUG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,199}")


class BudgetTermsRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What POST and PUT have in common."""

    match: dict[str, Any]
    limit_usd: Decimal
    period: str | dict[str, Any]
    name: str | None = None
    mode: Mode = "enforce"
    thresholds: list[Decimal] = []
    on_unavailable: OnUnavailable = "ledger"
    on_unpriced: OnUnpriced = "assume"
    hold_basis: HoldBasis = "worst_case"

    def to_draft(self, slug: str) -> BudgetDraft:
        """Return the budget asked for. Raises InvalidInput with the path of the field."""
        return BudgetDraft(
            slug=checked_slug(slug),
            match=parse_match(self.match),
            period=parse_period(self.period),
            terms=BudgetTerms(
                name=checked_name(self.name) if self.name is not None else slug,
                limit_usd=checked_limit(self.limit_usd),
                mode=self.mode,
                thresholds=checked_thresholds(self.thresholds),
                on_unavailable=self.on_unavailable,
                on_unpriced=self.on_unpriced,
                hold_basis=self.hold_basis,
            ),
        )


class BudgetRequest(BudgetTermsRequest, kw_only=True, forbid_unknown_fields=True):
    """A budget to be created; without a slug it gets a random one, without a name its slug."""

    slug: str | None = None

    def to_new_draft(self) -> BudgetDraft:
        """Return the budget asked for. Raises InvalidInput with the path of the field."""
        return self.to_draft(f"budget-{new_id().hex}" if self.slug is None else self.slug)


class BudgetPutRequest(BudgetTermsRequest, kw_only=True, forbid_unknown_fields=True):
    """A budget as it shall be; the slug is the one of the path."""

    slug: str | None = None


class BudgetPatchRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Terms to change; what is left out stays. Another match or period is another budget, which PUT makes."""

    name: str | UnsetType = UNSET
    limit_usd: Decimal | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    thresholds: list[Decimal] | UnsetType = UNSET
    on_unavailable: OnUnavailable | UnsetType = UNSET
    on_unpriced: OnUnpriced | UnsetType = UNSET
    hold_basis: HoldBasis | UnsetType = UNSET

    def to_changes(self) -> dict[str, Any]:
        """Return the terms to change, by name. Raises InvalidInput with the path of the field."""
        changes = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET}
        checks: dict[str, Callable[[Any], Any]] = {
            "name": checked_name,
            "limit_usd": checked_limit,
            "thresholds": checked_thresholds,
        }
        return {name: checks[name](value) if name in checks else value for name, value in changes.items()}


class BudgetView(msgspec.Struct, kw_only=True):
    """A budget. `counts_from`: charges effective earlier never count; null = all do."""

    budget_id: UUID
    slug: str
    name: str
    match: dict[str, Any]
    limit_usd: str
    period: dict[str, Any]
    period_meaning: str
    mode: Mode
    thresholds: list[float]
    on_unavailable: OnUnavailable
    on_unpriced: OnUnpriced
    hold_basis: HoldBasis
    state: State
    counts_from: datetime | None
    created_at: datetime
    archived_at: datetime | None


class BudgetList(msgspec.Struct, kw_only=True):
    """A page of budgets, by slug."""

    budgets: list[BudgetView]
    next_cursor: str | None


class WindowBounds(msgspec.Struct, kw_only=True):
    """One instance of the period; the end null = never."""

    start: datetime
    end: datetime | None


class BudgetWindowView(msgspec.Struct, kw_only=True):
    """One counter in one window, against the limit of today; available = limit - posted - held."""

    subject: dict[str, str]
    window: WindowBounds
    is_present: bool
    limit_usd: str
    posted_usd: str
    held_usd: str
    available_usd: str


class BudgetWindowList(msgspec.Struct, kw_only=True):
    """A page of counters, by subject and time; `degraded`: holds could not be read and are shown as 0."""

    windows: list[BudgetWindowView]
    degraded: bool
    next_cursor: str | None


def budget_view(budget: Budget) -> BudgetView:
    """Return the wire shape."""
    return BudgetView(
        budget_id=budget.budget_id,
        slug=budget.slug,
        name=budget.name,
        match=match_document(budget.match),
        limit_usd=format_amount(budget.limit_usd),
        period=period_document(budget.period),
        period_meaning=describe_period(budget.period),
        mode=budget.mode,
        thresholds=[float(share) for share in budget.terms.thresholds],
        on_unavailable=budget.on_unavailable,
        on_unpriced=budget.on_unpriced,
        hold_basis=budget.hold_basis,
        state=budget.state,
        counts_from=budget.counts_from,
        created_at=budget.created_at,
        archived_at=budget.archived_at,
    )


def window_view(state: WindowState) -> BudgetWindowView:
    """Return the wire shape."""
    return BudgetWindowView(
        subject=state.values,
        window=WindowBounds(start=state.window.start, end=state.window.end),
        is_present=state.is_present,
        limit_usd=format_amount(state.limit_usd),
        posted_usd=format_amount(state.posted_usd),
        held_usd=format_amount(state.held_usd),
        available_usd=format_amount(state.available_usd),
    )


def checked_slug(text: str) -> str:
    """Return the slug. Raises InvalidInput when it cannot be one."""
    if not _SLUG.fullmatch(text) or isinstance(budget_key(text), UUID):
        raise InvalidInput(
            "A slug is 1 to 200 letters, digits and . _ : @ + - beginning with a letter or digit, and no UUID.",
            code="invalid_slug",
            field="slug",
        )
    return text


def budget_key(text: str) -> UUID | str:
    """Return what a path names: an id, else a slug. Raises NotFound for what can be neither."""
    try:
        return UUID(text)
    except ValueError:
        if not _SLUG.fullmatch(text):
            raise NotFound("There is no such budget.") from None
        return text


def checked_name(text: str) -> str:
    """Return the name for people. Raises InvalidInput."""
    if not 1 <= len(text) <= MAX_NAME_CHARACTERS or "\x00" in text:
        raise InvalidInput(f"A name is a text of 1 to {MAX_NAME_CHARACTERS} characters.", field="name")
    return text


def checked_limit(amount: Decimal) -> Decimal:
    """Return the limit. Raises InvalidInput unless it is finite, not negative and within what counters hold exactly."""
    try:
        check_amount(amount)
    except AmountError as error:
        raise InvalidInput(f"The limit is no amount: {error}.", code="invalid_amount", field="limit_usd") from error
    if amount < 0:
        raise InvalidInput("A limit cannot be negative.", code="invalid_amount", field="limit_usd")
    if amount > MAX_LIMIT_USD:
        raise InvalidInput(
            f"A limit is at most {MAX_LIMIT_USD} USD: counters are exact up to there.",
            code="invalid_amount",
            field="limit_usd",
        )
    return amount or Decimal(0)


def checked_thresholds(shares: list[Decimal]) -> tuple[Decimal, ...]:
    """Return the shares of the limit, ascending. Raises InvalidInput."""
    if len(shares) > MAX_THRESHOLDS:
        raise InvalidInput(f"There are at most {MAX_THRESHOLDS} thresholds.", field="thresholds")
    for index, share in enumerate(shares):
        if not share.is_finite() or not 0 < share <= _MAX_THRESHOLD or round(share, _THRESHOLD_PLACES) != share:
            raise InvalidInput(
                f"A threshold is a share of the limit above 0, at most {_MAX_THRESHOLD}, "
                f"with at most {_THRESHOLD_PLACES} decimal places.",
                field=f"thresholds[{index}]",
            )
    return tuple(sorted({share.normalize() for share in shares}))
