"""Every budget kind of the README's table, with the very body it shows, against the whole application.

The table is read from the README, so that the two cannot part: a kind without calls here, or calls without a kind
there, fail the test.
"""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service.kit.clock import utc_now
from tests.api.checks.world import World
from tests.faults.chat_events import Event, chat_event

_README = Path(__file__).parents[3] / "service" / "budgets" / "README.md"
_ROW = re.compile(r"\| (?P<kind>[^|]+) \| (?P<elsewhere>[^|]*) \| `(?P<body>\{.+\})` \|")

MINI, CLAUDE = "gpt-4.1-mini", "claude-opus-4-6"
KEY, OTHER_KEY = "ab" * 32, "cd" * 32
_USD_PER_INPUT_TOKEN = Decimal("0.0000004")  # of gpt-4.1-mini, the cheapest model below


class Call(NamedTuple):
    """One call: what its check says and what its event says are made of the same."""

    dimensions: dict[str, Any] = {}  # noqa: RUF012 — never changed
    model: str = MINI
    provider: str | None = "openai"
    deployment: str | None = None
    served: str | None = None

    def but(self, **others: Any) -> "Call":
        return self._replace(dimensions={**self.dimensions, **others})


class Calls(NamedTuple):
    """A call that counts in the budget, others that must be let through when it is spent, others that must not."""

    counted: Call
    passing: tuple[Call, ...]
    subject: dict[str, str] = {}  # noqa: RUF012 — never changed
    denied_too: tuple[Call, ...] = ()


_MEMBER = Call({"organization": "acme", "team": "core", "user": "u1", "api_key": KEY})
_AZURE = Call(deployment="azure/mini-eu", provider="azure", served="azure/gpt-4.1-mini")
_AT_AZURE = Call(provider="azure")
_CLAUDE = Call(model=CLAUDE, provider="anthropic")

CALLS: dict[str, Calls] = {
    "global": Calls(_MEMBER, (), denied_too=(Call(), _CLAUDE)),
    "organization": Calls(_MEMBER, (_MEMBER.but(organization="other"), Call())),
    "organization member": Calls(_MEMBER, (_MEMBER.but(user="u2"), _MEMBER.but(organization="o2")), {"user": "u1"}),
    "project": Calls(Call({"project": "search"}), (Call({"project": "search2"}), Call())),
    "team": Calls(_MEMBER, (_MEMBER.but(team="Core"), Call()), denied_too=(_MEMBER.but(user="u2"),)),
    "team member": Calls(_MEMBER, (_MEMBER.but(user="u2"), _MEMBER.but(team="edge")), {"user": "u1"}),
    "user": Calls(_MEMBER, (_MEMBER.but(user="u2"),), {"user": "u1"}, denied_too=(_MEMBER.but(team="edge"),)),
    "user without a team": Calls(Call({"user": "u1"}), (_MEMBER, Call({"user": "u2"})), {"user": "u1"}),
    "key": Calls(_MEMBER, (_MEMBER.but(api_key=OTHER_KEY), Call()), denied_too=(_MEMBER.but(user="u2"),)),
    "each key": Calls(_MEMBER, (_MEMBER.but(api_key=OTHER_KEY),), {"api_key": KEY}),
    "key x model": Calls(_MEMBER, (_MEMBER.but(api_key=OTHER_KEY), _MEMBER._replace(model="gpt-4.1"))),
    "user x model": Calls(
        _MEMBER, (_MEMBER.but(user="u2"), _MEMBER._replace(model=CLAUDE, provider="anthropic")), {"user": "u1"}
    ),
    "team x each model": Calls(_MEMBER, (_MEMBER._replace(model="gpt-4.1"),), {"requested_model": MINI}),
    "end user": Calls(Call({"end_user": "cust-7"}), (Call({"end_user": "cust-8"}), Call())),
    "every end user": Calls(
        Call({"end_user": "nobody-registered"}),
        (Call({"end_user": "another"}), Call()),
        {"end_user": "nobody-registered"},
    ),
    "tag": Calls(Call({"tags": ["nightly", "eval"]}), (Call({"tags": ["eval"]}), Call())),
    "each tag": Calls(Call({"tags": ["nightly"]}), (Call({"tags": ["eval"]}),), {"tag": "nightly"}),
    "agent": Calls(Call({"agent": "planner"}), (Call({"agent": "coder"}), Call()), {"agent": "planner"}),
    "session or run": Calls(Call({"session": "s-1"}), (Call({"session": "s-2"}),), {"session": "s-1"}),
    "run of an agent": Calls(
        Call({"agent": "planner", "session": "s-1"}),
        (Call({"agent": "planner", "session": "s-2"}), Call({"agent": "coder", "session": "s-1"})),
        {"session": "s-1"},
    ),
    "provider": Calls(Call(), (_CLAUDE,), denied_too=(Call(model="gpt-4.1"),)),
    "deployment": Calls(_AZURE, (_AZURE._replace(deployment="azure/mini-us"), Call())),
    "requested model": Calls(_CLAUDE, (Call(),)),
    "served model": Calls(_AT_AZURE, (Call(), _CLAUDE)),
    "list of models": Calls(Call(), (_CLAUDE,), denied_too=(Call(model="gpt-4.1"),)),
    "models by prefix": Calls(_CLAUDE, (Call(),), denied_too=(Call(model="claude-sonnet-4-6", provider="anthropic"),)),
    "deployments by prefix": Calls(_AZURE, (Call(),), denied_too=(_AZURE._replace(deployment="azure/mini-us"),)),
    "each key of a team at a provider": Calls(
        _MEMBER, (_MEMBER.but(team="edge"), _MEMBER.but(api_key=OTHER_KEY)), {"api_key": KEY}
    ),
}


def _read_table() -> dict[str, dict[str, Any]]:
    rows = [match for line in _README.read_text("utf-8").splitlines() if (match := _ROW.fullmatch(line))]
    return {row["kind"]: json.loads(row["body"]) for row in rows}


TABLE = _read_table()


def test_every_kind_of_the_table_is_tested():
    assert list(TABLE) == list(CALLS)


@pytest.mark.parametrize("kind", CALLS)
async def test_a_budget_of_this_kind_is_spent_by_its_calls_and_denies_them_and_no_others(world: World, kind: str):
    calls, body = CALLS[kind], TABLE[kind]
    budget = await world.call("POST", "/v1/budgets", expect=201, json=body)
    assert budget["state"] == "current"
    budget_id = budget["budget_id"]
    assert (await _check(world, calls.counted))["allowed"] is True

    charged = await _post(world, _event_of(calls.counted, spending=Decimal(body["limit_usd"])))

    shown = await world.call("GET", f"/v1/budgets/{budget_id}/windows")
    posted = {json.dumps(window["subject"]): window["posted_usd"] for window in shown["windows"]}
    assert posted == {json.dumps(calls.subject): charged["cost_usd"]}
    for call in (calls.counted, *calls.denied_too):
        denied = await _check(world, call)
        assert (denied["allowed"], denied["denied_by"]) == (False, [budget_id]), call
        assert {json.dumps(each["subject"]) for each in denied["budgets"]} == {json.dumps(calls.subject)}
    for call in calls.passing:
        passed = await _check(world, call)
        assert (passed["allowed"], passed["denied_by"]) == (True, []), call


async def test_a_global_budget_is_that_of_its_tenant(world: World, other_world: World):
    await world.call("POST", "/v1/budgets", expect=201, json=TABLE["global"] | {"limit_usd": "0"})
    assert (await _check(world, Call()))["allowed"] is False
    assert (await _check(other_world, Call()))["budgets"] == []


async def _check(world: World, call: Call) -> Any:
    body = {"model": call.model, "provider": call.provider, "deployment": call.deployment}
    return await world.check(dimensions=call.dimensions, **body)


async def _post(world: World, event: Event) -> Any:
    """Post an event and return its charge."""
    answer = await world.call("POST", "/v1/events", json=event)
    assert answer["recorded"] == 1, answer
    return await world.call("GET", f"/v1/charges/{answer['results'][0]['charge_id']}")


def _event_of(call: Call, *, spending: Decimal) -> Event:
    """Return the event of a call, as LiteLLM would send it, that costs at least this much."""
    people = call.dimensions
    event = chat_event(
        at=utc_now(),
        input_tokens=int(spending / _USD_PER_INPUT_TOKEN) + 1,
        team=people.get("team"),
        user=people.get("user"),
        model=call.deployment or f"{call.provider}/{call.model}",
        model_group=call.model,
        provider=call.provider,
        price_key=call.served,
        end_user=people.get("end_user"),
        request_tags=people.get("tags", []),
        tallygate={name: people[name] for name in ("agent", "session") if name in people},
        trace_id=None,
        model_id=None,
    )
    event["metadata"] |= {
        "user_api_key_hash": people.get("api_key"),
        "user_api_key_org_id": people.get("organization"),
        "user_api_key_project_id": people.get("project"),
    }
    event["response"]["model"] = call.model
    return event
