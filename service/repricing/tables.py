"""Table of repricings, asked for and applied. Storage only."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index
from sqlmodel import Field, SQLModel

from service.db import columns


def _count() -> Any:
    return Field(default=0, sa_column=Column(BigInteger(), nullable=False, server_default="0"))


class RepricingRecord(SQLModel, table=True):
    """One repricing: what was asked for, who works on it until when, how far it is, what it comes to."""

    __tablename__ = "repricing"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'done', 'failed')", name="repricing_state_is_known"),
        CheckConstraint("range_to > range_from", name="repricing_range_in_order"),
        Index("repricing_one_at_a_time", "tenant_id", unique=True, postgresql_where="state = 'running'"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    repricing_id: UUID = Field(primary_key=True)
    created_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
    created_by: str = Field(sa_column=columns.text())
    # False = a preview: it writes nothing but this row.
    applies: bool = Field()
    range_from: datetime = Field(sa_column=columns.timestamp())
    range_to: datetime = Field(sa_column=columns.timestamp())
    filter: dict[str, Any] = Field(sa_column=columns.jsonb(server_default="{}"))
    state: str = Field(sa_column=columns.text())
    examined: int = _count()
    changed: int = _count()
    not_repriceable: int = _count()
    refused: int = _count()
    # Where to go on after a crash: everything up to and including (effective_at, charge_id) is done.
    reached_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    reached_charge_id: UUID | None = Field(default=None)
    # Whoever claimed it last; only their progress is taken. After `leased_until` anybody may claim it.
    runner_id: UUID | None = Field(default=None)
    leased_until: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    result: dict[str, Any] | None = Field(default=None, sa_column=columns.jsonb(nullable=True))
    failure: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    finished_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
