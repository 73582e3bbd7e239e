"""`/v1/budgets/{id}/windows` over HTTP: what was spent, is held and is left, per subject and window."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.budgets.period import shown_window, window_of
from service.budgets.period_document import parse_period
from service.db.pools import Pools
from service.identity.dimensions import clean_value
from service.kit.clock import utc_now
from tests.api.budgets.conftest import MakeToken
from tests.drafts import a_draft
from tests.integration.budgets.conftest import Replica


async def _create(client: httpx.AsyncClient, **changed: Any) -> dict[str, Any]:
    body = {"slug": "b", "match": {}, "limit_usd": "10", "period": "1mo"} | changed
    answer = await client.post("/v1/budgets", json=body)
    assert answer.status_code == 201
    budget: dict[str, Any] = answer.json()
    return budget


async def _windows(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/budgets/b/windows", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.json()["next_cursor"] is None
    windows: list[dict[str, Any]] = answer.json()["windows"]
    return windows


async def test_a_shared_budget_shows_its_present_window_before_anything_was_spent(client: httpx.AsyncClient):
    await _create(client)
    present = window_of(parse_period("1mo"), utc_now())
    assert present.end is not None
    [window] = await _windows(client)
    assert window.pop("projected_spend_usd") in {"0", None}  # none yet at the beginning of a month
    assert window == (
        {
            "subject": {},
            "window": {
                "start": present.start.isoformat().replace("+00:00", "Z"),
                "end": present.end.isoformat().replace("+00:00", "Z"),
            },
            "is_present": True,
            "limit_usd": "10",
            "increases_usd": "0",
            "carried_in_usd": "0",
            "posted_usd": "0",
            "held_usd": "0",
            "available_usd": "10",
            "projected_exhaustion_at": None,
        }
    )


async def test_posted_and_held_are_taken_from_what_is_available(
    client: httpx.AsyncClient, replica: Replica, budget_tenant: str
):
    budget = await _create(client)
    present = window_of(parse_period("1mo"), utc_now())
    await replica.recorder.record([a_draft(budget_tenant, cost="9.5"), a_draft(budget_tenant, cost="1")])
    replica.holds.held = {(UUID(budget["budget_id"]), "{}", present.start): Decimal("0.25")}
    [window] = await _windows(client)
    assert (window["posted_usd"], window["held_usd"], window["available_usd"]) == ("10.5", "0.25", "-0.75")


async def test_holds_that_cannot_be_read_are_shown_as_nothing_and_said_so(client: httpx.AsyncClient, replica: Replica):
    await _create(client)
    assert (await client.get("/v1/budgets/b/windows")).json()["degraded"] is False
    replica.holds.held = None
    answer = (await client.get("/v1/budgets/b/windows")).json()
    assert (answer["degraded"], answer["windows"][0]["held_usd"]) == (True, "0")


async def test_past_windows_stay_readable(client: httpx.AsyncClient, replica: Replica, budget_tenant: str):
    await _create(client, period={"kind": "fixed", "length_seconds": 60})
    now = utc_now()
    for minutes in (0, 3, 5):
        draft = a_draft(budget_tenant, cost=f"0.{minutes + 1}", effective_at=now + timedelta(minutes=minutes))
        await replica.recorder.record([draft])
    later = {"from": (now + timedelta(minutes=1)).isoformat(), "to": (now + timedelta(minutes=4)).isoformat()}
    windows = await _windows(client, **later)
    assert [window["posted_usd"] for window in windows] == ["0.4"]
    everything = await _windows(client, to=(now + timedelta(minutes=9)).isoformat())
    assert [window["posted_usd"] for window in everything] == ["0.1", "0.4", "0.6"]
    starts = [window["window"]["start"] for window in everything]
    assert starts == sorted(starts)
    assert [window["is_present"] for window in everything][1:] == [False, False]


async def test_a_range_takes_the_windows_it_meets(client: httpx.AsyncClient):
    await _create(client)
    now = utc_now()
    moment = {"from": now.isoformat(), "to": (now + timedelta(microseconds=1)).isoformat()}
    assert len(await _windows(client, **moment)) == 1
    assert await _windows(client, **{"from": "2020-01-01", "to": "2020-02-01"}) == []


async def test_a_lifetime_has_one_window_without_an_end(
    client: httpx.AsyncClient, replica: Replica, budget_tenant: str
):
    await replica.recorder.record([a_draft(budget_tenant, cost="1", effective_at=datetime(2020, 1, 1, tzinfo=UTC))])
    await _create(client, period={"kind": "lifetime"})
    [window] = await _windows(client)
    assert (window["window"]["end"], window["posted_usd"], window["is_present"]) == (None, "1", True)


async def test_each_subject_has_its_counter(client: httpx.AsyncClient, replica: Replica, budget_tenant: str):
    await _create(client, match={"user": "*", "tag": "*"})
    await replica.recorder.record(
        [a_draft(budget_tenant, cost="1", user=user, tags=tags) for user, tags in (("u1", ("a", "b")), ("u2", ("a",)))]
    )
    assert [window["subject"] for window in await _windows(client)] == [
        {"tag": "a", "user": "u1"},
        {"tag": "a", "user": "u2"},
        {"tag": "b", "user": "u1"},
    ]
    [one] = await _windows(client, subject='{"user": "u2", "tag": "a"}')
    assert (one["subject"], one["posted_usd"]) == ({"tag": "a", "user": "u2"}, "1")


async def test_a_subject_nobody_has_heard_of_has_spent_nothing(client: httpx.AsyncClient):
    await _create(client, match={"user": "*"})
    assert await _windows(client) == []
    for subject in ("u9", '{"user":"u9"}'):
        [window] = await _windows(client, subject=subject)
        assert (window["subject"], window["available_usd"]) == ({"user": "u9"}, "10")


@pytest.mark.parametrize(
    ("dimension", "value", "asked"),
    [
        ("served_model", "openai/GPT-4o", "openai/GPT-4o"),
        ("served_model", "openai/GPT-4o", '{"served_model":"OpenAI/gpt-4o"}'),
        ("provider", "vertex_ai", "Vertex_AI"),
        ("user", "u1", " u1\u200b"),
        ("user", "u\x001", "u\x001"),
    ],
)
async def test_a_subject_is_read_as_the_values_of_calls_are(
    client: httpx.AsyncClient, replica: Replica, budget_tenant: str, dimension: str, value: str, asked: str
):
    await _create(client, match={dimension: "*"})
    await replica.recorder.record([a_draft(budget_tenant, cost="1", **{dimension: clean_value(dimension, value)})])
    [window] = await _windows(client, subject=asked)
    assert window["posted_usd"] == "1"


@pytest.mark.parametrize("subject", ["\x00", "\u200b", '{"user":"\\u0000"}'])
async def test_a_subject_with_nothing_to_see_in_it_is_refused_within_a_scope_too(
    client: httpx.AsyncClient, make_token: MakeToken, subject: str
):
    await _create(client, match={"user": "*"})
    for headers in ({}, await make_token(roles=("read",), scope={"user": ["u1"]})):
        answer = await client.get("/v1/budgets/b/windows", params={"subject": subject}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_subject")
    headers = await make_token(roles=("read",), scope={"user": ["u1"]})
    answer = await client.get("/v1/budgets/b/windows", params={"subject": "u\x001"}, headers=headers)
    assert (answer.status_code, answer.json()["windows"]) == (200, [])


@pytest.mark.parametrize("subject", ["u1", "{}", '{"team":"a"}', '{"user":1,"tag":"a"}', '{"user":"a"}', "[]", ""])
async def test_a_subject_names_what_the_budget_has_counters_for(client: httpx.AsyncClient, subject: str):
    await _create(client, match={"user": "*", "tag": "*"})
    answer = await client.get("/v1/budgets/b/windows", params={"subject": subject})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_subject")


async def test_counters_are_shown_page_by_page(client: httpx.AsyncClient, replica: Replica, budget_tenant: str):
    await _create(client, match={"user": "*"}, period={"kind": "fixed", "length_seconds": 60})
    now = utc_now()
    times = (now, now + timedelta(minutes=2))
    await replica.recorder.record(
        [a_draft(budget_tenant, user=f"u{n}", effective_at=at) for n in range(5) for at in times]
    )
    found, cursor = [], None
    while True:
        parameters = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/budgets/b/windows", params=parameters)).json()
        assert 1 <= len(page["windows"]) <= 3
        found += [(window["subject"]["user"], window["window"]["start"]) for window in page["windows"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(found) == 10
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    "query",
    [
        "?cursor=x",
        "?cursor=WzEsMiwzLDRd",
        "?limit=-1",
        "?from=yesterday",
        "?from=2026-01-02&to=2026-01-01",
        "?until=2026",
    ],
)
async def test_wrong_parameters_are_refused(client: httpx.AsyncClient, query: str):
    await _create(client)
    assert (await client.get(f"/v1/budgets/b/windows{query}")).status_code == 422


async def test_a_scope_narrows_the_counters(
    client: httpx.AsyncClient, make_token: MakeToken, replica: Replica, budget_tenant: str
):
    await _create(client, match={"team": "*", "user": "*"})
    await replica.recorder.record([a_draft(budget_tenant, team=team, user="u") for team in ("core", "edge", "other")])
    headers = await make_token(roles=("read",), scope={"team": ["core", "edge"]})
    shown = (await client.get("/v1/budgets/b/windows", headers=headers)).json()["windows"]
    assert [window["subject"]["team"] for window in shown] == ["core", "edge"]
    foreign = {"subject": '{"team":"other","user":"u"}'}
    assert (await client.get("/v1/budgets/b/windows", params=foreign, headers=headers)).json()["windows"] == []


async def test_windows_of_an_archived_budget_are_read_by_its_id(
    client: httpx.AsyncClient, replica: Replica, budget_tenant: str
):
    budget = await _create(client)
    await replica.recorder.record([a_draft(budget_tenant, cost="1")])
    await client.delete("/v1/budgets/b")
    await replica.recorder.record([a_draft(budget_tenant, cost="1")])
    windows = (await client.get(f"/v1/budgets/{budget['budget_id']}/windows")).json()["windows"]
    assert [window["posted_usd"] for window in windows] == ["1"]


async def _carry(
    pools: Pools, tenant_id: str, budget: dict[str, Any], usd: str, bucket: datetime, subject: str = "{}"
) -> None:
    async with pools.postgres.connection() as connection:
        await connection.execute(
            "INSERT INTO budget_carry (tenant_id, budget_id, subject, bucket, carried_usd, fixed_at)"
            " VALUES (%s, %s, %s, %s, %s, now())",
            (tenant_id, budget["budget_id"], subject, bucket, usd),
        )


async def test_the_limit_in_force_is_limit_increases_and_what_was_carried_in(
    client: httpx.AsyncClient, pools: Pools, replica: Replica, budget_tenant: str
):
    budget = await _create(client, period="1d", rollover={"cap_usd": "3"})
    day = window_of(parse_period("1d"), utc_now())
    await _carry(pools, budget_tenant, budget, "2.5", day.start)
    await replica.recorder.record([a_draft(budget_tenant, cost="1")])
    until = (utc_now() + timedelta(hours=1)).isoformat()
    await client.post("/v1/budgets/b/increases", json={"amount_usd": "5", "until": until, "reason": "x"})
    [window] = await _windows(client)
    shown = [window[name] for name in ("limit_usd", "increases_usd", "carried_in_usd", "available_usd")]
    assert shown == ["17.5", "5", "2.5", "16.5"]


async def test_closed_windows_show_what_was_carried_into_them_and_no_increase_of_now(
    client: httpx.AsyncClient, pools: Pools, replica: Replica, budget_tenant: str
):
    budget = await _create(client, period="1d", rollover={})
    tomorrow = window_of(parse_period("1d"), utc_now() + timedelta(days=1))
    await _carry(pools, budget_tenant, budget, "4", tomorrow.start)
    await replica.recorder.record([a_draft(budget_tenant, cost="1", effective_at=tomorrow.start)])
    until = (utc_now() + timedelta(hours=1)).isoformat()
    await client.post("/v1/budgets/b/increases", json={"amount_usd": "5", "until": until, "reason": "x"})
    [_, other] = await _windows(client, to=tomorrow.end.isoformat() if tomorrow.end else "")
    assert (other["is_present"], other["limit_usd"], other["increases_usd"]) == (False, "14", "0")
    assert (other["carried_in_usd"], other["posted_usd"]) == ("4", "1")
    assert (other["projected_spend_usd"], other["projected_exhaustion_at"]) == (None, None)


async def test_closed_windows_show_the_limit_they_closed_with(
    client: httpx.AsyncClient, pools: Pools, budget_tenant: str
):
    budget = await _create(client, period="1d", rollover={})
    day = window_of(parse_period("1d"), utc_now())
    for number in (-1, 0, 1):
        await _carry(pools, budget_tenant, budget, "6", day.start + timedelta(days=number))

    async def shown() -> list[list[str]]:
        windows = await _windows(client, to=(day.start + timedelta(days=2)).isoformat())
        return [[window[name] for name in ("limit_usd", "carried_in_usd", "available_usd")] for window in windows]

    assert await shown() == [["16", "6", "16"]] * 3
    await client.patch("/v1/budgets/b", json={"limit_usd": "5"})
    assert await shown() == [["16", "6", "16"], ["10", "5", "10"], ["10", "5", "10"]]
    body = {"match": {}, "period": "1d", "limit_usd": "20", "rollover": {"cap_usd": "2"}}
    assert (await client.put("/v1/budgets/b", json=body)).status_code == 200
    assert await shown() == [["16", "6", "16"], ["22", "2", "22"], ["22", "2", "22"]]


async def test_a_counter_that_only_carried_something_in_is_shown_in_its_window(
    client: httpx.AsyncClient, pools: Pools, replica: Replica, budget_tenant: str, make_token: MakeToken
):
    budget = await _create(client, match={"user": "*"}, period="1d", rollover={})
    day = window_of(parse_period("1d"), utc_now())
    for subject, usd, bucket in (
        ('{"user":"u1"}', "2.5", day.start),
        ('{"user":"u2"}', "1", day.start),
        ('{"user":"u3"}', "0", day.start),
        ('{"user":"u1"}', "4", day.start - timedelta(days=1)),
    ):
        await _carry(pools, budget_tenant, budget, usd, bucket, subject)
    await replica.recorder.record([a_draft(budget_tenant, cost="1", user="u2")])
    shown = [
        (window["subject"]["user"], window["is_present"], window["limit_usd"], window["posted_usd"])
        for window in await _windows(client)
    ]
    assert shown == [("u1", False, "14", "0"), ("u1", True, "12.5", "0"), ("u2", True, "11", "1")]
    [one] = await _windows(client, subject="u1", **{"from": utc_now().isoformat()})
    assert (one["limit_usd"], one["carried_in_usd"]) == ("12.5", "2.5")
    first = (await client.get("/v1/budgets/b/windows", params={"limit": "2"})).json()
    rest = (await client.get("/v1/budgets/b/windows", params={"cursor": first["next_cursor"]})).json()
    assert [window["limit_usd"] for window in first["windows"] + rest["windows"]] == ["14", "12.5", "11"]
    headers = await make_token(roles=("read",), scope={"user": ["u2"]})
    seen = (await client.get("/v1/budgets/b/windows", headers=headers)).json()["windows"]
    assert [window["subject"]["user"] for window in seen] == ["u2"]


async def test_what_was_carried_in_counts_no_more_without_roll_over(
    client: httpx.AsyncClient, pools: Pools, budget_tenant: str
):
    budget = await _create(client, match={"user": "*"}, period="1d", rollover={})
    day = window_of(parse_period("1d"), utc_now())
    await _carry(pools, budget_tenant, budget, "2.5", day.start, '{"user":"u1"}')
    assert [window["limit_usd"] for window in await _windows(client)] == ["12.5"]
    await client.patch("/v1/budgets/b", json={"rollover": None})
    assert await _windows(client) == []
    [window] = await _windows(client, subject="u1")
    assert (window["limit_usd"], window["carried_in_usd"]) == ("10", "0")


async def test_a_subject_is_given_once(client: httpx.AsyncClient):
    await _create(client, match={"user": "*"})
    answer = await client.get("/v1/budgets/b/windows?subject=a&subject=b")
    assert (answer.status_code, answer.json()["field"]) == (422, "subject")


async def test_the_pace_of_a_window_says_what_it_comes_to_and_when_it_is_spent(
    client: httpx.AsyncClient, replica: Replica, budget_tenant: str
):
    anchor = utc_now().replace(microsecond=0) - timedelta(days=5)
    await _create(client, period={"kind": "fixed", "length_seconds": 864_000, "anchor": anchor.isoformat()})
    await replica.recorder.record([a_draft(budget_tenant, cost="6")])
    [window] = await _windows(client)
    assert Decimal("11.9") < Decimal(window["projected_spend_usd"]) <= 12
    exhausted = datetime.fromisoformat(window["projected_exhaustion_at"])
    assert abs(exhausted - (anchor + timedelta(days=10) * 10 / 12)) < timedelta(hours=1)
    await client.patch("/v1/budgets/b", json={"limit_usd": "100"})
    assert (await _windows(client))[0]["projected_exhaustion_at"] is None


async def test_a_rolling_budget_shows_one_row_per_subject_with_all_its_buckets(
    client: httpx.AsyncClient, replica: Replica, budget_tenant: str
):
    period = {"kind": "rolling", "length_seconds": 3600}
    await _create(client, match={"user": "*"}, period=period)
    now = utc_now()
    present = shown_window(parse_period(period), now)
    ago = {"u1": (0, 10, 50, 70, 200), "u2": (55,), "u3": (300,)}
    await replica.recorder.record(
        [
            a_draft(budget_tenant, user=user, cost="1", effective_at=now - timedelta(minutes=minutes))
            for user, all_minutes in ago.items()
            for minutes in all_minutes
        ]
    )
    windows = await _windows(client)
    assert [(window["subject"]["user"], window["posted_usd"]) for window in windows] == [("u1", "3"), ("u2", "1")]
    assert {window["is_present"] for window in windows} == {True}
    start, end = (datetime.fromisoformat(windows[0]["window"][name]) for name in ("start", "end"))
    assert present.end is not None
    assert timedelta(0) <= start - present.start <= end - start
    assert timedelta(seconds=3600) <= end - start <= timedelta(seconds=3600 + 2 * 62)
    [unknown] = await _windows(client, subject="u3")
    assert (unknown["posted_usd"], unknown["available_usd"]) == ("0", "10")
    assert await _windows(client, **{"from": "2020-01-01", "to": "2020-02-01"}) == []
    first = (await client.get("/v1/budgets/b/windows", params={"limit": 1})).json()
    second = (await client.get("/v1/budgets/b/windows", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert [page["windows"][0]["subject"]["user"] for page in (first, second)] == ["u1", "u2"]
    assert second["next_cursor"] is None


async def test_what_a_rolling_counter_holds_is_taken_from_what_is_available(
    client: httpx.AsyncClient, replica: Replica
):
    budget = await _create(client, period={"kind": "rolling", "length_seconds": 3600})
    replica.holds.held = {(UUID(budget["budget_id"]), "{}", None): Decimal("0.5")}
    [window] = await _windows(client)
    assert (window["held_usd"], window["available_usd"]) == ("0.5", "9.5")
