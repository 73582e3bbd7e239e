"""Tables of prices: immutable, effective-dated versions of imported cost maps; a tenant's rules. Storage only."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary
from sqlmodel import Field, SQLModel

from service.db import columns


class PriceBookVersion(SQLModel, table=True):
    """One imported cost map in compact form; never changed after insertion. The same
    prices may come into force again later.

    tenant_id "" = the book of the whole installation; an event is priced by the version in force at its occurred_at.
    """

    __tablename__ = "price_book_version"

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    version: str = Field(sa_column=columns.text(primary_key=True))
    effective_from: datetime = Field(sa_column=columns.timestamp(primary_key=True))
    imported_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
    imported_by: str = Field(sa_column=columns.text())
    origin: str = Field(sa_column=columns.text())
    # The import report: how many models, which price-relevant keys are understood and which are not.
    report: dict[str, Any] = Field(sa_column=columns.jsonb(server_default="{}"))
    snapshot_gzip: bytes = Field(sa_column=Column(LargeBinary(), nullable=False))


class PriceRule(SQLModel, table=True):
    """A tenant's own rule (override of rates, fee, discount or markup) for calls in [effective_from, effective_to).

    `terms` is what the kind of rule needs; a deleted rule stays as evidence and is never applied again.
    """

    __tablename__ = "price_rule"
    __table_args__ = (
        CheckConstraint("kind IN ('override', 'fee', 'discount')", name="price_rule_kind_is_known"),
        CheckConstraint("effective_to IS NULL OR effective_to > effective_from", name="price_rule_dates_in_order"),
        Index("price_rule_in_use", "tenant_id", "rule_id", postgresql_where="deleted_at IS NULL"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    rule_id: UUID = Field(primary_key=True)
    kind: str = Field(sa_column=columns.text())
    name: str = Field(sa_column=columns.text())
    match: dict[str, Any] = Field(sa_column=columns.jsonb())
    terms: dict[str, Any] = Field(sa_column=columns.jsonb())
    effective_from: datetime = Field(sa_column=columns.timestamp())
    effective_to: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    reason: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    created_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
    created_by: str = Field(sa_column=columns.text())
    deleted_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
