"""Foundation: tenants, tokens, identity, price books, quarantine, budgets, ledger.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Charges of this month and of the two to come; the server makes later months ahead.
_FIRST_PARTITIONS = """
DO $$
DECLARE
    first_day date;
BEGIN
    FOR offset_months IN 0..2 LOOP
        first_day := date_trunc('month', now() AT TIME ZONE 'UTC')::date + make_interval(months => offset_months);
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF charge FOR VALUES FROM (%L) TO (%L)',
            'charge_' || to_char(first_day, 'YYYYMM'),
            to_char(first_day, 'YYYY-MM-DD') || ' 00:00:00+00',
            to_char(first_day + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00'
        );
    END LOOP;
END
$$
"""


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "access_token",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=False),
        sa.Column("token_sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("is_operator", sa.Boolean(), nullable=False),
        sa.Column("is_bootstrap", sa.Boolean(), nullable=False),
        sa.Column("scope", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("pinned", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("trusted_headers", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("reserve", sa.Boolean(), nullable=False),
        sa.Column("on_unresolved", sa.Text(), server_default="allow", nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "roles <@ ARRAY['ingest', 'check', 'read', 'admin']::text[]", name="access_token_roles_are_known"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "token_id"),
        sa.UniqueConstraint("token_sha256", name="access_token_is_unique"),
    )
    op.create_index(
        "access_token_bootstrap_is_one",
        "access_token",
        ["is_bootstrap"],
        unique=True,
        postgresql_where="is_bootstrap AND revoked_at IS NULL",
    )
    op.create_index("access_token_by_tenant", "access_token", ["tenant_id", "created_at"], unique=False)
    op.create_table(
        "budget",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("match", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("limit_usd", sa.Numeric(), nullable=False),
        sa.Column("period", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("thresholds", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("on_unavailable", sa.Text(), nullable=False),
        sa.Column("on_unpriced", sa.Text(), nullable=False),
        sa.Column("hold_basis", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("archived_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("config_version", sa.BigInteger(), nullable=False),
        sa.Column("counts_from", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("seeded_through", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("seeded_charge_id", sa.Uuid(), nullable=True),
        sa.Column("changed_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("limit_usd >= 0 AND limit_usd < 'Infinity'", name="budget_limit_is_an_amount"),
        sa.CheckConstraint("mode IN ('enforce', 'shadow')", name="budget_mode_is_known"),
        sa.CheckConstraint("on_unavailable IN ('ledger', 'deny', 'allow')", name="budget_on_unavailable_is_known"),
        sa.CheckConstraint("on_unpriced IN ('assume', 'deny')", name="budget_on_unpriced_is_known"),
        sa.CheckConstraint("state IN ('seeding', 'current', 'archived')", name="budget_state_is_known"),
        sa.PrimaryKeyConstraint("tenant_id", "budget_id"),
    )
    op.create_index("budget_by_change", "budget", ["tenant_id", "changed_version"], unique=False)
    op.create_index(
        "budget_slug_is_unique", "budget", ["tenant_id", "slug"], unique=True, postgresql_where="state <> 'archived'"
    )
    op.create_index("budget_to_seed", "budget", ["tenant_id"], unique=False, postgresql_where="state = 'seeding'")
    op.create_table(
        "budget_window",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("bucket", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("enforced", sa.Numeric(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "budget_id", "subject", "bucket"),
    )
    op.create_table(
        "charge",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("recorded_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("charge_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("corrects_charge_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("occurred_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("received_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("effective_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("config_version", sa.BigInteger(), nullable=False),
        sa.Column("price_book_version", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("response_id", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("reservation_id", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        sa.Column("call_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("is_stream", sa.Boolean(), nullable=False),
        sa.Column("is_cache_hit", sa.Boolean(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=True),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("api_key", sa.Text(), nullable=True),
        sa.Column("end_user", sa.Text(), nullable=True),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("automatic_tags", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("requested_model", sa.Text(), nullable=True),
        sa.Column("requested_canonical", sa.Text(), nullable=True),
        sa.Column("deployment", sa.Text(), nullable=True),
        sa.Column("deployment_id", sa.Text(), nullable=True),
        sa.Column("served_model", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("provenance", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("gateway_price_key", sa.Text(), nullable=True),
        sa.Column("price_key", sa.Text(), nullable=True),
        sa.Column("service_tier", sa.Text(), nullable=True),
        sa.Column("price_state", sa.Text(), nullable=False),
        sa.Column("fees_price_state", sa.Text(), nullable=False),
        sa.Column("price_reason", sa.Text(), nullable=True),
        sa.Column("requests", sa.SmallInteger(), nullable=False),
        sa.Column("failed_requests", sa.SmallInteger(), nullable=False),
        sa.Column("unpriced_requests", sa.SmallInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_read_input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_write_input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reasoning_output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("quantities", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("model_cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("fees_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("list_cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("enforced_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("assumed_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("reported_cost_usd", sa.Numeric(), nullable=True),
        sa.Column("components", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("fees", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "(kind IN ('correction', 'reversal')) = (corrects_charge_id IS NOT NULL)",
            name="charge_correction_names_its_original",
        ),
        sa.CheckConstraint("kind <> 'conflict' OR cost_usd = 0", name="charge_conflict_costs_nothing"),
        sa.CheckConstraint(
            "kind IN ('usage', 'conflict', 'correction', 'reversal', 'opening')", name="charge_kind_is_known"
        ),
        sa.CheckConstraint("cost_usd = model_cost_usd + fees_usd", name="charge_cost_is_model_plus_fees"),
        sa.PrimaryKeyConstraint("tenant_id", "recorded_at", "charge_id"),
        postgresql_partition_by="RANGE (recorded_at)",
    )
    op.create_index("charge_by_effective_at", "charge", ["tenant_id", "effective_at", "charge_id"], unique=False)
    op.create_index("charge_by_id", "charge", ["tenant_id", "charge_id"], unique=False)
    op.create_index("charge_by_request", "charge", ["tenant_id", "request_id"], unique=False)
    op.create_index("charge_by_response", "charge", ["tenant_id", "response_id"], unique=False)
    op.create_index(
        "charge_by_session", "charge", ["tenant_id", "session"], unique=False, postgresql_where="session IS NOT NULL"
    )
    op.create_table(
        "event_key",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint_version", sa.SmallInteger(), nullable=False),
        sa.Column("charge_id", sa.Uuid(), nullable=False),
        sa.Column("recorded_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "event_id", "source", name="event_recorded_once"),
    )
    op.create_table(
        "key_record",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("api_key", sa.Text(), nullable=False),
        sa.Column("is_declared", sa.Boolean(), nullable=False),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("organization", sa.Text(), nullable=True),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("alias", sa.Text(), nullable=True),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.Column("learned_team", sa.Text(), nullable=True),
        sa.Column("learned_user", sa.Text(), nullable=True),
        sa.Column("learned_organization", sa.Text(), nullable=True),
        sa.Column("learned_project", sa.Text(), nullable=True),
        sa.Column("learned_alias", sa.Text(), nullable=True),
        sa.Column("learned_from_occurred_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("changed_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "api_key"),
    )
    op.create_table(
        "ledger_epoch",
        sa.Column("only_row", sa.Boolean(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("timeline_id", sa.BigInteger(), nullable=False),
        sa.Column("raised_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("only_row", name="ledger_epoch_has_one_row"),
        sa.PrimaryKeyConstraint("only_row"),
    )
    op.create_table(
        "model_alias",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("alias_id", sa.Uuid(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("effective_from", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("effective_to", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("effective_to IS NULL OR effective_to > effective_from", name="model_alias_dates_in_order"),
        sa.PrimaryKeyConstraint("tenant_id", "alias_id"),
    )
    op.create_index("model_alias_by_name", "model_alias", ["tenant_id", "alias", "effective_from"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("outbox_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("counters", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("settlements", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "outbox_id"),
    )
    op.create_index("outbox_by_age", "outbox", ["created_at"], unique=False)
    op.create_table(
        "price_book_version",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("effective_from", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("imported_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("imported_by", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("snapshot_gzip", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "version"),
    )
    op.create_table(
        "quarantined_event",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("quarantine_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("received_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=True),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("length_bytes", sa.Integer(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("conflict_charge_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("kind IN ('rejected', 'conflict')", name="quarantine_kind_is_known"),
        sa.PrimaryKeyConstraint("tenant_id", "quarantine_id"),
    )
    op.create_index("quarantined_event_by_digest", "quarantined_event", ["tenant_id", "digest"], unique=True)
    op.create_table(
        "spend_label_total",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("bucket", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed_requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_read_input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_write_input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reasoning_output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("model_cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("fees_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("list_cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("enforced_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.CheckConstraint("label IN ('end_user', 'agent', 'tag')", name="spend_label_is_known"),
        sa.PrimaryKeyConstraint("tenant_id", "bucket", "label", "value"),
    )
    op.create_index(
        "spend_label_total_by_value", "spend_label_total", ["tenant_id", "label", "value", "bucket"], unique=False
    )
    op.create_table(
        "spend_total",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("bucket", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("key_digest", sa.LargeBinary(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=True),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("api_key", sa.Text(), nullable=True),
        sa.Column("requested_model", sa.Text(), nullable=True),
        sa.Column("deployment", sa.Text(), nullable=True),
        sa.Column("served_model", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("call_type", sa.Text(), nullable=False),
        sa.Column("price_state", sa.Text(), nullable=False),
        sa.Column("service_tier", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed_requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_read_input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_write_input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reasoning_output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("model_cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("fees_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("list_cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("enforced_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "bucket", "key_digest"),
    )
    op.create_index("spend_total_by_key", "spend_total", ["tenant_id", "key_digest", "bucket"], unique=False)
    op.create_table(
        "tenant",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("enforcement", sa.Text(), server_default="enforce", nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("config_version", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("enforcement IN ('enforce', 'shadow', 'off')", name="tenant_enforcement_is_known"),
        sa.CheckConstraint("tenant_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="tenant_id_fits_a_hash_tag"),
        sa.PrimaryKeyConstraint("tenant_id"),
    )
    op.execute(_FIRST_PARTITIONS)
    op.execute(
        "INSERT INTO ledger_epoch (only_row, epoch, timeline_id, raised_at)"
        " SELECT true, 1, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint, now()"
    )


def downgrade() -> None:
    """Drop the tables with all they hold."""
    op.drop_table("tenant")
    op.drop_index("spend_total_by_key", table_name="spend_total")
    op.drop_table("spend_total")
    op.drop_index("spend_label_total_by_value", table_name="spend_label_total")
    op.drop_table("spend_label_total")
    op.drop_index("quarantined_event_by_digest", table_name="quarantined_event")
    op.drop_table("quarantined_event")
    op.drop_table("price_book_version")
    op.drop_index("outbox_by_age", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("model_alias_by_name", table_name="model_alias")
    op.drop_table("model_alias")
    op.drop_table("ledger_epoch")
    op.drop_table("key_record")
    op.drop_table("event_key")
    op.drop_index("charge_by_session", table_name="charge", postgresql_where="session IS NOT NULL")
    op.drop_index("charge_by_response", table_name="charge")
    op.drop_index("charge_by_request", table_name="charge")
    op.drop_index("charge_by_id", table_name="charge")
    op.drop_index("charge_by_effective_at", table_name="charge")
    op.drop_table("charge")
    op.drop_table("budget_window")
    op.drop_index("budget_to_seed", table_name="budget", postgresql_where="state = 'seeding'")
    op.drop_index("budget_slug_is_unique", table_name="budget", postgresql_where="state <> 'archived'")
    op.drop_index("budget_by_change", table_name="budget")
    op.drop_table("budget")
    op.drop_index("access_token_by_tenant", table_name="access_token")
    op.drop_index(
        "access_token_bootstrap_is_one",
        table_name="access_token",
        postgresql_where="is_bootstrap AND revoked_at IS NULL",
    )
    op.drop_table("access_token")
