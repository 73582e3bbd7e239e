"""One form of every value, whichever way it comes in."""

from hashlib import sha256

import pytest

from service.identity.dimensions import clean_value, is_plain_key


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u200b", "\ufeff \x00"])
def test_what_cannot_be_seen_is_no_value(text: str) -> None:
    assert clean_value("team", text) is None


@pytest.mark.parametrize("text", ["Core", " Core", "Core\u200b", "\ufeffCore\n", "\x00Core\u00a0"])
def test_blanks_around_a_value_make_no_other_value_and_case_does(text: str) -> None:
    assert clean_value("team", text) == "Core"


def test_a_value_too_long_is_bounded_after_it_is_stripped() -> None:
    assert clean_value("team", " " + "x" * 300) == clean_value("team", "x" * 300)


@pytest.mark.parametrize("key", ["sk-1234", "SK-1234", "tg_abc", "Tg_abc"])
def test_a_plain_key_becomes_its_digest(key: str) -> None:
    assert is_plain_key(key)
    assert clean_value("api_key", f" {key} ") == sha256(key.encode()).hexdigest()
    assert clean_value("team", key) == key


def test_the_digest_of_a_key_is_in_lower_case_and_other_ids_stay() -> None:
    assert clean_value("api_key", "AB" * 32) == "ab" * 32
    assert clean_value("api_key", "Gateway-Key-7") == "Gateway-Key-7"
