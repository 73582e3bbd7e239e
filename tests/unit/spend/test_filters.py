from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.kit.parameters import refuse_unknown
from service.kit.text import bounded_text
from service.ledger.filters import (
    TimeRange,
    parse_conditions,
    parse_range,
    quarter_after,
    quarter_before,
    scope_conditions,
    single,
)

_NOW = datetime(2026, 11, 20, 10, 7, 3, tzinfo=UTC)


def test_a_repeated_parameter_is_any_of_its_values_and_an_exclamation_mark_excludes() -> None:
    [team] = parse_conditions({"team": ["core", "web", "!ops", "core"]})
    assert (team.field, team.included, team.excluded) == ("team", ("core", "web"), ("ops",))
    assert not team.admits_absent


def test_excluding_a_value_keeps_what_has_none() -> None:
    [team] = parse_conditions({"team": ["!ops"]})
    assert not team.is_restricted
    assert team.admits_absent


def test_an_empty_value_is_absent_and_an_exclamation_mark_alone_is_present() -> None:
    [absent] = parse_conditions({"user": [""]})
    assert (absent.included, absent.includes_absent, absent.admits_absent) == ((), True, True)
    [present] = parse_conditions({"user": ["!"]})
    assert (present.is_restricted, present.excludes_absent, present.admits_absent) == (False, True, False)


def test_an_overlong_value_is_bounded_as_at_ingest() -> None:
    [tag] = parse_conditions({"tag": ["x" * 10_000]})
    assert tag.included == (bounded_text("x" * 10_000),)


@pytest.mark.parametrize(
    ("name", "value"), [("price_state", "cheap"), ("status", "!ok"), ("kind", ""), ("kind", "Usage")]
)
def test_a_value_that_cannot_occur_is_refused_by_field(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_conditions({name: [value]})
    assert (refusal.value.code, refusal.value.field) == ("unknown_value", name)


def test_a_scope_of_no_value_lets_nothing_through_and_one_of_no_dimension_is_an_error() -> None:
    [nothing] = scope_conditions({"team": []})
    assert nothing.is_restricted
    assert nothing.included == ()
    with pytest.raises(ValueError, match="no dimension"):
        scope_conditions({"tema": ["core"]})


def test_the_default_range_is_thirty_days_and_holds_what_was_recorded_just_now() -> None:
    time_range = parse_range({}, _NOW)
    assert time_range == TimeRange(
        datetime(2026, 10, 21, 10, 15, tzinfo=UTC), datetime(2026, 11, 20, 10, 15, tzinfo=UTC)
    )
    assert parse_range({"to": ["2026-11-02T00:00:00Z"]}, _NOW).start == datetime(2026, 10, 3, tzinfo=UTC)


def test_a_date_is_its_midnight_in_the_time_zone_asked_for() -> None:
    time_range = parse_range({"from": ["2026-11-01"], "to": ["2026-12-01"]}, _NOW, zone=ZoneInfo("Europe/Berlin"))
    assert time_range.start == datetime(2026, 10, 31, 23, tzinfo=UTC)


def test_a_plus_that_was_not_escaped_in_the_url_is_understood() -> None:
    assert parse_range({"from": ["2026-11-01T00:00:00 01:00"]}, _NOW).start == datetime(2026, 10, 31, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-01T00:00:00", "2026-13-01", "0001-01-01", "9999-12-31T23:59:59-12:00", "1e9"]
)
def test_a_time_without_offset_or_sense_is_refused_by_field(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_range({"to": [text]}, _NOW)
    assert (refusal.value.code, refusal.value.field) == ("invalid_time", "to")


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_range({"from": ["2026-11-02"], "to": ["2026-11-02"]}, _NOW)
    assert (refusal.value.code, refusal.value.field) == ("invalid_range", "from")


def test_unknown_and_repeated_parameters_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as unknown:
        refuse_unknown({"team": ["a"], "teem": ["b"]}, ["team"])
    assert (unknown.value.code, unknown.value.field) == ("unknown_parameter", "teem")
    with pytest.raises(InvalidInput) as repeated:
        single({"limit": ["1", "2"]}, "limit")
    assert (repeated.value.code, repeated.value.field) == ("repeated_parameter", "limit")


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_quarters_of_an_hour_enclose_an_instant(instant: datetime) -> None:
    before, after = quarter_before(instant), quarter_after(instant)
    assert before <= instant <= after
    assert after - before in {timedelta(0), timedelta(minutes=15)}
    assert int(before.timestamp()) % 900 == int(after.timestamp()) % 900 == before.microsecond == 0
