-- Learn to whom keys belong, as recorded events say.
--
-- Input   tenant_id; seven arrays of one length, one element per key, each key once:
--           api_key, team, user, organization, project, alias (NULL = the event does not say), occurred_at
-- Output  the rows that changed; the columns of `key_record` but tenant_id are put in after RETURNING
-- Rules   what was declared stays as it is; a missing fact unlearns nothing; an event older than the newest one that
--         taught something teaches nothing; without news nothing is written.
-- Locks   rows of key_record by api_key, one tenant per statement, so that concurrent batches cannot deadlock.
INSERT INTO key_record AS known (
    tenant_id, api_key, is_declared, blocked,
    learned_team, learned_user, learned_organization, learned_project, learned_alias, learned_from_occurred_at
)
SELECT %s, api_key, false, false, team, user_id, organization, project, alias, occurred_at
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
    AS lesson (api_key, team, user_id, organization, project, alias, occurred_at)
ORDER BY api_key
ON CONFLICT (tenant_id, api_key) DO UPDATE SET
    learned_team = COALESCE(excluded.learned_team, known.learned_team),
    learned_user = COALESCE(excluded.learned_user, known.learned_user),
    learned_organization = COALESCE(excluded.learned_organization, known.learned_organization),
    learned_project = COALESCE(excluded.learned_project, known.learned_project),
    learned_alias = COALESCE(excluded.learned_alias, known.learned_alias),
    learned_from_occurred_at = excluded.learned_from_occurred_at,
    changed_at = now()
WHERE (known.learned_from_occurred_at IS NULL
        OR known.learned_from_occurred_at <= excluded.learned_from_occurred_at)
    AND (COALESCE(excluded.learned_team, known.learned_team),
         COALESCE(excluded.learned_user, known.learned_user),
         COALESCE(excluded.learned_organization, known.learned_organization),
         COALESCE(excluded.learned_project, known.learned_project),
         COALESCE(excluded.learned_alias, known.learned_alias))
        IS DISTINCT FROM
        (known.learned_team, known.learned_user, known.learned_organization, known.learned_project, known.learned_alias)
