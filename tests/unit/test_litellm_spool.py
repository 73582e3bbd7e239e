"""The spool of LiteLLM's adapter, and the threads that fill and empty it."""

import gc
import json
import multiprocessing
import os
import signal
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from tests.loopback_server import LoopbackServer
from tests.unit.litellm_adapter import adapter

EVENT, VOID = "event", "void"


def until(condition: Callable[[], object], what: str) -> None:
    started = monotonic()
    while not condition():
        assert monotonic() - started < 15, what
        sleep(0.01)


def settings(directory: Path, url: str = "http://127.0.0.1:9", **terms: Any) -> Any:
    return adapter.Settings(url=url, token="tg_test", spool_directory=directory, **terms)


def item(body: bytes, kind: str = EVENT, expires_at: float = 0.0) -> Any:
    return adapter.Item(kind, body, expires_at)


# The spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Any]:
    opened = adapter.Spool(tmp_path / "spool", 1 << 20)
    yield opened
    opened.close()


def test_what_was_stored_is_read_in_its_order_by_whoever_opens_the_spool_next(spool: Any, tmp_path: Path):
    assert spool.store([item(b"1"), item(b"2")]) == 0
    assert spool.store([item(b"r1", VOID, 5.0)]) == 0
    again = adapter.Spool(tmp_path / "spool", 1 << 20)
    assert [each.item for each in again.read(10, 1000)] == [item(b"1"), item(b"2"), item(b"r1", VOID, 5.0)]
    assert [each.item.body for each in again.read(10, 1)] == [b"1"]
    assert [each.item.body for each in again.read(2, 1000)] == [b"1", b"2"]
    again.close()


def test_what_was_taken_is_gone_and_what_was_rejected_lies_aside_with_its_reason(spool: Any):
    spool.store([item(b"1"), item(b"2"), item(b"3")])
    first, second, _ = spool.read(10, 1000)
    spool.finish([first.seq], {second.seq: "too strange"})
    assert [each.item.body for each in spool.read(10, 1000)] == [b"3"]
    assert spool.rejected() == [("too strange", b"2")]


def test_a_full_spool_takes_nothing_more_and_takes_again_when_something_was_sent(spool: Any):
    body = b"x" * 100_000
    dropped = spool.store([item(body) for _ in range(20)])
    assert 0 < dropped < 20
    stored = spool.read(100, 1 << 30)
    assert len(stored) == 20 - dropped
    spool.finish([each.seq for each in stored], {})
    assert not spool.is_full()
    assert spool.store([item(body)]) == 0


def test_a_damaged_spool_is_put_aside_and_begun_anew(tmp_path: Path):
    tmp_path.joinpath("spool.sqlite3").write_bytes(b"this is no database, and long enough to be none" * 100)
    spool = adapter.Spool(tmp_path, 1 << 20)
    assert spool.store([item(b"1")]) == 0
    assert len(list(tmp_path.glob("*damaged-*-????????"))) == 1
    spool.close()


def damage_a_page(path: Path, marker: bytes) -> None:
    """Overwrite the page a body lies on."""
    content = bytearray(path.read_bytes())
    page = content.index(marker) // 4096 * 4096
    with path.open("r+b") as file:
        file.seek(page)
        file.write(b"\xff" * 4096)


def test_of_a_spool_damaged_in_its_midst_everything_else_is_kept_by_all_who_have_it_open(tmp_path: Path):
    spool = adapter.Spool(tmp_path, 1 << 24)
    bodies = [b"%04d" % number + b"x" * 996 for number in range(1500)]
    spool.store([item(body) for body in bodies])
    spool.close()
    damage_a_page(tmp_path / "spool.sqlite3", b"0700xxx")
    first, second = adapter.Spool(tmp_path, 1 << 24), adapter.Spool(tmp_path, 1 << 24)
    found = [each.item.body for each in first.read(5_000, 1 << 30)]
    second.store([item(b"later")])
    assert bodies[0] in found
    assert bodies[-1] in found
    assert len(bodies) - len(found) in range(1, 10)
    assert found == [body for body in bodies if body in set(found)]
    assert [each.item.body for each in first.read(5_000, 1 << 30)] == [*found, b"later"]
    assert len(list(tmp_path.glob("*damaged-*-????????"))) == 1
    first.close()
    second.close()


def test_what_was_read_before_the_spool_was_replaced_takes_nothing_out_of_the_new_one(tmp_path: Path):
    spool, other = adapter.Spool(tmp_path, 1 << 20), adapter.Spool(tmp_path, 1 << 20)
    spool.store([item(b"sent")])
    (sent,) = spool.read(5, 100)
    for each in tmp_path.glob("spool.sqlite3*"):
        each.unlink()
    other.store([item(b"new")])
    spool.finish([sent.seq], {})
    assert [each.item.body for each in spool.read(5, 100)] == [b"new"]
    spool.close()
    other.close()


def test_what_others_take_away_beside_a_spool_keeps_nobody_from_opening_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = adapter.Spool._files
    monkeypatch.setattr(adapter.Spool, "_files", lambda spool: [tmp_path / "spool.sqlite3-wal", *files(spool)])
    (tmp_path / "spool.sqlite3").write_bytes(b"this is no database, and long enough to be none" * 100)
    spool = adapter.Spool(tmp_path, 1 << 20)
    spool.store([item(b"one")])
    assert [each.item.body for each in spool.read(5, 100)] == [b"one"]
    assert len(list(tmp_path.glob("spool.damaged-*"))) == 1
    spool.close()


def _open_and_store(directory: Path, worker: int, barrier: Any) -> None:
    barrier.wait()
    spool = adapter.Spool(directory, 1 << 20)
    spool.store([adapter.Item(EVENT, b"%d" % worker, 0.0)])
    spool.close()


def test_of_several_who_open_a_damaged_spool_at_once_none_loses_its_events(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        directory = tmp_path / str(turn)
        directory.mkdir()
        (directory / "spool.sqlite3").write_bytes(b"this is no database, and long enough to be none" * 100)
        barrier = context.Barrier(6)
        workers = [context.Process(target=_open_and_store, args=(directory, each, barrier)) for each in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        spool = adapter.Spool(directory, 1 << 20)
        assert sorted(each.item.body for each in spool.read(10, 1_000)) == [b"%d" % each for each in range(6)]
        assert len(list(directory.glob("*damaged-*-????????"))) == 1
        spool.close()


def test_the_spool_is_readable_by_nobody_else(spool: Any, tmp_path: Path):
    spool.store([item(b"1")])
    found = {each.name: each.stat().st_mode & 0o077 for each in (tmp_path / "spool").iterdir()}
    assert found == dict.fromkeys(("spool.lock", "spool.sqlite3", "spool.sqlite3-shm", "spool.sqlite3-wal"), 0)


def _is_open_after_a_fork(number: int, inode: int, answer: Any) -> None:
    adapter._close_inherited_locks()
    try:
        is_open = os.fstat(number).st_ino == inode  # the number may be another file's by now
    except OSError:
        is_open = False
    answer.put("open" if is_open else "closed")


def test_a_forked_child_keeps_no_lock_of_its_parent(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    with adapter._lock_file(tmp_path / "lock") as number:
        child = context.Process(target=_is_open_after_a_fork, args=(number, os.fstat(number).st_ino, answer))
        child.start()
        assert answer.get(timeout=15) == "closed"
        child.join()
        assert os.fstat(number)


def _store_until_killed(directory: Path, ready: Any) -> None:
    spool = adapter.Spool(directory, 1 << 30)
    for number in range(1_000_000):
        spool.store([adapter.Item(EVENT, f"{number}".encode(), 0.0)])
        ready.put(number)


def test_what_was_acknowledged_before_a_kill_is_there(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    ready = context.Queue()
    process = context.Process(target=_store_until_killed, args=(tmp_path, ready))
    process.start()
    acknowledged = max(ready.get(timeout=15) for _ in range(50))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    spool = adapter.Spool(tmp_path, 1 << 30)
    bodies = [int(each.item.body) for each in spool.read(1_000_000, 1 << 30)]
    assert bodies == list(range(len(bodies)))
    assert len(bodies) > acknowledged
    spool.close()


def _store_some(directory: Path, worker: int) -> None:
    spool = adapter.Spool(directory, 1 << 30)
    for number in range(100):
        spool.store([adapter.Item(EVENT, f"{worker}.{number}".encode(), 0.0)])
    spool.close()


def test_several_processes_store_in_one_spool_at_once(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_store_some, args=(tmp_path, worker)) for worker in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    spool = adapter.Spool(tmp_path, 1 << 30)
    bodies = [each.item.body for each in spool.read(1_000, 1 << 30)]
    assert len(set(bodies)) == len(bodies) == 400
    spool.close()


# Writing and sending


class Endpoint(LoopbackServer):
    """A Tallygate that answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.answers: list[tuple[int, Any]] = []
        self.answer: Callable[[str, bytes], tuple[int, Any]] = lambda *_: (200, {"recorded": 1, "results": []})
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                endpoint.requests.append((self.command, self.path, body))
                status, answer = endpoint.answers.pop(0) if endpoint.answers else endpoint.answer(self.path, body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_DELETE = do_POST  # noqa: N815  # the server's names

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(Handler)

    def events(self) -> list[Any]:
        return [json.loads(body) for method, _, body in list(self.requests) if method == "POST"]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint().running() as found:
        yield found


class Running:
    """A writer and a sender of one spool."""

    def __init__(self, terms: Any) -> None:
        wake = threading.Event()
        self.terms = terms
        self.writer, self.sender = adapter.Writer(terms, wake), adapter.Sender(terms, wake)
        self.writer.start()
        self.sender.start()

    def put(self, *items: Any) -> None:
        for written in [self.writer.put(each) for each in items]:
            written.result(15)

    def stop(self) -> None:
        self.sender.stop()
        self.writer.stop()
        self.sender.join(15)
        self.writer.join(15)

    def waiting(self) -> int:
        with sqlite3.connect(self.terms.spool_directory / "spool.sqlite3") as database:
            (number,) = database.execute("SELECT count(*) FROM item").fetchone()
        database.close()
        return int(number)

    def rejected(self) -> list[tuple[str, bytes]]:
        spool = adapter.Spool(self.terms.spool_directory, 1 << 20)
        found: list[tuple[str, bytes]] = spool.rejected()
        spool.close()
        return found


@pytest.fixture
def running(tmp_path: Path, endpoint: Endpoint) -> Iterator[Running]:
    found = Running(settings(tmp_path, endpoint.url))
    yield found
    found.stop()


@pytest.mark.parametrize(
    "refusal", [(503, {}), (500, "oops"), (429, {}), (401, {}), (404, {}), (200, "no answer of Tallygate's"), (302, {})]
)
def test_what_is_not_taken_is_sent_again_the_same_to_the_byte(
    running: Running, endpoint: Endpoint, refusal: tuple[int, Any]
):
    endpoint.answers += [refusal, refusal]
    running.put(item(b'{"a": 1}'))
    until(lambda: running.waiting() == 0, "the spool is empty")
    assert [body for _, _, body in endpoint.requests] == [b'[{"a": 1}]'] * 3
    assert running.rejected() == []


def test_a_rejected_element_goes_aside_and_the_others_are_done(running: Running, endpoint: Endpoint):
    error = {"code": "invalid_field", "detail": "strange"}

    def answer(_: str, body: bytes) -> tuple[int, Any]:
        bad = [index for index, event in enumerate(json.loads(body)) if event == {"bad": 1}]
        return 200, {"recorded": 1, "results": [{"index": i, "outcome": "rejected", "error": error} for i in bad]}

    endpoint.answer = answer
    running.put(item(b'{"good": 1}'), item(b'{"bad": 1}'), item(b'{"good": 2}'))
    until(lambda: running.waiting() == 0, "the spool is empty")
    assert [(json.loads(reason), body) for reason, body in running.rejected()] == [(error, b'{"bad": 1}')]


def test_a_rejected_event_is_sent_again_with_its_bare_figures(running: Running, endpoint: Endpoint):
    def answer(_: str, body: bytes) -> tuple[int, Any]:
        bad = [index for index, event in enumerate(json.loads(body)) if "end_user" in event]
        return 200, {"recorded": 1, "results": [{"index": i, "outcome": "rejected", "error": {}} for i in bad]}

    endpoint.answer = answer
    running.put(item(b'{"id": "a", "end_user": "strange", "prompt_tokens": 7}'))
    until(lambda: running.waiting() == 0, "the spool is empty")
    assert running.rejected() == []
    assert endpoint.events()[-1] == [{"id": "a", "prompt_tokens": 7}]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_body_that_is_refused_whole_is_divided_until_the_one_event_is_found(
    running: Running, endpoint: Endpoint, status: int
):
    endpoint.answer = lambda _, body: (
        (status, {"code": "x"}) if b"bad" in body else (200, {"recorded": 1, "results": []})
    )
    running.put(*[item(b'"bad"' if number == 5 else b'"good"') for number in range(9)])
    until(lambda: running.waiting() == 0, "the spool is empty")
    assert [body for _, body in running.rejected()] == [b'"bad"']
    taken = [event for events in endpoint.events() if "bad" not in events for event in events]
    assert taken == ["good"] * 8


def test_an_event_tallygate_always_fails_over_holds_no_other_up_and_is_not_lost(
    running: Running, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(adapter, "_FIRST_PAUSE_SECONDS", 0.001)
    taken: list[str] = []

    def answer(_: str, body: bytes) -> tuple[int, Any]:
        if b"bad" in body and not is_mended.is_set():
            return 500, {"code": "internal"}
        taken.extend(json.loads(body))
        return 200, {"recorded": 1, "results": []}

    is_mended = threading.Event()
    endpoint.answer = answer
    running.put(*[item(b'"bad %d"' % number if number in {5, 7} else b'"good"') for number in range(40)])
    until(lambda: running.waiting() == 2, "only the bad ones wait")
    assert taken == ["good"] * 38
    running.put(item(b'"after"'))
    until(lambda: running.waiting() == 2, "what comes after is sent")
    is_mended.set()
    until(lambda: running.waiting() == 0, "the bad ones are sent when they can be taken")
    assert sorted(taken) == ["after", "bad 5", "bad 7"] + ["good"] * 38
    assert running.rejected() == []


def test_an_outage_puts_nothing_behind_for_long(running: Running, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adapter, "_FIRST_PAUSE_SECONDS", 0.0001)
    endpoint.answers += [(500, {})] * 40
    running.put(*[item(b'"%d"' % number) for number in range(20)])
    until(lambda: running.waiting() == 0, "all is sent when Tallygate is back, without waiting a minute")
    assert running.rejected() == []


def test_a_void_follows_the_events_before_it_and_a_lapsed_one_is_left_out(running: Running, endpoint: Endpoint):
    far = 2**40
    running.put(item(b'"e"'), item(b"r/1", VOID, far), item(b"lapsed", VOID, 1.0))
    until(lambda: running.waiting() == 0, "the spool is empty")
    assert [(method, path) for method, path, _ in endpoint.requests] == [
        ("POST", "/v1/events?results=problems"),
        ("DELETE", "/v1/reservations/r%2F1"),
    ]


def test_what_waits_for_a_disk_that_cannot_be_written_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adapter, "_MOST_IN_MEMORY", 3)
    in_the_way = tmp_path / "spool"
    in_the_way.write_text("no directory")
    writer = adapter.Writer(settings(in_the_way), threading.Event())
    for number in range(5):
        writer.put(item(b"%d" % number))
    assert writer.dropped == 2
    writer.start()
    until(lambda: writer.is_full, "it is told")
    in_the_way.unlink()
    until(lambda: not writer.is_full, "it is written")
    writer.stop()
    writer.join(15)
    spool = adapter.Spool(in_the_way, 1 << 20)
    assert [each.item.body for each in spool.read(10, 100)] == [b"0", b"1", b"2"]
    spool.close()


def test_a_spool_that_was_full_is_known_to_have_room_again_without_a_new_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(adapter, "_LOOK_AGAIN_SECONDS", 0.01)
    terms = settings(tmp_path, spool_bytes=1 << 18)
    writer = adapter.Writer(terms, threading.Event())
    writer.start()
    for written in [writer.put(item(b"x" * 50_000)) for _ in range(9)]:
        written.result(15)
    assert writer.is_full
    spool = adapter.Spool(tmp_path, 1 << 18)
    spool.finish([each.seq for each in spool.read(100, 1 << 30)], {})
    spool.close()
    until(lambda: not writer.is_full, "calls go on")
    writer.stop()
    writer.join(15)


def test_one_of_two_senders_of_a_spool_sends_and_the_other_takes_over(tmp_path: Path, endpoint: Endpoint):
    first, second = Running(settings(tmp_path, endpoint.url)), Running(settings(tmp_path, endpoint.url))
    try:
        second.put(*[item(b"%d" % number) for number in range(50)])
        until(lambda: second.waiting() == 0, "the spool is empty")
        first.stop()
        second.put(*[item(b"%d" % number) for number in range(50, 60)])
        until(lambda: second.waiting() == 0, "the spool is empty")
    finally:
        first.stop()
        second.stop()
    assert sorted(event for events in endpoint.events() for event in events) == list(range(60))


def test_a_call_that_was_forgotten_without_a_word_gives_its_hold_back(tmp_path: Path):
    workers = adapter._Workers(settings(tmp_path))
    workers.start()
    call = adapter.Call(reservation_id="r1")
    call.state.holds = True
    weakref.finalize(call, workers.void_forgotten, "r1", call.state)
    del call
    gc.collect()
    spool = adapter.Spool(tmp_path, 1 << 20)
    until(spool.count, "it is on disk")
    assert [(each.item.kind, each.item.body) for each in spool.read(5, 100)] == [(VOID, b"r1")]
    spool.close()
    _, writer, sender = workers._running
    sender.stop()
    writer.stop()
    writer.join(15)
    sender.join(15)
