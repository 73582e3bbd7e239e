"""The totals of a requested model, the newest first: which ways its calls went lately.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add an index."""
    op.create_index(
        "spend_total_by_requested_model", "spend_total", ["tenant_id", "requested_model", "bucket"], unique=False
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_index("spend_total_by_requested_model", table_name="spend_total")
