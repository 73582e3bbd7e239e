"""Alerts, the webhooks they are sent to, and their deliveries.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add four tables, and the index by which the schedule finds all counters of one window."""
    op.create_index("budget_window_by_bucket", "budget_window", ["tenant_id", "budget_id", "bucket"], unique=False)
    _create_alerts()
    _create_webhooks()
    _create_deliveries()
    op.create_table(
        "alert_schedule",
        sa.Column("only_row", sa.Boolean(), nullable=False),
        sa.Column("started_at", _timestamp(), nullable=False),
        sa.CheckConstraint("only_row", name="alert_schedule_has_one_row"),
        sa.PrimaryKeyConstraint("only_row"),
    )
    op.execute("INSERT INTO alert_schedule (only_row, started_at) VALUES (true, 'epoch')")


def _create_alerts() -> None:
    op.create_table(
        "alert",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("bucket", _timestamp(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Numeric(), nullable=False),
        sa.Column("is_rolling", sa.Boolean(), nullable=False),
        sa.Column("window_start", _timestamp(), nullable=False),
        sa.Column("window_end", _timestamp(), nullable=True),
        sa.Column("posted_usd", sa.Numeric(), nullable=False),
        sa.Column("limit_usd", sa.Numeric(), nullable=False),
        sa.Column("projected_spend_usd", sa.Numeric(), nullable=True),
        sa.Column("projected_exhaustion_at", _timestamp(), nullable=True),
        sa.Column("raised_at", _timestamp(), nullable=False),
        sa.Column("rearmed_at", _timestamp(), nullable=True),
        sa.CheckConstraint("kind IN ('threshold', 'projected_exhaustion')", name="alert_kind_is_known"),
        sa.CheckConstraint("is_rolling OR rearmed_at IS NULL", name="alert_of_a_closed_window_is_never_rearmed"),
        sa.PrimaryKeyConstraint("tenant_id", "alert_id"),
        sa.UniqueConstraint(
            "tenant_id", "budget_id", "subject", "bucket", "kind", "threshold", name="alert_raised_once"
        ),
    )
    op.create_index(
        "alert_raised_once_until_rearmed",
        "alert",
        ["tenant_id", "budget_id", "subject", "kind", "threshold"],
        unique=True,
        postgresql_where="is_rolling AND rearmed_at IS NULL",
    )


def _create_webhooks() -> None:
    op.create_table(
        "webhook",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("events", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("budgets", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("template", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("escapes_markup", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("created_at", _timestamp(), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "webhook_id"),
    )


def _create_deliveries() -> None:
    op.create_table(
        "webhook_delivery",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("alert_id", sa.Uuid(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("created_at", _timestamp(), nullable=False),
        sa.Column("next_attempt_at", _timestamp(), nullable=False),
        sa.Column("finished_at", _timestamp(), nullable=True),
        sa.Column("last_status", sa.SmallInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'failed', 'canceled')", name="delivery_state_is_known"),
        sa.CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="delivery_ends_with_its_state"),
        sa.PrimaryKeyConstraint("tenant_id", "delivery_id"),
        sa.UniqueConstraint("tenant_id", "webhook_id", "alert_id", name="alert_delivered_once_per_webhook"),
    )
    op.create_index(
        "webhook_delivery_due",
        "webhook_delivery",
        ["next_attempt_at"],
        unique=False,
        postgresql_where="state = 'pending'",
    )
    op.create_index(
        "webhook_delivery_by_time", "webhook_delivery", ["tenant_id", "created_at", "delivery_id"], unique=False
    )
    op.create_index("webhook_delivery_by_end", "webhook_delivery", ["finished_at"], unique=False)


def _timestamp() -> postgresql.TIMESTAMP:
    return postgresql.TIMESTAMP(timezone=True)


def downgrade() -> None:
    """Drop what was added, with all it holds."""
    op.drop_table("alert_schedule")
    op.drop_table("webhook_delivery")
    op.drop_table("webhook")
    op.drop_table("alert")
    op.drop_index("budget_window_by_bucket", table_name="budget_window")
