"""YAML that nobody vouches for: what is written is what is read, and nothing of it costs more than its length."""

import tracemalloc
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.kit import yaml_text
from service.kit.yaml_text import MAX_DEPTH, YamlError, load_yaml

_SCALARS = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(max_size=20)
_DOCUMENTS = st.recursive(
    _SCALARS, lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=9), each, max_size=4)
)
_MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11)
)
_ALIAS_BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11))


def _refusal(text: str | bytes) -> str:
    with pytest.raises(YamlError) as refused:
        load_yaml(text)
    return str(refused.value)


@pytest.fixture(params=[True, False], ids=["libyaml", "python"])
def _each_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(yaml_text, "_EventLoader", yaml.SafeLoader)


@given(_DOCUMENTS)
def test_a_document_comes_back_as_it_was_written(document: Any):
    assert load_yaml(yaml.safe_dump(document)) == document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", "0.1"),
        ("1e3", "1e3"),
        ("007", "007"),
        ("0x1f", "0x1f"),
        ("9" * 5_000, "9" * 5_000),
        ("no", "no"),
        ("2026-01-01", "2026-01-01"),
        (".nan", ".nan"),
        ("=", "="),
        ("-12", -12),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ("'true'", "true"),
        ("!!str 12", "12"),
        ("!!float 1.50", "1.50"),
        ("!!int 12", 12),
        ("{1: 2, null: 3, true: 4}", {"1": 2, "null": 3, "true": 4}),
        ("{'<<': 1}", {"<<": 1}),
        ("[&a x, *a]", ["x", "x"]),
        ("{a: &a {x: 1, y: 2}, b: {y: 3, <<: *a}}", {"a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}}),
        ("{<<: [{x: 1}, {x: 2, y: 2}]}", {"x": 1, "y": 2}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
@pytest.mark.usefixtures("_each_parser")
def test_only_null_truth_and_whole_numbers_are_more_than_texts(text: str, value: Any):
    assert load_yaml(text) == value
    assert load_yaml(text.encode()) == value


def test_every_scalar_is_a_text_where_that_is_wanted():
    text = "{a: 12, b: ~, c: , d: true, e: [1.0], <<: {f: 1}}"
    assert load_yaml(text, scalars_as_text=True) == {"a": "12", "b": "~", "c": "", "d": "true", "e": ["1.0"], "f": "1"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "at most 64 deep"),
        ("{a: " * 100_000, "at most 64 deep"),
        ("- " * 100_000, "at most 64 deep"),
        (_MERGE_BOMB, "too much for a text of this length"),
        (_ALIAS_BOMB, "too much for a text of this length"),
        ("&a [*a]", "there is no 'a' that has ended before this"),
        ("&a {x: *a}", "there is no 'a' that has ended before this"),
        ("[&a x, &a [*a]]", "there is no 'a' that has ended before this"),
        ("*a", "there is no 'a'"),
        ("!!bool zzz", "'zzz' is no"),
        ("!!int x", "'x' is no"),
        ("!!int true", "'true' is no"),
        ("!!null 5", "'5' is no"),
        ("!mine 5", "'5' is no '!mine'"),
        ("!!binary AAAA", "is no"),
        ("!!set {a}", "not known here"),
        ("!!python/object/apply:os.system ['true']", "not known here"),
        ("{a: 1, a: 2}", "'a' is given twice, line 1"),
        ("a: 1\n'a': 2", "'a' is given twice, line 2"),
        ("{<<: {a: 1}, <<: {b: 1}}", "'<<' is given twice"),
        ("<<: 5", "takes a mapping"),
        ("<<: [5]", "takes a mapping"),
        ("[a]: 1", "a name of a member is a text"),
        ("? {a: 1}\n: 1", "a name of a member is a text"),
        ("{a: &x y, *x : 1}", "a text, not an alias"),
        ("a\n---\nb", "a second document"),
        ("[", ", line "),
        ("\x00", "characters are not allowed"),
        ("\ud800", "no UTF-8"),
        (b"\xff\xfe", "no UTF-8"),
    ],
)
@pytest.mark.usefixtures("_each_parser")
def test_what_could_mean_something_else_or_grow_is_refused(text: str | bytes, says: str):
    assert says in _refusal(text)


def test_a_surrogate_that_is_spelled_out_is_no_text():
    assert _refusal('"\\ud800"')


def test_values_stand_in_each_other_as_deep_as_is_said():
    value = load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == []


def test_too_long_a_text_is_not_looked_at(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(yaml_text, "MAX_BYTES", 1024 * 1024)
    assert _refusal("[" * (1024 * 1024 + 1)) == "at most 1 MiB are read"


def test_what_merge_keys_multiply_takes_no_room():
    tracemalloc.start()
    try:
        _refusal(_MERGE_BOMB)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 5_000_000


def test_parts_used_by_every_entry_are_taken():
    text = "x: &x {a: 1, b: 2, c: [1, 2, 3]}\nall:\n" + "- {<<: *x, slug: b1}\n" * 20_000
    assert len(load_yaml(text)["all"]) == 20_000
