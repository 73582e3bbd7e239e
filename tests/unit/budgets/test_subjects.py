"""The canonical text of a counter's subject: bounded, the same for the same values, another one for others."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from service.budgets.match import MAX_CONDITIONS
from service.budgets.subject import (
    MOST_SUBJECT_BYTES,
    SHARED_SUBJECT,
    forms_in_subjects,
    named_subject_text,
    subject_text,
    subject_values,
)
from service.identity.dimensions import DIMENSION_NAMES

WIDE = [chr(0x20000 + number) * 256 for number in range(3)]
THREE = dict(zip(("end_user", "session", "tag"), WIDE, strict=True))

# Values that nearly meet: long ones that differ at the end, what they become, what that becomes.
LONG = ["x" * 100, "x" * 101] + [character * 255 + last for character in "a\u2026\U00020000\x01" for last in "ab"]
SHORT = [forms_in_subjects(value)[-1] for value in LONG]
SHORT_AGAIN = [forms_in_subjects(value)[-1] for value in SHORT]
_values = st.sampled_from(["u1", *LONG, *SHORT, *SHORT_AGAIN])
_subjects = st.dictionaries(st.sampled_from(DIMENSION_NAMES), _values, max_size=MAX_CONDITIONS)


def plain(values: dict[str, str]) -> str:
    return msgspec.json.encode(values, order="deterministic").decode()


def test_shared_and_short_subjects_are_plain_json_with_their_names_in_order():
    assert subject_text({}) == SHARED_SUBJECT == "{}"
    assert subject_text({"user": "u…1#", "tag": "t"}) == '{"tag":"t","user":"u…1#"}'
    of_keys = {"api_key": "k" * 256, "end_user": "e" * 256, "session": "s" * 256}
    assert subject_text(of_keys) == plain(of_keys)


def test_a_text_of_the_greatest_size_is_as_it_was_and_one_byte_more_is_not():
    values = {"tag": "t" * 256, "user": "\U00020000" * 100, "session": ""}
    values["session"] = "s" * (MOST_SUBJECT_BYTES - len(plain(values).encode()))
    assert subject_text(values) == plain(values)
    values["session"] += "s"
    assert subject_text(values) != plain(values)


def test_a_long_subject_keeps_its_names_its_short_values_and_the_beginning_of_its_long_ones():
    shown = subject_values(subject_text(THREE | {"team": "core"}))
    assert list(shown) == ["end_user", "session", "tag", "team"]
    assert shown["team"] == "core"
    assert all(shown[name].startswith(value[:16] + "…#") and len(shown[name]) == 50 for name, value in THREE.items())


@given(_subjects)
def test_every_text_is_bounded_and_that_of_an_object_with_the_same_names(values: dict[str, str]):
    text = subject_text(values)
    assert len(text.encode()) <= MOST_SUBJECT_BYTES
    assert sorted(subject_values(text)) == sorted(values)


@given(_subjects, st.data())
def test_other_values_have_another_text(values: dict[str, str], data: Any):
    """Also those the text shows, and what the values become when they are long."""
    shown = subject_values(subject_text(values))
    near = {name: st.sampled_from([value, shown[name], *forms_in_subjects(value)]) for name, value in values.items()}
    others = data.draw(st.one_of(st.fixed_dictionaries(near), st.just(shown)))
    assert (subject_text(values) == subject_text(others)) == (values == others)


def test_what_a_text_shows_cannot_be_sent_to_get_at_its_counter():
    text = subject_text(THREE)
    assert subject_text(subject_values(text)) != text
    alone = forms_in_subjects(WIDE[0])[-1]
    assert subject_text({"user": alone}) != plain({"user": alone})


@given(_subjects)
def test_a_counter_is_found_by_the_values_that_were_sent_and_by_those_that_are_shown(values: dict[str, str]):
    text = subject_text(values)
    shown = subject_values(text)
    assert named_subject_text(shown) == text
    if not any("…#" in value for value in values.values()):
        assert named_subject_text(values) == text
    assert all(shown[name] in forms_in_subjects(value) for name, value in values.items())
