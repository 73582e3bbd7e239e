"""Faults 1 to 3: the same event many times, the same id with other content, good and bad elements in one body."""

from typing import Any

import pytest

from service.db.pools import Pools
from service.kit.ids import new_id
from tests.faults.chat_events import Event, chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Caller, together
from tests.oracle import read_charges

_COST_OF_ONE = "0.0003184"


def _without_outcome(answer: dict[str, Any]) -> dict[str, Any]:
    (result,) = answer["results"]
    return {name: value for name, value in result.items() if name != "outcome"}


async def test_an_event_sent_fifty_times_at_once_to_three_replicas_is_recorded_once(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    await callers[0].create_budget("all", {}, "10")
    event = chat_event()

    answers = await together(callers[number % len(callers)].post(event) for number in range(50))

    outcomes = [answer["results"][0]["outcome"] for answer in answers]
    assert (outcomes.count("recorded"), outcomes.count("duplicate")) == (1, 49)
    assert all(_without_outcome(answer) == _without_outcome(answers[0]) for answer in answers)
    assert list(await read_charges(ledger.postgres, tenant.id)) == [answers[0]["results"][0]["charge_id"]]
    assert await callers[0].posted_usd("all") == _COST_OF_ONE


async def test_repetitions_inside_one_body_are_recorded_once(callers: list[Caller], ledger: Pools, tenant: Tenant):
    event, other = chat_event(), chat_event()

    answer = await callers[0].post(event, other, event, event, other)

    assert [each["outcome"] for each in answer["results"]] == ["recorded"] * 2 + ["duplicate"] * 3
    assert len(await read_charges(ledger.postgres, tenant.id)) == 2


async def test_other_tokens_under_a_known_id_are_a_conflict_that_budgets_count_and_reports_do_not(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    await callers[0].create_budget("all", {}, "10")
    event = chat_event()
    contradiction = event | _tokens(event, 10_000)
    first = await callers[0].post(event)

    answers = await together(callers[number % len(callers)].post(contradiction) for number in range(12))

    assert all(answer["results"][0]["outcome"] == "conflict" for answer in answers)
    assert all(_without_outcome(answer) == _without_outcome(first) for answer in answers)
    charges = await read_charges(ledger.postgres, tenant.id)
    assert len(charges) == 2
    assert str(sum(charges.values())) == _COST_OF_ONE
    # What the contradiction would cost: 10,000 prompt tokens at 0.40 and 96 at 1.60 per million.
    assert await callers[0].posted_usd("all") == "0.004472"
    assert (await callers[1].post(event))["results"][0]["outcome"] == "duplicate"


async def test_contradictions_sent_at_once_to_three_replicas_leave_one_event_and_each_other_content_once(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    event = chat_event()
    contents = [event, event | _tokens(event, 1_000), event | _tokens(event, 2_000)]

    answers = await together(callers[number % 3].post(contents[number // 3 % 3]) for number in range(36))

    outcomes = [answer["results"][0]["outcome"] for answer in answers]
    assert outcomes.count("recorded") == 1
    assert outcomes.count("duplicate") == 11
    assert outcomes.count("conflict") == 24
    assert len(await read_charges(ledger.postgres, tenant.id)) == 3


@pytest.mark.parametrize("placeholder", ["", "None", "null", None])
async def test_events_without_a_usable_id_are_told_apart_by_what_they_say(
    callers: list[Caller], ledger: Pools, tenant: Tenant, placeholder: str | None
):
    no_id: dict[str, Any] = {"id": placeholder, "litellm_call_id": placeholder}
    events = [chat_event(input_tokens=400 + number, **no_id) for number in range(4)]

    answers = await together(callers[number % 3].post(*events) for number in range(6))

    outcomes = [result["outcome"] for answer in answers for result in answer["results"]]
    assert (outcomes.count("recorded"), outcomes.count("duplicate")) == (4, 20)
    assert len({result["event_id"] for answer in answers for result in answer["results"]}) == 4
    assert len(await read_charges(ledger.postgres, tenant.id)) == 4


async def test_one_answer_per_element_in_order_and_bad_ones_fail_nobody_else(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    known, fresh = chat_event(), [chat_event() for _ in range(3)]
    await callers[0].post(known)
    elements = [
        fresh[0],
        known,
        known | _tokens(known, 7_000),
        None,
        b'"no event"',
        fresh[1] | {"prompt_tokens": -1, "id": new_id().hex} | _tokens(fresh[1], -1),
        fresh[1] | {"startTime": "yesterday"},
        b'{"id": "nan", "startTime": NaN}',
        fresh[2],
    ]

    answer = await callers[1].post(*elements)

    outcomes = [result["outcome"] for result in answer["results"]]
    assert outcomes == ["recorded", "duplicate", "conflict", *["rejected"] * 5, "recorded"]
    assert [result["index"] for result in answer["results"]] == list(range(9))
    errors = [(result["error"]["code"], result["error"].get("field")) for result in answer["results"][3:8]]
    assert errors == [
        ("event_missing", None),
        ("not_an_object", None),
        ("invalid_number", "metadata.usage_object.prompt_tokens"),
        ("invalid_field", "startTime"),
        ("invalid_number", "startTime"),
    ]
    assert [answer[name] for name in ("recorded", "duplicates", "conflicts", "rejected")] == [2, 1, 1, 5]

    again = await callers[2].post(*elements)

    outcomes = [result["outcome"] for result in again["results"]]
    assert outcomes == ["duplicate", "duplicate", "conflict", *["rejected"] * 5, "duplicate"]
    charges = await read_charges(ledger.postgres, tenant.id)
    assert len(charges) == 4  # known, its contradiction, two fresh ones


def _tokens(event: Event, input_tokens: int) -> Event:
    usage = event["metadata"]["usage_object"] | {"prompt_tokens": input_tokens}
    return {
        "prompt_tokens": input_tokens,
        "metadata": event["metadata"] | {"usage_object": usage},
        "response": event["response"] | {"usage": usage},
    }
