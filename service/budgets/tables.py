"""Tables of budgets and of their counters. Storage only."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index
from sqlmodel import Field, SQLModel

from service.db import columns


class BudgetRow(SQLModel, table=True):
    """A budget. `match` and `period` never change; archived ones stay readable."""

    __tablename__ = "budget"
    __table_args__ = (
        CheckConstraint("limit_usd >= 0 AND limit_usd < 'Infinity'", name="budget_limit_is_an_amount"),
        CheckConstraint("mode IN ('enforce', 'shadow')", name="budget_mode_is_known"),
        CheckConstraint("on_unavailable IN ('ledger', 'deny', 'allow')", name="budget_on_unavailable_is_known"),
        CheckConstraint("state IN ('seeding', 'current', 'archived')", name="budget_state_is_known"),
        CheckConstraint("on_unpriced IN ('assume', 'deny')", name="budget_on_unpriced_is_known"),
        Index("budget_slug_is_unique", "tenant_id", "slug", unique=True, postgresql_where="state <> 'archived'"),
        # Replicas read what changed since the version they know; the seeding looks for its work.
        Index("budget_by_change", "tenant_id", "changed_version"),
        Index("budget_to_seed", "tenant_id", postgresql_where="state = 'seeding'"),
        Index("budget_with_rollover", "tenant_id", "budget_id", postgresql_where="rollover IS NOT NULL"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    budget_id: UUID = Field(primary_key=True)
    slug: str = Field(sa_column=columns.text())
    name: str = Field(sa_column=columns.text())
    match: dict[str, Any] = Field(sa_column=columns.jsonb())
    limit_usd: Decimal = Field(sa_column=columns.amount())
    period: dict[str, Any] = Field(sa_column=columns.jsonb())
    mode: str = Field(sa_column=columns.text())
    thresholds: list[Any] = Field(sa_column=columns.jsonb(server_default="[]"))
    on_unavailable: str = Field(sa_column=columns.text())
    on_unpriced: str = Field(sa_column=columns.text())
    hold_basis: str = Field(sa_column=columns.text())
    rollover: dict[str, Any] | None = Field(default=None, sa_column=columns.jsonb(nullable=True))
    # [{limit_usd, rollover, until}], oldest first: windows that are closed had these.
    former_limits: list[Any] = Field(sa_column=columns.jsonb(server_default="[]"))
    state: str = Field(sa_column=columns.text())
    created_at: datetime = Field(sa_column=columns.timestamp())
    archived_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    # Charges of a lower config_version were not counted live; the seeding adds those effective from `counts_from`.
    config_version: int = Field(sa_column=Column(BigInteger(), nullable=False))
    counts_from: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    seeded_through: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    seeded_charge_id: UUID | None = Field(default=None)
    changed_version: int = Field(sa_column=Column(BigInteger(), nullable=False))


class BudgetWindow(SQLModel, table=True):
    """The state of one counter: the sum of enforced_usd in one bucket; `version` rises with every change."""

    __tablename__ = "budget_window"
    # All counters of one window; of columns that never change, so that posting goes on without touching an index.
    __table_args__ = (Index("budget_window_by_bucket", "tenant_id", "budget_id", "bucket"),)

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    budget_id: UUID = Field(primary_key=True)
    subject: str = Field(sa_column=columns.text(primary_key=True))
    bucket: datetime = Field(sa_column=columns.timestamp(primary_key=True))
    enforced: Decimal = Field(sa_column=columns.amount())
    version: int = Field(sa_column=Column(BigInteger(), nullable=False))


class BudgetIncrease(SQLModel, table=True):
    """A limit raised for a time; ended early by an earlier `until`. Kept: rows say why a limit was what it was."""

    __tablename__ = "budget_increase"
    __table_args__ = (
        CheckConstraint("amount_usd > 0 AND amount_usd < 'Infinity'", name="budget_increase_is_an_amount"),
        CheckConstraint("until >= granted_at", name="budget_increase_times_in_order"),
        Index("budget_increase_by_budget", "tenant_id", "budget_id", "until"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    increase_id: UUID = Field(primary_key=True)
    budget_id: UUID
    amount_usd: Decimal = Field(sa_column=columns.amount())
    subject: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    granted_at: datetime = Field(sa_column=columns.timestamp())
    until: datetime = Field(sa_column=columns.timestamp())
    reason: str = Field(sa_column=columns.text())
    author: str = Field(sa_column=columns.text())


class BudgetCarry(SQLModel, table=True):
    """What a counter carried into the window that starts at `bucket`: fixed once, whatever is corrected later."""

    __tablename__ = "budget_carry"
    __table_args__ = (
        CheckConstraint("carried_usd >= 0 AND carried_usd < 'Infinity'", name="budget_carry_is_an_amount"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    budget_id: UUID = Field(primary_key=True)
    subject: str = Field(sa_column=columns.text(primary_key=True))
    bucket: datetime = Field(sa_column=columns.timestamp(primary_key=True))
    carried_usd: Decimal = Field(sa_column=columns.amount())
    fixed_at: datetime = Field(sa_column=columns.timestamp())
