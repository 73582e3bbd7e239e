"""Amounts never round but where the name says so, however many digits they have."""

from decimal import Decimal

import msgspec
import pytest

from service.kit.money import (
    AmountError,
    AmountText,
    amount_decoder,
    format_amount,
    from_micro_usd,
    micro_usd_rounded_down,
    micro_usd_rounded_up,
    parse_amount,
)


@pytest.mark.parametrize(
    ("text", "up", "down"),
    [
        ("0.000001", 1, 1),
        ("0.0000011", 2, 1),
        ("123456.0000000000000000000000001", 123456000001, 123456000000),
        ("1000000.99999999999999999999999999999", 1000001000000, 1000000999999),
        ("-0.0000011", -1, -2),
    ],
)
def test_micro_usd_round_in_the_direction_they_say(text: str, up: int, down: int):
    assert micro_usd_rounded_up(Decimal(text)) == up
    assert micro_usd_rounded_down(Decimal(text)) == down


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "x", "", "1e13", "1e-41", "."])
def test_what_is_no_amount_is_refused(text: str):
    with pytest.raises(AmountError):
        parse_amount(text)


@pytest.mark.parametrize("text", ["1_000", " 1 ", "1\n", "\u0661\u0662", "0x1"])
def test_an_amount_is_in_plain_ascii_notation(text: str):
    with pytest.raises(AmountError):
        parse_amount(text)


@pytest.mark.parametrize("text", ["1", "-0.5", ".5", "5.", "1e3", "2.5E-7"])
def test_every_plain_notation_is_an_amount(text: str):
    assert parse_amount(text) == Decimal(text)


@pytest.mark.parametrize(
    ("amount", "text"), [("1E-10", "0.0000000001"), ("1.500", "1.5"), ("0E+3", "0"), ("-0", "0"), ("1E+3", "1000")]
)
def test_amounts_are_written_in_plain_notation(amount: str, text: str):
    assert format_amount(Decimal(amount)) == text


def test_micro_usd_come_back_exactly():
    assert from_micro_usd(2**53) == Decimal("9007199254.740992")


class _Body(msgspec.Struct):
    amount: AmountText | None = None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"amount": "1_0"}', "1_0"),
        (b'{"amount": 0.10000000000000000000000055}', "0.10000000000000000000000055"),
        (b'{"amount": 1e400}', "1e400"),
        (b'{"amount": 7}', "7"),
        (b'{"amount": 123456789012345678901234567890}', "123456789012345678901234567890"),
        (b'{"amount": null}', None),
    ],
)
def test_a_body_keeps_the_text_of_its_amounts(body: bytes, text: str | None):
    assert amount_decoder(_Body).decode(body).amount == text


@pytest.mark.parametrize("value", [b"true", b"[1]", b"{}", b"9" * 5_000])
def test_what_is_no_amount_at_all_is_refused_with_its_path(value: bytes):
    with pytest.raises(msgspec.ValidationError, match=r"at `\$\.amount`"):
        amount_decoder(_Body).decode(b'{"amount": %s}' % value)
