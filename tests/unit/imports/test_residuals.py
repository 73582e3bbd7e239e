from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from service.budgets.budget import BudgetDraft, BudgetTerms
from service.budgets.match import parse_match
from service.budgets.period import CalendarPeriod, LifetimePeriod, Period, window_of
from service.identity.call import call_names
from service.identity.dimensions import Dimensions
from service.imports.drafting import Rank
from service.imports.plan import Account, Basis, Plan, PlannedBudget
from service.imports.residuals import NO_MODELS, Residuals, find_residuals
from service.imports.spend import SpendTally, before

NOW = datetime(2026, 11, 18, 10, tzinfo=UTC)
MONTH = CalendarPeriod("month", "UTC", 1)
DAY = CalendarPeriod("day", "UTC")
START = datetime(2026, 11, 1, tzinfo=UTC)

TEAM, ANN = {"team": "core"}, {"user": "ann"}
KEY = {"api_key": "k"}


def account(
    match: dict[str, str],
    spend: str,
    rank: Rank,
    period: Period = MONTH,
    basis: Basis = "comparable",
    **dimensions: str,
) -> Account:
    tags = (match["tag"],) if "tag" in match else ()
    values = {name: value for name, value in match.items() if name != "tag"}
    return Account(
        subject=f"{match} {period}", match=parse_match(match), period=period, spend_usd=Decimal(spend), basis=basis,
        dimensions=Dimensions(**values | dimensions, tags=tags), rank=rank,
    )  # fmt: skip


def plan_of(*accounts: Account) -> Plan:
    budgets = tuple(
        PlannedBudget(
            kind="k", subject=one.subject, accounts=(one,),
            draft=BudgetDraft(slug=f"s{number}", match=one.match, period=one.period,
                              terms=BudgetTerms(name="n", limit_usd=Decimal(1))),
        )
        for number, one in enumerate(accounts)
    )  # fmt: skip
    return Plan(keys=(), budgets=budgets, increases=(), remarks=())


def settle(*accounts: Account, since: datetime | None = None, logs: tuple[tuple[Dimensions, str], ...] = ()):
    tally = SpendTally(plan_of(*accounts), NOW)
    for dimensions, amount in logs:
        tally.add(call_names(dimensions, NO_MODELS), NOW - timedelta(minutes=1), Decimal(amount))
    return find_residuals(accounts, tally, start=START, since=since, now=NOW), tally


def amounts(found: Residuals) -> list[tuple[dict[str, object], str, str]]:
    return sorted(
        [
            (
                {name: value for name in Dimensions.__struct_fields__ if (value := getattr(one.dimensions, name))},
                f"{one.spent_at:%d}",
                str(one.amount_usd),
            )
            for one in found.openings
        ],
        key=str,
    )


def test_wider_sums_contain_what_narrow_ones_brought_up():
    key = account(KEY, "30", Rank.KEY, team="core", user="ann")
    found, tally = settle(account({}, "50", Rank.EVERYTHING), account(TEAM, "40", Rank.TEAM), key)
    assert sum(one.amount_usd for one in found.openings) == 50
    assert tally.of_account(key).spent_usd == 30


def test_sums_of_shorter_windows_are_attributed_to_those_of_longer_ones():
    """A team's day and its key's month are the same calls as far as both can be."""
    found, _ = settle(
        account(TEAM, "40", Rank.TEAM, DAY),
        account(TEAM, "45", Rank.TEAM),
        account(KEY, "30", Rank.KEY, team="core", user="ann"),
        account(ANN, "33", Rank.USER),
    )
    assert amounts(found) == [
        ({"team": "core", "user": "ann", "api_key": "k"}, "18", "30"),
        ({"team": "core", "user": "ann"}, "18", "3"),
        ({"team": "core"}, "01", "5"),
        ({"team": "core"}, "18", "7"),
    ]


def test_labels_lie_over_what_others_brought_up():
    found, tally = settle(
        account({}, "30", Rank.EVERYTHING),
        account(KEY, "30", Rank.KEY),
        account({"tag": "batch"}, "12", Rank.LABEL),
        account({"end_user": "c"}, "20", Rank.LABEL),
    )
    assert sum(one.amount_usd for one in found.openings) == 30
    assert all(figures.spent_usd == one.spend_usd for one, figures in tally._accounts.items())


def test_nothing_is_attributed_that_would_make_another_sum_too_large():
    """What the team spent besides is not Ann's, whose sum says so."""
    ann_in_team = account({**TEAM, **ANN}, "5", Rank.MEMBER)
    key = account(KEY, "30", Rank.KEY, team="core", user="ann")
    found, tally = settle(account(TEAM, "15", Rank.TEAM, DAY), ann_in_team, key)
    assert tally.of_account(key).spent_usd == 30
    assert ({"team": "core"}, "18", "10") in amounts(found), "what is not Ann's stays nobody's"


def test_what_logs_explain_is_not_brought_up_again_and_rounding_is_nothing():
    logs = ((Dimensions(team="core"), "10"),)
    assert settle(account(TEAM, "10.0000000004", Rank.TEAM), logs=logs)[0].openings == ()
    [opening] = settle(account(TEAM, "12", Rank.TEAM), logs=logs)[0].openings
    assert opening.amount_usd == 2
    [remark] = settle(account(TEAM, "9", Rank.TEAM), logs=logs)[0].remarks
    assert "it starts at 10" in remark.detail


def test_a_lifetime_is_booked_before_every_window_that_ends():
    found, _ = settle(account(TEAM, "7", Rank.TEAM, LifetimePeriod()))
    [opening] = found.openings
    assert opening.spent_at == before(START)
    assert window_of(MONTH, opening.spent_at) != window_of(MONTH, NOW)


def test_figures_of_another_window_are_not_taken():
    logs = ((Dimensions(team="core"), "1"),)
    for basis in ("stale", "shifted", "unknown"):
        found, _ = settle(account(TEAM, "7", Rank.TEAM, basis=basis), logs=logs)  # type: ignore[arg-type]
        assert found.openings == ()
        assert found.remarks
    assert settle(account(TEAM, "7", Rank.TEAM, basis="stale"))[0].openings == ()
    assert settle(account(TEAM, "7", Rank.TEAM, basis="shifted"))[0].openings[0].amount_usd == 7


def test_windows_that_began_before_since_are_left_alone():
    since = NOW - timedelta(days=1)
    found, _ = settle(account(TEAM, "7", Rank.TEAM), account(TEAM, "3", Rank.TEAM, DAY), since=since)
    assert [one.amount_usd for one in found.openings] == [3]


def test_thousands_of_sums_are_brought_up_and_contained_in_the_wider_ones():
    accounts = [account({"api_key": f"k{number}"}, "1", Rank.KEY, team=f"t{number % 50}") for number in range(3_000)]
    teams = [account({"team": f"t{number}"}, "60", Rank.TEAM) for number in range(50)]
    found, tally = settle(*accounts, *teams, account({}, "3000", Rank.EVERYTHING))
    assert len(found.openings) == 3_000
    assert all(tally.of_account(team).spent_usd == 60 for team in teams)


def test_the_same_state_gives_the_same_ids():
    accounts = (account(TEAM, "40", Rank.TEAM), account(KEY, "30", Rank.KEY, team="core"))
    first, second = settle(*accounts)[0], settle(*reversed(accounts))[0]
    assert [one.event_id for one in first.openings] == [one.event_id for one in second.openings]
    assert len({one.event_id for one in first.openings}) == len(first.openings)


def test_remarks_state_what_the_budget_starts_at_where_it_counts_a_part_of_the_sum():
    """LiteLLM adds what a team's keys spend to their users, and limits personal keys only."""
    whole = account(ANN, "9", Rank.USER)
    draft = plan_of(whole).budgets[0].draft
    personal = msgspec.structs.replace(draft, match=parse_match({"user": "ann", "team": None}))
    plan = msgspec.structs.replace(
        plan_of(whole), budgets=(msgspec.structs.replace(plan_of(whole).budgets[0], draft=personal),)
    )
    tally = SpendTally(plan, NOW)
    for dimensions, amount in ((Dimensions(user="ann"), "3"), (Dimensions(user="ann", team="core"), "8")):
        tally.add(call_names(dimensions, NO_MODELS), NOW - timedelta(minutes=1), Decimal(amount))
    [remark] = find_residuals([whole], tally, start=START, since=None, now=NOW).remarks
    assert "it starts at" not in remark.detail
    assert "11 are known" in remark.detail
    assert remark.detail.endswith("its budget counts 3, and starts there.")
