"""Limits that change with time: roll-over of what is left, temporary increases.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns and two tables."""
    op.add_column("budget", sa.Column("rollover", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column(
        "budget",
        sa.Column("former_limits", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
    )
    op.create_index(
        "budget_with_rollover",
        "budget",
        ["tenant_id", "budget_id"],
        unique=False,
        postgresql_where="rollover IS NOT NULL",
    )
    op.create_table(
        "budget_increase",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("increase_id", sa.Uuid(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("amount_usd", sa.Numeric(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("granted_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("until", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.CheckConstraint("amount_usd > 0 AND amount_usd < 'Infinity'", name="budget_increase_is_an_amount"),
        sa.CheckConstraint("until >= granted_at", name="budget_increase_times_in_order"),
        sa.PrimaryKeyConstraint("tenant_id", "increase_id"),
    )
    op.create_index("budget_increase_by_budget", "budget_increase", ["tenant_id", "budget_id", "until"], unique=False)
    op.create_table(
        "budget_carry",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("bucket", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("carried_usd", sa.Numeric(), nullable=False),
        sa.Column("fixed_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("carried_usd >= 0 AND carried_usd < 'Infinity'", name="budget_carry_is_an_amount"),
        sa.PrimaryKeyConstraint("tenant_id", "budget_id", "subject", "bucket"),
    )


def downgrade() -> None:
    """Drop what was added, with all it holds."""
    op.drop_table("budget_carry")
    op.drop_index("budget_increase_by_budget", table_name="budget_increase")
    op.drop_table("budget_increase")
    op.drop_index("budget_with_rollover", table_name="budget", postgresql_where="rollover IS NOT NULL")
    op.drop_column("budget", "former_limits")
    op.drop_column("budget", "rollover")
