"""What the auditor says when there is nothing to say, and of what it could not look at."""

import pytest
from click.testing import CliRunner

from service.drift import commands
from service.drift.service import NotCompared, TenantReport


async def _no_reports(_opener: object, _tenant_ids: tuple[str, ...]) -> list[TenantReport]:
    return []


def test_a_database_without_tenants_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_check", _no_reports)
    answer = CliRunner().invoke(commands.check_drift)
    assert (answer.exit_code, answer.output) == (0, "no tenants in this database: nothing to compare\n")


async def _one_unreadable(_opener: object, _tenant_ids: tuple[str, ...]) -> list[TenantReport | NotCompared]:
    sound = TenantReport(tenant_id="b", charges=5, counters=2, counters_in_redis=1, drifts=[])
    return [NotCompared(tenant_id="a", error="InvalidInput"), sound]


def test_a_tenant_that_cannot_be_compared_is_told_of_beside_the_others_and_is_no_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "_check", _one_unreadable)
    answer = CliRunner().invoke(commands.check_drift)
    assert answer.exit_code == 1
    assert answer.output == (
        "a: not compared, something of it cannot be read: InvalidInput\n"
        "b: 5 charges, 2 counters (1 in Redis), drift: 0\n"
    )
