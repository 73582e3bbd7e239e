"""Back-tests against a model that remembers every admitted call and adds up anew at each one."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.budgets import backtest
from service.budgets.backtest import PastCall, Replay
from service.budgets.budget import Budget, Rollover
from service.budgets.period import counted_buckets, window_of
from service.budgets.period_document import parse_period
from service.errors import InvalidInput
from tests.budget_builders import a_budget, a_call, some_terms

START = datetime(2026, 3, 28, 22, tzinfo=UTC)  # the clocks of Berlin go forward within the hours that follow
PERIODS: list[Any] = [
    {"kind": "lifetime"},
    {"kind": "fixed", "length_seconds": 3600},
    {"kind": "calendar", "unit": "hour", "timezone": "Asia/Kathmandu"},
    {"kind": "calendar", "unit": "day", "timezone": "Europe/Berlin"},
    {"kind": "rolling", "length_seconds": 3600},
    {"kind": "rolling", "length_seconds": 61},
]


def a_past_call(minutes: float, usd: str, user: str = "u1", **fields: Any) -> PastCall:
    people = {"user": user} | fields.pop("people", {})
    values = {"is_free": False, "is_unpriced": False, "is_asked": True} | fields
    return PastCall(
        names=a_call(**people), effective_at=START + timedelta(minutes=minutes), amount_usd=Decimal(usd), **values
    )


def _tried(budget: Budget, calls: list[PastCall], start: datetime = START) -> Replay:
    replay = Replay(budget, start)
    for call in calls:
        replay.take(call)
    return replay


def _denied_by_model(budget: Budget, calls: list[PastCall], start: datetime) -> list[int]:
    """Return the positions of denied calls, by adding up anew for each what was admitted."""
    admitted: list[PastCall] = []
    denied = []
    for number, call in enumerate(calls):
        counted = counted_buckets(budget.period, call.effective_at)
        posted = sum(
            (
                other.amount_usd
                for other in admitted
                if other.names.values["user"] == call.names.values["user"]
                and window_of(budget.period, other.effective_at).start in counted
            ),
            Decimal(0),
        )
        is_over = budget.limit_usd == 0 or posted + max(call.amount_usd, Decimal("0.000001")) > budget.limit_usd
        passes = call.is_free and budget.limit_usd > 0 and call.amount_usd == 0
        if call.effective_at >= start and call.is_asked and is_over and not passes:
            denied.append(number)
        else:
            admitted.append(call)
    return denied


some_calls = st.lists(
    st.builds(
        lambda seconds, cents, user, is_free, is_asked: a_past_call(
            seconds / 60, "0" if is_free else f"{cents}e-2", user, is_free=is_free, is_asked=is_asked
        ),
        st.integers(0, 5 * 3600),
        st.integers(0, 300),
        st.sampled_from(["u1", "u2"]),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([True, True, True, False]),
    ),
    max_size=60,
).map(lambda calls: sorted(calls, key=lambda call: call.effective_at))


@pytest.mark.parametrize("period", PERIODS, ids=[str(list(period.values())) for period in PERIODS])
@given(calls=some_calls, limit=st.sampled_from(["0", "1", "2.5", "10"]), skipped=st.sampled_from([0, 90]))
def test_it_denies_what_a_model_denies_that_remembers_everything(
    period: Any, calls: list[PastCall], limit: str, skipped: int
):
    budget = a_budget({"user": "*"}, period, terms=some_terms(limit_usd=Decimal(limit)))
    start = START + timedelta(minutes=skipped)
    replay = _tried(budget, calls, start)
    expected = [calls[number] for number in _denied_by_model(budget, calls, start)]
    assert replay.totals.denied_calls == len(expected)
    assert replay.totals.denied_usd == sum((call.amount_usd for call in expected), Decimal(0))
    in_range = [call for call in calls if call.effective_at >= start]
    assert replay.totals.spent_usd == sum((call.amount_usd for call in in_range), Decimal(0))
    for user in ("u1", "u2"):
        own = [call for call in expected if call.names.values["user"] == (user,)]
        result = replay.results.get(f'{{"user":"{user}"}}')
        assert (result.first_denied_at if result else None) == (own[0].effective_at if own else None)
        assert (result.denied_calls if result else 0) == len(own)
        if result is not None and period["kind"] != "rolling":
            starts = {window_of(budget.period, call.effective_at) for call in own}
            assert {kept.window for kept in result.windows} == starts
            assert result.denied_windows == len(starts)
            assert sum(kept.denied_calls for kept in result.windows) == len(own)


def test_a_denied_call_posts_nothing_so_a_smaller_one_after_it_passes():
    replay = _tried(
        a_budget(period={"kind": "lifetime"}, terms=some_terms(limit_usd=Decimal(10))),
        [a_past_call(0, "9"), a_past_call(1, "2"), a_past_call(2, "1"), a_past_call(3, "0.000001")],
    )
    (result,) = replay.results.values()
    assert (result.denied_calls, result.denied_usd, result.first_denied_at) == (
        2,
        Decimal("2.000001"),
        START + timedelta(minutes=1),
    )


def test_a_call_in_several_counters_is_denied_once_and_posts_in_none():
    budget = a_budget({"tag": "*"}, {"kind": "lifetime"}, terms=some_terms(limit_usd=Decimal(1)))
    replay = _tried(
        budget,
        [
            a_past_call(0, "1", people={"tags": ("a",)}),
            a_past_call(1, "0.5", people={"tags": ("a", "b")}),
            a_past_call(2, "1", people={"tags": ("b",)}),
        ],
    )
    assert (replay.totals.calls, replay.totals.denied_calls) == (3, 1)
    assert {subject: result.denied_calls for subject, result in replay.results.items()} == {
        '{"tag":"a"}': 1,
        '{"tag":"b"}': 0,
    }


def test_what_is_carried_over_counts_an_hour_after_the_window_closed():
    terms = some_terms(limit_usd=Decimal(10), rollover=Rollover(cap_usd=Decimal(4)))
    budget = a_budget(period={"kind": "fixed", "length_seconds": 86_400}, terms=terms)
    midnight = 24 * 60 + 120  # minutes from START to the second midnight after it
    replay = _tried(
        budget,
        [
            a_past_call(130, "3"),
            a_past_call(midnight + 1, "11"),  # nothing is carried in yet
            a_past_call(midnight + 62, "11"),
            a_past_call(midnight + 70, "3"),
            a_past_call(midnight + 71, "3.000001"),
        ],
    )
    assert (replay.totals.denied_calls, replay.totals.denied_usd) == (2, Decimal("14.000001"))


def test_a_limit_of_nothing_denies_whatever_was_carried_over():
    terms = some_terms(limit_usd=Decimal("0.0000009"), rollover=Rollover(cap_usd=Decimal(4)))
    budget = a_budget(period={"kind": "fixed", "length_seconds": 86_400}, terms=terms)
    midnight = 24 * 60 + 120
    former = msgspec.structs.replace(a_past_call(130, "-3"), is_asked=False)
    replay = _tried(budget, [former, a_past_call(midnight + 62, "1"), a_past_call(midnight + 63, "0", is_free=True)])
    assert (replay.totals.calls, replay.totals.denied_calls) == (2, 2)


def test_a_budget_that_denies_what_has_no_price_does_so_here_too():
    budget = a_budget(period={"kind": "lifetime"}, terms=some_terms(on_unpriced="deny"))
    replay = _tried(budget, [a_past_call(0, "1", is_unpriced=True), a_past_call(1, "1")])
    assert replay.totals.denied_calls == 1


def test_only_so_many_counters_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backtest, "MAX_SUBJECTS", 3)
    with pytest.raises(InvalidInput) as refused:
        _tried(a_budget({"user": "*"}), [a_past_call(0, "1", f"u{number}") for number in range(4)])
    assert refused.value.code == "too_many_subjects"


def test_only_so_many_windows_are_kept_and_all_are_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backtest, "_WINDOWS_KEPT_PER_SUBJECT", 2)
    budget = a_budget(period={"kind": "fixed", "length_seconds": 60}, terms=some_terms(limit_usd=Decimal(0)))
    (result,) = _tried(budget, [a_past_call(minute, "1") for minute in range(5)]).results.values()
    assert (result.denied_windows, result.denied_calls, len(result.windows)) == (5, 5, 2)
    assert [kept.denied_calls for kept in result.windows] == [1, 1]


def test_a_reader_sees_its_own_counters_only():
    replay = Replay(a_budget({"user": "*"}), START, narrowed={"user": frozenset({"u1"})})
    for user in ("u1", "u2"):
        replay.take(a_past_call(0, "1", user))
    assert list(replay.results) == ['{"user":"u1"}']
    assert replay.totals.calls == 1


def test_a_budget_made_at_the_start_of_the_range_counts_no_earlier_than_its_window():
    budget = msgspec.structs.replace(
        a_budget(period="1h", terms=some_terms(limit_usd=Decimal(5))),
        counts_from=window_of(parse_period("1h"), START).start,
    )
    replay = _tried(budget, [a_past_call(-10, "100"), a_past_call(0, "5")])
    assert replay.totals.denied_calls == 0
