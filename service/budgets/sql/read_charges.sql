-- Read the next charges recorded before a config_version, in the order (effective_at, charge_id): a set nothing is added
-- to any more, because every batch of that configuration was committed before the version was raised.
-- What is recorded has happened: partitions of earlier months are left out; an hour covers clocks that disagree.
SELECT
    charge_id, effective_at, config_version, enforced_usd, organization, team, project, "user", api_key, end_user, agent,
    session, tags, requested_model, requested_canonical, deployment, deployment_id, served_model,
    provider
FROM charge
WHERE tenant_id = %(tenant_id)s
  AND effective_at >= %(through)s AND (effective_at, charge_id) > (%(through)s, %(charge_id)s)
  AND recorded_at >= %(through)s - interval '1 hour'
  AND config_version < %(below_version)s
ORDER BY effective_at, charge_id LIMIT %(limit)s
