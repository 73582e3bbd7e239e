import pytest

from service.imports.report_printing import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("team core: grün, 東京", "team core: grün, 東京"),
        ("key \u202eevil\u2066", "key \\u202eevil\\u2066"),
        ("a\x1b[31mb\r\nc\x00", "a\\x1b[31mb\\r\\nc\\x00"),
        ("[red]x", "\\[red]x"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_would_steer_a_terminal_is_written_out(text: str, expected: str):
    assert shown(text) == expected


def test_long_names_are_cut():
    assert shown("x" * 5_000) == "x" * 300 + "…"
    assert shown("x" * 300) == "x" * 300
