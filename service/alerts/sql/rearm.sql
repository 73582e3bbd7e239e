-- Let alerts of rolling periods be raised again: their sum has fallen below the threshold since; one of a projected
-- exhaustion, once a whole length has passed.
--
-- Input   JSON [{{tenant_id, budget_id, first, last, at}}]: the counted buckets of rolling budgets at an instant
-- Locks   alerts nobody else changes but another rearming, which comes to the same
UPDATE alert AS x SET rearmed_at = clock_timestamp()
FROM (
    SELECT o.tenant_id, o.alert_id
    FROM json_to_recordset(%s::json)
        AS a (tenant_id text, budget_id uuid, first timestamptz, last timestamptz, at timestamptz)
    JOIN budget AS b USING (tenant_id, budget_id)
    JOIN alert AS o USING (tenant_id, budget_id)
    CROSS JOIN LATERAL (SELECT a.tenant_id, a.budget_id, o.subject, a.first, a.at) AS c
    WHERE o.is_rolling AND o.rearmed_at IS NULL AND CASE o.kind
        WHEN 'projected_exhaustion' THEN o.raised_at < a.first
        ELSE COALESCE((
            SELECT sum(w.enforced) FROM budget_window AS w
            WHERE w.tenant_id = a.tenant_id AND w.budget_id = a.budget_id AND w.subject = o.subject
              AND w.bucket BETWEEN a.first AND a.last
        ), 0) < o.threshold * ({effective_limit})
    END
    ORDER BY o.tenant_id, o.alert_id
) AS due
WHERE x.tenant_id = due.tenant_id AND x.alert_id = due.alert_id AND x.rearmed_at IS NULL
