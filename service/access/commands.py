"""`tallygate tokens …` and `tallygate tenants …`: the same administration, directly on the database.

The command line above these groups puts an `OpenPool` into `ctx.obj`. Whoever can reach the database may do anything
here, operators' tokens included; that is how the first token of an installation with external engines comes to be.
A new token goes to standard output, alone, everything else about it to standard error.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TypeVar, cast, get_args
from uuid import UUID

import click
import msgspec

from service.access import repository
from service.access.repository import DEFAULT_TENANT, TenantRow, TokenRow
from service.access.schemas import tenant_view, token_view
from service.access.service import NewToken, TenantService, TokenService
from service.access.tokens import PINNABLE, ROLES, TRUSTABLE_HEADERS, OnUnresolved, Role, TokenTerms
from service.db.pools import PostgresPool, connected
from service.errors import TallygateError
from service.identity.dimensions import DIMENSION_NAMES
from service.kit.clock import utc_now
from service.kit.pagination import MAX_PAGE

OpenPool = Callable[[], AbstractAsyncContextManager[PostgresPool]]

T = TypeVar("T")

_tenant_option = click.option(
    "--tenant", default=DEFAULT_TENANT, show_default=True, help="Tenant the token belongs to."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")


@click.group("tokens")
def tokens() -> None:
    """Make, list and revoke access tokens."""


@click.group("tenants")
def tenants() -> None:
    """Create and list tenants."""


@tokens.command("create")
@_tenant_option
@click.option("--name", required=True, help="What the token is for.")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice([*ROLES, "all"]), help="Repeatable.")
@click.option("--operator", "is_operator", is_flag=True, help="May create tenants.")
@click.option("--scope", "scope", multiple=True, metavar="DIMENSION=VALUE", help="Narrows what it reads. Repeatable.")
@click.option("--pin", "pins", multiple=True, metavar="NAME=VALUE", help="Overwrites what events say. Repeatable.")
@click.option("--trust-header", "trusted_headers", multiple=True, type=click.Choice(TRUSTABLE_HEADERS))
@click.option("--reserve", is_flag=True, help="Checks of gateway dialects place holds.")
@click.option("--on-unresolved", type=click.Choice(get_args(OnUnresolved)), default="allow", show_default=True)
@click.option("--expires-in-days", type=click.IntRange(1, 36_500), help="Without it the token has no end.")
@click.pass_obj
def create_token(
    open_pool: OpenPool,
    tenant: str,
    name: str,
    roles: tuple[str, ...],
    is_operator: bool,
    scope: tuple[str, ...],
    pins: tuple[str, ...],
    trusted_headers: tuple[str, ...],
    reserve: bool,
    on_unresolved: str,
    expires_in_days: int | None,
) -> None:
    """Make a token and print it, once."""
    terms = TokenTerms(
        name=name,
        roles=ROLES if "all" in roles else cast("tuple[Role, ...]", roles),
        is_operator=is_operator,
        scope=_lists(scope, DIMENSION_NAMES, "--scope"),
        pinned=dict(_pairs(pins, PINNABLE, "--pin")),
        trusted_headers=trusted_headers,
        reserve=reserve,
        on_unresolved=cast("OnUnresolved", on_unresolved),
        expires_at=None if expires_in_days is None else utc_now() + timedelta(days=expires_in_days),
    )
    _show_token(_run(open_pool, lambda pool: _create_token(pool, tenant, terms)))


@tokens.command("list")
@_tenant_option
@_json_option
@click.option("--revoked", "include_revoked", is_flag=True, help="Revoked ones, too.")
@click.pass_obj
def list_tokens(open_pool: OpenPool, tenant: str, as_json: bool, include_revoked: bool) -> None:
    """List tokens, oldest first, without their texts."""
    for row in _run(open_pool, lambda pool: _all_tokens(pool, tenant, include_revoked=include_revoked)):
        click.echo(msgspec.json.encode(token_view(row)) if as_json else _token_line(row))


@tokens.command("revoke")
@_tenant_option
@click.argument("token_id", type=click.UUID)
@click.pass_obj
def revoke_token(open_pool: OpenPool, tenant: str, token_id: UUID) -> None:
    """Revoke a token, at once and for good."""
    _run(open_pool, lambda pool: TokenService(pool).revoke(tenant, token_id, None))
    click.echo(f"revoked {token_id}", err=True)


@tenants.command("create")
@click.argument("tenant_id")
@click.option("--name", help="Name for people; the id by default.")
@click.pass_obj
def create_tenant(open_pool: OpenPool, tenant_id: str, name: str | None) -> None:
    """Create a tenant and print its first admin token, once."""
    tenant, token = _run(open_pool, lambda pool: TenantService(pool).create(tenant_id, name))
    click.echo(f"created tenant {tenant.tenant_id}", err=True)
    _show_token(token)


@tenants.command("list")
@_json_option
@click.pass_obj
def list_tenants(open_pool: OpenPool, as_json: bool) -> None:
    """List tenants by id."""
    for row in _run(open_pool, _all_tenants):
        click.echo(
            msgspec.json.encode(tenant_view(row)) if as_json else f"{row.tenant_id}  {row.enforcement}  {row.name}"
        )


def _run(open_pool: OpenPool, act: Callable[[PostgresPool], Awaitable[T]]) -> T:
    """Act on an opened pool; what was refused becomes the message the command ends with."""

    async def act_on_pool() -> T:
        async with open_pool() as pool:
            return await act(pool)

    try:
        return asyncio.run(act_on_pool())
    except TallygateError as error:
        raise click.ClickException(error.detail) from error


async def _create_token(pool: PostgresPool, tenant_id: str, terms: TokenTerms) -> NewToken:
    if tenant_id == DEFAULT_TENANT:
        # The first token may be made before the first start.
        async with connected(pool) as connection:
            await repository.insert_tenant(connection, DEFAULT_TENANT, DEFAULT_TENANT)
    return await TokenService(pool).create(tenant_id, terms, None)


async def _all_tokens(pool: PostgresPool, tenant_id: str, *, include_revoked: bool) -> list[TokenRow]:
    service, rows = TokenService(pool), list[TokenRow]()
    while True:
        after = (rows[-1].created_at, rows[-1].token_id) if rows else None
        page = await service.list_page(tenant_id, include_revoked=include_revoked, after=after, limit=MAX_PAGE)
        rows += page
        if len(page) < MAX_PAGE:
            return rows


async def _all_tenants(pool: PostgresPool) -> list[TenantRow]:
    service, rows = TenantService(pool), list[TenantRow]()
    while True:
        page = await service.list_page(after=rows[-1].tenant_id if rows else "", limit=MAX_PAGE)
        rows += page
        if len(page) < MAX_PAGE:
            return rows


def _pairs(texts: tuple[str, ...], names: tuple[str, ...], option: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or name not in names:
            raise click.BadParameter(f"expected NAME=VALUE with a name of {', '.join(names)}", param_hint=option)
        pairs.append((name, value))
    return pairs


def _lists(texts: tuple[str, ...], names: tuple[str, ...], option: str) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, value in _pairs(texts, names, option):
        lists.setdefault(name, []).append(value)
    return lists


def _show_token(created: NewToken) -> None:
    row = created.row
    click.echo(f"token {row.token_id} ({row.name}) of tenant {row.tenant_id}; it is shown only now:", err=True)
    click.echo(created.text)


def _token_line(row: TokenRow) -> str:
    is_over = row.expires_at is not None and row.expires_at <= utc_now()
    state = "revoked" if row.revoked_at is not None else "expired" if is_over else "live"
    end = "" if row.expires_at is None else f"  until {row.expires_at.isoformat()}"
    roles = ",".join([*row.roles, *(["operator"] if row.is_operator else [])])
    return f"{row.token_id}  {state}  {roles}  {row.name}{end}"
