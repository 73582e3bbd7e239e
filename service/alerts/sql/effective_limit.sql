-- The effective limit of one counter, for the statements of this folder: as service/budgets/limits.py has it, and what
-- was carried into the window; nothing is carried into a limit that checks count as 0.
--
-- Input   budget AS b; a counter {counter}: tenant_id, budget_id, subject, first (its window), at (the instant);
--         {limit}, {most_carried}: the limit without increases, and the most that counts of what was carried in
    (
        SELECT f.usd + CASE WHEN b.rollover IS NULL OR f.usd < 0.000001 THEN 0 ELSE COALESCE((
            SELECT LEAST(k.carried_usd, {most_carried}) FROM budget_carry AS k
            WHERE k.tenant_id = {counter}.tenant_id AND k.budget_id = {counter}.budget_id
              AND k.subject = {counter}.subject AND k.bucket = {counter}.first
        ), 0) END
        FROM (
            SELECT {limit} + COALESCE((
                SELECT sum(i.amount_usd) FROM budget_increase AS i
                WHERE i.tenant_id = {counter}.tenant_id AND i.budget_id = {counter}.budget_id
                  AND i.granted_at <= {counter}.at AND {counter}.at < i.until
                  AND (i.subject IS NULL OR i.subject = {counter}.subject)
            ), 0) AS usd
        ) AS f
    )
