import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.kit.pagination import decode_cursor, encode_cursor, page_limit

_JSON_VALUES = st.lists(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(st.characters(exclude_categories=["Cs"])))
)
_URL_SAFE = set(string.ascii_letters + string.digits + "-_")


@given(_JSON_VALUES)
def test_a_cursor_gives_back_its_values_and_needs_no_escaping_in_a_url(values: list[Any]) -> None:
    cursor = encode_cursor(values)
    assert set(cursor) <= _URL_SAFE
    assert decode_cursor(cursor) == values


@pytest.mark.parametrize("text", ["", "%", "é", "a", "e30", "bnVsbA", "[]", "W10=x", "A" * 9000, "W1tbW1tbW1s"])
def test_text_that_is_no_cursor_is_refused_by_code_and_field(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        decode_cursor(text)
    assert (refusal.value.code, refusal.value.field) == ("invalid_cursor", "cursor")


@given(st.text(max_size=60))
def test_any_text_is_a_list_of_values_or_refused_and_nothing_else(text: str) -> None:
    try:
        outcome: object = decode_cursor(text)
    except InvalidInput as refusal:
        outcome = refusal.code
    assert isinstance(outcome, list) or outcome == "invalid_cursor"


def test_a_cursor_of_another_list_is_refused_by_its_length() -> None:
    cursor = encode_cursor(["2026-11-01T00:00:00+00:00", "id"])
    assert decode_cursor(cursor, length=2)[1] == "id"
    with pytest.raises(InvalidInput):
        decode_cursor(cursor, length=3)


@pytest.mark.parametrize(("text", "limit"), [(None, 100), ("1", 1), ("1000", 1000), ("007", 7)])
def test_a_page_is_a_hundred_rows_unless_asked_otherwise(text: str | None, limit: int) -> None:
    assert page_limit(text) == limit


@pytest.mark.parametrize("text", ["", "0", "1001", "-1", "1.5", "1e2", "٣", "ten", " 5", "9" * 5000])
def test_a_page_size_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        page_limit(text)
    assert (refusal.value.code, refusal.value.field) == ("invalid_limit", "limit")


def test_a_list_may_have_bounds_of_its_own() -> None:
    assert page_limit(None, default=1000, maximum=10_000) == 1000
    assert page_limit("10000", default=1000, maximum=10_000) == 10_000
