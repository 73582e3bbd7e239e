from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from service.alerts.attempts import Attempt, delay_seconds, judge_answer

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
AGAIN = Attempt(verdict="again")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_delivered(status: int):
    assert judge_answer(status, {}, NOW) == Attempt(verdict="delivered", status=status)


@pytest.mark.parametrize("status", [100, 199, 300, 301, 304, 307, 400, 401, 404, 429, 500, 503, 599])
def test_everything_else_is_tried_again(status: int):
    assert judge_answer(status, {}, NOW).verdict == "again"


def test_gone_is_gone():
    assert judge_answer(410, {}, NOW).verdict == "gone"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        (format_datetime(NOW.replace(minute=5), usegmt=True), 300),
        (format_datetime(NOW.replace(hour=11), usegmt=True), 0),
        ("999999999999999999", 86_400),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("\u0663", None),
        ("Sat, 99 Nov 2026 12:00:00 GMT", None),
    ],
)
def test_a_retry_after_is_understood_in_both_forms_and_bounded(text: str, seconds: float | None):
    assert judge_answer(503, {"retry-after": text}, NOW).retry_after_seconds == seconds


def test_delays_grow_from_five_seconds_to_six_hours():
    delays = [delay_seconds(attempt, AGAIN, 0.5) for attempt in range(1, 10)]
    assert delays == [5, 20, 80, 320, 1_280, 5_120, 20_480, 21_600, 21_600]
    assert delay_seconds(30_000, AGAIN, 0.5) == 21_600


def test_a_fifth_is_left_to_chance():
    assert delay_seconds(1, AGAIN, 0.0) == 4
    assert delay_seconds(1, AGAIN, 1.0) == 6


def test_nothing_is_tried_before_the_receiver_wants_it():
    waiting = Attempt(verdict="again", retry_after_seconds=600)
    assert delay_seconds(1, waiting, 0.5) == 600
    assert delay_seconds(9, waiting, 0.5) == 21_600
