from decimal import Decimal

from service.budgets.thresholds import next_amount, reached

SHARES = (Decimal("0.5"), Decimal("0.8"), Decimal(1))


def amount(text: str) -> Decimal:
    return Decimal(text)


def test_a_threshold_is_reached_by_the_amount_it_stands_for():
    assert reached(amount("49.999999"), amount("100"), SHARES) == ()
    assert reached(amount("50"), amount("100"), SHARES) == (Decimal("0.5"),)


def test_a_jump_reaches_every_threshold_on_the_way():
    assert reached(amount("100"), amount("100"), SHARES) == SHARES


def test_an_amount_is_not_rounded_up_to_a_threshold():
    assert reached(amount("0.4999999999999999999999999999999999999999"), amount("1"), SHARES) == ()


def test_a_limit_of_nothing_is_reached_by_the_first_cent_and_not_before():
    assert reached(amount("0"), amount("0"), SHARES) == ()
    assert reached(amount("0.01"), amount("0"), SHARES) == SHARES


def test_credits_reach_nothing():
    assert reached(amount("-1"), amount("0"), SHARES) == ()


def test_what_to_wait_for_next_is_the_lowest_threshold_not_raised():
    assert next_amount(amount("100"), SHARES, set()) == 50
    assert next_amount(amount("100"), SHARES, {Decimal("0.50")}) == 80
    assert next_amount(amount("100"), SHARES, {Decimal("0.8"), Decimal("0.5")}) == 100
    assert next_amount(amount("100"), SHARES, set(SHARES)) is None
