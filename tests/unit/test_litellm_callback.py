"""The callback of LiteLLM's adapter, with a gate that answers as a test wants, without LiteLLM."""

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.litellm_adapter import adapter

AUTH = SimpleNamespace(api_key="a" * 64, team_id="core", router_settings=None)
ALLOWED = {"allowed": True, "reservation": {"id": "r"}, "routes": []}
UNREACHABLE = adapter.UnreachableError("away", was_sent=False)
TOO_LATE = adapter.UnreachableError("late", was_sent=True)


class StoppedError(Exception):
    """In place of LiteLLM's exception."""


class FakeGate:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.questions: list[dict[str, Any]] = []
        self.renewed: list[str] = []
        self.renewals: dict[str, Any] = {}
        self.was_renewed_thrice = asyncio.Event()

    async def ask(self, question: dict[str, Any]) -> Any:
        self.questions.append(question)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def renew(self, reservation_id: str) -> bool | None:
        self.renewed.append(reservation_id)
        if len(self.renewed) == 3:
            self.was_renewed_thrice.set()
        answer = self.renewals.get(reservation_id, True)
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        return None if isinstance(answer, asyncio.Event) else answer


class FakeWriter:
    def __init__(self) -> None:
        self.items: list[Any] = []
        self.is_full = False
        self.is_stuck = False

    def put(self, item: Any) -> Any:
        self.items.append(item)
        written = adapter.Future()
        if not self.is_stuck:
            written.set_result(None)
        return written


class Proxy:
    """The callback between a fake gate and a fake writer."""

    def __init__(self, directory: Path, answer: Any, **terms: Any) -> None:
        settings = adapter.Settings(url="http://127.0.0.1:9", token="tg_x", spool_directory=directory, **terms)
        self.handler = adapter._PROXY_Tallygate.__new__(adapter._PROXY_Tallygate)
        self.gate, self.writer = FakeGate(answer), FakeWriter()
        start = adapter._Workers.start
        adapter._Workers.start = lambda _: self.writer
        try:
            self.handler.__init__(settings)
        finally:
            adapter._Workers.start = start
        self.handler._gate = self.gate
        self.handler._workers.start = lambda: self.writer

    async def before(self, call_type: str = "acompletion", **fields: Any) -> dict[str, Any]:
        data = {"model": "m", "metadata": {"user_api_key_auth": AUTH}} | fields
        await self.handler.async_pre_call_hook(AUTH, None, data, call_type)
        return data

    def voided(self) -> list[bytes]:
        return [item.body for item in self.writer.items if item.kind == adapter.VOID]

    def events(self) -> list[Any]:
        return [json.loads(item.body) for item in self.writer.items if item.kind == adapter.EVENT]


@pytest.fixture(autouse=True)
def _own_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_stopped", StoppedError)


async def log_success(proxy: Proxy, data: dict[str, Any], status: str = "success") -> None:
    kwargs = {"litellm_params": {"metadata": data["metadata"]}, "standard_logging_object": {"status": status}}
    log = proxy.handler.async_log_success_event if status == "success" else proxy.handler.async_log_failure_event
    await log(kwargs, None, None, None)


async def test_a_deadline_counts_what_tallygate_takes_and_not_what_holds_the_proxy_up(tmp_path: Path):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")
        time.sleep(0.4)  # noqa: ASYNC251  # everything in this process stands still
        body = json.dumps(ALLOWED).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gate = adapter.Gate(adapter.Settings(url=url, token="tg_x", spool_directory=tmp_path, deadline_seconds=0.2))
    assert (await gate.ask({"dimensions": {"team": {}}}))["allowed"]
    await gate._client().aclose()
    server.close()
    await server.wait_closed()


async def test_a_success_settles_the_hold_with_its_event(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    data = await proxy.before()
    (question,) = proxy.gate.questions
    await log_success(proxy, data)
    (event,) = proxy.events()
    assert event["tallygate"] == {"requested_model": "m", "reservation_id": question["request_id"]}
    await proxy.handler.async_post_call_failure_hook(data, None, None)
    assert proxy.voided() == []


async def test_a_failed_attempt_voids_nothing_and_the_end_of_the_request_does_once(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    data = await proxy.before()
    await log_success(proxy, data, "failure")
    assert proxy.voided() == []
    await proxy.handler.async_post_call_failure_hook(data, None, None)
    await proxy.handler.async_post_call_failure_hook(data, None, None)
    assert proxy.voided() == [proxy.gate.questions[0]["request_id"].encode()]
    assert len(proxy.events()) == 1


@pytest.mark.parametrize("status", ["failure", "success"])
async def test_a_disk_that_cannot_be_written_keeps_no_call_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
):
    # A failure waits for no disk at all; a success for a while, and not where the disk is known to be away.
    monkeypatch.setattr(adapter, "_WRITE_SECONDS", 0.01 if status == "success" else 1e6)
    proxy = Proxy(tmp_path, ALLOWED)
    proxy.writer.is_stuck = True
    await asyncio.wait_for(log_success(proxy, await proxy.before(), status), 15)
    monkeypatch.setattr(adapter, "_WRITE_SECONDS", 1e6)
    proxy.writer.is_full = True
    await asyncio.wait_for(log_success(proxy, await proxy.before(), status), 15)
    assert len(proxy.events()) == 2


@pytest.mark.parametrize("answer_id", ["mine", "", None, "chatcmpl-1"])
async def test_calls_under_an_id_a_client_repeats_are_told_apart_where_the_answer_has_none(
    tmp_path: Path, answer_id: str | None
):
    proxy = Proxy(tmp_path, ALLOWED)
    for _ in range(2):
        data = await proxy.before("aembedding")
        payload = {"status": "success", "litellm_call_id": "mine", "id": answer_id}
        for _ in range(2):  # told twice, it is the same
            kwargs = {"litellm_params": {"metadata": data["metadata"]}, "standard_logging_object": payload}
            await proxy.handler.async_log_success_event(kwargs, None, None, None)
    ids = [event["id"] for event in proxy.events()]
    assert all(event["litellm_call_id"] == "mine" for event in proxy.events())
    assert (ids[0], ids[2]) == (ids[1], ids[3])
    assert len(set(ids)) == (1 if answer_id == "chatcmpl-1" else 2)


async def test_a_denied_call_raises_and_is_no_event(tmp_path: Path):
    proxy = Proxy(tmp_path, adapter.Denial(402, "no", "budget_exceeded", {}))
    data = {"model": "m", "metadata": {"user_api_key_auth": AUTH}}
    with pytest.raises(StoppedError):
        await proxy.handler.async_pre_call_hook(AUTH, None, data, "acompletion")
    await log_success(proxy, data, "failure")
    assert proxy.writer.items == []


async def test_an_unreachable_tallygate_lets_calls_through_and_each_asks_again(tmp_path: Path):
    proxy = Proxy(tmp_path, TOO_LATE)
    for _ in range(3):
        await proxy.before()
    assert len(proxy.gate.questions) == 3
    assert proxy.voided() == []  # its event settles the hold, if there is one


async def test_a_denial_for_want_of_an_answer_is_remembered_for_a_moment_and_a_late_hold_voided(tmp_path: Path):
    proxy = Proxy(tmp_path, TOO_LATE, on_unreachable="deny", denial_seconds=60.0)
    for _ in range(3):
        with pytest.raises(StoppedError):
            await proxy.before()
    assert proxy.voided() == [proxy.gate.questions[0]["request_id"].encode()]


async def test_nothing_is_voided_where_no_question_was_sent(tmp_path: Path):
    proxy = Proxy(tmp_path, UNREACHABLE, on_unreachable="deny", denial_seconds=0.0)
    for _ in range(2):
        with pytest.raises(StoppedError):
            await proxy.before()
    assert (len(proxy.gate.questions), proxy.voided()) == (2, [])


async def test_a_question_that_got_no_decision_denies_nobody_else(tmp_path: Path):
    refused = adapter.UnreachableError("status 404", was_sent=False, is_outage=False)
    proxy = Proxy(tmp_path, refused, on_unreachable="deny", denial_seconds=60.0)
    with pytest.raises(StoppedError):
        await proxy.before()
    proxy.gate.answer = ALLOWED
    await proxy.before()
    assert len(proxy.gate.questions) == 2


@pytest.mark.parametrize(("policy", "is_denied"), [("deny", True), ("drop", False)])
async def test_a_full_spool_denies_calls_where_that_was_declared(tmp_path: Path, policy: str, is_denied: bool):
    proxy = Proxy(tmp_path, ALLOWED, on_spool_full=policy)
    proxy.writer.is_full = True
    if is_denied:
        with pytest.raises(StoppedError):
            await proxy.before()
    else:
        await proxy.before()
    assert len(proxy.gate.questions) == (not is_denied)


async def test_reporting_alone_asks_nothing_and_keeps_the_requested_model(tmp_path: Path):
    proxy = Proxy(tmp_path, UNREACHABLE, check=False, on_unreachable="deny")
    data = await proxy.before()
    await log_success(proxy, data)
    assert proxy.gate.questions == []
    assert proxy.events()[0]["tallygate"] == {"requested_model": "m"}


async def test_what_has_no_cost_yet_is_asked_about_and_holds_nothing(tmp_path: Path):
    proxy = Proxy(tmp_path, {"allowed": True, "reservation": None, "routes": []})
    await proxy.before("acreate_batch")
    (question,) = proxy.gate.questions
    assert question["estimated_cost_usd"] == 0
    assert "reserve" not in question


async def test_looking_up_is_not_asked_about_and_a_forged_claim_does_not_count(tmp_path: Path):
    proxy = Proxy(tmp_path, UNREACHABLE, on_unreachable="deny")
    metadata = {"user_api_key_auth": AUTH, "tallygate": {"requested_model": "forged"}}
    data = await proxy.before("aget_responses", metadata=metadata)
    await log_success(proxy, data)
    assert proxy.gate.questions == []
    assert "tallygate" not in proxy.events()[0]


async def test_a_call_that_takes_long_has_its_hold_renewed_until_it_is_over(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED, hold_seconds=0.03)
    data = await proxy.before()
    over = await proxy.before()
    await log_success(proxy, over)
    held, ended = [question["request_id"] for question in proxy.gate.questions]
    await asyncio.wait_for(proxy.gate.was_renewed_thrice.wait(), 15)
    assert set(proxy.gate.renewed) == {held}
    assert ended not in proxy.gate.renewed
    for task in proxy.handler._renewing.values():
        task.cancel()
    assert data


def due(proxy: Proxy, seconds: float) -> list[str]:
    """Return which holds are renewed if nothing else happens for so long."""
    return [reservation_id for reservation_id, _ in proxy.handler._due_holds(time.monotonic() + seconds)]


def stop_renewing(proxy: Proxy) -> None:
    for task in proxy.handler._renewing.values():
        task.cancel()


async def test_a_failed_attempt_has_the_hold_renewed_at_once_and_before_tallygate_cuts_it(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED, hold_seconds=900)
    failed, steady = await proxy.before(), await proxy.before()
    (reservation_id, _) = [question["request_id"] for question in proxy.gate.questions]
    assert due(proxy, 25) == []
    await log_success(proxy, failed, "failure")
    assert due(proxy, 0) == [reservation_id]
    assert await proxy.handler._renew(reservation_id, adapter.find_call(failed).state)
    assert due(proxy, 0) == []
    assert due(proxy, 21) == [reservation_id]
    assert len(due(proxy, 301)) == 2
    assert steady
    stop_renewing(proxy)


async def test_a_renewal_without_an_answer_stays_due_and_one_refused_for_good_does_not(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED, hold_seconds=900)
    calls = [await proxy.before() for _ in range(3)]
    renewed, unanswered, over = [question["request_id"] for question in proxy.gate.questions]
    proxy.gate.renewals = {unanswered: None, over: False}
    for each, call in zip((renewed, unanswered, over), calls, strict=True):
        state = adapter.find_call(call).state
        state.renewed_at -= 301
        assert await proxy.handler._renew(each, state) == (each != unanswered)
    assert due(proxy, 0) == [unanswered]
    assert over not in due(proxy, 301)
    stop_renewing(proxy)


async def test_one_renewal_that_hangs_holds_up_no_other(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED, hold_seconds=0.03)
    calls = [await proxy.before() for _ in range(3)]
    hanging, *others = [question["request_id"] for question in proxy.gate.questions]
    proxy.gate.renewals = {hanging: asyncio.Event()}
    await asyncio.wait_for(proxy.gate.was_renewed_thrice.wait(), 15)
    assert set(proxy.gate.renewed) == {hanging, *others}
    assert calls
    stop_renewing(proxy)


async def test_a_hold_is_not_renewed_for_ever(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED, hold_seconds=900)
    data = await proxy.before()
    assert len(due(proxy, 6 * 3600 - 60)) == 1
    assert due(proxy, 6 * 3600 + 60) == []
    assert data
    stop_renewing(proxy)


@pytest.mark.parametrize(("status", "is_renewed"), [(200, True), (404, False), (409, False), (503, None), (401, None)])
async def test_a_renewal_says_what_became_of_the_hold(tmp_path: Path, status: int, is_renewed: bool | None):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 %d Status\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}" % status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gate = adapter.Gate(adapter.Settings(url=url, token="tg_x", spool_directory=tmp_path))
    assert await gate.renew("r") is is_renewed
    server.close()
    await server.wait_closed()
    assert await gate.renew("r") is None
    await gate._client().aclose()


async def test_a_hold_that_may_have_been_placed_unanswered_ends_with_a_failed_request(tmp_path: Path):
    proxy = Proxy(tmp_path, TOO_LATE)
    data = await proxy.before()
    await proxy.handler.async_post_call_failure_hook(data, None, None)
    assert proxy.voided() == [proxy.gate.questions[0]["request_id"].encode()]
    stop_renewing(proxy)


async def test_a_cancelled_question_takes_its_hold_back(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    proxy.gate.answer = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await proxy.before()
    assert proxy.voided() == [proxy.gate.questions[0]["request_id"].encode()]


async def test_a_stream_is_told_with_the_model_that_served_it(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    data = await proxy.before()
    payload = {"status": "success", "stream": True, "response": {"model": "alias"}}
    kwargs = {"litellm_params": data, "standard_logging_object": payload, "stream": True}
    await proxy.handler.async_logging_hook(kwargs, SimpleNamespace(model="gpt-5.4-mini"), "acompletion")
    await proxy.handler.async_log_success_event(kwargs, None, None, None)
    assert proxy.events()[0]["response"]["model"] == "gpt-5.4-mini"
    assert payload["response"] == {"model": "alias"}


async def test_a_list_of_models_is_refused_before_anything_is_asked(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    with pytest.raises(StoppedError):
        await proxy.before(model="quick,dear")
    assert proxy.gate.questions == []


async def test_fallbacks_a_client_names_are_asked_about_as_if_it_had_asked_for_them(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    await proxy.before(fallbacks=["dear", "other"])
    asked = [(question["model"], question.get("reserve", False)) for question in proxy.gate.questions]
    assert asked == [("dear", False), ("other", False), ("m", True)]


async def test_a_call_no_hook_saw_is_asked_about_when_a_deployment_is_chosen(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    metadata = {"user_api_key_hash": "a" * 64, "user_api_key_team_id": "core"}
    kwargs = {"metadata": metadata, "max_tokens": 5}
    for _ in range(2):
        assert await proxy.handler.async_filter_deployments("dear", [{}], None, kwargs) == [{}]
    (question,) = proxy.gate.questions
    assert (question["model"], question["dimensions"]["team"], question["reserve"]) == ("dear", "core", True)
    await log_success(proxy, {"metadata": metadata})
    assert proxy.events()[0]["tallygate"]["reservation_id"] == question["request_id"]


async def test_a_denied_call_no_hook_saw_goes_nowhere_and_is_no_event(tmp_path: Path):
    proxy = Proxy(tmp_path, adapter.Denial(402, "no", "budget_exceeded", {}))
    metadata = {"user_api_key_hash": "a" * 64, "model_group": "dear"}
    for _ in range(2):
        with pytest.raises(StoppedError):
            await proxy.handler.async_pre_call_deployment_hook({"metadata": metadata}, "acompletion")
    assert [question["model"] for question in proxy.gate.questions] == ["dear"]
    await log_success(proxy, {"metadata": metadata}, "failure")
    assert proxy.events() == []


async def test_what_litellm_calls_for_itself_is_not_asked_about(tmp_path: Path):
    proxy = Proxy(tmp_path, UNREACHABLE, on_unreachable="deny")
    assert await proxy.handler.async_filter_deployments("m", [{}], None, {"metadata": {}}) == [{}]
    assert proxy.gate.questions == []


async def test_a_group_nobody_foresaw_is_asked_about_before_litellm_turns_to_it(tmp_path: Path):
    proxy = Proxy(tmp_path, ALLOWED)
    data = await proxy.before()
    assert await proxy.handler.async_filter_deployments("m", [{}], None, data) == [{}]
    assert len(proxy.gate.questions) == 1
    proxy.gate.answer = {"allowed": True, "routes": [{"allowed": False, "requested_fallback": "dear"}]}
    for _ in range(2):
        assert await proxy.handler.async_filter_deployments("dear", [{}], None, data) == []
    assert len(proxy.gate.questions) == 2
    assert (proxy.gate.questions[1]["model"], proxy.gate.questions[1]["fallback_models"]) == ("m", ["dear"])
    assert "reserve" not in proxy.gate.questions[1]
