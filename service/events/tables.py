"""Table of the quarantine: elements that were refused or contradict what is recorded. Declared fields only."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from service.db import columns


class QuarantinedEvent(SQLModel, table=True):
    """One element waiting for an operator: `rejected` (could not be taken) or `conflict` (same id, other content).

    `document` holds the declared fields of the element as JSON, never messages, response or headers; None when it
    could not even be decoded: then length, hash and error offset are all that is kept.
    """

    __tablename__ = "quarantined_event"
    __table_args__ = (
        CheckConstraint("kind IN ('rejected', 'conflict')", name="quarantine_kind_is_known"),
        Index("quarantined_event_by_digest", "tenant_id", "digest", unique=True),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    quarantine_id: UUID = Field(primary_key=True)
    kind: str = Field(sa_column=columns.text())
    received_at: datetime = Field(sa_column=columns.timestamp())
    source: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    event_id: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    code: str = Field(sa_column=columns.text())
    detail: str = Field(sa_column=columns.text())
    field: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    document: dict[str, Any] | None = Field(default=None, sa_column=columns.jsonb(nullable=True))
    length_bytes: int | None = Field(default=None)
    digest: str = Field(sa_column=columns.text())
    conflict_charge_id: UUID | None = Field(default=None)
