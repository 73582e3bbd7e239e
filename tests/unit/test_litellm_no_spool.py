"""LiteLLM's adapter where its spool cannot be used, without LiteLLM."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.litellm_adapter import adapter

IN_THE_WAY = "TALLYGATE_SPOOL_DIR names no directory"


def settings(directory: Path, **terms: Any) -> Any:
    return adapter.Settings(url="http://127.0.0.1:9", token="tg_x", spool_directory=directory, **terms)


def until(condition: Any, what: str) -> None:
    ends_at = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < ends_at, what
        time.sleep(0.01)


@pytest.fixture
def in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(adapter, "_LOOK_AGAIN_SECONDS", 0.01)
    made = tmp_path / "spool"
    made.write_text("no directory")
    return made


@pytest.mark.parametrize("policy", ["deny", "drop"])
def test_a_spool_that_cannot_be_used_is_told_at_the_start_and_known_before_the_first_call(
    in_the_way: Path, caplog: pytest.LogCaptureFixture, policy: str
):
    workers = adapter._Workers(settings(in_the_way, on_spool_full=policy))
    workers.try_spool()
    (record,) = caplog.records
    assert IN_THE_WAY in record.getMessage()
    assert str(in_the_way) in record.getMessage()
    writer = workers.start()
    try:
        assert writer.is_full
        in_the_way.unlink()
        until(lambda: not writer.is_full, "calls go on")
    finally:
        _, writer, sender = workers._running
        sender.stop()
        writer.stop()
        writer.join(15)
        sender.join(15)


def test_a_spool_below_a_file_is_told_alike(in_the_way: Path, caplog: pytest.LogCaptureFixture):
    adapter._Workers(settings(in_the_way / "deeper")).try_spool()
    assert IN_THE_WAY in caplog.text


def test_what_is_wrong_with_the_spool_is_not_told_again_and_again(
    in_the_way: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    pauses: list[float] = []
    sender = adapter.Sender(settings(in_the_way), threading.Event())

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            sender._stopping.set()

    monkeypatch.setattr(sender._stopping, "wait", wait)
    with caplog.at_level(logging.WARNING):
        sender.run()
    (record,) = caplog.records
    assert (len(pauses), record.exc_info) == (20, None)


def test_another_message_is_told_at_once_and_the_same_after_its_time(monkeypatch: pytest.MonkeyPatch):
    messages = adapter._Rarely()
    assert [messages.is_due(text) for text in ("a", "a", "b", "b")] == [True, False, True, False]
    monkeypatch.setattr(adapter, "_SAME_MESSAGE_SECONDS", 0.0)
    assert messages.is_due("c")
    assert messages.is_due("c")
