from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from service.budgets.forecast import Projection, project, rolling_run
from service.budgets.period import LIFETIME_START, Window

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = Window(START, START + timedelta(days=1))


def at_hour(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def a_projection(posted: str, hour: float, limit: str = "100", window: Window = DAY) -> Projection | None:
    return project(Decimal(posted), window, at_hour(hour), limit_usd=Decimal(limit))


def test_the_pace_of_a_window_is_continued_to_its_end():
    assert a_projection("30", 6) == Projection(
        projected_spend_usd=Decimal(120), projected_exhaustion_at=START + timedelta(hours=20)
    )


def test_a_pace_that_stays_below_the_limit_exhausts_nothing():
    assert a_projection("24.99", 6) == Projection(projected_spend_usd=Decimal("99.96"), projected_exhaustion_at=None)


def test_a_limit_reached_with_the_last_instant_of_the_window_counts_as_reached():
    found = a_projection("25", 6)
    assert found is not None
    assert found.projected_exhaustion_at == DAY.end


def test_a_limit_that_is_reached_already_is_exhausted_now():
    found = a_projection("100", 6)
    assert found is not None
    assert found.projected_exhaustion_at == at_hour(6)


def test_nothing_spent_comes_to_nothing():
    assert a_projection("0", 6) == Projection(projected_spend_usd=Decimal(0), projected_exhaustion_at=None)


def test_a_window_that_credits_outweigh_is_not_exhausted():
    found = a_projection("-5", 6)
    assert found is not None
    assert (found.projected_spend_usd, found.projected_exhaustion_at) == (Decimal(-20), None)


def test_nothing_is_said_before_a_twentieth_of_the_window_is_over():
    assert a_projection("30", 1.19) is None
    assert a_projection("30", 1.2) is not None


def test_neither_closed_windows_nor_those_to_come_are_projected():
    assert a_projection("30", 24) is None
    assert a_projection("30", -1) is None


def test_a_window_without_end_has_no_pace():
    assert a_projection("30", 6, window=Window(LIFETIME_START, None)) is None


def test_a_run_of_a_rolling_period_is_projected_until_its_first_spend_falls_out():
    run = rolling_run(86_400, at_hour(-12))
    found = project(Decimal(60), run, at_hour(0), limit_usd=Decimal(100))
    assert found == Projection(projected_spend_usd=Decimal(120), projected_exhaustion_at=at_hour(8))
    assert project(Decimal(60), run, at_hour(12), limit_usd=Decimal(100)) is None


amounts = st.decimals(min_value=0, max_value=10**12, places=12, allow_nan=False)


@given(amounts, amounts, st.integers(72_000_000 * 60, 86_399_999_999))
def test_the_projection_is_exact_to_the_next_micro_usd_and_microsecond(posted: Decimal, limit: Decimal, elapsed: int):
    found = project(posted, DAY, START + timedelta(microseconds=elapsed), limit_usd=limit)
    assert found is not None
    exact = Fraction(posted) * 86_400_000_000 / elapsed
    assert 0 <= Fraction(found.projected_spend_usd) - exact < Fraction(1, 1_000_000)
    if posted >= limit:
        assert found.projected_exhaustion_at == START + timedelta(microseconds=elapsed)
    elif exact < limit:
        assert found.projected_exhaustion_at is None
    else:
        assert found.projected_exhaustion_at is not None
        reached = Fraction((found.projected_exhaustion_at - START) // timedelta(microseconds=1))
        assert 0 <= reached - Fraction(limit) * elapsed / Fraction(posted) < 1
