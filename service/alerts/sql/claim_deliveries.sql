-- Claim deliveries that are due, as many of each host as it has room for, the longest waiting first.
--
-- Input   in_flight: JSON {host: deliveries under way in this process}; per_host, most: bounds; lease_seconds: when a
--           delivery comes up again if nobody says what became of it
-- Output  each delivery with its webhook and its alert (NULL columns for a test)
-- Locks   the deliveries, never waiting; who was faster has moved next_attempt_at on, which this sees once it has a lock
WITH candidate AS MATERIALIZED (
    SELECT d.tenant_id, d.delivery_id, h.host, d.next_attempt_at,
           COALESCE((%(in_flight)s::jsonb ->> h.host)::int, 0) AS in_flight
    FROM webhook_delivery AS d JOIN webhook AS h USING (tenant_id, webhook_id)
    WHERE d.state = 'pending' AND d.next_attempt_at <= clock_timestamp() AND h.is_enabled
      AND COALESCE((%(in_flight)s::jsonb ->> h.host)::int, 0) < %(per_host)s
    ORDER BY d.next_attempt_at
    LIMIT 1000
),
ranked AS (
    SELECT c.*, row_number() OVER (PARTITION BY host ORDER BY next_attempt_at, delivery_id) + in_flight AS place
    FROM candidate AS c
),
chosen AS (
    SELECT tenant_id, delivery_id FROM ranked WHERE place <= %(per_host)s
    ORDER BY place, next_attempt_at LIMIT %(most)s
),
claimed AS MATERIALIZED (
    SELECT d.tenant_id, d.delivery_id
    FROM webhook_delivery AS d JOIN chosen USING (tenant_id, delivery_id)
    WHERE d.state = 'pending' AND d.next_attempt_at <= clock_timestamp()
    FOR UPDATE OF d SKIP LOCKED
),
moved AS (
    UPDATE webhook_delivery AS d
    SET attempts = d.attempts + 1, next_attempt_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
    FROM claimed WHERE d.tenant_id = claimed.tenant_id AND d.delivery_id = claimed.delivery_id
    RETURNING d.tenant_id, d.delivery_id, d.webhook_id, d.alert_id, d.event, d.attempts, d.created_at
)
SELECT
    m.tenant_id, m.delivery_id, m.webhook_id, m.event, m.attempts, m.created_at,
    h.url, h.host, h.template, h.escapes_markup, h.secret,
    CASE WHEN x.alert_id IS NULL THEN NULL ELSE json_build_object(
        'alert_id', x.alert_id, 'tenant_id', x.tenant_id, 'budget_id', x.budget_id, 'slug', x.slug, 'name', x.name,
        'subject', x.subject, 'bucket', x.bucket, 'kind', x.kind, 'threshold', x.threshold::text,
        'is_rolling', x.is_rolling, 'window_start', x.window_start, 'window_end', x.window_end,
        'posted_usd', x.posted_usd::text, 'limit_usd', x.limit_usd::text,
        'projected_spend_usd', x.projected_spend_usd::text, 'projected_exhaustion_at', x.projected_exhaustion_at,
        'raised_at', x.raised_at
    )::text END AS alert
FROM moved AS m
JOIN webhook AS h USING (tenant_id, webhook_id)
LEFT JOIN alert AS x ON x.tenant_id = m.tenant_id AND x.alert_id = m.alert_id
