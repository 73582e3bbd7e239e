-- Declare seeded budgets current, inside a change of the tenant's configuration.
UPDATE budget SET state = 'current', changed_version = %(version)s
WHERE tenant_id = %(tenant_id)s AND budget_id = ANY (%(budget_ids)s) AND state = 'seeding'
  AND seeded_through IS NOT DISTINCT FROM %(through)s AND seeded_charge_id IS NOT DISTINCT FROM %(charge_id)s
RETURNING budget_id
