"""`POST /v1/events` as gateways use it: any form of body, an answer per element, each event once."""

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

DATA = Path(__file__).parents[2] / "data"

BODIES = sorted(path.name for path in DATA.iterdir() if path.suffix in {".json", ".ndjson"})


async def post(client: httpx.AsyncClient, headers: dict[str, str], body: bytes, **parameters: str) -> Any:
    answer = await client.post("/v1/events", content=body, headers=headers, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def an_event(**overrides: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((DATA / "plain_chat.json").read_bytes())[0]
    return event | overrides


def encoded(*events: Any) -> bytes:
    return json.dumps(events).encode()


@pytest.mark.parametrize("name", BODIES)
async def test_every_captured_body_is_recorded_once(
    client: httpx.AsyncClient, headers: dict[str, str], name: str
) -> None:
    body = (DATA / name).read_bytes()
    first = await post(client, headers, body, results="all")
    again = await post(client, headers, body, results="all")
    assert first["rejected"] == 0, first
    assert first["recorded"] == again["duplicates"] - first["duplicates"]
    assert again["recorded"] == again["conflicts"] == 0
    for before, after in zip(first["results"], again["results"], strict=True):
        assert {**before, "outcome": "duplicate"} == after


async def test_array_lines_single_objects_and_gzip_mean_the_same(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    array = (DATA / "format_json_array.json").read_bytes()
    lines = (DATA / "format_ndjson.ndjson").read_bytes()
    first = await post(client, headers, array)
    by_lines = await post(client, headers | {"Content-Type": "application/json"}, lines)
    zipped = await post(client, headers | {"Content-Encoding": "gzip"}, gzip.compress(array))
    assert first["recorded"] == 6
    assert by_lines["duplicates"] == zipped["duplicates"] == 6
    for element in json.loads(array):
        assert (await post(client, headers, json.dumps(element).encode()))["duplicates"] == 1


async def test_each_element_has_an_answer_of_its_own_in_order(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await post(client, headers, encoded(an_event(id="a"), an_event(id="b")))
    answer = await post(
        client,
        headers,
        encoded(
            an_event(id="new"),
            an_event(id="a"),
            an_event(id="b", prompt_tokens=1, response_cost=9.0),
            None,
            an_event(id="c", prompt_tokens=-1),
            an_event(id="new"),
            "text",
        ),
    )
    outcomes = [(result["index"], result["outcome"]) for result in answer["results"]]
    assert outcomes == [
        (0, "recorded"),
        (1, "duplicate"),
        (2, "conflict"),
        (3, "rejected"),
        (4, "rejected"),
        (5, "duplicate"),
        (6, "rejected"),
    ]
    assert answer["results"][3]["error"]["code"] == "event_missing"
    assert answer["results"][4]["error"]["field"]
    counts = {name: answer[name] for name in ("recorded", "duplicates", "conflicts", "rejected")}
    assert counts == {"recorded": 1, "duplicates": 2, "conflicts": 1, "rejected": 3}


async def test_nan_in_one_element_harms_no_other(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    bad = json.dumps(an_event(id="nan", response_cost=float("nan")))
    answer = await post(client, headers, f"[{json.dumps(an_event(id='good'))}, {bad}]".encode())
    assert [result["outcome"] for result in answer["results"]] == ["recorded", "rejected"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_body"),
        (b"not json", 400, "malformed_body"),
        (b'[{"id": "a"}', 400, "malformed_body"),
        (b"[" * 100_000, 400, "malformed_body"),
    ],
)
async def test_a_body_that_is_no_json_is_refused_whole(
    client: httpx.AsyncClient, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    answer = await client.post("/v1/events", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_gzip_bomb_is_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    bomb = gzip.compress(b" " * (300 << 20), compresslevel=9)
    answer = await client.post("/v1/events", content=bomb, headers=headers | {"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_beyond_a_hundred_elements_only_problems_are_listed_unless_asked(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    events = [an_event(id=f"many-{n}") for n in range(101)]
    first = await post(client, headers, encoded(*events))
    assert (first["recorded"], first["results"]) == (101, [])
    again = await post(client, headers, encoded(*events, None), results="problems")
    assert len(again["results"]) == 102
    assert (await post(client, headers, encoded(*events), results="none"))["results"] == []
    assert len((await post(client, headers, encoded(*events), results="all"))["results"]) == 101
    refused = await client.post("/v1/events", content=encoded(), headers=headers, params={"results": "some"})
    assert (refused.status_code, refused.json()["field"]) == (422, "results")


async def test_a_finished_batch_retrieved_twice_is_one_charge(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await post(client, headers, (DATA / "batch_retrieve-1.json").read_bytes())
    await post(client, headers, (DATA / "batch_retrieve-2.json").read_bytes())
    answer = await client.get("/v1/spend", headers=headers, params={"call_type": "aretrieve_batch"})
    assert answer.json()["totals"]["requests"] == 1
    assert answer.json()["totals"]["spend_usd"] == "0.0018"


async def test_the_requested_model_survives_a_fallback(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await post(client, headers, (DATA / "router_fallback.json").read_bytes())
    served = next(result for result in answer["results"] if result["cost_usd"] != "0")
    assert (served["requested_model"], served["served_model"]) == ("router-primary", "azure_ai/gpt-5.4-mini-2026-03-17")
    charge = (await client.get(f"/v1/charges/{served['charge_id']}", headers=headers)).json()
    assert charge["provenance"]["requested_model"] == "failed_attempt"


async def test_neither_prompts_nor_the_callers_key_are_ever_stored(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    body = (DATA / "passthrough_anthropic.json").read_bytes()
    [event] = json.loads(body)
    secrets = [value for name, value in event["metadata"]["requester_custom_headers"].items() if "key" in name.lower()]
    assert secrets
    answer = await post(client, headers, body)
    charge = await client.get(f"/v1/charges/{answer['results'][0]['charge_id']}", headers=headers)
    assert charge.status_code == 200
    assert not any(secret in charge.text for secret in secrets)


async def test_a_token_without_the_role_may_not_ingest(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    made = await client.post("/v1/tokens", json={"name": "reader", "roles": ["read"]}, headers=headers)
    reader = {"Authorization": f"Bearer {made.json()['token']}"}
    assert (await client.post("/v1/events", content=encoded(an_event()), headers=reader)).status_code == 403
    assert (await client.post("/v1/events", content=encoded(an_event()))).status_code == 401
