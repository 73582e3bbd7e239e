"""Written forms of periods: the short ones are answered in the long form; what could mean two things is refused."""

from typing import Any

import msgspec
import pytest

from service.budgets.period import DEFAULT_ANCHOR
from service.budgets.period_document import describe_period, parse_period, period_document
from service.errors import InvalidInput

_ANCHOR = "2001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("30s", {"kind": "fixed", "length_seconds": 30, "anchor": _ANCHOR}),
        ("5m", {"kind": "fixed", "length_seconds": 300, "anchor": _ANCHOR}),
        ("5h", {"kind": "fixed", "length_seconds": 18_000, "anchor": _ANCHOR}),
        ("1d", {"kind": "calendar", "unit": "day", "timezone": "UTC"}),
        ("daily", {"kind": "calendar", "unit": "day", "timezone": "UTC"}),
        ("7d", {"kind": "calendar", "unit": "week", "timezone": "UTC", "start_day": 1}),
        ("1w", {"kind": "calendar", "unit": "week", "timezone": "UTC", "start_day": 1}),
        ("weekly", {"kind": "calendar", "unit": "week", "timezone": "UTC", "start_day": 1}),
        ("30d", {"kind": "calendar", "unit": "month", "timezone": "UTC", "start_day": 1}),
        ("1mo", {"kind": "calendar", "unit": "month", "timezone": "UTC", "start_day": 1}),
        ("monthly", {"kind": "calendar", "unit": "month", "timezone": "UTC", "start_day": 1}),
        ("90d", {"kind": "fixed", "length_seconds": 7_776_000, "anchor": _ANCHOR}),
        ("1y", {"kind": "calendar", "unit": "year", "timezone": "UTC"}),
    ],
)
def test_short_forms_are_answered_in_the_long_form(short: str, long: dict[str, Any]):
    assert period_document(parse_period(short)) == long
    assert parse_period(long) == parse_period(short)


@pytest.mark.parametrize(
    "text", ["48h", "10days", "36h", "2w", "31d", "1month", "hourly", "30D", "0s", "1.5d", "-1d", ""]
)
def test_what_gateways_read_in_several_ways_is_refused(text: str):
    with pytest.raises(InvalidInput) as refused:
        parse_period(text)
    assert (refused.value.code, refused.value.field) == ("period_not_understood", "period")


def test_a_refused_length_is_answered_with_the_document_that_says_it():
    with pytest.raises(InvalidInput) as refused:
        parse_period("10days")
    assert '{"kind": "fixed", "length_seconds": 864000}' in refused.value.detail


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "period.kind"),
        ({"kind": ["calendar"]}, "period.kind"),
        ({"kind": "calendar", "unit": "fortnight"}, "period.unit"),
        ({"kind": "calendar", "unit": ["day"]}, "period.unit"),
        ({"kind": "calendar", "unit": "day", "timezone": "Mars/Olympus"}, "period.timezone"),
        ({"kind": "calendar", "unit": "day", "timezone": "../etc/passwd"}, "period.timezone"),
        ({"kind": "calendar", "unit": "day", "timezone": "Europe"}, "period.timezone"),
        ({"kind": "calendar", "unit": "day", "timezone": 1}, "period.timezone"),
        ({"kind": "calendar", "unit": "day", "start_day": 1}, "period.start_day"),
        ({"kind": "calendar", "unit": "week", "start_day": 8}, "period.start_day"),
        ({"kind": "calendar", "unit": "week", "start_day": True}, "period.start_day"),
        ({"kind": "calendar", "unit": "month", "start_day": 0}, "period.start_day"),
        ({"kind": "calendar", "unit": "month", "start_day": 32}, "period.start_day"),
        ({"kind": "calendar", "unit": "month", "start_day": "monday"}, "period.start_day"),
        ({"kind": "calendar", "unit": "month", "zone": "UTC"}, "period.zone"),
        ({"kind": "fixed"}, "period.length_seconds"),
        ({"kind": "fixed", "length_seconds": 0}, "period.length_seconds"),
        ({"kind": "fixed", "length_seconds": True}, "period.length_seconds"),
        ({"kind": "fixed", "length_seconds": 1.5}, "period.length_seconds"),
        ({"kind": "fixed", "length_seconds": 10**12}, "period.length_seconds"),
        ({"kind": "fixed", "length_seconds": 60, "anchor": "2026-01-01T00:00:00"}, "period.anchor"),
        ({"kind": "fixed", "length_seconds": 60, "anchor": "1850-01-01T00:00:00Z"}, "period.anchor"),
        ({"kind": "fixed", "length_seconds": 60, "anchor": "0001-01-01T00:00:00+14:00"}, "period.anchor"),
        ({"kind": "fixed", "length_seconds": 60, "anchor": "2026-01-01T00:00:00.5Z"}, "period.anchor"),
        ({"kind": "fixed", "length_seconds": 60, "anchor": 17}, "period.anchor"),
        ({"kind": "lifetime", "unit": "day"}, "period.unit"),
        (None, "period"),
        (30, "period"),
    ],
)
def test_a_wrong_document_is_refused_with_the_path_of_the_field(document: Any, field: str):
    with pytest.raises(InvalidInput) as refused:
        parse_period(document)
    assert refused.value.field == field


@pytest.mark.parametrize("length", [59, 0, -60, 60.0, True, "60", None, 3660 * 86_400 + 1])
def test_a_rolling_period_is_a_minute_to_ten_years_long(length: Any):
    with pytest.raises(InvalidInput) as refused:
        parse_period({"kind": "rolling", "length_seconds": length})
    assert refused.value.field == "period.length_seconds"


def test_a_rolling_period_says_how_far_it_reaches_and_in_which_steps():
    day = parse_period({"kind": "rolling", "length_seconds": 86_400})
    assert period_document(day) == {"kind": "rolling", "length_seconds": 86_400}
    assert describe_period(day) == "The last day at any time, in steps of 1465 seconds."


def test_defaults_are_utc_the_first_day_and_a_fixed_anchor():
    assert period_document(parse_period({"kind": "calendar", "unit": "week"})) == {
        "kind": "calendar",
        "unit": "week",
        "timezone": "UTC",
        "start_day": 1,
    }
    assert msgspec.convert(_ANCHOR, type(DEFAULT_ANCHOR)) == DEFAULT_ANCHOR


def test_an_anchor_means_an_instant_however_it_is_written():
    one = parse_period({"kind": "fixed", "length_seconds": 60, "anchor": "2026-01-01T01:00:00+01:00"})
    other = parse_period({"kind": "fixed", "length_seconds": 60, "anchor": "2026-01-01T00:00:00Z"})
    assert one == other


@pytest.mark.parametrize(
    ("document", "meaning"),
    [
        ("30d", "Calendar months from day 1, midnight in UTC."),
        ("90d", "Every 90 days, counted from 2001-01-01T00:00:00Z."),
        ("1h", "Every hour, counted from 2001-01-01T00:00:00Z."),
        ({"kind": "lifetime"}, "One window that never ends."),
        (
            {"kind": "calendar", "unit": "month", "start_day": 31},
            "Calendar months from day 31, midnight in UTC; in a shorter month its last day.",
        ),
        (
            {"kind": "calendar", "unit": "week", "start_day": "Sunday", "timezone": "Europe/Berlin"},
            "Calendar weeks from Sunday, midnight in Europe/Berlin.",
        ),
        ({"kind": "calendar", "unit": "hour"}, "Calendar hours of the clock in UTC."),
        ({"kind": "calendar", "unit": "day"}, "Calendar days from midnight in UTC."),
        ({"kind": "calendar", "unit": "year"}, "Calendar years from January 1st, midnight in UTC."),
        (
            {"kind": "calendar", "unit": "quarter"},
            "Calendar quarters from January, April, July and October 1st, midnight in UTC.",
        ),
    ],
)
def test_the_meaning_of_a_period_is_said(document: Any, meaning: str):
    assert describe_period(parse_period(document)) == meaning
