-- Find the budgets of a tenant to seed next: those that start at the same instant and have come to the same place, so
-- that one pass over the charges serves them all. Later starts go first: their passes are the shortest.
WITH head AS (
    SELECT counts_from, seeded_through, seeded_charge_id FROM budget
    WHERE tenant_id = %(tenant_id)s AND state = 'seeding'
    ORDER BY counts_from DESC NULLS LAST, seeded_through DESC NULLS LAST, seeded_charge_id DESC NULLS LAST
    LIMIT 1
)
SELECT {columns} FROM budget
WHERE tenant_id = %(tenant_id)s AND state = 'seeding'
  AND (counts_from IS NOT DISTINCT FROM (SELECT counts_from FROM head))
  AND (seeded_through IS NOT DISTINCT FROM (SELECT seeded_through FROM head))
  AND (seeded_charge_id IS NOT DISTINCT FROM (SELECT seeded_charge_id FROM head))
ORDER BY budget_id LIMIT %(limit)s
