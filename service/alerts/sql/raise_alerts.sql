-- Raise alerts that were not raised before, and owe each to the webhooks that want it, in one statement.
--
-- Input   JSON array of service/alerts/alert.py: Alert
-- Output  kind of each alert this call has raised; raised_at is the database's time
-- Once    by the constraint alert_raised_once, and for rolling periods by alert_raised_once_until_rearmed: whoever comes
--           second waits for the first to commit and raises nothing. Deliveries exist with their alert or not at all.
-- Locks   the rows are written in one order, so that two calls cannot wait for each other.
WITH raised AS (
    INSERT INTO alert (
        tenant_id, alert_id, budget_id, slug, name, subject, bucket, kind, threshold, is_rolling, window_start,
        window_end, posted_usd, limit_usd, projected_spend_usd, projected_exhaustion_at, raised_at
    )
    SELECT
        tenant_id, alert_id, budget_id, slug, name, subject, bucket, kind, threshold, is_rolling, window_start,
        window_end, posted_usd, limit_usd, projected_spend_usd, projected_exhaustion_at, clock_timestamp()
    FROM json_to_recordset(%s::json) AS a (
        tenant_id text, alert_id uuid, budget_id uuid, slug text, name text, subject text, bucket timestamptz,
        kind text, threshold numeric, is_rolling boolean, window_start timestamptz, window_end timestamptz,
        posted_usd numeric, limit_usd numeric, projected_spend_usd numeric, projected_exhaustion_at timestamptz
    )
    ORDER BY tenant_id, budget_id, subject, kind, threshold, bucket
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, alert_id, slug, kind,
        CASE kind WHEN 'threshold' THEN 'budget.threshold_reached' ELSE 'budget.projected_exhaustion' END AS event
),
told AS (
    INSERT INTO webhook_delivery
        (tenant_id, delivery_id, webhook_id, alert_id, event, state, created_at, next_attempt_at)
    SELECT r.tenant_id, gen_random_uuid(), w.webhook_id, r.alert_id, r.event, 'pending', t.at, t.at
    FROM raised AS r
    JOIN webhook AS w USING (tenant_id)
    CROSS JOIN (SELECT clock_timestamp() AS at) AS t
    WHERE w.is_enabled AND (w.events = '{}' OR r.event = ANY (w.events))
      AND (w.budgets = '{}' OR r.slug = ANY (w.budgets))
)
SELECT kind FROM raised
