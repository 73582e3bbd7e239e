"""Times that callers write: within the bounds of the calendar, or refused with their field."""

from datetime import UTC, datetime

import pytest

from service.errors import InvalidInput
from service.kit.instants import BEGINNING, bounded_instant, checked_instant, parse_instant

OUTSIDE = [
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00+00:00",
    "9999-12-31T23:59:59-14:00",
    "1969-12-31T23:59:59+00:00",
    "2201-01-01T00:00:00+00:00",
]


@pytest.mark.parametrize("text", OUTSIDE)
def test_a_time_outside_the_calendar_is_refused_with_its_field(text: str):
    for refusing in (lambda: bounded_instant(datetime.fromisoformat(text), "at"), lambda: checked_instant(text, "at")):
        with pytest.raises(InvalidInput, match="from 1970 to 2200") as refused:
            refusing()
        assert (refused.value.code, refused.value.field) == ("invalid_time", "at")
    assert parse_instant(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00+14:00", BEGINNING),
        ("2200-12-31T23:59:59-14:00", datetime(2201, 1, 1, 13, 59, 59, tzinfo=UTC)),
        ("2026-11-01T02:00:00+02:00", datetime(2026, 11, 1, tzinfo=UTC)),
    ],
)
def test_a_time_within_it_is_one_in_utc(text: str, expected: datetime):
    found = bounded_instant(datetime.fromisoformat(text), "at")
    assert found == checked_instant(text, "at") == expected
    assert found.tzinfo is UTC


def test_a_time_without_an_offset_is_none():
    assert parse_instant("2026-11-01T02:00:00") is None
