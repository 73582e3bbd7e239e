"""What has to be done so that a tenant's budgets are as a file says: the difference, budget by budget. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from service.budgets.budget import Budget, BudgetDraft, BudgetTerms
from service.budgets.period_document import period_document
from service.identity.conditions import match_document
from service.kit.money import format_amount

Verb = Literal["create", "change", "replace", "prune", "unchanged"]


class FieldChange(msgspec.Struct, frozen=True):
    """One field that is to be another; values as their documents show them."""

    field: str
    old: Any
    new: Any


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about one slug: `present` is the live budget of it, `draft` what the file says.

    `replace`: the match or the period differs, so the budget is archived and another one made in its place.
    """

    verb: Verb
    slug: str
    present: Budget | None = None
    draft: BudgetDraft | None = None
    changes: tuple[FieldChange, ...] = ()


def plan_steps(
    present: Mapping[str, Budget], drafts: Sequence[BudgetDraft], *, prunable: Collection[str] = ()
) -> list[Step]:
    """Return the steps in the order they are taken: those of the file, then the prunable slugs it does not name."""
    named = {draft.slug for draft in drafts}
    steps = [_step(present.get(draft.slug), draft) for draft in drafts]
    pruned = [
        Step(verb="prune", slug=slug, present=present[slug])
        for slug in sorted(prunable)
        if slug in present and slug not in named
    ]
    return steps + pruned


def count_steps(steps: Sequence[Step]) -> dict[Verb, int]:
    """Return how many steps there are of each verb."""
    counts = Counter(step.verb for step in steps)
    verbs: tuple[Verb, ...] = ("create", "change", "replace", "prune", "unchanged")
    return {verb: counts[verb] for verb in verbs}


def terms_document(terms: BudgetTerms) -> dict[str, Any]:
    """Return terms as files and answers write them."""
    rollover = terms.rollover
    return {
        "name": terms.name,
        "limit_usd": format_amount(terms.limit_usd),
        "mode": terms.mode,
        "thresholds": [format_amount(share) for share in terms.thresholds],
        "on_unavailable": terms.on_unavailable,
        "on_unpriced": terms.on_unpriced,
        "hold_basis": terms.hold_basis,
        "rollover": None
        if rollover is None
        else {"cap_usd": None if rollover.cap_usd is None else format_amount(rollover.cap_usd)},
    }


def budget_document(budget: Budget | BudgetDraft) -> dict[str, Any]:
    """Return a budget as a file writes it, whole."""
    terms = terms_document(budget.terms)
    return {
        "slug": budget.slug,
        "name": terms.pop("name"),
        "match": match_document(budget.match),
        "limit_usd": terms.pop("limit_usd"),
        "period": period_document(budget.period),
        **terms,
    }


def _step(present: Budget | None, draft: BudgetDraft) -> Step:
    if present is None:
        return Step(verb="create", slug=draft.slug, draft=draft)
    if present.match == draft.match and present.period == draft.period:
        verb: Verb = "unchanged" if present.terms == draft.terms else "change"
    else:
        verb = "replace"
    changes = () if verb == "unchanged" else tuple(_changes(present, draft))
    return Step(verb=verb, slug=draft.slug, present=present, draft=draft, changes=changes)


def _changes(present: Budget, draft: BudgetDraft) -> Iterator[FieldChange]:
    old, new = budget_document(present), budget_document(draft)
    for field, value in new.items():
        if old[field] != value:
            yield FieldChange(field, old[field], value)
