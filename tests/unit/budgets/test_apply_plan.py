"""Plans: what is done so that budgets are as a file says."""

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from service.budgets.apply_plan import FieldChange, budget_document, count_steps, plan_steps
from service.budgets.budget import Budget, BudgetDraft, Rollover
from service.budgets.budget_file import read_budget_file
from tests.budget_builders import MONTHLY, a_budget, a_budget_draft, some_terms

SLUGS = [f"b{n}" for n in range(6)]


def _live(draft: BudgetDraft) -> Budget:
    return msgspec.structs.replace(
        a_budget(), slug=draft.slug, match=draft.match, period=draft.period, terms=draft.terms
    )


def test_each_budget_gets_its_step_in_the_order_of_the_file_and_the_prunable_after_them():
    same, other = a_budget_draft("same"), a_budget_draft("other", limit_usd=Decimal(5))
    moved = a_budget_draft("moved", {"team": "edge"})
    present = {
        "same": _live(same),
        "other": _live(a_budget_draft("other", limit_usd=Decimal(4), mode="shadow")),
        "moved": _live(a_budget_draft("moved", {"team": "core"})),
        "gone": _live(a_budget_draft("gone")),
        "foreign": _live(a_budget_draft("foreign")),
    }
    steps = plan_steps(present, [moved, a_budget_draft("new"), same, other], prunable=["gone", "same"])
    assert [(step.verb, step.slug) for step in steps] == [
        ("replace", "moved"),
        ("create", "new"),
        ("unchanged", "same"),
        ("change", "other"),
        ("prune", "gone"),
    ]
    assert steps[0].changes == (FieldChange("match", {"team": "core"}, {"team": "edge"}),)
    assert steps[3].changes == (FieldChange("limit_usd", "4", "5"), FieldChange("mode", "shadow", "enforce"))
    assert count_steps(steps) == {"create": 1, "change": 1, "replace": 1, "prune": 1, "unchanged": 1}


def test_the_same_written_otherwise_is_unchanged():
    present = {"b": _live(a_budget_draft("b", {"user": "*"}, MONTHLY, limit_usd=Decimal("1.00")))}
    (step,) = plan_steps(present, [a_budget_draft("b", {"user": {"each": True}}, "1mo", limit_usd=Decimal(1))])
    assert step.verb == "unchanged"


def test_what_is_exported_reads_as_what_it_was():
    draft = a_budget_draft(
        "b",
        {"team": ["core", "edge"], "user": "*", "project": None, "deployment": {"prefix": "azure/"}},
        {"kind": "calendar", "unit": "week", "timezone": "Europe/Berlin", "start_day": 3},
        name="ours",
        limit_usd=Decimal("0.10"),
        thresholds=(Decimal("0.5"), Decimal(1)),
        rollover=Rollover(cap_usd=Decimal("3.50")),
        mode="shadow",
    )
    content = msgspec.json.encode({"budgets": [budget_document(_live(draft))]})
    assert read_budget_file(content, is_json=True) == [draft]


some_drafts = st.dictionaries(
    st.sampled_from(SLUGS),
    st.builds(
        lambda team, limit, period: (team, limit, period),
        st.sampled_from(["core", "edge"]),
        st.integers(0, 2),
        st.sampled_from(["1d", "1mo"]),
    ),
).map(
    lambda chosen: [
        a_budget_draft(slug, {"team": team}, period, **msgspec.structs.asdict(some_terms(limit_usd=Decimal(limit))))
        for slug, (team, limit, period) in chosen.items()
    ]
)


@given(before=some_drafts, after=some_drafts)
def test_taking_the_steps_makes_it_be_as_the_file_says(before: list[BudgetDraft], after: list[BudgetDraft]):
    present = {draft.slug: _live(draft) for draft in before}
    steps = plan_steps(present, after, prunable=list(present))
    result = dict(present)
    for step in steps:
        if step.draft is None:
            del result[step.slug]
        else:
            result[step.slug] = _live(step.draft)
        kept = step.verb in {"unchanged", "change"}
        assert kept is (
            step.present is not None and step.draft is not None and _identity(step.draft) == _identity(step.present)
        )
    assert {slug: budget_document(budget) for slug, budget in result.items()} == {
        draft.slug: budget_document(draft) for draft in after
    }
    assert all(step.verb == "unchanged" for step in plan_steps(result, after, prunable=list(result)))


def _identity(budget: Budget | BudgetDraft) -> object:
    return budget.match, budget.period
