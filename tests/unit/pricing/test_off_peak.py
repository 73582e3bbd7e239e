"""Windows of the day and the week."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from service.pricing.off_peak import parse_off_peak

# 2026-11-16 is a Monday.
MONDAY = datetime(2026, 11, 16, tzinfo=UTC)


def holds(instant: datetime, hours: Any, **document: Any) -> bool:
    window = {"hours_utc": hours} | ({"weekdays": document.pop("weekdays")} if "weekdays" in document else {})
    return parse_off_peak({}, {"windows": [window], **document}).holds_at(instant)


def at(hour: int, minute: int = 0, day: int = 0) -> datetime:
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


def test_a_window_holds_from_its_first_minute_to_before_its_last():
    assert [holds(at(h, m), "16:30-20:00") for h, m in [(16, 29), (16, 30), (19, 59), (20, 0)]] == [
        False,
        True,
        True,
        False,
    ]


def test_a_window_can_pass_midnight():
    assert [holds(at(h), "22:00-02:00") for h in (21, 22, 23, 0, 1, 2)] == [False, True, True, True, True, False]


@pytest.mark.parametrize("hour", [0, 9, 23])
def test_midnight_to_midnight_is_the_whole_day(hour: int):
    assert holds(at(hour, 59), "00:00-00:00")


def test_several_hours_in_one_window():
    hours = ["00:00-01:00", "10:00-00:00"]
    assert [holds(at(h), hours) for h in (0, 1, 9, 10, 23)] == [True, False, False, True, True]


def test_weekdays_limit_a_window():
    assert [holds(at(9, day=day), "00:00-00:00", weekdays=[6, 7]) for day in range(7)] == [False] * 5 + [True] * 2


def test_weekdays_can_be_those_of_another_zone_than_the_hours():
    # Friday 20:00 UTC is Saturday in Shanghai.
    instant = at(20, day=4)
    assert not holds(instant, "00:00-00:00", weekdays=[6])
    assert holds(instant, "00:00-00:00", weekdays=[6], weekday_timezone="Asia/Shanghai")


def test_an_instant_counts_by_utc_wherever_it_was_written():
    assert holds(at(16, 30).astimezone(timezone(timedelta(hours=5, minutes=30))), "16:00-17:00")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"windows": []},
        {"windows": [{"hours_utc": 5}]},
        {"windows": [{"hours_utc": "16:00"}]},
        {"windows": [{"hours_utc": "16:00-24:30"}]},
        {"windows": [{"hours_utc": "a:00-b:00"}]},
        {"windows": [{"hours_utc": "16:00-17:60"}]},
        {"windows": [{"hours_utc": "16:00-17:00", "weekdays": [0]}]},
        {"windows": [{"hours_utc": "16:00-17:00"}], "weekday_timezone": "Mars/Olympus"},
        {"windows": [{"hours_utc": "16:00-17:00"}], "weekday_timezone": "../etc/passwd"},
    ],
)
def test_what_cannot_be_read_is_refused(document: dict[str, Any]):
    with pytest.raises(ValueError, match=r"."):
        parse_off_peak({}, document)
