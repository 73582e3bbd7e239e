import pytest
from click.testing import CliRunner

from service.cli.interface import settings
from service.settings import describe_settings

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def test_piped_every_variable_is_on_a_line_of_its_own_and_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = CliRunner().invoke(settings).output.splitlines()
    assert len(lines) == 1 + len(list(describe_settings()))
    for line, row in zip(lines[1:], describe_settings(), strict=True):
        assert line.startswith(f"{row.variable} ")
        assert line.endswith(row.meaning)


def test_on_a_narrow_terminal_names_are_folded_and_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"COLUMNS": "60", "FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    shown = CliRunner().invoke(settings, color=True).output
    own = sum(f"{row.default}{row.meaning}".count(_ELLIPSIS) for row in describe_settings())
    assert shown.count(_ELLIPSIS) == own
