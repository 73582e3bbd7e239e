"""What a preview adds up: by what the charges are, the groups that move the most, in bounded memory."""

from decimal import Decimal

from service.repricing.result import GROUPS_SHOWN, OTHERS, Side, Tally


def _side(cost: str, *, model: str | None = "m", team: str | None = "core", state: str = "priced") -> Side:
    amount = Decimal(cost)
    return Side(team=team, api_key=None, served_model=model, price_state=state, cost_usd=amount, enforced_usd=amount)


def test_nothing_added_comes_to_nothing() -> None:
    result = Tally().result()
    assert (result.before_usd, result.after_usd, result.delta_usd, result.enforced_delta_usd) == ("0", "0", "0", "0")
    assert result.price_states == result.teams == result.api_keys == result.served_models == []


def test_what_changes_its_model_leaves_one_group_and_enters_another() -> None:
    tally = Tally()
    tally.add(_side("0", model="azure/x", state="unpriced"), _side("0.30", model="openai/y"))
    tally.add(_side("1", model="openai/y"), _side("0.5", model="openai/y"))
    result = tally.result()
    assert [(shift.value, shift.before_usd, shift.after_usd, shift.delta_usd) for shift in result.served_models] == [
        ("openai/y", "1", "0.8", "-0.2"),
        ("azure/x", "0", "0", "0"),
    ]
    assert [(state.price_state, state.charges_before, state.charges_after) for state in result.price_states] == [
        ("priced", 1, 2),
        ("unpriced", 1, 0),
    ]
    assert (result.delta_usd, result.teams[0].delta_usd, result.api_keys[0].value) == ("-0.2", "-0.2", None)


def test_what_budgets_count_is_told_apart_from_what_it_costs() -> None:
    before = Side(
        team=None, api_key=None, served_model=None, price_state="unpriced", cost_usd=Decimal(0), enforced_usd=Decimal(5)
    )
    tally = Tally()
    tally.add(before, _side("2"))
    assert (tally.result().delta_usd, tally.result().enforced_delta_usd) == ("2", "-3")


def test_the_groups_that_move_the_most_are_shown_whatever_the_direction() -> None:
    tally = Tally()
    for number in range(GROUPS_SHOWN + 5):
        sign = -1 if number % 2 else 1
        after = _side(str(1000 + sign * number), team=f"t{number:02}")
        tally.add(_side("1000", team=f"t{number:02}"), after)
    shown = [shift.value for shift in tally.result().teams]
    assert shown == [f"t{number:02}" for number in range(GROUPS_SHOWN + 4, 4, -1)]


def test_more_groups_than_are_kept_are_summed_up_under_one_name() -> None:
    tally = Tally(most_groups=3)
    for number in range(10):
        tally.add(_side("1", team=f"t{number}"), _side("3", team=f"t{number}"))
    by_team = {shift.value: shift.delta_usd for shift in tally.result().teams}
    assert by_team == {"t0": "2", "t1": "2", "t2": "2", OTHERS: "14"}
    assert tally.result().delta_usd == "20"
