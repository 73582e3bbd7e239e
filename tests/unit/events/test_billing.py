"""Calls that cost nothing by their nature, polls, and the ids that keep them to one charge."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from service.events.call_types import call_kind, canonical_call_type
from service.events.elements import read_elements
from service.events.event_key import call_event_id, is_id, result_event_id
from service.events.litellm import LITELLM, read_event
from service.events.litellm_payload import Payload
from service.events.usage_event import UsageEvent
from tests.builders import a_litellm_event

NOW = datetime(2026, 11, 6, 12, 0, tzinfo=UTC)
USED = {"prompt_tokens": 10, "completion_tokens": 5}
UNUSED = {"prompt_tokens": 0, "completion_tokens": 0}


def read(*, began_at: datetime = NOW - timedelta(seconds=2), **overrides: Any) -> UsageEvent:
    event = a_litellm_event(began_at=began_at, **overrides)
    [[payload]] = list(read_elements(msgspec.json.encode(event), LITELLM))
    assert isinstance(payload, Payload), payload
    found = read_event(payload, received_at=NOW)
    assert isinstance(found, UsageEvent), found
    return found


def poll(call_type: str, *, usage: dict[str, int], cost: float, **response: Any) -> UsageEvent:
    return read(
        id="thing_1",
        call_type=call_type,
        usage=usage,
        response_cost=cost,
        response=response,
        began_at=NOW - timedelta(minutes=5),
    )


@pytest.mark.parametrize(
    "call_type",
    [
        "afile_content",
        "file_list",
        "acreate_file",
        "afile_delete",
        "acancel_batch",
        "cancel_responses",
        "adelete_responses",
        "alist_input_items",
        "list_mcp_tools",
        "avideo_list",
        "video_delete",
        "avector_store_file_create",
        "aget_assistants",
        "alist_fine_tuning_jobs",
    ],
)
def test_calls_that_run_no_model_are_never_billed(call_type: str):
    event = read(call_type=call_type, usage=USED, response_cost=0.5)
    assert event.basis.unbilled_reason == "never_billed"
    assert event.usage.input_tokens == 0, "the tokens shown belong to another call"
    assert not event.is_final


@pytest.mark.parametrize("call_type", ["acompletion", "aresponses", "aembedding", "_arealtime", "brand_new", "arerank"])
def test_model_calls_are_billed(call_type: str):
    assert read(call_type=call_type, usage=USED).basis.unbilled_reason is None
    assert read(call_type=call_type, usage=UNUSED, response_cost=0.0).basis.unbilled_reason is None


@pytest.mark.parametrize("call_type", ["call_mcp_tool", "acreate_batch", "acreate_container", "asend_message"])
def test_some_calls_cost_only_what_the_gateway_says(call_type: str):
    assert read(call_type=call_type, response_cost=0.0).basis.unbilled_reason == "no_cost_reported"
    assert read(call_type=call_type, response_cost=0.02).basis.unbilled_reason is None


def test_looking_at_an_unfinished_batch_blocks_nothing():
    early = poll("aretrieve_batch", usage=UNUSED, cost=0.0, status="in_progress")
    again = poll("retrieve_batch", usage=UNUSED, cost=0.0, status="finalizing")
    done = poll("aretrieve_batch", usage=USED, cost=0.002, status="completed")
    assert early.basis.unbilled_reason == "no_result_yet"
    assert not early.is_final
    assert (early.event_id, early.fingerprint) == (again.event_id, again.fingerprint)
    assert done.basis.unbilled_reason is None
    assert done.is_final
    assert done.event_id != early.event_id


def test_a_result_fetched_by_others_at_other_prices_is_the_same_result():
    first = poll("aretrieve_batch", usage=USED, cost=0.002)
    other = read(
        id="thing_1",
        call_type="aretrieve_batch",
        usage=USED,
        response_cost=0.003,
        metadata={"user_api_key_hash": "another", "user_api_key_team_id": "another"},
    )
    assert (first.event_id, first.fingerprint) == (other.event_id, other.fingerprint)
    more = poll("aretrieve_batch", usage=USED | {"completion_tokens": 6}, cost=0.002)
    assert more.event_id == first.event_id
    assert more.fingerprint != first.fingerprint


def test_an_unpriced_finished_batch_is_billed_by_its_usage():
    done = poll("aretrieve_batch", usage=USED, cost=0.0)
    assert done.basis.unbilled_reason is None
    assert done.usage.input_tokens == 10
    assert done.reported.is_unknown_price is False or done.reported.total_usd == 0


def test_reading_a_response_back_is_not_paid_twice():
    again = poll("aget_responses", usage=USED, cost=0.0, background=False, status="completed")
    assert again.basis.unbilled_reason == "read_again"
    assert again.usage.input_tokens == 0


def test_a_background_response_is_paid_when_its_result_is_read():
    queued = read(
        id="resp_1",
        call_type="aresponses",
        usage=UNUSED,
        response_cost=0.0,
        response={"background": True, "status": "queued"},
    )
    assert (queued.basis.unbilled_reason, queued.is_final) == ("no_result_yet", False)
    early = poll("aget_responses", usage=UNUSED, cost=0.0, background=True, status="in_progress")
    done = poll("aget_responses", usage=USED, cost=0.0, background=True, status="completed")
    assert early.basis.unbilled_reason == "no_result_yet"
    assert done.basis.unbilled_reason is None
    assert done.usage.input_tokens == 10
    assert early.event_id != done.event_id
    assert poll("get_responses", usage=USED, cost=0.0, background=True).event_id == done.event_id


def test_a_video_is_paid_when_it_is_made_and_not_when_it_is_watched():
    made = read(call_type="avideo_generation", usage=UNUSED | {"duration_seconds": 8.0}, response_cost=0.8)
    assert made.basis.unbilled_reason is None
    assert poll("avideo_status", usage=UNUSED, cost=0.0).basis.unbilled_reason == "no_result_yet"
    assert poll("avideo_content", usage=UNUSED, cost=0.0).basis.unbilled_reason == "never_billed"
    billed_later = poll("avideo_status", usage=UNUSED, cost=0.8)
    assert billed_later.basis.unbilled_reason is None
    assert billed_later.usage.unmeasured == ()


def test_a_failed_poll_is_an_ordinary_failed_call():
    failed = read(id="c-1", litellm_call_id="c-1", call_type="aretrieve_batch", status="failure", usage=UNUSED)
    assert failed.event_id == "aretrieve_batch:failure:c-1:c-1"
    assert failed.basis.unbilled_reason is None


def test_ids_are_readable():
    event = read(id="chatcmpl-1", litellm_call_id="c-1")
    assert event.event_id == "acompletion:success:c-1:chatcmpl-1"
    assert result_event_id("retrieve_batch", "openai", "b:1", is_open=False) == "retrieve_batch:result:openai:b:1"


def test_parts_of_an_id_cannot_run_into_each_other():
    ids = [
        call_event_id("a", "success", "x", "y:z", attempt=None, content=b""),
        call_event_id("a", "success", "x:y", "z", attempt=None, content=b""),
        call_event_id("a", "success", "x%3Ay", "z", attempt=None, content=b""),
        call_event_id("a:success", "success", "x", "z", attempt=None, content=b""),
        call_event_id("a", "failure", "x", "z", attempt=None, content=b""),
        call_event_id("a", "failure", "x", "z", attempt=1, content=b""),
        call_event_id("a", "failure", "x", "z", attempt=2, content=b""),
        result_event_id("a", "p:q", "r", is_open=True),
        result_event_id("a", "p", "q:r", is_open=True),
        result_event_id("a", None, "r", is_open=True),
    ]
    assert len(set(ids)) == len(ids)


def test_long_ids_are_bounded_and_still_differ():
    one, two = (read(id=f"resp_{'x' * 2000}{end}", litellm_call_id="c").event_id for end in "ab")
    assert len(one) <= 256
    assert one != two


@pytest.mark.parametrize("placeholder", ["", "None", "null", None])
def test_without_a_whole_id_the_content_tells_calls_apart(placeholder: str | None):
    event = a_litellm_event(began_at=NOW, id=placeholder, litellm_call_id=placeholder)

    def id_of(**changes: Any) -> str:
        payload = msgspec.json.decode(msgspec.json.encode(event | changes), type=Payload)
        found = read_event(payload, received_at=NOW)
        assert isinstance(found, UsageEvent)
        return found.event_id

    assert id_of() == id_of()
    others = [
        id_of(startTime=event["startTime"] - 1),
        id_of(endTime=event["endTime"] + 1),
        id_of(trace_id="another"),
        id_of(response_cost=5.0),
        id_of(id="known"),
        id_of(litellm_call_id="known"),
    ]
    assert len({id_of(), *others}) == len(others) + 1


def test_the_same_id_with_other_content_has_another_fingerprint():
    event = a_litellm_event(began_at=NOW)

    def fingerprint_of(**changes: Any) -> bytes:
        changed = event | changes
        payload = msgspec.json.decode(msgspec.json.encode(changed), type=Payload)
        found = read_event(payload, received_at=NOW)
        assert isinstance(found, UsageEvent)
        return found.fingerprint

    metadata = event["metadata"]
    fingerprints = [
        fingerprint_of(),
        fingerprint_of(model="other"),
        fingerprint_of(model_group="other"),
        fingerprint_of(model_id="other"),
        fingerprint_of(custom_llm_provider="other"),
        fingerprint_of(status="failure"),
        fingerprint_of(call_type="atext_completion"),
        fingerprint_of(startTime=event["startTime"] - 0.000001),
        fingerprint_of(response_cost=0.1),
        fingerprint_of(hidden_params={"litellm_model_name": "other"}),
        *(
            fingerprint_of(metadata=metadata | {name: "other"})
            for name in ("user_api_key_hash", "user_api_key_team_id", "user_api_key_user_id")
        ),
        *(
            fingerprint_of(metadata=metadata | {"usage_object": metadata["usage_object"] | {name: 77}})
            for name in ("prompt_tokens", "completion_tokens", "cache_read_input_tokens")
        ),
    ]
    assert len(set(fingerprints)) == len(fingerprints)


def test_what_may_differ_between_posts_of_one_event_is_not_in_its_fingerprint():
    event = a_litellm_event(began_at=NOW)
    again = event | {"endTime": event["endTime"] + 1, "request_tags": [], "response": None, "api_base": "x"}
    first, second = (
        read_event(msgspec.json.decode(msgspec.json.encode(each), type=Payload), received_at=NOW)
        for each in (event, again)
    )
    assert isinstance(first, UsageEvent)
    assert isinstance(second, UsageEvent)
    assert first.fingerprint == second.fingerprint


def test_a_fingerprint_of_version_one_never_changes():
    event = a_litellm_event(began_at=datetime(2026, 11, 6, 11, 0, tzinfo=UTC), is_new=False)
    found = read_event(msgspec.json.decode(msgspec.json.encode(event), type=Payload), received_at=NOW)
    assert isinstance(found, UsageEvent)
    assert found.fingerprint_version == 1
    assert found.fingerprint.hex() == "eae4bebb7a573e029054f9692eca85293ba7ac1cd774868e154759928d168d0d"


def test_call_types_are_known_under_both_names():
    assert call_kind("aretrieve_batch") is call_kind("retrieve_batch")
    assert canonical_call_type("aretrieve_batch") == canonical_call_type("retrieve_batch") == "retrieve_batch"
    assert canonical_call_type("acompletion") == "acompletion"
    assert call_kind("_arealtime").billing == "by_usage"
    assert call_kind("a").billing == call_kind("").billing == "by_usage"


@pytest.mark.parametrize("text", [None, "", "None", "null"])
def test_placeholders_are_no_ids(text: str | None):
    assert not is_id(text)
    assert is_id("0")
