"""What the auditor says when there is nothing to say."""

import pytest
from click.testing import CliRunner

from service.drift import commands
from service.drift.service import TenantReport


async def _no_reports(_opener: object, _tenant_ids: tuple[str, ...]) -> list[TenantReport]:
    return []


def test_a_database_without_tenants_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_check", _no_reports)
    answer = CliRunner().invoke(commands.check_drift)
    assert (answer.exit_code, answer.output) == (0, "no tenants in this database: nothing to compare\n")
