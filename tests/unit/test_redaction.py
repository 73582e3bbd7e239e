import io
import json
import logging
from contextlib import redirect_stderr

import pytest
import structlog

from service.observability import configure_logs
from service.redaction import REDACTED, describe_exception, redact, redact_text
from service.settings import LogSettings

TOKEN = "tg_" + "x" * 43


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "admin_token",
        "password",
        "api_key",
        "client_secret",
        "messages",
        "prompt",
        "body",
    ],
)
def test_value_under_a_secret_name_is_never_written(name: str):
    assert redact({name: "anything"}) == {name: REDACTED}


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "token_id", "request_id", "detail", "route"])
def test_harmless_names_keep_their_values(name: str):
    assert redact({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"sent Bearer {TOKEN} twice", f"sent Bearer {REDACTED} twice"),
        (f"?token={TOKEN}", f"?token={REDACTED}"),
        ("key sk-proj-abcdefgh12345678 seen", f"key {REDACTED} seen"),
        ("postgresql://me:hunter2@db/x", f"postgresql://me:{REDACTED}@db/x"),
        ("nothing here", "nothing here"),
    ],
)
def test_secrets_are_cut_from_any_text(text: str, kept: str):
    assert redact_text(text) == kept


def test_secrets_deep_in_a_structure_are_found():
    assert redact({"event": {"metadata": [{"api_key": "k"}, f"Bearer {TOKEN}"]}}) == {
        "event": {"metadata": [{"api_key": REDACTED}, f"Bearer {REDACTED}"]}
    }


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_exception_is_told_without_the_row_it_was_about():
    error = raised(ValueError("violates check constraint\nDETAIL: Failing row contains (my prompt)"))
    (described,) = describe_exception(error)
    assert described["says"] == "violates check constraint"
    assert "prompt" not in json.dumps(described)
    assert described["at"][-1].endswith("raised")


def test_causes_of_an_exception_are_told_too():
    outer = RuntimeError("outer")
    outer.__cause__ = raised(KeyError("inner"))
    assert [one["type"] for one in describe_exception(raised(outer))] == ["RuntimeError", "KeyError"]


def test_log_lines_of_any_library_are_json_without_secrets():
    written = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with redirect_stderr(written):
            configure_logs(LogSettings(format="json"))
            structlog.get_logger("ours").info("checked", authorization=f"Bearer {TOKEN}", team="core")
            logging.getLogger("theirs").warning("refused %s", f"Bearer {TOKEN}")
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
    ours, theirs = [json.loads(line) for line in written.getvalue().splitlines()]
    assert ours["event"] == "checked"
    assert ours["team"] == "core"
    assert theirs["logger"] == "theirs"
    assert TOKEN not in written.getvalue()
