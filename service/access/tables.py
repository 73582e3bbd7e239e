"""Tables of tenants and access tokens. Storage only; wire shapes are elsewhere."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.db import columns


class Tenant(SQLModel, table=True):
    """One isolated customer of this installation; `config_version` rises with every change of its configuration."""

    __tablename__ = "tenant"
    __table_args__ = (
        CheckConstraint("tenant_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="tenant_id_fits_a_hash_tag"),
        CheckConstraint("enforcement IN ('enforce', 'shadow', 'off')", name="tenant_enforcement_is_known"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    name: str = Field(sa_column=columns.text())
    created_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
    enforcement: str = Field(default="enforce", sa_column=columns.text(server_default="enforce"))
    settings: dict[str, Any] = Field(default_factory=dict, sa_column=columns.jsonb(server_default="{}"))
    config_version: int = Field(default=1, sa_column=Column(BigInteger(), nullable=False, server_default="1"))


class AccessToken(SQLModel, table=True):
    """A bearer token, stored as the SHA-256 of its text."""

    __tablename__ = "access_token"
    __table_args__ = (
        UniqueConstraint("token_sha256", name="access_token_is_unique"),
        CheckConstraint(
            "roles <@ ARRAY['ingest', 'check', 'read', 'admin']::text[]", name="access_token_roles_are_known"
        ),
        Index(
            "access_token_bootstrap_is_one",
            "is_bootstrap",
            unique=True,
            postgresql_where="is_bootstrap AND revoked_at IS NULL",
        ),
        Index("access_token_by_tenant", "tenant_id", "created_at"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    token_id: UUID = Field(primary_key=True)
    token_sha256: str = Field(sa_column=columns.text())
    name: str = Field(sa_column=columns.text())
    roles: list[str] = Field(sa_column=columns.text_array())
    is_operator: bool = Field(default=False)
    is_bootstrap: bool = Field(default=False)
    scope: dict[str, Any] = Field(default_factory=dict, sa_column=columns.jsonb(server_default="{}"))
    pinned: dict[str, Any] = Field(default_factory=dict, sa_column=columns.jsonb(server_default="{}"))
    trusted_headers: list[str] = Field(default_factory=list, sa_column=columns.text_array())
    reserve: bool = Field(default=False)
    on_unresolved: str = Field(default="allow", sa_column=columns.text(server_default="allow"))
    created_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
    expires_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
