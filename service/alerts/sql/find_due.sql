-- Find counters of live budgets that have reached a threshold, or will exhaust their limit, without an alert of it.
--
-- Input   windows: JSON [{{tenant_id, budget_id, first, last, at, length_us, least_share}}], a row per budget: the buckets
--           of its present window (more than one for rolling periods), the present instant, the length of the window
--           (null = it has no end), a share of the limit below which nothing can be due (it makes the scan short)
--         least_additions, least_elapsed: the evidence a projection takes; limit: most rows
-- Output  tenant_id, budget_id, subject, kind, threshold, posted, limit_usd, oldest (the oldest bucket with spend)
-- Rule    thresholds: service/budgets/thresholds.py; projections: service/budgets/forecast.py, by the pace since the
--           start of the window, of a rolling one since its oldest spend; both exact
WITH asked AS MATERIALIZED (
    SELECT a.*, b.limit_usd * a.least_share AS least_usd, b.thresholds
    FROM json_to_recordset(%(windows)s::json) AS a (
        tenant_id text, budget_id uuid, first timestamptz, last timestamptz, at timestamptz, length_us numeric,
        least_share numeric
    )
    JOIN budget AS b USING (tenant_id, budget_id)
    WHERE b.state <> 'archived'
),
counter AS (
    SELECT a.*, w.subject, w.enforced AS posted, w.version AS additions, w.bucket AS oldest
    FROM asked AS a
    JOIN budget_window AS w ON w.tenant_id = a.tenant_id AND w.budget_id = a.budget_id AND w.bucket = a.last
    WHERE a.first = a.last AND w.enforced >= a.least_usd AND w.enforced > 0
    UNION ALL
    SELECT a.*, w.subject, w.posted, w.additions, w.oldest
    FROM asked AS a
    CROSS JOIN LATERAL (
        SELECT c.subject, sum(c.enforced) AS posted, sum(c.version) AS additions, min(c.bucket) AS oldest
        FROM budget_window AS c
        WHERE c.tenant_id = a.tenant_id AND c.budget_id = a.budget_id AND c.bucket BETWEEN a.first AND a.last
        GROUP BY c.subject
        HAVING sum(c.enforced) >= a.least_usd AND sum(c.enforced) > 0
    ) AS w
    WHERE a.first < a.last
),
bounded AS MATERIALIZED (
    SELECT c.*, {effective_limit} AS effective_usd,
           extract(epoch FROM c.at - c.oldest) * 1000000 AS elapsed_us
    FROM counter AS c JOIN budget AS b USING (tenant_id, budget_id)
)
SELECT c.tenant_id, c.budget_id, c.subject, r.kind, r.threshold, c.posted, c.effective_usd AS limit_usd, c.oldest
FROM bounded AS c
CROSS JOIN LATERAL (
    SELECT 'threshold' AS kind, t.share::numeric AS threshold
    FROM jsonb_array_elements_text(c.thresholds) AS t (share)
    WHERE c.posted >= t.share::numeric * c.effective_usd
    UNION ALL
    SELECT 'projected_exhaustion', 1
    WHERE c.posted < c.effective_usd AND c.additions >= %(least_additions)s
      AND c.elapsed_us >= %(least_elapsed)s * c.length_us AND c.elapsed_us < c.length_us
      AND c.posted * c.length_us >= c.effective_usd * c.elapsed_us
) AS r
WHERE NOT EXISTS (
    SELECT FROM alert AS x
    WHERE x.tenant_id = c.tenant_id AND x.budget_id = c.budget_id AND x.subject = c.subject
      AND x.kind = r.kind AND x.threshold = r.threshold
      AND (x.bucket = c.last OR (x.is_rolling AND x.rearmed_at IS NULL))
)
LIMIT %(limit)s
