from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.kit.pagination import decode_cursor, encode_cursor
from service.spend.spend_query import PARAMETERS, SpendQuery, cursor_after, parse_spend_query

_NOW = datetime(2026, 11, 20, 10, 7, tzinfo=UTC)


def _parse(
    scope: dict[str, list[str]] | None = None, now: datetime = _NOW, **parameters: str | list[str]
) -> SpendQuery:
    lists = {name: [value] if isinstance(value, str) else value for name, value in parameters.items()}
    return parse_spend_query(lists, scope or {}, now)


def _order(query: SpendQuery) -> list[str]:
    return [("-" if key.is_descending else "") + key.name for key in query.order]


def _refusal(**parameters: str | list[str]) -> tuple[str, str | None]:
    with pytest.raises(InvalidInput) as refusal:
        _parse(**parameters)
    return refusal.value.code, refusal.value.field


def test_without_parameters_it_is_one_sum_over_thirty_days() -> None:
    query = _parse()
    assert (query.group_by, query.granularity, query.timezone, query.limit) == ((), "total", "UTC", 100)
    assert not query.has_buckets


def test_groups_come_with_commas_or_repeated_and_count_once() -> None:
    assert _parse(group_by=["team, served_model", "team", "tag"]).group_by == ("team", "served_model", "tag")


@pytest.mark.parametrize(
    ("parameters", "order"),
    [
        ({}, ["-spend_usd"]),
        ({"group_by": "team,user"}, ["-spend_usd", "team", "user"]),
        ({"group_by": "team", "granularity": "day"}, ["bucket", "-spend_usd", "team"]),
        ({"group_by": "team", "granularity": "day", "sort": "-bucket"}, ["-bucket", "team"]),
        ({"group_by": "team,user", "sort": "-user"}, ["-user", "team"]),
        ({"group_by": "team", "granularity": "day", "sort": "-requests"}, ["-requests", "bucket", "team"]),
    ],
)
def test_every_order_is_complete_so_that_pages_neither_repeat_nor_lose_a_row(
    parameters: dict[str, str], order: list[str]
) -> None:
    assert _order(_parse(**parameters)) == order


@pytest.mark.parametrize(
    ("parameters", "refusal"),
    [
        ({"teem": "core"}, ("unknown_parameter", "teem")),
        ({"format": "csv"}, ("format_not_supported", "format")),
        ({"format": "parquet"}, ("format_not_supported", "format")),
        ({"granularity": "year"}, ("unknown_value", "granularity")),
        ({"timezone": "Mars/Olympus"}, ("unknown_timezone", "timezone")),
        ({"group_by": "team,password"}, ("unknown_value", "group_by")),
        ({"group_by": "request_id"}, ("unknown_value", "group_by")),
        ({"sort": "team"}, ("unknown_value", "sort")),
        ({"sort": "bucket"}, ("unknown_value", "sort")),
        ({"group_by": "team", "sort": "--team"}, ("unknown_value", "sort")),
        ({"limit": "0"}, ("invalid_limit", "limit")),
        ({"from": "soon"}, ("invalid_time", "from")),
        ({"granularity": ["day", "hour"]}, ("repeated_parameter", "granularity")),
        ({"cursor": "nonsense"}, ("invalid_cursor", "cursor")),
    ],
)
def test_what_cannot_be_answered_is_refused_by_code_and_field(parameters: Any, refusal: tuple[str, str]) -> None:
    assert _refusal(**parameters) == refusal


def test_a_cursor_goes_on_where_its_page_ended_although_time_goes_on() -> None:
    asked = {"group_by": "team", "granularity": "day"}
    first = _parse(**asked)
    position = (3, Decimal("0.000000000000000000000012345"), "core")
    second = _parse(**asked, cursor=cursor_after(first, position), now=_NOW.replace(hour=23))
    assert second.after == position
    assert second.time_range == first.time_range


@pytest.mark.parametrize(
    "changed",
    [{"group_by": "user"}, {"team": "core"}, {"sort": "team"}, {"timezone": "Asia/Tokyo"}, {"from": "2026-11-01"}],
)
def test_a_cursor_of_another_question_is_refused(changed: dict[str, str]) -> None:
    cursor = cursor_after(_parse(group_by="team"), (Decimal(1), "core"))
    assert _refusal(**{"group_by": "team", **changed}, cursor=cursor) == ("invalid_cursor", "cursor")


def test_a_cursor_does_not_carry_over_to_another_scope() -> None:
    cursor = cursor_after(_parse(scope={"team": ["a"]}, group_by="team"), (Decimal(1), "core"))
    with pytest.raises(InvalidInput):
        _parse(scope={"team": ["b"]}, group_by="team", cursor=cursor)


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.text(),
            st.sampled_from(["NaN", "1e999999", "-0", "9" * 400, "\x00"]),
        ),
        min_size=3,
        max_size=3,
    )
)
def test_a_forged_position_is_refused_or_of_the_right_types(values: list[Any]) -> None:
    asked = {"group_by": "team", "granularity": "day"}
    genuine = decode_cursor(cursor_after(_parse(**asked), (1, Decimal(1), "core")))
    try:
        after = _parse(**asked, cursor=encode_cursor([*genuine[:3], values])).after
    except InvalidInput as refusal:
        assert refusal.code == "invalid_cursor"  # noqa: PT017
        return
    assert after is not None
    bucket, spend, team = after
    assert type(bucket) is int
    assert isinstance(spend, Decimal)
    assert spend.is_finite()
    assert isinstance(team, str)
    assert "\x00" not in team


def test_every_dimension_can_be_filtered_and_grouped_by() -> None:
    for name in ("organization", "team", "project", "user", "api_key", "end_user", "agent", "session", "tag"):
        assert name in PARAMETERS
        assert _parse(group_by=name, **{name: "x"}).group_by == (name,)
