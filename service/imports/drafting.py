"""Turns single limits of LiteLLM into drafts of budgets, or into a remark why not; collects both. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import IntEnum
from typing import Any, Final

import msgspec

from service.budgets.budget import BudgetDraft, BudgetTerms
from service.budgets.match import parse_match
from service.budgets.period import LifetimePeriod, Period, window_of
from service.errors import InvalidInput
from service.identity.conditions import Match
from service.identity.dimensions import Dimensions
from service.imports.durations import Meaning, ResetRules, first_use_period, reset_period
from service.imports.gateway_config import CachedBudget
from service.imports.plan import SLUG_PREFIX, Account, Basis, PlannedBudget, Remark, Topic, slug_of
from service.imports.source_rows import Entities, WindowSpendRow, instant_of
from service.kit.money import EXACT, ZERO, AmountError, check_amount

# As the HTTP interface takes them: service.budgets.schemas, which is no pure module.
MOST_LIMIT_USD: Final = Decimal(9_000_000_000)
_MOST_NAME_CHARACTERS: Final = 200
_LEAST_SHARE: Final = Decimal("0.0001")
_MOST_SHARE: Final = Decimal(10)
_FAR_FUTURE: Final = datetime(2199, 12, 31, tzinfo=UTC)
_RESET_TOLERANCE: Final = timedelta(minutes=1)


EACH: Final[Mapping[str, object]] = {"each": True}  # a counter per value


class Rank(IntEnum):
    """In which order sums are brought up: narrow ones first, so that the wider ones contain them."""

    KEY = 1
    MEMBER = 2
    PROJECT = 3
    USER = 4
    TEAM = 5
    ORGANIZATION = 6
    EVERYTHING = 7
    LABEL = 8  # end users and tags
    UNBOOKABLE = 9  # a list of models: no charge can be of all of them


class Drafting:
    """Drafts by slug, and remarks."""

    far_future = _FAR_FUTURE

    def __init__(self, rules: ResetRules, now: datetime) -> None:
        self._rules = rules
        self._now = now
        self.budgets: dict[str, PlannedBudget] = {}
        self.remarks: list[Remark] = []
        self._window_spends: dict[tuple[str, str, str], list[WindowSpendRow]] | None = None

    def remark(self, topic: Topic, subject: str, detail: str) -> None:
        """Say something about an entity, once."""
        self.remarks.append(Remark(topic, subject[:300], detail))

    def rate_limits(self, subject: str, names: str) -> None:
        """Say that limits of rates were found: they are the gateway's business."""
        self.remark("not_taken", subject, f"{names}: rates are limited by the gateway, not here.")

    def find(self, *slug: str) -> PlannedBudget | None:
        """Return the draft of a slug's parts."""
        return self.budgets.get(slug_of(*slug))

    def spread(self, slug: str) -> None:
        """Put a budget for each value LiteLLM keeps a sum of in the place of one with a counter per value."""
        default = self.budgets.pop(slug)
        for account in default.accounts:
            values = [value for condition in account.match for value in condition.values]
            draft = msgspec.structs.replace(
                default.draft, slug=slug_of(slug.removeprefix(SLUG_PREFIX), *values), match=account.match
            )
            planned = PlannedBudget(kind=default.kind, subject=account.subject, draft=draft, accounts=(account,))
            self.budgets[draft.slug] = planned

    def most_increase(self, limit: Decimal) -> Decimal:
        """Return the increase that takes a limit to the highest there is."""
        return EXACT.subtract(MOST_LIMIT_USD, limit)

    def add(
        self,
        kind: str,
        subject: str,
        slug: tuple[str, ...],
        match: Mapping[str, object],
        limit: Decimal | None,
        duration: str | None,
        *,
        name: str,
        soft: Decimal | None = None,
        spend: Decimal | None = None,
        resets_at: datetime | None = None,
        dimensions: Dimensions | None = None,
        rank: Rank = Rank.UNBOOKABLE,
        is_zero_none: bool = False,
    ) -> PlannedBudget | None:
        """Draft a budget of calendar windows with what was spent; None when there is no limit or none can be made.

        `is_zero_none`: a limit of 0 means no limit there, instead of a block.
        """
        soft = soft if soft is not None and soft.is_finite() and soft > 0 else None
        if limit is None and soft is None:
            return None
        meaning = reset_period(duration, self._rules, resets_at)
        if limit is None:
            planned = self._drafted(f"{kind} (soft)", subject, slug, match, soft, meaning, name, is_soft=True)
        else:
            planned = self._drafted(
                kind, subject, slug, match, limit, meaning, name, soft=soft, is_zero_none=is_zero_none
            )
        if planned is not None and dimensions is not None:
            self.add_account(planned, subject, _without_absent(match), spend, resets_at, dimensions, rank)
            return self.budgets[planned.draft.slug]
        return planned

    def add_cached(
        self,
        kind: str,
        subject: str,
        slug: tuple[str, ...],
        match: Mapping[str, object],
        budget: CachedBudget,
        *,
        name: str,
        is_zero_none: bool,
    ) -> None:
        """Draft a limit LiteLLM counts in its cache only: what was spent is in its logs, or nowhere."""
        limit = budget.max_budget
        if limit is None:
            return
        if not is_zero_none and limit.is_finite() and limit < 0:
            self.remark("not_taken", subject, f"{limit} means no limit in LiteLLM.")
            return
        meaning = first_use_period(budget.budget_duration)
        self._drafted(kind, subject, slug, match, limit, meaning, name, is_zero_none=is_zero_none)

    def add_account(
        self,
        planned: PlannedBudget,
        subject: str,
        match: Mapping[str, object],
        spend: Decimal | None,
        resets_at: datetime | None,
        dimensions: Dimensions,
        rank: Rank,
    ) -> None:
        """Add to a drafted budget what LiteLLM says was spent in it, or by one of its values; if it says so."""
        conditions = self._conditions(match)
        if spend is None or conditions is None:
            return
        try:
            check_amount(spend)
        except AmountError as error:
            self.remark("spend", subject, f"Its spend of {spend} is no amount ({error}): its logs alone count.")
            return
        if spend < 0:
            self.remark("spend", subject, f"Its spend is {spend}: its logs alone count.")
            return
        planned = self.budgets[planned.draft.slug]
        account = Account(
            subject=subject,
            match=conditions,
            period=planned.draft.period,
            spend_usd=spend or ZERO,
            basis=self._basis(planned.draft.period, resets_at),
            dimensions=dimensions,
            rank=rank,
        )
        accounts = (*planned.accounts, account)
        self.budgets[planned.draft.slug] = msgspec.structs.replace(planned, accounts=accounts)

    def window_spends(self, entities: Entities) -> dict[tuple[str, str, str], list[WindowSpendRow]]:
        """Return what was spent in windows, by (kind, id, duration)."""
        if self._window_spends is None:
            self._window_spends = {}
            for row in entities.window_spends:
                name = (row.entity_type.lower(), row.entity_id, row.window_duration)
                self._window_spends.setdefault(name, []).append(row)
        return self._window_spends

    def is_of_present_window(self, row: WindowSpendRow, duration: str, resets_at: datetime | None) -> bool:
        """Tell whether a row of window spends is of the window that is open now."""
        period = reset_period(duration, self._rules, resets_at).period
        start = instant_of(row.window_start)
        return period is not None and start is not None and window_of(period, self._now).holds(start)

    def _drafted(
        self,
        kind: str,
        subject: str,
        slug: tuple[str, ...],
        match: Mapping[str, object],
        limit: Decimal | None,
        meaning: Meaning,
        name: str,
        *,
        soft: Decimal | None = None,
        is_soft: bool = False,
        is_zero_none: bool = False,
    ) -> PlannedBudget | None:
        checked = self._checked_limit(subject, limit, is_zero_none=is_zero_none)
        if meaning.note is not None:
            self.remark("decision" if meaning.period is not None else "not_taken", subject, meaning.note)
        if checked is None or meaning.period is None:
            return None
        try:
            conditions = parse_match(_literal(match))
        except InvalidInput as error:
            self.remark("not_taken", subject, f"It cannot be matched here: {error.detail}")
            return None
        terms = BudgetTerms(
            name=name.replace("\x00", "\ufffd")[:_MOST_NAME_CHARACTERS],
            limit_usd=checked,
            mode="shadow" if is_soft else "enforce",
            thresholds=(Decimal(1),) if is_soft else self._thresholds(subject, soft, checked),
        )
        draft = BudgetDraft(slug=slug_of(*slug), match=conditions, period=meaning.period, terms=terms)
        planned = PlannedBudget(kind=kind, subject=subject, draft=draft)
        if draft.slug in self.budgets:
            self.remark("decision", subject, "There are several of this name; the one with the lowest limit is taken.")
            planned = min(self.budgets[draft.slug], planned, key=lambda one: one.draft.terms.limit_usd)
        self.budgets[draft.slug] = planned
        return planned

    def _checked_limit(self, subject: str, limit: Decimal | None, *, is_zero_none: bool) -> Decimal | None:
        if limit is None:
            return None
        if not limit.is_finite():
            self.remark("not_taken", subject, f"A limit of {limit} is none.")
            return None
        if limit <= 0 and is_zero_none:
            self.remark("not_taken", subject, f"A limit of {limit} means no limit in LiteLLM.")
            return None
        if limit < 0:
            self.remark("decision", subject, f"A limit of {limit} blocks everything in LiteLLM: 0 is taken.")
            return ZERO
        try:
            check_amount(limit)
        except AmountError as error:
            self.remark("not_taken", subject, f"Its limit is no amount: {error}.")
            return None
        if limit > MOST_LIMIT_USD:
            self.remark("not_taken", subject, f"A limit of {limit} USD is above what counters hold ({MOST_LIMIT_USD}).")
            return None
        return limit or ZERO

    def _thresholds(self, subject: str, soft: Decimal | None, limit: Decimal) -> tuple[Decimal, ...]:
        """Return the share of the limit at which LiteLLM's soft budget warns."""
        if soft is None or not limit:
            return ()
        share = (soft / limit).quantize(_LEAST_SHARE, ROUND_HALF_UP) if soft < limit * 100 else _MOST_SHARE + 1
        if not _LEAST_SHARE <= share <= _MOST_SHARE:
            self.remark("not_taken", subject, f"A soft budget of {soft} is no share of a limit of {limit}.")
            return ()
        return (share.normalize(),)

    def _conditions(self, match: Mapping[str, Any]) -> Match | None:
        try:
            return parse_match(_literal(match))
        except InvalidInput:
            return None

    def _basis(self, period: Period, resets_at: datetime | None) -> Basis:
        if isinstance(period, LifetimePeriod):
            return "comparable"
        if resets_at is None:
            return "unknown"
        if resets_at <= self._now:
            return "stale"
        end = window_of(period, self._now).end
        assert end is not None
        return "comparable" if abs(end - resets_at) <= _RESET_TOLERANCE else "shifted"


def _literal(match: Mapping[str, object]) -> dict[str, object]:
    """Return the document of a match whose texts are ids: one that reads "*" means nobody else's."""
    return {name: [value] if isinstance(value, str) else value for name, value in match.items()}


def _without_absent(match: Mapping[str, object]) -> dict[str, object]:
    """Return the conditions of the column: LiteLLM adds to it whatever the budget leaves out."""
    return {name: value for name, value in match.items() if value is not None}
