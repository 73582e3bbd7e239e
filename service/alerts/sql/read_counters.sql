-- Read what counters have posted in their windows, their limits, and which thresholds were raised.
--
-- Input   counters: JSON [{{tenant_id, budget_id, subject, first, last, at, limit_usd, most_carried_usd}}], distinct;
--           first and last: the oldest and the newest bucket that counts (the same but for rolling periods), at: the
--           instant whose increases count, limit_usd and most_carried_usd: what counts in the window but for them
-- Output  a row per counter of a live budget: the key, last, at; posted, what the last bucket has of it, the
--           limit, the thresholds raised for the window
SELECT
    a.tenant_id, a.budget_id, a.subject, a.last, a.at, w.posted, w.newest,
    {effective_limit} AS limit_usd,
    ARRAY(
        SELECT x.threshold FROM alert AS x
        WHERE x.tenant_id = a.tenant_id AND x.budget_id = a.budget_id AND x.subject = a.subject
          AND x.kind = 'threshold' AND (x.bucket = a.last OR (x.is_rolling AND x.rearmed_at IS NULL))
    ) AS raised
FROM json_to_recordset(%s::json)
    AS a (tenant_id text, budget_id uuid, subject text, first timestamptz, last timestamptz, at timestamptz,
          limit_usd numeric, most_carried_usd numeric)
JOIN budget AS b ON b.tenant_id = a.tenant_id AND b.budget_id = a.budget_id AND b.state <> 'archived'
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(c.enforced), 0) AS posted,
           COALESCE(sum(c.enforced) FILTER (WHERE c.bucket = a.last), 0) AS newest
    FROM budget_window AS c
    WHERE c.tenant_id = a.tenant_id AND c.budget_id = a.budget_id AND c.subject = a.subject
      AND c.bucket BETWEEN a.first AND a.last
) AS w
