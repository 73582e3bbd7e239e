"""`tallygate budgets apply` and `export` on a real database."""

import asyncio
import json
from collections import Counter
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.audit.repository import AuditFilter
from service.audit.service import AuditTrail
from service.budgets import apply as applying
from service.budgets.budget import Budget, BudgetDraft
from service.budgets.commands import budgets_command
from service.budgets.increase_schemas import IncreaseRequest
from service.budgets.increase_service import IncreaseService
from service.budgets.repository import load_budgets
from service.config.service import ConfigStore
from service.db.pools import Pools, open_pools
from service.errors import InvalidInput, NotFound
from service.kit.clock import utc_now
from service.kit.money import AmountText
from service.settings import Settings
from tests.budget_builders import a_budget_draft
from tests.drafts import a_draft
from tests.integration.budgets.conftest import NotingFence, Replica, posted

FILE = """
budgets:
- {slug: core, match: {team: core}, limit_usd: 100.10, period: 1mo}
- {slug: users, match: {user: "*"}, limit_usd: 5, period: 1d, mode: shadow}
"""


class _Opener:
    """The engines of this test session, opened for a command."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def pools(self) -> AbstractAsyncContextManager[Pools]:
        return open_pools(self._settings)


class Shell:
    """Runs the command for one tenant."""

    def __init__(self, settings: Settings, tenant_id: str, directory: Path) -> None:
        self._settings = settings
        self._tenant_id = tenant_id
        self.file = directory / "budgets.yaml"
        self.fence = NotingFence()

    async def run(self, *words: str, text: str | None = None, code: int = 0) -> Result:
        command = budgets_command(lambda pools: ConfigStore(pools.postgres, self.fence))
        words = (*words, "--tenant", self._tenant_id)
        ended = await asyncio.to_thread(CliRunner().invoke, command, words, obj=_Opener(self._settings), input=text)
        assert ended.exit_code == code, (ended.output, ended.exception)
        return ended

    async def apply(self, text: str, *options: str, code: int = 0) -> str:
        self.file.write_text(text)
        return (await self.run("apply", str(self.file), *options, code=code)).output


@pytest.fixture
def shell(settings: Settings, budget_tenant: str, tmp_path: Path) -> Shell:
    return Shell(settings, budget_tenant, tmp_path)


async def _live(pools: Pools, tenant_id: str) -> dict[str, Budget]:
    async with pools.postgres.connection() as connection, connection.transaction():
        return {budget.slug: budget for budget in await load_budgets(connection, tenant_id)}


async def _trail(pools: Pools, tenant_id: str) -> list[Any]:
    trail = AuditTrail(pools.postgres)
    return await trail.list_page(tenant_id, AuditFilter(subject_type="budget"), before_entry=None, limit=1000)


async def test_a_file_is_applied_once_and_then_changes_nothing(shell: Shell, pools: Pools, budget_tenant: str):
    output = await shell.apply(FILE)
    assert "2 created" in output
    live = await _live(pools, budget_tenant)
    assert live["core"].limit_usd == Decimal("100.10")
    assert live["users"].mode == "shadow"
    again = await shell.apply(FILE)
    assert "nothing to do" in again
    assert await _live(pools, budget_tenant) == live
    assert len(await _trail(pools, budget_tenant)) == 2


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(shell: Shell, pools: Pools, budget_tenant: str):
    await shell.apply(FILE)
    before = await _live(pools, budget_tenant)
    other = """
budgets:
- {slug: core, match: {team: core}, limit_usd: 90, period: 1mo, thresholds: [0.8]}
- {slug: users, match: {user: "*"}, limit_usd: 5, period: 1w, mode: shadow}
- {slug: new, match: {}, limit_usd: 1, period: 1d}
"""
    output = await shell.apply(other, "--dry-run")
    assert '~ change   core\n    limit_usd: "100.1" -> "90"\n    thresholds: [] -> ["0.8"]\n' in output
    assert "± replace  users\n    period: " in output
    assert "+ create   new  {}, 1 USD. Calendar days from midnight in UTC.\n" in output
    assert "1 create, 1 change, 1 replace, 0 prune, 0 unchanged" in output
    assert await _live(pools, budget_tenant) == before


async def test_exit_codes_tell_a_pipeline_what_is_the_case(shell: Shell):
    await shell.apply(FILE, "--dry-run")
    await shell.apply(FILE, "--dry-run", "--exit-code", code=3)
    await shell.apply(FILE)
    await shell.apply(FILE, "--dry-run", "--exit-code", code=0)
    await shell.apply(FILE, "--exit-code", code=2)
    await shell.apply("budgets: [{}]", "--dry-run", code=1)
    await shell.run("apply", str(shell.file.parent / "missing.yaml"), code=1)


async def test_of_a_file_with_a_mistake_nothing_is_written(shell: Shell, pools: Pools, budget_tenant: str):
    output = await shell.apply(FILE + "- {slug: bad, match: {}, limit_usd: .nan, period: 1d}\n", code=1)
    assert "budgets[2].limit_usd (bad)" in output
    assert "nothing was changed" in output
    assert await _live(pools, budget_tenant) == {}


async def test_change_replace_and_prune_keep_what_was_and_are_in_the_audit_trail(
    shell: Shell, pools: Pools, budget_tenant: str
):
    await shell.apply(FILE + "- {slug: gone, match: {}, limit_usd: 7, period: 1d}\n")
    before = await _live(pools, budget_tenant)
    output = await shell.apply(
        "budgets:\n- {slug: core, match: {team: core}, limit_usd: 0.1, period: 1mo}\n"
        '- {slug: users, match: {user: "*"}, limit_usd: 5, period: 1w, mode: shadow}\n',
        "--prune",
    )
    assert "1 changed, 1 replaced, 1 pruned" in output
    after = await _live(pools, budget_tenant)
    assert sorted(after) == ["core", "users"]
    assert after["core"].budget_id == before["core"].budget_id
    assert after["core"].limit_usd == Decimal("0.1")
    assert after["users"].budget_id != before["users"].budget_id
    entries = [entry for entry in await _trail(pools, budget_tenant) if entry.changed_at > before["gone"].created_at]
    told = {
        (entry.action, (entry.after or entry.before)["slug"])
        for entry in entries
        if entry.subject_id not in {str(b.budget_id) for b in before.values()} or entry.action != "budget.created"
    }
    assert told == {
        ("budget.changed", "core"),
        ("budget.archived", "users"),
        ("budget.created", "users"),
        ("budget.archived", "gone"),
    }
    assert {entry.changed_by for entry in entries} == {"command line"}
    (changed,) = [entry for entry in entries if entry.action == "budget.changed"]
    assert (changed.before["limit_usd"], changed.after["limit_usd"]) == ("100.10", "0.1")


async def test_without_prune_and_outside_of_the_prefix_budgets_are_left_alone(
    shell: Shell, pools: Pools, budget_tenant: str
):
    await shell.apply(
        "budgets:\n"
        + "".join(f"- {{slug: {s}, match: {{}}, limit_usd: 1, period: 1d}}\n" for s in ("a-1", "a-2", "b-1"))
    )
    await shell.apply("budgets: [{slug: a-1, match: {}, limit_usd: 2, period: 1d}]")
    assert sorted(await _live(pools, budget_tenant)) == ["a-1", "a-2", "b-1"]
    await shell.apply("budgets: [{slug: a-1, match: {}, limit_usd: 2, period: 1d}]", "--prune", "--slug-prefix", "a-")
    assert sorted(await _live(pools, budget_tenant)) == ["a-1", "b-1"]
    await shell.apply("budgets: [{slug: b-9, match: {}, limit_usd: 2, period: 1d}]", "--slug-prefix", "a-", code=1)
    await shell.apply("budgets: []", "--prune", code=1)
    assert sorted(await _live(pools, budget_tenant)) == ["a-1", "b-1"]
    await shell.apply("budgets: []", "--prune", "--slug-prefix", "a-")
    assert sorted(await _live(pools, budget_tenant)) == ["b-1"]


@pytest.mark.parametrize("how", ["file", "stdin"])
async def test_what_no_database_takes_is_refused_by_the_dry_run_too(shell: Shell, how: str):
    entry = {"slug": "a", "name": "\ud800", "match": {}, "limit_usd": "1", "period": "1d"}
    text = json.dumps({"budgets": [entry]})
    file = shell.file.with_suffix(".json")
    file.write_text(text)
    source = (str(file), None) if how == "file" else ("-", text)
    for options in (("--dry-run",), ()):
        ended = await shell.run("apply", source[0], *options, text=source[1], code=1)
        assert "budgets[0] (a): '\\ud800' is no text" in ended.output


async def test_an_applied_budget_counts_what_its_window_has_seen(
    shell: Shell, replica: Replica, pools: Pools, budget_tenant: str
):
    await replica.recorder.record([a_draft(budget_tenant, cost="0.25", user=f"u{n}") for n in range(3)])
    await shell.apply(FILE)
    await replica.seed_all()
    live = await _live(pools, budget_tenant)
    assert {budget.state for budget in live.values()} == {"current"}
    assert await posted(pools, live["core"].budget_id) == {"{}": Decimal("0.75")}
    assert len(await posted(pools, live["users"].budget_id)) == 3


async def test_other_servers_are_told(shell: Shell, pools: Pools, budget_tenant: str):
    await shell.apply(FILE)
    live = await _live(pools, budget_tenant)
    assert shell.fence.versions == {budget_tenant: live["core"].config_version}


async def test_large_files_are_applied_in_portions_each_of_them_whole(
    shell: Shell, pools: Pools, budget_tenant: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(applying, "PORTION", 10)
    entries = [
        {"slug": f"k{n}", "match": {"api_key": f"{n:064x}"}, "limit_usd": "1", "period": "1d"} for n in range(25)
    ]
    shell.file = shell.file.with_suffix(".json")
    assert "25 created" in await shell.apply(json.dumps({"budgets": entries}))
    live = await _live(pools, budget_tenant)
    assert len(live) == 25
    assert sorted(Counter(budget.config_version for budget in live.values()).values()) == [5, 10, 10]


async def test_what_somebody_else_did_since_the_plan_is_seen_when_it_is_applied(
    replica: Replica, pools: Pools, budget_tenant: str
):
    applier = applying.BudgetApplier(pools.postgres, replica.configs)
    drafts = [_draft("a", "1"), _draft("b", "1"), _draft("c", "1")]
    order = applying.ApplyOrder(tenant_id=budget_tenant, drafts=drafts, author="test")
    steps = await applier.plan(order)
    await replica.service.create(budget_tenant, _draft("a", "1"), wait_seconds=0)
    await replica.service.create(budget_tenant, _draft("b", "2"), wait_seconds=0)
    taken = await applier.apply(order, steps)
    assert [(step.verb, step.slug) for step in taken] == [("change", "b"), ("create", "c")]
    assert {slug: budget.limit_usd for slug, budget in (await _live(pools, budget_tenant)).items()} == dict.fromkeys(
        "abc", Decimal(1)
    )


async def test_an_export_is_a_file_that_changes_nothing(shell: Shell):
    await shell.apply(FILE)
    for options, suffix in (((), ".yaml"), (("--json",), ".json")):
        text = (await shell.run("export", *options)).stdout
        shell.file = shell.file.with_suffix(suffix)
        assert "nothing to do" in await shell.apply(text, "--prune")
    assert (await shell.run("export", "--slug-prefix", "co")).stdout.count("slug:") == 1


async def test_standard_input_is_a_file_too(shell: Shell):
    assert "2 created" in (await shell.run("apply", "-", text=FILE)).output
    assert "0 create" in (await shell.run("apply", "-", text='{"budgets": []}')).output


async def test_a_tenant_that_does_not_exist_is_refused(settings: Settings, tenant_id: str, tmp_path: Path):
    shell = Shell(settings, tenant_id, tmp_path)
    shell.file.write_text(FILE)
    ended = await shell.run("apply", str(shell.file), code=1)
    assert isinstance(ended.exception, NotFound)


def _draft(slug: str, limit: str) -> BudgetDraft:
    return a_budget_draft(slug, {"team": slug}, limit_usd=Decimal(limit))


async def test_a_limit_that_is_too_high_with_increases_is_refused_and_nothing_is_written(
    shell: Shell, pools: Pools, budget_tenant: str
):
    await shell.apply(FILE)
    increases = IncreaseService(pools.postgres, ConfigStore(pools.postgres, NotingFence()))
    until = (utc_now() + timedelta(hours=1)).isoformat()
    request = IncreaseRequest(amount_usd=AmountText("5"), until=until, reason="x")
    await increases.grant(budget_tenant, "users", request, author="a test")
    text = FILE.replace("100.10", "200").replace("limit_usd: 5", "limit_usd: 8999999996")
    shell.file.write_text(text)
    refused = await shell.run("apply", str(shell.file), code=1)
    assert isinstance(refused.exception, InvalidInput)
    assert "'users'" in str(refused.exception)
    assert {slug: budget.limit_usd for slug, budget in (await _live(pools, budget_tenant)).items()} == {
        "core": Decimal("100.10"),
        "users": Decimal(5),
    }
    await shell.apply(text.replace("8999999996", "8999999995"))
    assert (await _live(pools, budget_tenant))["users"].limit_usd == Decimal(8999999995)
