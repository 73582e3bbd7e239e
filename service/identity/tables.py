"""Tables of the alias registry and the key registry. Storage only."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from service.db import columns


class ModelAlias(SQLModel, table=True):
    """A declared name: `alias` means `model` for events that occurred in [effective_from, effective_to)."""

    __tablename__ = "model_alias"
    __table_args__ = (
        CheckConstraint("effective_to IS NULL OR effective_to > effective_from", name="model_alias_dates_in_order"),
        Index("model_alias_by_name", "tenant_id", "alias", "effective_from"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    alias_id: UUID = Field(primary_key=True)
    alias: str = Field(sa_column=columns.text())
    model: str = Field(sa_column=columns.text())
    effective_from: datetime = Field(sa_column=columns.timestamp())
    effective_to: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    created_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))


class KeyRecord(SQLModel, table=True):
    """Who a key belongs to: what operators declared, and beside it what recorded events taught."""

    __tablename__ = "key_record"

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    api_key: str = Field(sa_column=columns.text(primary_key=True))
    is_declared: bool = Field(default=False)
    team: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    user: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    organization: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    project: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    alias: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    blocked: bool = Field(default=False)
    learned_team: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    learned_user: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    learned_organization: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    learned_project: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    learned_alias: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    learned_from_occurred_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    changed_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
