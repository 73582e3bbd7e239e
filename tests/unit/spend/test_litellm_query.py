from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from service.errors import InvalidInput
from service.ledger.filters import Position
from service.spend.litellm_query import LogQuery, encode_position, parse_log_query


def _parse(scope: dict[str, list[str]] | None = None, **parameters: str) -> LogQuery:
    return parse_log_query({name: [value] for name, value in parameters.items()}, scope or {})


def test_both_dates_sum_up_per_day_and_the_last_day_is_included() -> None:
    query = _parse(start_date="2026-11-01", end_date="2026-11-03")
    assert query.days is not None
    assert [start.day for start in query.days.starts] == [1, 2, 3]
    assert query.days.time_range.end == datetime(2026, 11, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"start_date": "2026-11-01"},
        {"start_date": "2026-11-01", "end_date": "2026-11-03", "summarize": "false"},
        {"start_date": "2026-11-01", "end_date": "2026-11-03", "request_id": "chatcmpl-1"},
    ],
)
def test_anything_else_lists_rows(parameters: dict[str, str]) -> None:
    assert _parse(**parameters).days is None


def test_without_dates_all_times_are_searched() -> None:
    assert _parse(request_id="chatcmpl-1").time_range is None


def test_a_plain_key_is_looked_up_by_its_hash() -> None:
    [condition] = _parse(api_key="sk-1234").conditions
    assert condition.included == (sha256(b"sk-1234").hexdigest(),)
    [condition] = _parse(api_key="ab12").conditions
    assert condition.included == ("ab12",)


def test_the_empty_user_is_the_absent_one() -> None:
    [condition] = _parse(user_id="").conditions
    assert (condition.included, condition.includes_absent) == ((), True)


def test_the_scope_of_the_token_narrows_rows_and_days() -> None:
    query = _parse({"team": ["core"]}, start_date="2026-11-01", end_date="2026-11-01")
    assert query.days is not None
    assert [condition.field for condition in query.days.conditions] == ["team"]


@pytest.mark.parametrize(
    ("parameters", "refusal"),
    [
        ({"page": "1"}, ("unknown_parameter", "page")),
        ({"start_date": "2026-11-01T00:00:00Z"}, ("invalid_time", "start_date")),
        ({"end_date": "01.11.2026"}, ("invalid_time", "end_date")),
        ({"start_date": "2026-11-02", "end_date": "2026-11-01"}, ("invalid_range", "start_date")),
        ({"start_date": "1970-01-01", "end_date": "2199-01-01"}, ("too_many_buckets", "granularity")),
        ({"summarize": "maybe"}, ("unknown_value", "summarize")),
        ({"limit": "10001"}, ("invalid_limit", "limit")),
        ({"cursor": "x"}, ("invalid_cursor", "cursor")),
    ],
)
def test_what_cannot_be_answered_is_refused_by_code_and_field(parameters: Any, refusal: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput) as raised:
        _parse(**parameters)
    assert (raised.value.code, raised.value.field) == refusal


def test_a_cursor_gives_back_its_position() -> None:
    position = Position(datetime(2026, 11, 1, 2, 3, 4, 567, tzinfo=UTC), UUID(int=7))
    assert _parse(cursor=encode_position(position)).after == position
