"""Bodies of calls, whole, broken off and hostile."""

import json

import pytest

from service.checks.dialects.request_body import CallSize, read_call


def read(body: bytes) -> CallSize:
    return read_call(body, len(body))


def test_the_model_and_the_output_limit_are_read_and_two_bytes_are_taken_for_a_token():
    body = b'{"model": "gpt-4.1", "max_tokens": 700, "messages": []}'
    assert read(body) == CallSize(models=("gpt-4.1",), input_tokens=(len(body) + 1) // 2, max_output_tokens=700)
    assert read_call(body, 1_000_001).input_tokens == 500_001


@pytest.mark.parametrize(
    ("members", "tokens"),
    [
        ('"max_completion_tokens": 5', 5),
        ('"max_output_tokens": 6', 6),
        ('"max_tokens": 5, "max_completion_tokens": 9', 9),
        ('"max_tokens": 900, "max_tokens": 5', 900),
        ('"Max_Tokens": 900, "max_tokens": 5', 900),
        ('"max_tokens": 5, "n": 3', 15),
        ('"n": 3', 3 * 4096),
        ('"max_tokens": 5, "prompt": ["a", "b"]', 10),
        ('"max_tokens": 5, "prompt": [1, 2, 3]', 5),
        ('"max_tokens": "5"', 5),
        ('"max_tokens": " 500 "', 500),
        ('"max_tokens": "5e3"', 5000),
        ('"max_tokens": 1e5', 100_000),
        ('"max_tokens": 1000, "n": 50', 50_000),
        ('"max_tokens": 1000, "n": 50.0', 50_000),
        ('"max_tokens": 1000, "n": "50"', 50_000),
        ('"max_tokens": 1000, "best_of": "50.0"', 50_000),
        ('"max_tokens": "many"', None),
        ('"max_tokens": ""', None),
        ('"max_tokens": "nan"', None),
        ('"max_tokens": NaN', None),
        ('"max_tokens": "-5"', None),
        ('"max_tokens": "5.5"', None),
        ('"max_tokens": 1e999', 10**12),
        ('"max_tokens": "inf"', 10**12),
        ('"max_tokens": ["5"]', None),
        ('"max_tokens": true', None),
        ('"max_tokens": -5', None),
        ('"max_tokens": 0', None),
        ('"max_tokens": 5.5', None),
        ('"max_tokens": null', None),
        ('"max_tokens": 1' + "0" * 30, 10**12),
        ('"messages": []', None),
    ],
)
def test_the_largest_output_limit_counts_once_per_answer(members: str, tokens: int | None):
    assert read(f"{{{members}}}".encode()).max_output_tokens == tokens


def test_every_model_a_body_names_counts_the_last_one_first():
    assert read(b'{"model": "dear", "model": "free"}').models == ("free", "dear")
    assert read(b'{"Model": "dear", "model": "free"}').models == ("free", "dear")
    assert read(b'{"mod\\u0065l": "dear", "model": "free"}').models == ("free", "dear")
    assert read(b'{"model": "x", "metadata": {"model": "inner"}}').models == ("x",)
    assert read(b'{"metadata": {"model": "inner"}}').models == ()


WHOLE = json.dumps(
    {"model": "gpt-4.1", "max_tokens": 12345, "messages": [{"role": "user", "content": "é" * 9}]}
).encode()


@pytest.mark.parametrize("cut", range(len(WHOLE)))
def test_wherever_a_body_breaks_off_nothing_half_read_counts(cut: int):
    size = read_call(WHOLE[:cut], 100)
    assert size.models in {(), ("gpt-4.1",)}
    assert size.max_output_tokens in {None, 12345}
    assert size.input_tokens == 50


def test_what_comes_before_the_break_counts():
    assert read(b'{"model": "gpt-4.1", "max_tokens": 7, "messages": [{"content": "broken o').models == ("gpt-4.1",)
    assert read(b'{"model": "gpt-4.1", "max_tokens": 7, "messages": [{"content": "\xc3').max_output_tokens == 7
    assert read(b'{"max_tokens": 12').max_output_tokens is None
    assert read(b'{"model": "gpt-').models == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"model"',
        b"[1, 2]",
        b'[{"model": "inner"}]',
        b"{",
        b"}{",
        b"\x00" * 50,
        b"\xff\xfe\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"model=gpt-4.1&max_tokens=7",
        b'{"model": 7}',
        b'{"model": ""}',
        b'{"model": null}',
        b'{"model": ["a"]}',
        b'{"x": 1' + b"0" * 10_000,
    ],
)
def test_what_is_no_call_says_nothing_and_fails_nothing(body: bytes):
    assert read(body).models == ()
    assert read(body).max_output_tokens is None


def test_bytes_that_are_no_utf8_hide_no_model():
    assert read(b'{"model": "gpt-4.1", "messages": [{"content": "\xff\xfe"}]}').models == ("gpt-4.1",)
    assert read(b'{"model": "gpt-4.1", "x": "\t\n"}').models == ("gpt-4.1",)
    assert read(b'\xef\xbb\xbf{"model": "gpt-4.1"}').models == ("gpt-4.1",)
    assert read('{"model": "gpt-4.1"}'.encode("utf-16")).models == ("gpt-4.1",)


def test_half_a_character_and_endless_names_become_text_that_can_be_kept():
    (half,) = read(b'{"model": "a\\ud800b"}').models
    assert half == "a?b"
    (long,) = read(b'{"model": "' + b"m" * 100_000 + b'"}').models
    assert len(long) <= 256
    (nul,) = read(b'{"model": "a\\u0000b"}').models
    assert "\x00" not in nul
