"""Wire shapes of tokens, tenants and settings. A token's text is in one answer only: the one that made it."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.access.repository import TenantRow, TokenRow
from service.access.settings import SETTING_NAMES, DenyDetail, DenyStatus, Enforcement
from service.access.tokens import OnUnresolved, Role, TokenTerms
from service.kit.money import format_amount

AwareTime = Annotated[datetime, Meta(tz=True)]


class TokenRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A token to be made; what it may hold is said in `access.tokens`."""

    name: str
    roles: list[Role]
    scope: dict[str, list[str]] | None = None
    pinned: dict[str, str] | None = None
    trusted_headers: list[str] | None = None
    reserve: bool = False
    on_unresolved: OnUnresolved = "allow"
    expires_at: AwareTime | None = None

    def to_terms(self) -> TokenTerms:
        """Return the terms of the token."""
        return TokenTerms(
            name=self.name,
            roles=tuple(self.roles),
            scope=self.scope or {},
            pinned=self.pinned or {},
            trusted_headers=tuple(self.trusted_headers or ()),
            reserve=self.reserve,
            on_unresolved=self.on_unresolved,
            expires_at=self.expires_at,
        )


class TokenView(msgspec.Struct, kw_only=True):
    """A token as everybody who administers the tenant may see it: neither its text nor its digest."""

    id: UUID
    name: str
    roles: list[str]
    is_operator: bool
    is_bootstrap: bool
    scope: dict[str, list[str]]
    pinned: dict[str, str]
    trusted_headers: list[str]
    reserve: bool
    on_unresolved: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class CreatedToken(TokenView, kw_only=True):
    """The answer to the request that made a token; `token` is never shown again."""

    token: str


class TokenList(msgspec.Struct):
    """A page of tokens."""

    tokens: list[TokenView]
    next_cursor: str | None


class TenantRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A tenant to be created; `name` defaults to the id."""

    id: str
    name: str | None = None


class TenantView(msgspec.Struct, kw_only=True):
    """A tenant."""

    id: str
    name: str
    created_at: datetime
    enforcement: str


class CreatedTenant(TenantView, kw_only=True):
    """The answer to the request that created a tenant, with its first admin token, which is never shown again."""

    token_id: UUID
    token: str


class TenantList(msgspec.Struct):
    """A page of tenants."""

    tenants: list[TenantView]
    next_cursor: str | None


class SettingsView(msgspec.Struct, kw_only=True):
    """The settings in force; rates in USD per million tokens."""

    enforcement: str
    fallback_input_usd_per_million: str
    fallback_output_usd_per_million: str
    deny_status: DenyStatus
    deny_detail: DenyDetail
    trust_gateway_custom_prices: bool
    config_version: int


class SettingsPatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Settings to change; what is left out stays, null goes back to the default."""

    enforcement: Enforcement | UnsetType = UNSET
    fallback_input_usd_per_million: str | UnsetType | None = UNSET
    fallback_output_usd_per_million: str | UnsetType | None = UNSET
    deny_status: DenyStatus | UnsetType | None = UNSET
    deny_detail: DenyDetail | UnsetType | None = UNSET
    trust_gateway_custom_prices: bool | UnsetType | None = UNSET

    def changes(self) -> dict[str, Any]:
        """Return the settings named in the request, without the enforcement switch."""
        named = {name: getattr(self, name) for name in SETTING_NAMES}
        return {name: value for name, value in named.items() if value is not UNSET}


def token_view(row: TokenRow) -> TokenView:
    """Return the wire shape of a stored token."""
    return TokenView(**_token_members(row))


def created_token(row: TokenRow, token: str) -> CreatedToken:
    """Return the wire shape of a new token with its text."""
    return CreatedToken(**_token_members(row), token=token)


def tenant_view(row: TenantRow) -> TenantView:
    """Return the wire shape of a tenant."""
    return TenantView(id=row.tenant_id, name=row.name, created_at=row.created_at, enforcement=row.enforcement)


def created_tenant(row: TenantRow, token_id: UUID, token: str) -> CreatedTenant:
    """Return the wire shape of a new tenant with the text of its first token."""
    return CreatedTenant(
        id=row.tenant_id,
        name=row.name,
        created_at=row.created_at,
        enforcement=row.enforcement,
        token_id=token_id,
        token=token,
    )


def settings_view(row: TenantRow) -> SettingsView:
    """Return the wire shape of a tenant's settings."""
    settings = row.settings
    return SettingsView(
        enforcement=row.enforcement,
        fallback_input_usd_per_million=format_amount(settings.fallback_input_usd_per_million),
        fallback_output_usd_per_million=format_amount(settings.fallback_output_usd_per_million),
        deny_status=settings.deny_status,
        deny_detail=settings.deny_detail,
        trust_gateway_custom_prices=settings.trust_gateway_custom_prices,
        config_version=row.config_version,
    )


def _token_members(row: TokenRow) -> dict[str, Any]:
    members = msgspec.structs.asdict(row)
    del members["tenant_id"]
    return {"id": members.pop("token_id"), **members}
