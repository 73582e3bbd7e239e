"""Table of the audit trail. Storage only."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from service.db import columns


class AuditEntry(SQLModel, table=True):
    """One administrative change, written in the transaction of the change itself; never changed."""

    __tablename__ = "audit_entry"
    __table_args__ = (Index("audit_entry_by_subject", "tenant_id", "subject_type", "subject_id", "entry_id"),)

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    entry_id: UUID = Field(primary_key=True)
    changed_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
    changed_by: str = Field(sa_column=columns.text())
    action: str = Field(sa_column=columns.text())
    subject_type: str = Field(sa_column=columns.text())
    subject_id: str = Field(sa_column=columns.text())
    before: dict[str, Any] | None = Field(default=None, sa_column=columns.jsonb(nullable=True))
    after: dict[str, Any] | None = Field(default=None, sa_column=columns.jsonb(nullable=True))
