"""Pricing complete: the facts a charge was priced from, price rules, the audit trail, repricings.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")
_WITHOUT_PRICE = sa.text("price_state IN ('unpriced', 'reported')")


def upgrade() -> None:
    """Add columns and tables."""
    op.add_column("charge", sa.Column("facts", postgresql.JSON(astext_type=sa.Text()), nullable=True))
    op.create_index("charge_without_price", "charge", ["tenant_id", "effective_at"], postgresql_where=_WITHOUT_PRICE)
    _widen_price_books()
    _create_price_rules()
    _create_audit_trail()
    _create_repricings()


def _widen_price_books() -> None:
    op.add_column("price_book_version", sa.Column("report", _jsonb(), server_default="{}", nullable=False))
    op.drop_constraint("price_book_version_pkey", "price_book_version", type_="primary")
    op.create_primary_key("price_book_version_pkey", "price_book_version", ["tenant_id", "version", "effective_from"])


def _create_price_rules() -> None:
    op.create_table(
        "price_rule",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("match", _jsonb(), nullable=False),
        sa.Column("terms", _jsonb(), nullable=False),
        sa.Column("effective_from", _timestamp(), nullable=False),
        sa.Column("effective_to", _timestamp(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", _timestamp(), server_default=_NOW, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("deleted_at", _timestamp(), nullable=True),
        sa.CheckConstraint("kind IN ('override', 'fee', 'discount')", name="price_rule_kind_is_known"),
        sa.CheckConstraint("effective_to IS NULL OR effective_to > effective_from", name="price_rule_dates_in_order"),
        sa.PrimaryKeyConstraint("tenant_id", "rule_id"),
    )
    op.create_index("price_rule_in_use", "price_rule", ["tenant_id", "rule_id"], postgresql_where="deleted_at IS NULL")


def _create_audit_trail() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("changed_at", _timestamp(), server_default=_NOW, nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("before", _jsonb(), nullable=True),
        sa.Column("after", _jsonb(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "entry_id"),
    )
    op.create_index("audit_entry_by_subject", "audit_entry", ["tenant_id", "subject_type", "subject_id", "entry_id"])


def _create_repricings() -> None:
    op.create_table(
        "repricing",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("repricing_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", _timestamp(), server_default=_NOW, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("applies", sa.Boolean(), nullable=False),
        sa.Column("range_from", _timestamp(), nullable=False),
        sa.Column("range_to", _timestamp(), nullable=False),
        sa.Column("filter", _jsonb(), server_default="{}", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("examined", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("not_repriceable", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refused", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reached_at", _timestamp(), nullable=True),
        sa.Column("reached_charge_id", sa.Uuid(), nullable=True),
        sa.Column("runner_id", sa.Uuid(), nullable=True),
        sa.Column("leased_until", _timestamp(), nullable=True),
        sa.Column("result", _jsonb(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("finished_at", _timestamp(), nullable=True),
        sa.CheckConstraint("state IN ('running', 'done', 'failed')", name="repricing_state_is_known"),
        sa.CheckConstraint("range_to > range_from", name="repricing_range_in_order"),
        sa.PrimaryKeyConstraint("tenant_id", "repricing_id"),
    )
    op.create_index(
        "repricing_one_at_a_time",
        "repricing",
        ["tenant_id"],
        unique=True,
        postgresql_where=sa.text("state = 'running'"),
    )


def _jsonb() -> postgresql.JSONB:
    return postgresql.JSONB(astext_type=sa.Text())


def _timestamp() -> postgresql.TIMESTAMP:
    return postgresql.TIMESTAMP(timezone=True)


def downgrade() -> None:
    """Take it back; price book versions that came into force twice keep their first time."""
    op.drop_table("repricing")
    op.drop_table("audit_entry")
    op.drop_table("price_rule")
    op.execute(
        "DELETE FROM price_book_version AS later USING price_book_version AS first"
        " WHERE later.tenant_id = first.tenant_id AND later.version = first.version"
        " AND later.effective_from > first.effective_from"
    )
    op.drop_constraint("price_book_version_pkey", "price_book_version", type_="primary")
    op.create_primary_key("price_book_version_pkey", "price_book_version", ["tenant_id", "version"])
    op.drop_column("price_book_version", "report")
    op.drop_index("charge_without_price", table_name="charge", postgresql_where=_WITHOUT_PRICE)
    op.drop_column("charge", "facts")
