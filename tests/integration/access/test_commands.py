import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import click
import pytest
from click.testing import CliRunner, Result

from service.access.commands import OpenPool, tenants, tokens
from service.access.directory import CallerDirectory
from service.access.tokens import Caller, token_digest
from service.db import migrator
from service.db.pools import PostgresPool, make_postgres_pool
from service.errors import Unauthenticated
from service.settings import PostgresSettings

Run = Callable[..., Result]


@pytest.fixture
def open_pool(empty_database_url: str) -> OpenPool:
    migrator.upgrade(empty_database_url)

    @asynccontextmanager
    async def opened() -> AsyncIterator[PostgresPool]:
        async with make_postgres_pool(empty_database_url, PostgresSettings(pool_min_connections=1)) as pool:
            yield pool

    return opened


@pytest.fixture
def run(open_pool: OpenPool) -> Run:
    def invoke(group: click.Group, *arguments: str) -> Result:
        return CliRunner().invoke(group, arguments, obj=open_pool)

    return invoke


def caller_of(open_pool: OpenPool, text: str) -> Caller:
    async def ask() -> Caller:
        async with open_pool() as pool:
            return await CallerDirectory(pool).get_caller(token_digest(text))

    return asyncio.run(ask())


def test_the_first_operator_of_an_installation_is_made_on_the_command_line(run: Run, open_pool: OpenPool) -> None:
    made = run(tokens, "create", "--name", "me", "--role", "all", "--operator")
    assert made.exit_code == 0, made.output
    caller = caller_of(open_pool, made.stdout.strip())
    assert (caller.tenant_id, caller.name, caller.is_operator) == ("default", "me", True)
    assert caller.roles == {"ingest", "check", "read", "admin"}


def test_standard_output_holds_the_token_and_nothing_else(run: Run) -> None:
    made = run(tokens, "create", "--name", "gateway", "--role", "ingest")
    assert made.stdout.strip().startswith("tg_")
    assert len(made.stdout.split()) == 1
    assert made.stdout.strip() not in made.stderr


def test_every_bound_of_a_token_can_be_set(run: Run, open_pool: OpenPool) -> None:
    made = run(
        tokens,
        *("create", "--name", "eu", "--role", "check", "--role", "read", "--scope", "team=a", "--scope", "team=b=c"),
        *("--pin", "source=eu", "--pin", "organization=acme", "--trust-header", "x-tallygate-user", "--reserve"),
        *("--on-unresolved", "deny", "--expires-in-days", "30"),
    )
    assert made.exit_code == 0, made.output
    caller = caller_of(open_pool, made.stdout.strip())
    assert caller.scope == {"team": ["a", "b=c"]}
    assert (caller.source, caller.pinned) == ("eu", {"organization": "acme"})
    assert (caller.trusted_headers, caller.reserve, caller.on_unresolved) == ({"x-tallygate-user"}, True, "deny")
    assert caller.expires_at is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ("--name", "x", "--role", "emperor"),
        ("--name", "", "--role", "read"),
        ("--name", "x", "--role", "read", "--scope", "team"),
        ("--name", "x", "--role", "read", "--scope", "planet=mars"),
        ("--name", "x", "--role", "read", "--pin", "served_model=gpt"),
        ("--name", "x", "--role", "read", "--tenant", "nowhere"),
    ],
)
def test_what_cannot_be_made_is_said_and_nothing_is_printed(run: Run, arguments: tuple[str, ...]) -> None:
    refused = run(tokens, "create", *arguments)
    assert refused.exit_code != 0
    assert refused.stdout == ""
    assert "Error" in refused.stderr


def test_a_revoked_token_is_gone_from_the_list_and_from_the_gate(run: Run, open_pool: OpenPool) -> None:
    text = run(tokens, "create", "--name", "gateway", "--role", "ingest").stdout.strip()
    (listed,) = run(tokens, "list", "--json").stdout.splitlines()
    token_id = json.loads(listed)["id"]
    assert token_id in run(tokens, "list").stdout
    assert run(tokens, "revoke", token_id).exit_code == 0
    assert run(tokens, "list").stdout == ""
    assert "revoked" in run(tokens, "list", "--revoked").stdout
    with pytest.raises(Unauthenticated):
        caller_of(open_pool, text)


def test_lists_show_no_token_and_no_digest(run: Run) -> None:
    text = run(tokens, "create", "--name", "gateway", "--role", "ingest").stdout.strip()
    shown = run(tokens, "list").stdout + run(tokens, "list", "--json").stdout
    assert text not in shown
    assert token_digest(text) not in shown


def test_a_tenant_is_created_with_its_first_admin_token(run: Run, open_pool: OpenPool) -> None:
    made = run(tenants, "create", "acme", "--name", "Acme Inc.")
    caller = caller_of(open_pool, made.stdout.strip())
    assert (caller.tenant_id, caller.is_operator) == ("acme", False)
    assert "Acme Inc." in run(tenants, "list").stdout
    assert json.loads(run(tenants, "list", "--json").stdout)["id"] == "acme"
    again = run(tenants, "create", "acme")
    assert (again.exit_code, again.stdout) == (1, "")


def test_a_tenants_token_is_revoked_only_by_naming_the_tenant(run: Run) -> None:
    run(tenants, "create", "acme")
    token_id = json.loads(run(tokens, "list", "--tenant", "acme", "--json").stdout)["id"]
    assert run(tokens, "revoke", token_id).exit_code == 1
    assert run(tokens, "revoke", token_id, "--tenant", "acme").exit_code == 0
