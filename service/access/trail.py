"""What of tokens, tenants and settings goes into the audit trail: nothing that could be used as a token."""

from typing import Any

import msgspec
from psycopg import AsyncConnection

from service.access.repository import TenantRow, TokenRow
from service.audit.repository import Document, record


def terms_of(token: TokenRow) -> dict[str, Any]:
    """Return what a token may do; its text and digest are in no row."""
    kept = ("name", "roles", "is_operator", "scope", "pinned", "trusted_headers", "reserve", "on_unresolved")
    return {name: getattr(token, name) for name in (*kept, "expires_at")}


def settings_of(tenant: TenantRow) -> dict[str, Any]:
    """Return what a tenant has set, with every default filled in."""
    return {"enforcement": tenant.enforcement, **msgspec.structs.asdict(tenant.settings)}


async def record_change(
    connection: AsyncConnection[Any],
    tenant_id: str,
    author: str,
    action: str,
    subject_id: object,
    before: Document | None,
    after: Document | None,
) -> None:
    """Enter a change of the thing that stands before the dot in the action."""
    await record(
        connection,
        tenant_id,
        changed_by=author,
        action=action,
        subject_type=action.partition(".")[0],
        subject_id=str(subject_id),
        before=before,
        after=after,
    )
