"""A LiteLLM proxy imported beside a running server: windows, denials, repetition, order, hostile rows."""

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from service.errors import InvalidInput, StateConflict
from service.imports import source_queries
from service.imports.repository import importing, lock_key
from service.ledger.service import LedgerRecorder
from tests import litellm_proxy
from tests.api.checks.world import World
from tests.importing import Imported, run_import
from tests.litellm_source import LiteLLMDatabase, naive, next_day, token_of

_END_LOCK_HOLDER = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND (classid::bigint << 32) | objid::bigint = %s
"""


async def do_import(world: World, database: LiteLLMDatabase, **options: Any) -> Imported:
    options.setdefault("config", litellm_proxy.CONFIG)
    return await run_import(world.services.pools, world.tenant_id, database.url, **options)


async def posted(world: World, slug: str, **subject: str) -> str:
    """Return what the present window of a budget says was spent."""
    query = f"?subject={json.dumps(subject)}" if subject else ""
    answer = await world.call("GET", f"/v1/budgets/{slug}/windows{query}")
    [window] = [one for one in answer["windows"] if one["is_present"] and one["subject"] == subject]
    return str(window["posted_usd"])


async def count_rows(world: World, table: str) -> int:
    async with world.services.pools.postgres.connection() as connection:
        statement = f"SELECT count(*) FROM {table} WHERE tenant_id = %s"
        row = await (await connection.execute(statement, (world.tenant_id,))).fetchone()
    assert row is not None
    return int(row[0])


SAME_AS_LITELLM = [
    ("litellm-proxy", {}, "43.5"),
    ("litellm-organization-acme", {}, "40.5"),
    ("litellm-team-core", {}, "40.5"),
    ("litellm-team-core:window:1d", {}, "40.5"),
    ("litellm-project-apollo", {}, "30.25"),
    ("litellm-members-core", {"user": "ann"}, "30.25"),
    ("litellm-member-core:ben", {}, "10.25"),
    (f"litellm-key-{token_of('prod')}", {}, "30.25"),
    (f"litellm-key-{token_of('personal')}", {}, "3"),
    ("litellm-end-users", {"end_user": "customer-1"}, "3"),
    ("litellm-end-user-customer-2", {}, "20"),
    ("litellm-tag-batch", {}, "10.25"),
    ("litellm-access-group-small", {}, "43.5"),
    # What LiteLLM counts in its cache only is in its logs.
    ("litellm-team-core:model:claude", {}, "20"),
    ("litellm-user-ann:model:gpt-4.1-mini", {}, "3"),
    (f"litellm-key-{token_of('prod')}:model:gpt-4.1-mini", {}, "10.25"),
    ("litellm-agent-researcher:sessions", {"session": "s-1"}, "3"),
    ("litellm-provider-openai", {}, "23.5"),
    ("litellm-deployment-deployment-1", {}, "10.25"),
]


async def test_windows_of_every_kind_start_at_what_litellm_says(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    result = await do_import(world, database)
    assert {slug: await posted(world, slug, **subject) for slug, subject, _ in SAME_AS_LITELLM} == {
        slug: amount for slug, _, amount in SAME_AS_LITELLM
    }
    assert result.outcome.budgets == {"create": 21, "change": 0, "replace": 0, "prune": 0} | result.outcome.budgets
    assert await posted(world, "litellm-user-ann") == "3"  # personal keys only: what the limit applies to there
    assert not result.details("spend")


async def test_what_litellm_denies_is_denied_and_what_it_allows_is_allowed(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)

    async def denied_by(**dimensions: Any) -> list[str]:
        model = dimensions.pop("model", "gpt-4.1-mini")
        answer = await world.check(dimensions=dimensions, model=model)
        assert answer["allowed"] is (not answer["denied_by"])
        names = {budget["budget_id"]: budget["name"] for budget in answer["budgets"]}
        return sorted(names[budget_id] for budget_id in answer["denied_by"])

    # 30.25 of 31 and an increase of 4: a key in plain, as a gateway without the registry would send it.
    assert await denied_by(api_key="sk-prod") == []
    assert await denied_by(api_key="sk-personal") == ["LiteLLM: key personal"]
    # Ben has 10.25 of 90 of his own; the default of his team is raised for him.
    assert await denied_by(api_key="sk-ben") == []
    assert await denied_by(api_key="sk-ben", end_user="customer-2") == []
    assert await denied_by(api_key="sk-ben", agent="researcher", session="s-1") == [
        "LiteLLM: agent Researcher each session"
    ]
    database.execute('UPDATE "LiteLLM_TeamTable" SET max_budget = 40.5')
    await do_import(world, database)
    assert await denied_by(api_key="sk-ben") == ["LiteLLM: team Core"]


async def test_keys_know_whose_they_are_and_which_are_blocked(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)
    prod = await world.call("GET", f"/v1/keys/{token_of('prod')}")
    facts = {name: prod[name] for name in ("team", "user", "organization", "project", "alias", "blocked")}
    assert facts == {
        "team": "core", "user": "ann", "organization": "acme", "project": "apollo", "alias": "prod", "blocked": False,
    }  # fmt: skip
    blocked = {name: (await world.call("GET", f"/v1/keys/{token_of(name)}"))["blocked"] for name in ("stopped", "gone")}
    assert blocked == {"stopped": True, "gone": True}
    database.execute("UPDATE \"LiteLLM_TeamTable\" SET blocked = true WHERE team_id = 'core'")
    await do_import(world, database)
    assert (await world.call("GET", f"/v1/keys/{token_of('prod')}"))["blocked"]


async def test_importing_again_changes_nothing(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)
    charges, entries = await count_rows(world, "charge"), await count_rows(world, "audit_entry")
    again = await do_import(world, database)
    assert again.outcome.openings_recorded == 0
    assert not again.examination.due_keys
    assert {step.verb for step in again.examination.steps} == {"unchanged"}
    assert (await count_rows(world, "charge"), await count_rows(world, "audit_entry")) == (charges, entries)


async def test_a_dry_run_writes_nothing(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    found = await do_import(world, database, dry_run=True)
    assert len(found.examination.lines) == 21
    counts = [await count_rows(world, table) for table in ("charge", "budget", "key_record", "audit_entry")]
    assert counts == [0, 0, 0, 1]  # the token of the test


async def test_nothing_is_written_to_litellm(world: World, database: LiteLLMDatabase):
    """A snapshot that is read only refuses whatever would change it."""
    litellm_proxy.fill(database)
    database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'written to'; END $$;"
        'CREATE TRIGGER watch BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON "LiteLLM_SpendLogs"'
        " EXECUTE FUNCTION refuse()"
    )
    from service.imports.source_queries import open_source

    async with open_source(database.url) as source:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await source._connection.execute("CREATE TABLE written (a int)")
    await do_import(world, database)


async def test_a_later_import_takes_what_was_spent_since_and_nothing_twice(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)
    database.log(0.1, api_key=token_of("ben"), user="ben", team_id="core", organization_id="acme",
                 request_tags=["batch", "User-Agent: curl/8"])  # fmt: skip
    for table, where in (
        ("TeamTable", "true"), ("OrganizationTable", "true"), ("TagTable", "true"), ("BudgetWindowSpend", "true"),
        ("ModelAccessGroupBudgetTable", "true"), ("TeamMembership", "user_id = 'ben'"),
        ("UserTable", "user_id = 'litellm-proxy-budget'"),
    ):  # fmt: skip
        database.execute(f'UPDATE "LiteLLM_{table}" SET spend = spend + 0.1 WHERE {where}')
    later = await do_import(world, database)
    assert (later.outcome.openings_recorded, later.outcome.recorded_usd) == (1, Decimal("0.1"))
    assert await posted(world, "litellm-team-core") == "40.6"
    assert await posted(world, "litellm-tag-batch") == "10.35"
    assert not later.details("spend")


async def test_budgets_that_come_after_the_charges_know_them_too(world: World, database: LiteLLMDatabase):
    """Spend first (budgets of one team only), then everything: what was recorded is seeded, not recorded again."""
    litellm_proxy.fill(database)
    database.execute('CREATE TABLE kept AS SELECT * FROM "LiteLLM_OrganizationTable"')
    database.execute('DELETE FROM "LiteLLM_OrganizationTable"')
    await do_import(world, database)
    database.execute('INSERT INTO "LiteLLM_OrganizationTable" SELECT * FROM kept')
    second = await do_import(world, database)
    assert second.outcome.openings_recorded == 0
    assert await posted(world, "litellm-organization-acme") == "40.5"


async def test_without_spend_logs_budgets_start_at_the_sums_litellm_keeps(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    database.execute('DELETE FROM "LiteLLM_SpendLogs"')
    result = await do_import(world, database)
    without_logs = [one for one in SAME_AS_LITELLM if one[0] not in _IN_LOGS_ONLY]
    assert {slug: await posted(world, slug, **subject) for slug, subject, _ in without_logs} == {
        slug: amount for slug, _, amount in without_logs
    }
    [detail] = result.details("spend", "access group small")
    assert "LiteLLM says 43.5 USD, it starts at 0" in detail
    again = await do_import(world, database)
    assert again.outcome.openings_recorded == 0


_IN_LOGS_ONLY = {
    "litellm-access-group-small",
    "litellm-team-core:model:claude",
    "litellm-user-ann:model:gpt-4.1-mini",
    f"litellm-key-{token_of('prod')}:model:gpt-4.1-mini",
    "litellm-agent-researcher:sessions",
    "litellm-provider-openai",
    "litellm-deployment-deployment-1",
}


async def test_sums_beyond_the_logs_are_brought_up_narrow_ones_first(world: World, database: LiteLLMDatabase):
    """Logs of the first half of the month are pruned: the key says 12, its logs 2, its team's logs and members more."""
    database.team("core", max_budget=100.0, spend=20.0, budget_duration="30d")
    database.key("prod", team_id="core", max_budget=50.0, spend=12.0, budget_duration="30d")
    database.key("other", team_id="core")
    database.log(2.0, api_key=token_of("prod"), team_id="core")
    database.log(5.0, api_key=token_of("other"), team_id="core")
    result = await do_import(world, database, config=None)
    assert await posted(world, f"litellm-key-{token_of('prod')}") == "12"
    assert await posted(world, "litellm-team-core") == "20"
    assert [opening.amount_usd for opening in result.examination.residuals] == [Decimal(10), Decimal(3)]


async def test_events_that_are_recorded_already_are_not_counted_from_logs_again(
    world: World, database: LiteLLMDatabase
):
    """The callback was switched on before the import: logs count up to the first event, sums are left alone."""
    database.team("core", max_budget=100.0, spend=9.0, budget_duration="30d")
    database.log(4.0, team_id="core", at=database.now - timedelta(seconds=30))
    database.log(5.0, team_id="core", at=database.now)
    await world.post_event(cost="5", metadata={"user_api_key_team_id": "core"}, startTime=database.now.timestamp())
    result = await do_import(world, database, config=None)
    assert result.outcome.recorded_usd == Decimal(4)
    assert await posted(world, "litellm-team-core") == "9"
    [detail] = result.details("spend", "spend logs")
    assert "there the first event is recorded" in detail


async def test_since_leaves_out_what_was_spent_before(world: World, database: LiteLLMDatabase):
    database.team("core", max_budget=100.0, spend=9.0, budget_duration="30d")
    database.log(4.0, team_id="core", at=database.now - timedelta(seconds=30))
    database.log(5.0, team_id="core")
    await do_import(world, database, config=None, since=database.now - timedelta(seconds=10))
    assert await posted(world, "litellm-team-core") == "5"


async def test_without_spend_windows_start_at_zero(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    result = await do_import(world, database, takes_spend=False)
    assert result.outcome.openings_recorded == 0
    assert await posted(world, "litellm-team-core") == "0"


async def test_what_litellm_has_no_more_stays_until_it_is_pruned(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)
    await world.put_budget("house", match={"team": "core"}, limit_usd="5")
    database.execute('DELETE FROM "LiteLLM_TagTable"')
    kept = await do_import(world, database)
    assert kept.details("decision", "litellm-tag-batch") == [
        "LiteLLM does not have it any more: it stays; --prune archives it."
    ]
    assert (await world.call("GET", "/v1/budgets/litellm-tag-batch"))["state"] == "current"
    await do_import(world, database, prunes=True)
    await world.call("GET", "/v1/budgets/litellm-tag-batch", expect=404)
    assert (await world.call("GET", "/v1/budgets/house"))["state"] == "current"


async def test_a_database_that_is_no_litellm_is_refused(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)
    database.execute('ALTER TABLE "LiteLLM_TeamTable" RENAME TO teams')
    for prunes in (False, True):
        with pytest.raises(InvalidInput, match="LiteLLM_TeamTable") as refused:
            await do_import(world, database, prunes=prunes)
        assert refused.value.field == "--database-url"
    assert (await world.call("GET", "/v1/budgets/litellm-team-core"))["state"] == "current"


@pytest.mark.parametrize("config", [litellm_proxy.CONFIG, None])
async def test_an_empty_litellm_prunes_nothing(world: World, database: LiteLLMDatabase, config: str | None):
    litellm_proxy.fill(database)
    await do_import(world, database)
    for table in ("VerificationToken", "TeamTable", "UserTable", "BudgetTable"):
        database.execute(f'TRUNCATE "LiteLLM_{table}" CASCADE')
    with pytest.raises(InvalidInput, match="right one"):
        await do_import(world, database, prunes=True, config=config)
    assert (await world.call("GET", "/v1/budgets/litellm-team-core"))["state"] == "current"


async def test_what_cannot_be_read_is_not_pruned(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)
    database.execute('DROP TABLE "LiteLLM_TagTable"')
    with pytest.raises(InvalidInput, match="litellm-tag-batch"):
        await do_import(world, database, prunes=True)
    assert (await world.call("GET", "/v1/budgets/litellm-tag-batch"))["state"] == "current"


async def test_terms_litellm_has_nothing_like_stay_as_operators_set_them(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)
    changes = {"mode": "shadow", "on_unavailable": "deny"}
    await world.call("PATCH", "/v1/budgets/litellm-proxy", json=changes)
    database.execute('UPDATE "LiteLLM_TagTable" SET description = %s', "changed")
    await do_import(world, database, config=litellm_proxy.CONFIG.replace("max_budget: 1000", "max_budget: 2000"))
    budget = await world.call("GET", "/v1/budgets/litellm-proxy")
    assert (budget["mode"], budget["on_unavailable"], budget["limit_usd"]) == ("shadow", "deny", "2000")


async def test_increases_are_granted_once_and_ended_when_they_are_gone(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)
    key = f"litellm-key-{token_of('prod')}"
    answer = await world.call("GET", f"/v1/budgets/{key}/increases")
    assert [increase["amount_usd"] for increase in answer["increases"]] == ["4"]
    database.execute("UPDATE \"LiteLLM_VerificationToken\" SET metadata = '{}'")
    await do_import(world, database)
    assert (await world.call("GET", f"/v1/budgets/{key}/increases"))["increases"] == []


async def test_every_write_is_in_the_audit_trail(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    await do_import(world, database)
    async with world.services.pools.postgres.connection() as connection:
        cursor = await connection.execute(
            "SELECT action, count(*) FROM audit_entry WHERE tenant_id = %s AND changed_by = 'test' GROUP BY 1",
            (world.tenant_id,),
        )
        counts = dict(await cursor.fetchall())
    assert counts == {
        "budget.created": 21, "key.declared": 5, "budget_increase.granted": 4, "litellm.imported": 1,
    }  # fmt: skip


async def test_imports_of_one_tenant_wait_for_each_other(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    async with importing(world.services.pools.postgres, world.tenant_id):
        with pytest.raises(StateConflict):
            await do_import(world, database)
    results = await asyncio.gather(do_import(world, database), do_import(world, database), return_exceptions=True)
    assert not [one for one in results if isinstance(one, BaseException) and not isinstance(one, StateConflict)]
    assert await posted(world, "litellm-team-core") == "40.5"


async def test_an_import_that_lost_its_lock_records_nothing_more(
    world: World, database: LiteLLMDatabase, monkeypatch: pytest.MonkeyPatch
):
    litellm_proxy.fill(database)
    monkeypatch.setattr(source_queries, "_ROWS_AT_ONCE", 1)
    portions: list[int] = []
    record = LedgerRecorder.record

    async def record_and_lose_the_lock(recorder: LedgerRecorder, drafts: Any) -> Any:
        portions.append(len(drafts))
        async with world.services.pools.postgres.connection() as connection:
            await connection.execute(_END_LOCK_HOLDER, (lock_key(world.tenant_id),))
        return await record(recorder, drafts)

    monkeypatch.setattr(LedgerRecorder, "record", record_and_lose_the_lock)
    with pytest.raises(StateConflict) as refused:
        await do_import(world, database)
    assert refused.value.code == "import_lock_lost"
    assert 1 <= len(portions) <= 4
    monkeypatch.undo()
    whole = (await do_import(world, database, dry_run=True)).examination
    assert whole.logs is not None
    assert whole.logs.new_groups > 0
    await do_import(world, database)
    assert await posted(world, "litellm-team-core") == "40.5"


async def test_hostile_rows_are_told_of_and_the_rest_is_imported(world: World, database: LiteLLMDatabase):
    litellm_proxy.fill(database)
    nan, infinity = float("nan"), float("inf")
    database.team("nan", max_budget=nan, spend=nan, budget_duration="30d")
    database.team("infinite", max_budget=infinity, spend=1.0, budget_duration="30d")
    database.team("below", max_budget=-5.0, spend=-1.0, budget_duration="30d")
    database.team("huge", max_budget=1e300, spend=1.0)
    database.team("dear", max_budget=10.0, spend=1e300)
    database.team("*", max_budget=10.0, spend=1.0)
    database.team("  ", max_budget=10.0, spend=1.0)
    database.team("naïve ✓ '\"; DROP", max_budget=10.0, spend=1.0)
    database.team("long" * 200, max_budget=10.0, spend=1.0)
    database.team("sized", max_budget=10.0, spend=1.0, metadata={"a": "x" * 2_000_000},
                  model_max_budget={f"m{number}": {"x": "y" * 1000} for number in range(1500)})  # fmt: skip
    database.team("list", max_budget=10.0, spend=1.0, model_max_budget={"m": [], "n": "10", "o": {"max_budget": "x"}})
    database.team("days", max_budget=10.0, spend=1.0, budget_duration="48h")
    database.team("zero", max_budget=10.0, spend=1.0, budget_duration="0d")
    database.execute("UPDATE \"LiteLLM_TeamTable\" SET budget_reset_at = 'infinity' WHERE team_id = 'days'")
    for spend in (nan, infinity, -infinity, -3.0, 1e-320):
        database.log(spend, api_key=token_of("prod"), team_id="core")
    database.log(1.0, api_key="\x01\x02", team_id="⚙" * 400, request_tags=["*", "", "x" * 5000, "\u202e"])
    database.execute('UPDATE "LiteLLM_SpendLogs" SET request_tags = \'{"not": "a list"}\' WHERE team_id IS NULL')
    result = await do_import(world, database)
    assert result.outcome.openings_refused == 0
    assert await posted(world, "litellm-team-days") == "1"
    assert (await world.call("GET", "/v1/budgets/litellm-team-below"))["limit_usd"] == "0"
    logs = " ".join(result.details("source", "SpendLogs"))
    assert "2 rows have a negative spend" in logs
    assert "2 rows have a spend that is no amount" in logs
    assert "every midnight" in result.details("decision", "team days")[0]
    untaken = {remark.subject for remark in result.examination.remarks if remark.topic == "not_taken"}
    assert {"team nan", "team infinite", "team huge", "team *", "team   ", "team zero"} <= untaken
    assert (await do_import(world, database)).outcome.openings_recorded == 0


async def test_another_version_of_litellm_is_imported_as_far_as_it_goes(world: World, database: LiteLLMDatabase):
    """Tables and columns that are not there are told of; times with an offset are taken, too."""
    litellm_proxy.fill(database)
    for table in ("ProjectTable", "AgentsTable", "BudgetWindowSpend", "ModelAccessGroupBudgetTable", "Config"):
        database.execute(f'DROP TABLE "LiteLLM_{table}"')
    for column in ("budget_limits", "project_id", "metadata"):
        database.execute(f'ALTER TABLE "LiteLLM_VerificationToken" DROP COLUMN {column}')
    database.execute('ALTER TABLE "LiteLLM_SpendLogs" DROP COLUMN agent_id, DROP COLUMN request_tags')
    database.execute(
        'ALTER TABLE "LiteLLM_SpendLogs" ALTER "startTime" TYPE timestamptz USING "startTime" AT TIME ZONE \'UTC\''
    )
    result = await do_import(world, database)
    assert await posted(world, "litellm-team-core") == "40.5"
    missing = {remark.subject for remark in result.examination.remarks if remark.topic == "source"}
    assert {"table LiteLLM_ProjectTable", "column LiteLLM_VerificationToken.budget_limits"} <= missing


async def test_a_reset_that_is_overdue_says_nothing_of_the_present_window(world: World, database: LiteLLMDatabase):
    yesterday = naive(next_day(database.now) - timedelta(days=1))
    database.team("core", max_budget=100.0, spend=60.0, budget_duration="1d", budget_reset_at=yesterday)
    result = await do_import(world, database, config=None)
    assert await posted(world, "litellm-team-core") == "0"
    assert "its reset is overdue" in result.details("spend", "team core")[0]


async def test_limits_and_windows_follow_the_proxy_when_it_changes_them(world: World, database: LiteLLMDatabase):
    database.team("core", max_budget=100.0, spend=6.0, budget_duration="30d")
    await do_import(world, database, config=None)
    database.execute(
        "UPDATE \"LiteLLM_TeamTable\" SET max_budget = 7, budget_duration = '1d', budget_reset_at = %s",
        naive(next_day(database.now)),
    )
    await do_import(world, database, config=None)
    budget = await world.call("GET", "/v1/budgets/litellm-team-core")
    assert (budget["limit_usd"], budget["period"]["unit"]) == ("7", "day")
