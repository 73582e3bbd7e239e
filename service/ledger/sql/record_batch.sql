-- Record one batch of charges exactly once, with their totals, counters and outbox rows, in one statement.
--
-- Input   three JSON arrays (one document would be scanned again for each of its parts):
--           fences:   [{tenant_id, config_version, epoch, outbox_id}], one per tenant of the batch
--           counters: [{number, budget_id, subject, bucket, breadth}], the distinct budget windows of the batch
--           charges:  ledger.charge.ChargeDraft, (tenant_id, source, event_id) unique within the batch; its
--                     window_numbers say which of the counters it adds to
-- Output  one row: fence_holds (false: a tenant's configuration changed, nothing was written; match again),
--           charge_ids written, counters [tenant, budget, subject, bucket, enforced, version], epoch
-- Before  the shared advisory locks of the tenants, taken by a statement of their own, so that this statement's
--           snapshot sees every configuration committed before the lock was granted.
-- Locks   rows in one global order, so that concurrent batches cannot deadlock:
--           event_key  by (tenant_id, source, event_id)
--           charge     none that anybody waits for
--           spend_total by (tenant_id, bucket, key_digest); spend_label_total by (tenant_id, bucket, label, value)
--           budget_window by (breadth, tenant_id, budget_id, subject, bucket): the hottest rows last
--         PostgreSQL runs data-modifying CTEs that nobody reads last and in reverse; each step therefore reads the
--         count of the step before it.
WITH fenced_tenant AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%s::json) AS f (tenant_id text, config_version bigint, epoch bigint, outbox_id uuid)
),
counter AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%s::json)
        AS c (number int, budget_id uuid, subject text, bucket timestamptz, breadth int)
),
fence AS MATERIALIZED (
    SELECT COALESCE(bool_and(t.config_version IS NOT DISTINCT FROM f.config_version AND e.epoch = f.epoch), true) AS holds
    FROM fenced_tenant AS f CROSS JOIN ledger_epoch AS e LEFT JOIN tenant AS t USING (tenant_id)
),
draft AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%s::json) AS c (
        tenant_id text, charge_id uuid, kind text, source text, event_id text, fingerprint text,
        fingerprint_version smallint, corrects_charge_id uuid, reason text, occurred_at timestamptz,
        received_at timestamptz, effective_at timestamptz, duration_ms bigint, config_version bigint,
        price_book_version text, request_id text, response_id text, trace_id text, reservation_id text, attempt int,
        is_final boolean, call_type text, status text, is_stream boolean, is_cache_hit boolean, organization text,
        team text, project text, "user" text, api_key text, end_user text, agent text, session text, tags text[],
        automatic_tags text[], requested_model text, requested_canonical text, deployment text, deployment_id text,
        served_model text, provider text, provenance json, gateway_price_key text, price_key text, service_tier text,
        price_state text, fees_price_state text, price_reason text, requests smallint, failed_requests smallint,
        unpriced_requests smallint, input_tokens bigint, output_tokens bigint, cache_read_input_tokens bigint,
        cache_write_input_tokens bigint, reasoning_output_tokens bigint, quantities json, cost_usd numeric,
        model_cost_usd numeric, fees_usd numeric, list_cost_usd numeric, enforced_usd numeric, assumed_usd numeric,
        reported_cost_usd numeric, components json, fees json, facts json, bucket timestamptz, key_digest text,
        window_numbers int[]
    )
    WHERE (SELECT holds FROM fence)
),
new_key AS (
    INSERT INTO event_key (tenant_id, source, event_id, fingerprint, fingerprint_version, charge_id, recorded_at)
    SELECT tenant_id, source, event_id, decode(fingerprint, 'base64'), fingerprint_version, charge_id, now()
    FROM draft
    ORDER BY tenant_id, source, event_id
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, charge_id
),
fresh AS MATERIALIZED (
    SELECT
        d.*,
        COALESCE(d.requests, 0) AS n_requests,
        COALESCE(d.failed_requests, 0) AS n_failed,
        COALESCE(d.unpriced_requests, 0) AS n_unpriced,
        COALESCE(d.input_tokens, 0) AS n_input,
        COALESCE(d.output_tokens, 0) AS n_output,
        COALESCE(d.cache_read_input_tokens, 0) AS n_cache_read,
        COALESCE(d.cache_write_input_tokens, 0) AS n_cache_write,
        COALESCE(d.reasoning_output_tokens, 0) AS n_reasoning
    FROM draft AS d JOIN new_key USING (tenant_id, charge_id)
),
charge_written AS (
    INSERT INTO charge (
        tenant_id, recorded_at, charge_id, kind, corrects_charge_id, reason, source, event_id, occurred_at,
        received_at, effective_at, duration_ms, config_version, price_book_version, request_id, response_id, trace_id,
        reservation_id, attempt, is_final, call_type, status, is_stream, is_cache_hit, organization, team, project,
        "user", api_key, end_user, agent, session, tags, automatic_tags, requested_model, requested_canonical,
        deployment, deployment_id, served_model, provider, provenance, gateway_price_key, price_key, service_tier,
        price_state, fees_price_state, price_reason, requests, failed_requests, unpriced_requests, input_tokens,
        output_tokens, cache_read_input_tokens, cache_write_input_tokens, reasoning_output_tokens, quantities,
        cost_usd, model_cost_usd, fees_usd, list_cost_usd, enforced_usd, assumed_usd, reported_cost_usd, components,
        fees, facts
    )
    SELECT
        tenant_id, now(), charge_id, kind, corrects_charge_id, reason, source, event_id, occurred_at,
        received_at, effective_at, duration_ms, config_version, price_book_version, request_id, response_id, trace_id,
        reservation_id, attempt, COALESCE(is_final, true), call_type, status, COALESCE(is_stream, false),
        COALESCE(is_cache_hit, false), organization, team, project, "user", api_key, end_user, agent, session,
        COALESCE(tags, '{}'), COALESCE(automatic_tags, '{}'), requested_model, requested_canonical,
        deployment, deployment_id, served_model, provider, COALESCE(provenance, '{}'), gateway_price_key, price_key,
        service_tier, price_state, fees_price_state, price_reason, n_requests, n_failed, n_unpriced, n_input, n_output,
        n_cache_read, n_cache_write, n_reasoning, COALESCE(quantities, '{}'), cost_usd, model_cost_usd, fees_usd,
        list_cost_usd, enforced_usd, assumed_usd, reported_cost_usd, COALESCE(components, '[]'), COALESCE(fees, '[]'),
        facts
    FROM fresh
    RETURNING 1
),
total_written AS (
    INSERT INTO spend_total AS t (
        tenant_id, bucket, key_digest, organization, team, project, "user", api_key, requested_model, deployment,
        served_model, provider, call_type, price_state, service_tier, status, requests, failed_requests,
        unpriced_requests, input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens,
        reasoning_output_tokens, cost_usd, model_cost_usd, fees_usd, list_cost_usd, enforced_usd
    )
    SELECT
        tenant_id, bucket, decode(key_digest, 'base64'), min(organization), min(team), min(project), min("user"),
        min(api_key), min(requested_model), min(deployment), min(served_model), min(provider), min(call_type),
        min(price_state), min(service_tier), min(status), sum(n_requests), sum(n_failed), sum(n_unpriced),
        sum(n_input), sum(n_output), sum(n_cache_read), sum(n_cache_write), sum(n_reasoning), sum(cost_usd),
        sum(model_cost_usd), sum(fees_usd), sum(list_cost_usd), sum(enforced_usd)
    FROM fresh
    WHERE (SELECT count(*) FROM charge_written) >= 0
    GROUP BY tenant_id, bucket, decode(key_digest, 'base64')
    ORDER BY 1, 2, 3
    ON CONFLICT (tenant_id, bucket, key_digest) DO UPDATE SET
        requests = t.requests + excluded.requests,
        failed_requests = t.failed_requests + excluded.failed_requests,
        unpriced_requests = t.unpriced_requests + excluded.unpriced_requests,
        input_tokens = t.input_tokens + excluded.input_tokens,
        output_tokens = t.output_tokens + excluded.output_tokens,
        cache_read_input_tokens = t.cache_read_input_tokens + excluded.cache_read_input_tokens,
        cache_write_input_tokens = t.cache_write_input_tokens + excluded.cache_write_input_tokens,
        reasoning_output_tokens = t.reasoning_output_tokens + excluded.reasoning_output_tokens,
        cost_usd = t.cost_usd + excluded.cost_usd,
        model_cost_usd = t.model_cost_usd + excluded.model_cost_usd,
        fees_usd = t.fees_usd + excluded.fees_usd,
        list_cost_usd = t.list_cost_usd + excluded.list_cost_usd,
        enforced_usd = t.enforced_usd + excluded.enforced_usd
    RETURNING 1
),
label AS (
    SELECT f.*, 'agent' AS label, f.agent AS value FROM fresh AS f WHERE f.agent IS NOT NULL
    UNION ALL
    SELECT f.*, 'end_user', f.end_user FROM fresh AS f WHERE f.end_user IS NOT NULL
    UNION ALL
    SELECT f.*, 'tag', t.tag FROM fresh AS f CROSS JOIN LATERAL unnest(f.tags) AS t (tag)
),
label_total_written AS (
    INSERT INTO spend_label_total AS t (
        tenant_id, bucket, label, value, requests, failed_requests, unpriced_requests, input_tokens, output_tokens,
        cache_read_input_tokens, cache_write_input_tokens, reasoning_output_tokens, cost_usd, model_cost_usd,
        fees_usd, list_cost_usd, enforced_usd
    )
    SELECT
        tenant_id, bucket, label, value, sum(n_requests), sum(n_failed), sum(n_unpriced), sum(n_input), sum(n_output),
        sum(n_cache_read), sum(n_cache_write), sum(n_reasoning), sum(cost_usd), sum(model_cost_usd), sum(fees_usd),
        sum(list_cost_usd), sum(enforced_usd)
    FROM label
    WHERE (SELECT count(*) FROM total_written) >= 0
    GROUP BY tenant_id, bucket, label, value
    ORDER BY 1, 2, 3, 4
    ON CONFLICT (tenant_id, bucket, label, value) DO UPDATE SET
        requests = t.requests + excluded.requests,
        failed_requests = t.failed_requests + excluded.failed_requests,
        unpriced_requests = t.unpriced_requests + excluded.unpriced_requests,
        input_tokens = t.input_tokens + excluded.input_tokens,
        output_tokens = t.output_tokens + excluded.output_tokens,
        cache_read_input_tokens = t.cache_read_input_tokens + excluded.cache_read_input_tokens,
        cache_write_input_tokens = t.cache_write_input_tokens + excluded.cache_write_input_tokens,
        reasoning_output_tokens = t.reasoning_output_tokens + excluded.reasoning_output_tokens,
        cost_usd = t.cost_usd + excluded.cost_usd,
        model_cost_usd = t.model_cost_usd + excluded.model_cost_usd,
        fees_usd = t.fees_usd + excluded.fees_usd,
        list_cost_usd = t.list_cost_usd + excluded.list_cost_usd,
        enforced_usd = t.enforced_usd + excluded.enforced_usd
    RETURNING 1
),
-- Made first: joined to the counters charge by charge, a batch of 500 scans all its counters 500 times.
posting AS MATERIALIZED (
    SELECT f.tenant_id, f.charge_id, f.reservation_id, f.enforced_usd, n.number
    FROM fresh AS f CROSS JOIN LATERAL unnest(f.window_numbers) AS n (number)
),
counter_written AS (
    INSERT INTO budget_window AS w (tenant_id, budget_id, subject, bucket, enforced, version)
    SELECT a.tenant_id, p.budget_id, p.subject, p.bucket, a.enforced_usd, 1
    FROM (SELECT tenant_id, number, sum(enforced_usd) AS enforced_usd FROM posting GROUP BY tenant_id, number) AS a
    JOIN counter AS p USING (number)
    WHERE (SELECT count(*) FROM label_total_written) >= 0
    ORDER BY p.breadth, a.tenant_id, p.budget_id, p.subject, p.bucket
    ON CONFLICT (tenant_id, budget_id, subject, bucket) DO UPDATE SET
        enforced = w.enforced + excluded.enforced,
        version = w.version + 1
    RETURNING tenant_id, budget_id, subject, bucket, enforced, version
),
counters_owed AS (
    SELECT tenant_id, json_agg(json_build_array(budget_id, subject, bucket)) AS counters
    FROM counter_written GROUP BY tenant_id
),
settled_counters AS (
    SELECT s.charge_id, json_agg(json_build_array(p.budget_id, p.subject)) AS counters
    FROM posting AS s JOIN counter AS p USING (number) WHERE s.reservation_id IS NOT NULL GROUP BY s.charge_id
),
settlements_owed AS (
    SELECT tenant_id, json_agg(json_build_object(
        'reservation_id', reservation_id, 'charge_id', charge_id, 'amount_usd', enforced_usd::text,
        'is_final', COALESCE(is_final, true), 'is_failure', status = 'failure',
        'counters', COALESCE(c.counters, '[]')
    )) AS settlements
    FROM fresh LEFT JOIN settled_counters AS c USING (charge_id) WHERE reservation_id IS NOT NULL GROUP BY tenant_id
),
outbox_written AS (
    INSERT INTO outbox (tenant_id, outbox_id, created_at, counters, settlements)
    SELECT t.tenant_id, t.outbox_id, clock_timestamp(), COALESCE(c.counters, '[]'), COALESCE(s.settlements, '[]')
    FROM fenced_tenant AS t
    LEFT JOIN counters_owed AS c USING (tenant_id)
    LEFT JOIN settlements_owed AS s USING (tenant_id)
    WHERE c.tenant_id IS NOT NULL OR s.tenant_id IS NOT NULL
    RETURNING 1
)
SELECT
    (SELECT holds FROM fence) AS fence_holds,
    (SELECT json_agg(charge_id) FROM fresh) AS charge_ids,
    (SELECT json_agg(json_build_array(tenant_id, budget_id, subject, bucket, enforced::text, version))
     FROM counter_written) AS counters,
    (SELECT epoch FROM ledger_epoch) AS epoch,
    (SELECT count(*) FROM outbox_written) AS outbox_rows
