"""Files of budgets: what is written is what is meant, and what is wrong is told at once."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.budgets.budget import BudgetDraft, Rollover
from service.budgets.budget_file import BudgetFileError, read_budget_file
from service.budgets.schemas import checked_name
from service.errors import InvalidInput

_ROOT = Path(__file__).parents[3]
_ENTRY = "{slug: a, match: {team: core}, limit_usd: 1, period: 1mo%s}"


def _yaml(text: str) -> list[BudgetDraft]:
    return read_budget_file(text.encode(), is_json=False)


def _one(text: str) -> BudgetDraft:
    (draft,) = _yaml(f"budgets: [{text}]")
    return draft


def _problems(text: str | bytes, *, is_json: bool = False) -> list[str]:
    with pytest.raises(BudgetFileError) as refused:
        read_budget_file(text if isinstance(text, bytes) else text.encode(), is_json=is_json)
    return str(refused.value).splitlines()


@pytest.mark.parametrize(
    "number",
    [
        "0.1",
        "0.30000000000000004",
        "1e3",
        "100",
        "0",
        "0.1000000000000000000000000001",
        '"0.1"',
        "8999999999.999999999999",
    ],
)
def test_amounts_are_as_written_in_yaml_and_in_json(number: str):
    exact = Decimal(number.strip('"'))
    assert _one(f"{{slug: a, match: {{}}, limit_usd: {number}, period: 1mo}}").terms.limit_usd == exact
    document = f'{{"budgets": [{{"slug": "a", "match": {{}}, "limit_usd": {number}, "period": "1mo"}}]}}'
    assert read_budget_file(document.encode(), is_json=True)[0].terms.limit_usd == exact


@pytest.mark.parametrize("number", [".nan", "NaN", ".inf", "1_0", "0x10", "-1", "1:30", "true", "~", "''", "1e400"])
def test_what_is_no_amount_is_refused(number: str):
    (problem,) = _problems(f"budgets: [{{slug: a, match: {{}}, limit_usd: {number}, period: 1mo}}]")
    assert problem.startswith("budgets[0].limit_usd (a): ")


def test_everything_a_budget_can_have_is_read():
    draft = _one(
        _ENTRY
        % ", mode: shadow, name: the core team, thresholds: [1, 0.5, .8], on_unavailable: deny, on_unpriced: deny,"
        " rollover: {cap_usd: 2.5}"
    )
    terms = draft.terms
    assert (terms.name, terms.mode, terms.on_unavailable, terms.on_unpriced) == (
        "the core team",
        "shadow",
        "deny",
        "deny",
    )
    assert terms.thresholds == (Decimal("0.5"), Decimal("0.8"), Decimal(1))
    assert terms.rollover == Rollover(cap_usd=Decimal("2.5"))


@pytest.mark.parametrize("team", ["no", "on", "off", "yes", "1.10", "2026-01-01", "1e3", "0x1f", "12:30:45"])
def test_names_that_look_like_something_else_are_texts(team: str):
    draft = _one(f"{{slug: a, match: {{team: {team}}}, limit_usd: 1, period: 1mo}}")
    assert draft.match[0].values == (team,)


def test_parts_may_be_used_more_than_once():
    drafts = _yaml(
        "x-small: &small {limit_usd: 0.10, period: 1d, mode: shadow}\n"
        "budgets:\n"
        "- {slug: a, match: {user: a}, <<: *small}\n"
        "- {slug: b, match: {user: b}, <<: *small, mode: enforce}\n"
    )
    assert [(draft.terms.limit_usd, draft.terms.mode) for draft in drafts] == [
        (Decimal("0.1"), "shadow"),
        (Decimal("0.1"), "enforce"),
    ]


def test_all_that_is_wrong_is_told_with_its_place():
    problems = _problems(
        "budgets:\n"
        "- {slug: good, match: {}, limit_usd: 1, period: 1d}\n"
        "- {slug: a, match: {team: 5}, limit_usd: 1, period: 1d}\n"
        "- {slug: b, match: {}, limit_usd: 1, period: 48h}\n"
        "- {slug: c, match: {}, limit_usd: 1, period: 1d, limit: 2}\n"
        "- {slug: good, match: {}, limit_usd: 1, period: 1d}\n"
        "- {match: {}, limit_usd: 1, period: 1d}\n"
        "- just a text\n"
        "- {slug: d, match: {}, limit_usd: 1, period: {kind: rolling, length_seconds: 3600}, rollover: {}}\n"
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "budgets[1].match.team (a)",
        "budgets[2].period (b)",
        "budgets[3] (c)",
        "budgets[4].slug",
        "budgets[5]",
        "budgets[6]",
        "budgets[7].rollover (d)",
    ]


def test_of_very_many_problems_the_first_are_told():
    entries = "".join(f"- {{slug: b{n}, match: {{}}, limit_usd: x, period: 1d}}\n" for n in range(80))
    problems = _problems(f"budgets:\n{entries}")
    assert (len(problems), problems[-1]) == (51, "… and 30 more")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("budgets: [{slug: a, slug: b}]", "'slug' is given twice"),
        ("budgets: []\nbudgets: []", "'budgets' is given twice"),
        ("budgets: []\n---\nbudgets: []", "a second document"),
        ("budgets: [", "no YAML"),
        ("budgets: [!!python/object/apply:os.system ['true']]", "no YAML"),
        ("budgets: [*nothing]", "there is no 'nothing'"),
        ("budgets: [{slug: a, match: {}, limit_usd: !!bool zzz, period: 1d}]", "'zzz' is no 'tag:yaml.org,2002:bool'"),
        ("budgets: " + "[" * 100_000, "at most 64 deep"),
        ("[]", "is `budgets:`"),
        ("", "is `budgets:`"),
        ("budgets: 5", "is `budgets:`"),
        ("budgets: []\nbudget: []", "is `budgets:`"),
    ],
)
def test_a_file_that_could_mean_something_else_is_refused(text: str, says: str):
    (problem,) = _problems(text)
    assert says in problem


@pytest.mark.parametrize(
    "text",
    ['{"budgets": [], "budgets": []}', '{"budgets": [NaN]}', '{"budgets": [Infinity]}', "{", "[" * 100_000, "\x00"],
)
def test_json_that_could_mean_something_else_is_refused(text: str):
    (problem,) = _problems(text, is_json=True)
    assert problem.startswith("This is no JSON")


def test_an_empty_list_is_a_file_without_budgets():
    assert _yaml("budgets: []") == []


def test_the_file_the_readme_shows_can_be_applied():
    (shown,) = re.findall(r"```yaml\n# budgets.yaml\n(.*?)```", (_ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    core, each_user = _yaml(shown)
    assert (core.slug, core.terms.limit_usd, core.terms.thresholds) == ("core", 500, (Decimal("0.8"), 1))
    assert (each_user.terms.limit_usd, each_user.terms.mode) == (Decimal("20.5"), "shadow")


@pytest.mark.parametrize("is_json", [True, False, None])
def test_a_byte_order_mark_says_nothing(*, is_json: bool | None):
    file = b'\xef\xbb\xbf{"budgets": [{"slug": "a", "match": {}, "limit_usd": "1", "period": "1d"}]}'
    assert [draft.slug for draft in read_budget_file(file, is_json=is_json)] == ["a"]


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "\ud800"},
        {"slug": "a\udfff"},
        {"match": {"team": ["core", "\ud800"]}},
        {"match": {"\ud800": "core"}},
        {"period": "\ud800"},
        {"\ud800": 1},
    ],
    ids=ascii,
)
def test_half_a_character_is_no_text_wherever_it_stands(changed: dict[str, Any]):
    entry = {"slug": "a", "match": {}, "limit_usd": "1", "period": "1d"} | changed
    (problem,) = _problems(json.dumps({"budgets": [entry]}), is_json=True)
    assert problem.startswith("budgets[0]")
    assert problem.isascii()
    assert "half a character stands alone" in problem


def test_half_a_character_in_yaml_is_refused():
    (problem,) = _problems('budgets: [{slug: a, name: "\\ud800", match: {}, limit_usd: 1, period: 1d}]')
    assert problem.startswith("This is no YAML")


@pytest.mark.parametrize("is_json", [True, False])
def test_what_is_no_text_at_all_is_refused(*, is_json: bool):
    assert _problems(b"\xff", is_json=is_json) == ["This is no UTF-8: invalid start byte, byte 0."]


def test_a_name_is_no_half_character():
    with pytest.raises(InvalidInput):
        checked_name("\ud800")
