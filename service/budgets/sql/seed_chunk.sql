-- Add what charges recorded before some budgets existed amount to, and say how far the seeding has come, in one statement.
--
-- Input   tenant_id, budget_ids; the place they have come to (former_through, former_charge_id; NULL = nothing yet) and
--           the one this brings them to (through, charge_id); counters: JSON [{budget_id, subject, bucket, breadth,
--           amount}], distinct; outbox_id
-- Output  one row: advanced (ids of the budgets that moved), counters [budget, subject, bucket, enforced, version], epoch
-- Once    a budget that is not at the former place any more (another replica was faster), was archived or is being
--           changed at this moment is left out with all its amounts; the place and the amounts commit together.
-- Locks   budget by budget_id, never waiting; then budget_window by (breadth, tenant_id, budget_id, subject, bucket), the
--           order of the ledger's batches. The tenant's advisory lock is not taken.
WITH target AS MATERIALIZED (
    SELECT budget_id FROM budget
    WHERE tenant_id = %(tenant_id)s AND budget_id = ANY (%(budget_ids)s) AND state = 'seeding'
      AND seeded_through IS NOT DISTINCT FROM %(former_through)s
      AND seeded_charge_id IS NOT DISTINCT FROM %(former_charge_id)s
    ORDER BY budget_id
    FOR UPDATE SKIP LOCKED
),
advanced AS MATERIALIZED (
    UPDATE budget AS b SET seeded_through = %(through)s, seeded_charge_id = %(charge_id)s
    FROM target WHERE b.tenant_id = %(tenant_id)s AND b.budget_id = target.budget_id
    RETURNING b.budget_id
),
counter_written AS (
    INSERT INTO budget_window AS w (tenant_id, budget_id, subject, bucket, enforced, version)
    SELECT %(tenant_id)s, p.budget_id, p.subject, p.bucket, p.amount, 1
    FROM json_to_recordset(%(counters)s::json)
        AS p (budget_id uuid, subject text, bucket timestamptz, breadth integer, amount numeric)
    JOIN advanced USING (budget_id)
    ORDER BY p.breadth, p.budget_id, p.subject, p.bucket
    ON CONFLICT (tenant_id, budget_id, subject, bucket) DO UPDATE SET
        enforced = w.enforced + excluded.enforced,
        version = w.version + 1
    RETURNING budget_id, subject, bucket, enforced, version
),
outbox_written AS (
    INSERT INTO outbox (tenant_id, outbox_id, created_at, counters, settlements)
    SELECT
        %(tenant_id)s, %(outbox_id)s, clock_timestamp(), json_agg(json_build_array(budget_id, subject, bucket)), '[]'
    FROM counter_written
    HAVING count(*) > 0
    RETURNING 1
)
SELECT
    (SELECT array_agg(budget_id) FROM advanced) AS advanced,
    (SELECT json_agg(json_build_array(budget_id, subject, bucket, enforced::text, version)) FROM counter_written)
        AS counters,
    (SELECT epoch FROM ledger_epoch) AS epoch,
    (SELECT count(*) FROM outbox_written) AS outbox_rows
