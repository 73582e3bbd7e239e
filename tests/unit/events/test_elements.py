import contextlib
import json
import resource
import time
from typing import Any

import msgspec
import pytest

from service.errors import BodyTooLarge, MalformedBody
from service.events import elements
from service.events.elements import Undecoded, WireForm, read_elements


class Item(msgspec.Struct):
    name: str | None = None
    count: int | None = None


ITEMS = WireForm(Item)


def read(body: bytes) -> list[Item | Undecoded]:
    return [element for chunk in read_elements(body, ITEMS) for element in chunk]


def codes(body: bytes) -> list[str]:
    return [each.problem.code if isinstance(each, Undecoded) else f"{each.name}:{each.count}" for each in read(body)]


A, B = b'{"name": "a", "count": 1}', b'{"name": "b", "count": 2}'


@pytest.mark.parametrize(
    "body",
    [
        b"[" + A + b", " + B + b"]",
        b"[" + A + b"," + B + b"]\n",
        b" \r\n[ " + A + b" , " + B + b" ] ",
        A + b"\n" + B,
        A + b"\r\n\r\n" + B + b"\n\n",
        b"\n" + A + b"\n \n" + B,
        b"\xef\xbb\xbf[" + A + b"," + B + b"]",
        b"\xef\xbb\xbf" + A + b"\n" + B,
        A + B,
        A + b" " + B,
        json.dumps(json.loads(A), indent=2).encode() + b"\n" + json.dumps(json.loads(B), indent=2).encode(),
    ],
)
def test_all_ways_to_send_two_events_are_read_alike(body: bytes):
    assert codes(body) == ["a:1", "b:2"]
    assert [each for chunk in read_elements(bytearray(body), ITEMS) for each in chunk] == read(body)


@pytest.mark.parametrize("body", [A, A + b"\n", json.dumps(json.loads(A), indent=1).encode(), b"  " + A + b"  "])
def test_one_event_is_read(body: bytes):
    assert codes(body) == ["a:1"]


def test_an_empty_array_has_no_elements():
    assert read(b"[]") == read(b" [ ] ") == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  \n ",
        b"\xef\xbb\xbf",
        b"hello",
        b"<html><body>no</body></html>",
        b"name=a&count=1",
        b"{",
        b'{"name": "a"',
        b'{"name": tru}',
        b'{"name": "a}',
        b"[",
        b"[" + A,
        b"[" + A + b",",
        b"[" + A + b",]",
        b"[" + A + b", ]",
        b"[" + A + b" " + B + b"]",
        b"[" + A + b"] trailing",
        b"[" + A + b"," + B[:-3],
        b"[" + A + b"," + B[:-3] + b"]",
        b"[,]",
        b"]",
        b"}{",
        A.decode().encode("utf-16"),
        b"\x00\x01\x02",
    ],
)
def test_what_is_no_json_at_all_is_malformed(body: bytes):
    with pytest.raises(MalformedBody):
        read(body)


def test_a_bad_element_of_an_array_is_refused_by_itself():
    body = (
        b"[" + b", ".join([A, b"null", b'{"count": "x"}', b'{"count": 2 2}', b"5", b'"text"', b"[1]", b"nul", B]) + b"]"
    )
    assert codes(body) == [
        "a:1",
        "event_missing",
        "invalid_field",
        "malformed_json",
        "not_an_object",
        "not_an_object",
        "not_an_object",
        "malformed_json",
        "b:2",
    ]


def test_a_bad_line_is_refused_by_itself():
    body = b"\n".join([A, b"null", b'{"count": "x"}', b'{"name": "cut', b"garbage", B])
    assert codes(body) == ["a:1", "event_missing", "invalid_field", "malformed_json", "malformed_json", "b:2"]


def test_a_bad_first_line_does_not_hide_the_others():
    assert codes(b'{"name": "cut\n' + A + b"\n" + B) == ["malformed_json", "a:1", "b:2"]


def test_events_after_one_with_a_bad_field_are_read_however_they_follow():
    bad = b'{"count": "x", "name": "c"}'
    pretty = json.dumps(json.loads(bad), indent=1).encode()
    assert (
        codes(bad + A)
        == codes(pretty + b"\n" + A)
        == codes(b'{"count": "x",\n"name": "c"}\n' + A)
        == [
            "invalid_field",
            "a:1",
        ]
    )
    with pytest.raises(MalformedBody):
        read(b'{"count": "x", "name')


def test_the_path_of_a_bad_field_is_told():
    [bad] = read(b'{"count": "x"}')
    assert isinstance(bad, Undecoded)
    assert bad.problem.field == "count"
    assert "int" in bad.problem.detail


@pytest.mark.parametrize("token", [b"NaN", b"Infinity", b"-Infinity"])
@pytest.mark.parametrize("frame", [b"%b", b"[%b]", b"[%b, %b]" % (A, b"%b"), b"%b\n" + B])
def test_a_bare_nan_in_a_field_nobody_reads_is_harmless(token: bytes, frame: bytes):
    event = b'{"other": [%b, {"x": %b}], "name": "NaN \\" Infinity", "count": 7}' % (token, token)
    assert 'NaN " Infinity:7' in codes(frame % event)


def test_a_bare_nan_in_a_declared_field_refuses_that_element_with_the_path():
    body = b'[%b, {"name": "x", "count": NaN}, %b]' % (A, B)
    first, bad, last = read(body)
    assert isinstance(bad, Undecoded)
    assert (bad.problem.code, bad.problem.field) == ("invalid_number", "count")
    assert isinstance(first, Item)
    assert isinstance(last, Item)


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    assert codes(rb'[{"name": "a\ud83d!", "count": 1}]') == ["a\ufffd!:1"]
    assert codes(rb'{"name": "\udca9", "other": "\ud83d\ud83d\udca9", "count": 1}') == ["\ufffd:1"]
    assert codes(rb'{"name": "\ud83d\udca9 \\ud800", "count": 1, "other": "\ud800"}') == ["\U0001f4a9 \\ud800:1"]


def test_text_that_is_not_utf8_refuses_its_element_only_where_it_is_read():
    body = b'[{"other": "\xff", "count": 1}, {"name": "\xff", "count": 2}, ' + B + b"]"
    assert codes(body) == ["None:1", "malformed_json", "b:2"]


def test_of_a_repeated_key_the_last_counts():
    assert codes(b'{"count": 1, "count": 2, "name": "a", "name": "b"}') == ["b:2"]


def test_elements_of_a_large_array_keep_their_order():
    events = [
        b'{"name": "%d", "list": [{"name": "x"}, {"name": "y"}], "pad": "%b"}' % (n, b"p" * (n % 900))
        for n in range(5000)
    ]
    assert [item.name for item in read(b"[" + b", ".join(events) + b"]") if isinstance(item, Item)] == [
        str(n) for n in range(5000)
    ]


def test_a_run_that_cannot_be_guessed_is_found_bracket_by_bracket():
    """Elements look like parts of others everywhere a run could end, and are larger than any run."""
    inner = b", ".join([b'{"name": "inner"}'] * 200_000)
    events = [b'{"name": "%d", "list": [%b]}' % (n, inner) for n in range(3)]
    assert codes(b"[" + b", ".join(events) + b"]") == ["0:None", "1:None", "2:None"]


def test_chunks_are_small_enough_to_let_others_run():
    body = b"[" + b",".join([A] * 1000) + b"]"
    sizes = [len(chunk) for chunk in read_elements(body, ITEMS)]
    assert sum(sizes) == 1000
    assert max(sizes) <= elements.CHUNK_ELEMENTS


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"{}," * 100_000 + b"{}]",
        b"{}\n" * 100_001,
        b"[" + b"null," * 100_000 + b"null]",
        b"[{" + b'"a":NaN},{' * 100_001 + b"}]",
        b"1 " * 100_001,
    ],
)
def test_more_elements_than_allowed_are_refused(body: bytes):
    with pytest.raises(BodyTooLarge):
        read(body)


@pytest.mark.parametrize("depth", [2_000, 2_000_000])
def test_an_element_nested_too_deeply_is_refused_by_itself(depth: int):
    bomb = b'{"other": ' + b"[" * depth + b"]" * depth + b"}"
    assert codes(b"[" + A + b"," + bomb + b"]") == ["a:1", "too_deeply_nested"]
    assert codes(bomb) == ["too_deeply_nested"]


@pytest.mark.parametrize(
    "body", [b"[" * 5_000_000, b'{"a":' * 1_000_000, b'["' + b'\\"' * 3_000_000, b"[" + b'"' * 3_000_001]
)
def test_hostile_bodies_end_soon(body: bytes):
    started = time.process_time()
    with contextlib.suppress(MalformedBody):
        read(body)
    assert time.process_time() - started < 20


def test_a_body_of_tiny_elements_is_not_held_as_objects():
    body = b"[" + b"{}," * 20_000_000 + b"{}]"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BodyTooLarge):
        read(body)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_numbers_of_any_size_are_bounded_work():
    digits = b"9" * 1_000_000
    body = b'[{"other": %b, "name": "a", "count": 1}, {"count": %b}, {"other": 1e999999999, "count": 2}]' % (
        digits,
        digits,
    )
    assert codes(body) == ["a:1", "invalid_number", "None:2"]


def test_another_form_is_translated_before_it_is_refused():
    def translate(raw: bytes) -> bytes | None:
        value: Any = msgspec.json.decode(raw)
        return b'{"name": "translated"}' if value == {"count": "old"} else None

    form = WireForm(Item, translate)
    found = [each for chunk in read_elements(b'[{"count": "old"}, {"count": "x"}]', form) for each in chunk]
    assert isinstance(found[0], Item)
    assert found[0].name == "translated"
    assert isinstance(found[1], Undecoded)
