"""Wire shapes of budgets: amounts are strings (numbers are taken too, by their text); periods are answered in long."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from service.budgets.budget import (
    Budget,
    BudgetDraft,
    BudgetTerms,
    HoldBasis,
    Increase,
    Mode,
    OnUnavailable,
    OnUnpriced,
    Rollover,
    State,
)
from service.budgets.increase_schemas import IncreaseView, increase_view
from service.budgets.limits import rollover_problem
from service.budgets.match import parse_match
from service.budgets.period import Period
from service.budgets.period_document import describe_period, parse_period, period_document
from service.budgets.subject_reading import is_visible
from service.budgets.windows import WindowState
from service.errors import InvalidInput, NotFound
from service.identity.conditions import match_document
from service.kit.ids import new_id
from service.kit.money import EXACT, AmountError, AmountText, format_amount, parse_amount

# Redis counts integer micro-USD in Lua, whose numbers are exact up to 2^53.
MAX_LIMIT_USD: Final = Decimal(9_000_000_000)
MAX_NAME_CHARACTERS: Final = 200
MAX_THRESHOLDS: Final = 20
_MAX_THRESHOLD: Final = Decimal(10)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_THRESHOLD_PLACES: Final = 4

_TAKEN_SLUGS: Final = ("backtest",)  # what stands in addresses where a slug does
_SLUG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,199}")


class RolloverBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a window left unused is carried into the next one, up to `cap_usd`; null = up to one limit."""

    cap_usd: AmountText | None = None


class RolloverView(msgspec.Struct, kw_only=True):
    """What a window left unused is carried into the next one, up to `cap_usd`; null = up to one limit."""

    cap_usd: str | None


class BudgetTermsRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What POST and PUT have in common."""

    match: dict[str, Any]
    limit_usd: AmountText
    period: str | dict[str, Any]
    name: str | None = None
    mode: Mode = "enforce"
    thresholds: list[AmountText] = []
    on_unavailable: OnUnavailable = "ledger"
    on_unpriced: OnUnpriced = "assume"
    hold_basis: HoldBasis = "worst_case"
    rollover: RolloverBody | None = None

    def to_draft(self, slug: str) -> BudgetDraft:
        """Return the budget asked for. Raises InvalidInput with the path of the field."""
        period = parse_period(self.period)
        return BudgetDraft(
            slug=checked_slug(slug),
            match=parse_match(self.match),
            period=period,
            terms=BudgetTerms(
                name=checked_name(self.name) if self.name is not None else slug,
                limit_usd=checked_limit(self.limit_usd),
                mode=self.mode,
                thresholds=checked_thresholds(self.thresholds),
                on_unavailable=self.on_unavailable,
                on_unpriced=self.on_unpriced,
                hold_basis=self.hold_basis,
                rollover=None if self.rollover is None else checked_rollover(self.rollover, period),
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
    limit_usd: AmountText | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    thresholds: list[AmountText] | UnsetType = UNSET
    on_unavailable: OnUnavailable | UnsetType = UNSET
    on_unpriced: OnUnpriced | UnsetType = UNSET
    hold_basis: HoldBasis | UnsetType = UNSET
    rollover: RolloverBody | UnsetType | None = UNSET

    def to_changes(self, period: Period) -> dict[str, Any]:
        """Return the terms of a budget to change, by name. Raises InvalidInput with the path of the field."""
        changes = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET}
        checks: dict[str, Callable[[Any], Any]] = {
            "name": checked_name,
            "limit_usd": checked_limit,
            "thresholds": checked_thresholds,
            "rollover": lambda body: None if body is None else checked_rollover(body, period),
        }
        return {name: checks[name](value) if name in checks else value for name, value in changes.items()}


class BudgetView(msgspec.Struct, kw_only=True):
    """A budget. `counts_from`: charges effective earlier never count; null = all do. `increases`: those not over."""

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
    rollover: RolloverView | None
    increases: list[IncreaseView]
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
    """One counter in one window; available = limit - posted - held.

    `limit_usd` is the limit of today with increases in force (`increases_usd`; only of the present window), of a closed
    window the limit it closed with, and what was carried in. The projection continues the present pace to the end of
    the window; null when nothing can be said yet.
    """

    subject: dict[str, str]
    window: WindowBounds
    is_present: bool
    limit_usd: str
    increases_usd: str
    carried_in_usd: str
    posted_usd: str
    held_usd: str
    available_usd: str
    projected_spend_usd: str | None
    projected_exhaustion_at: datetime | None


class BudgetWindowList(msgspec.Struct, kw_only=True):
    """A page of counters, by subject and time; `degraded`: holds could not be read and are shown as 0."""

    windows: list[BudgetWindowView]
    degraded: bool
    next_cursor: str | None


def budget_view(budget: Budget, scope: Mapping[str, Sequence[str]]) -> BudgetView:
    """Return the wire shape, with the increases a token of this scope may see."""
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
        rollover=_rollover_view(budget.terms.rollover),
        increases=[increase_view(each) for each in budget.increases if is_visible(each.subject, scope)],
        state=budget.state,
        counts_from=budget.counts_from,
        created_at=budget.created_at,
        archived_at=budget.archived_at,
    )


def _rollover_view(rollover: Rollover | None) -> RolloverView | None:
    if rollover is None:
        return None
    return RolloverView(cap_usd=None if rollover.cap_usd is None else format_amount(rollover.cap_usd))


def window_view(state: WindowState) -> BudgetWindowView:
    """Return the wire shape."""
    projection = state.projection
    return BudgetWindowView(
        subject=state.values,
        window=WindowBounds(start=state.window.start, end=state.window.end),
        is_present=state.is_present,
        limit_usd=format_amount(state.limit_usd),
        increases_usd=format_amount(state.increases_usd),
        carried_in_usd=format_amount(state.carried_in_usd),
        posted_usd=format_amount(state.posted_usd),
        held_usd=format_amount(state.held_usd),
        available_usd=format_amount(state.available_usd),
        projected_spend_usd=None if projection is None else format_amount(projection.projected_spend_usd),
        projected_exhaustion_at=None if projection is None else projection.projected_exhaustion_at,
    )


def checked_slug(text: str) -> str:
    """Return the slug. Raises InvalidInput when it cannot be one."""
    if not _SLUG.fullmatch(text) or isinstance(budget_key(text), UUID) or text in _TAKEN_SLUGS:
        raise InvalidInput(
            "A slug is 1 to 200 letters, digits and . _ : @ + - beginning with a letter or digit, no UUID, and none of"
            f" {', '.join(_TAKEN_SLUGS)}.",
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
    if not 1 <= len(text) <= MAX_NAME_CHARACTERS or "\x00" in text or _SURROGATE.search(text):
        raise InvalidInput(f"A name is a text of 1 to {MAX_NAME_CHARACTERS} characters.", field="name")
    return text


def checked_limit(text: str) -> Decimal:
    """Return the limit. Raises InvalidInput unless it is finite, not negative and within what counters hold exactly."""
    amount = checked_usd(text, "limit_usd", "The limit")
    if amount < 0:
        raise InvalidInput("A limit cannot be negative.", code="invalid_amount", field="limit_usd")
    return amount or Decimal(0)


def check_highest_limit(budget: Budget, *increases: Increase, field: str) -> None:
    """Raise InvalidInput when a limit with its increases, and with some more, is beyond what counters hold exactly."""
    highest = budget.limit_usd
    for increase in (*budget.increases, *increases):
        highest = EXACT.add(highest, increase.amount_usd)
    if highest > MAX_LIMIT_USD:
        raise InvalidInput(
            f"With its increases the limit of {budget.slug!r} is at most {MAX_LIMIT_USD} USD: counters are exact up to"
            " there.",
            code="invalid_amount",
            field=field,
        )


def checked_usd(text: str, field: str, what: str) -> Decimal:
    """Return an amount of USD, of any sign, within what counters hold exactly. Raises InvalidInput."""
    try:
        amount = parse_amount(text)
    except AmountError as error:
        raise InvalidInput(f"{what} is no amount: {error}.", code="invalid_amount", field=field) from error
    if amount > MAX_LIMIT_USD:
        raise InvalidInput(
            f"{what} is at most {MAX_LIMIT_USD} USD: counters are exact up to there.",
            code="invalid_amount",
            field=field,
        )
    return amount


def checked_rollover(body: RolloverBody, period: Period) -> Rollover:
    """Return what is carried over. Raises InvalidInput for a cap of nothing, and for periods that carry nothing."""
    problem = rollover_problem(period)
    if problem is not None:
        raise InvalidInput(problem, code="rollover_not_possible", field="rollover")
    if body.cap_usd is None:
        return Rollover()
    cap = checked_usd(body.cap_usd, "rollover.cap_usd", "The cap")
    if cap <= 0:
        raise InvalidInput(
            "A cap is above 0; null in place of `rollover` carries nothing.",
            code="invalid_amount",
            field="rollover.cap_usd",
        )
    return Rollover(cap_usd=cap)


def checked_thresholds(texts: list[AmountText]) -> tuple[Decimal, ...]:
    """Return the shares of the limit, ascending. Raises InvalidInput."""
    if len(texts) > MAX_THRESHOLDS:
        raise InvalidInput(f"There are at most {MAX_THRESHOLDS} thresholds.", field="thresholds")
    return tuple(sorted({_checked_share(text, f"thresholds[{index}]") for index, text in enumerate(texts)}))


def _checked_share(text: str, field: str) -> Decimal:
    try:
        share = parse_amount(text)
    except AmountError:
        share = Decimal(0)
    if not 0 < share <= _MAX_THRESHOLD or round(share, _THRESHOLD_PLACES) != share:
        raise InvalidInput(
            f"A threshold is a share of the limit above 0, at most {_MAX_THRESHOLD}, "
            f"with at most {_THRESHOLD_PLACES} decimal places.",
            field=field,
        )
    return share.normalize()
