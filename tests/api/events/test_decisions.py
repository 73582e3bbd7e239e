"""Conflicts and refused elements over HTTP: seen in quarantine, decided once, with the figures that follow."""

import asyncio
import json
from typing import Any

import httpx

from tests.api.events.test_events import an_event, encoded, post


async def _totals(client: httpx.AsyncClient, headers: dict[str, str]) -> tuple[str, int, int]:
    totals = (await client.get("/v1/spend", headers=headers)).json()["totals"]
    return totals["spend_usd"], totals["requests"], totals["input_tokens"]


async def _waiting(client: httpx.AsyncClient, headers: dict[str, str]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await client.get("/v1/quarantine", headers=headers)).json()["elements"]
    return listed


async def _post_conflict(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    usage = an_event()["metadata"]["usage_object"] | {"prompt_tokens": 1000, "completion_tokens": 0}
    other = an_event(metadata=an_event()["metadata"] | {"usage_object": usage}, prompt_tokens=1000, completion_tokens=0)
    await post(client, headers, encoded(an_event()))
    answer = await post(client, headers, encoded(other))
    assert answer["conflicts"] == 1


async def test_an_accepted_conflict_costs_what_it_says_and_a_second_acceptance_finds_nothing(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await _post_conflict(client, headers)
    assert await _totals(client, headers) == ("0.0003184", 1, 412)
    [row] = await _waiting(client, headers)
    path = f"/v1/quarantine/{row['id']}/accept"
    assert (await client.post(path, headers=headers, json={"reason": "two calls"})).status_code < 300
    assert await _totals(client, headers) == ("0.0007184", 2, 1412)
    assert (await client.post(path, headers=headers, json={"reason": "again"})).status_code == 404
    assert await _waiting(client, headers) == []


async def test_a_deleted_conflict_leaves_the_first_event_alone(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await _post_conflict(client, headers)
    [row] = await _waiting(client, headers)
    assert (await client.delete(f"/v1/quarantine/{row['id']}", headers=headers)).status_code < 300
    assert await _totals(client, headers) == ("0.0003184", 1, 412)
    await _post_conflict(client, headers)
    assert await _waiting(client, headers) == [], "decided is decided, however often it is sent again"
    kinds = [charge["kind"] for charge in (await client.get("/v1/charges", headers=headers)).json()["charges"]]
    assert sorted(kinds) == ["conflict", "reversal", "usage"]


async def test_a_refused_element_is_kept_once_without_prompt_and_can_be_tried_again(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    bad = an_event(id="bad", prompt_tokens=-1, messages=[{"role": "user", "content": "the secret plan"}])
    await post(client, headers, encoded(bad, None))
    await post(client, headers, encoded(bad))
    [row] = await _waiting(client, headers)
    assert "secret plan" not in json.dumps(row)
    answer = await client.post(f"/v1/quarantine/{row['id']}/retry", headers=headers)
    assert answer.json()["outcome"] == "rejected"
    assert len(await _waiting(client, headers)) == 1


async def test_of_contradicting_decisions_at_once_one_wins_and_the_figures_are_its(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await _post_conflict(client, headers)
    [row] = await _waiting(client, headers)
    path = f"/v1/quarantine/{row['id']}"
    answers = await asyncio.gather(
        client.post(f"{path}/accept", headers=headers, json={"reason": "two calls"}),
        client.delete(path, headers=headers),
        client.post(f"{path}/accept", headers=headers, json={"reason": "two calls"}),
        client.delete(path, headers=headers),
    )
    accepted = [answer.status_code < 300 for answer in answers[::2]]
    dropped = [answer.status_code < 300 for answer in answers[1::2]]
    assert any(accepted) != any(dropped)
    assert {answer.status_code for answer in answers if answer.status_code >= 300} <= {404, 409}
    expected = ("0.0007184", 2, 1412) if any(accepted) else ("0.0003184", 1, 412)
    assert await _totals(client, headers) == expected


async def test_a_reason_with_a_nul_is_stored_without_it(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await post(client, headers, encoded(an_event()))
    path = f"/v1/charges/{answer['results'][0]['charge_id']}/reverse"
    assert (await client.post(path, headers=headers, json={"reason": "a\x00b"})).status_code == 201
