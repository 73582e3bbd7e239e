"""Table of repricings that were applied. Storage only."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column
from sqlmodel import Field, SQLModel

from service.db import columns


class RepricingRecord(SQLModel, table=True):
    """One repricing: what was asked for, how far it is, what it changed."""

    __tablename__ = "repricing"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'done', 'failed')", name="repricing_state_is_known"),
        CheckConstraint("range_to > range_from", name="repricing_range_in_order"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    repricing_id: UUID = Field(primary_key=True)
    created_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
    created_by: str = Field(sa_column=columns.text())
    range_from: datetime = Field(sa_column=columns.timestamp())
    range_to: datetime = Field(sa_column=columns.timestamp())
    filter: dict[str, Any] = Field(sa_column=columns.jsonb(server_default="{}"))
    state: str = Field(sa_column=columns.text())
    examined: int = Field(sa_column=Column(BigInteger(), nullable=False, server_default="0"))
    changed: int = Field(sa_column=Column(BigInteger(), nullable=False, server_default="0"))
    # Where to go on after a crash: everything before (effective_at, charge_id) is done.
    reached_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    reached_charge_id: UUID | None = Field(default=None)
    result: dict[str, Any] | None = Field(default=None, sa_column=columns.jsonb(nullable=True))
    updated_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
    finished_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
