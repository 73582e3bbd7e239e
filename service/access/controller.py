"""`/v1/tokens`, `/v1/tenants`, `/v1/settings`: the administration of one tenant, and of tenants by operators."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET

from service.access.guards import requires, requires_operator
from service.access.schemas import (
    CreatedTenant,
    CreatedToken,
    SettingsPatch,
    SettingsView,
    TenantList,
    TenantRequest,
    TokenList,
    TokenRequest,
    created_tenant,
    created_token,
    settings_view,
    tenant_view,
    token_view,
)
from service.access.service import SettingsService, TenantService, TokenService
from service.access.tokens import Caller
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.problems import problem_responses

_LIST_PROBLEMS = (400, 401, 403, 422, 503)
_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]


class TokenController(Controller):
    """Tokens of the caller's tenant."""

    path = "/v1/tokens"
    tags = ("access",)
    guards = (requires("admin"),)

    @post(
        operation_id="create_token",
        summary="Make a token; its text is shown in this answer only",
        responses=problem_responses(400, 401, 403, 422, 503),
    )
    async def create_token(
        self,
        data: JSONBody[TokenRequest],
        caller: NamedDependency[Caller],
        token_service: NamedDependency[TokenService],
    ) -> CreatedToken:
        """Make a token with no more rights than the one it is asked for with."""
        created = await token_service.create(caller.tenant_id, data.to_terms(), caller)
        return created_token(created.row, created.text)

    @get(operation_id="list_tokens", summary="List tokens, oldest first", responses=problem_responses(*_LIST_PROBLEMS))
    async def list_tokens(
        self,
        caller: NamedDependency[Caller],
        token_service: NamedDependency[TokenService],
        limit: _Limit = None,
        cursor: _Cursor = None,
        *,
        include_revoked: FromQuery[bool] = False,
    ) -> TokenList:
        """Return a page of tokens, without anything that could be used as one."""
        size = page_limit(limit)
        rows = await token_service.list_page(
            caller.tenant_id,
            include_revoked=include_revoked,
            after=None if cursor is None else _decode_token_position(cursor),
            limit=size + 1,
        )
        last = rows[size - 1] if len(rows) > size else None
        return TokenList(
            [token_view(row) for row in rows[:size]],
            None if last is None else encode_cursor([last.created_at.isoformat(), str(last.token_id)]),
        )

    @delete(
        "/{token_id:uuid}",
        operation_id="revoke_token",
        summary="Revoke a token, at once and for good",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def revoke_token(
        self, token_id: FromPath[UUID], caller: NamedDependency[Caller], token_service: NamedDependency[TokenService]
    ) -> None:
        """Revoke a token; doing so again changes nothing."""
        await token_service.revoke(caller.tenant_id, token_id, caller)


class TenantController(Controller):
    """Tenants, for operators."""

    path = "/v1/tenants"
    tags = ("access",)
    guards = (requires_operator,)

    @post(
        operation_id="create_tenant",
        summary="Create a tenant; its first admin token is shown in this answer only",
        responses=problem_responses(400, 401, 403, 409, 422, 503),
    )
    async def create_tenant(
        self,
        data: JSONBody[TenantRequest],
        caller: NamedDependency[Caller],
        tenant_service: NamedDependency[TenantService],
    ) -> CreatedTenant:
        """Create a tenant that shares nothing with any other."""
        tenant, token = await tenant_service.create(data.id, data.name, caller)
        return created_tenant(tenant, token.row.token_id, token.text)

    @get(operation_id="list_tenants", summary="List tenants by id", responses=problem_responses(*_LIST_PROBLEMS))
    async def list_tenants(
        self, tenant_service: NamedDependency[TenantService], limit: _Limit = None, cursor: _Cursor = None
    ) -> TenantList:
        """Return a page of tenants."""
        size = page_limit(limit)
        after = "" if cursor is None else _decode_tenant_position(cursor)
        rows = await tenant_service.list_page(after=after, limit=size + 1)
        next_cursor = encode_cursor([rows[size - 1].tenant_id]) if len(rows) > size else None
        return TenantList([tenant_view(row) for row in rows[:size]], next_cursor)


class SettingsController(Controller):
    """Settings of the caller's tenant."""

    path = "/v1/settings"
    tags = ("access",)
    guards = (requires("admin"),)

    @get(operation_id="get_settings", summary="Settings in force", responses=problem_responses(401, 403, 503))
    async def get_settings(
        self, caller: NamedDependency[Caller], settings_service: NamedDependency[SettingsService]
    ) -> SettingsView:
        """Return the settings with every default filled in."""
        return settings_view(await settings_service.get(caller.tenant_id))

    @patch(
        operation_id="change_settings",
        summary="Change settings; every server follows at once",
        responses=problem_responses(400, 401, 403, 422, 503),
    )
    async def change_settings(
        self,
        data: JSONBody[SettingsPatch],
        caller: NamedDependency[Caller],
        settings_service: NamedDependency[SettingsService],
    ) -> SettingsView:
        """Change what is named, leave the rest; null goes back to the default."""
        enforcement = None if data.enforcement is UNSET else data.enforcement
        changed = await settings_service.change(
            caller.tenant_id, enforcement=enforcement, changes=data.changes(), author=caller.author
        )
        return settings_view(changed)


def _decode_token_position(cursor: str) -> tuple[datetime, UUID]:
    created_at, token_id = decode_cursor(cursor, length=2)
    try:
        position = datetime.fromisoformat(created_at), UUID(token_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
    if position[0].utcoffset() != timedelta(0):
        raise invalid_cursor()
    return position


def _decode_tenant_position(cursor: str) -> str:
    (tenant_id,) = decode_cursor(cursor, length=1)
    if not isinstance(tenant_id, str) or "\x00" in tenant_id:
        raise invalid_cursor()
    return tenant_id
