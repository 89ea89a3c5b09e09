-- The functions of the delivery queue that claim deliveries. Each function is one transaction and one round trip.
--
-- Plans must not depend on how many rows a table has at planning time, because the queue's tables are usually empty, but huge
-- during a backlog. So each function pins planner settings. It also keeps its plans (force_generic_plan), because planning
-- costs more than running. JIT is off, because statements that look expensive during a backlog read only a few rows.

CREATE OR REPLACE FUNCTION flametree.claim_deliveries(
    p_claim_id uuid, p_worker_id uuid, p_channel flametree.channel,
    p_tenants text[], p_endpoints uuid[], p_after bigint[], p_quotas integer[]
) RETURNS flametree.claimed LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
    SET jit = off SET plan_cache_mode = force_generic_plan SET lock_timeout = '3s' AS $$
DECLARE
    v_claim flametree.claims;
    v_places tid[];
    v_taken bigint;
BEGIN
    PERFORM 1 FROM flametree.workers AS w WHERE w.id = p_worker_id AND w.fenced_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'worker % is fenced', p_worker_id USING ERRCODE = 'FT001';
    END IF;

    SELECT array_agg(l.lane::smallint), array_agg(r.position), array_agg(r.id), array_agg(r.event_id),
           array_agg(r.expires_at), array_agg(r.place)
    INTO v_claim.lanes, v_claim.positions, v_claim.delivery_ids, v_claim.event_ids, v_claim.expiries, v_places
    FROM (
        SELECT unnest(p_tenants) AS tenant_id, unnest(p_endpoints) AS endpoint_id, unnest(p_after) AS after,
               unnest(p_quotas) AS quota, generate_series(1, cardinality(p_endpoints)) AS lane
    ) AS l
    CROSS JOIN LATERAL (
        SELECT r.position, r.id, r.event_id, r.expires_at, r.ctid AS place
        FROM flametree.ready_deliveries AS r
        WHERE r.channel = p_channel AND r.tenant_id = l.tenant_id AND r.endpoint_id = l.endpoint_id
          AND r.position > l.after
        ORDER BY r.position
        LIMIT l.quota
        FOR UPDATE SKIP LOCKED
    ) AS r;

    IF v_claim.delivery_ids IS NULL THEN
        RETURN NULL;
    END IF;
    -- Deletes by ctid from the channel's table. A deletion by key can have a plan for an empty table and read the
    -- whole index of the key. This is slow if the index contains many dead rows.
    IF p_channel = 'webhook' THEN
        DELETE FROM flametree.ready_deliveries_webhook AS r WHERE r.ctid = ANY (v_places);
    ELSE
        DELETE FROM flametree.ready_deliveries_browser_push AS r WHERE r.ctid = ANY (v_places);
    END IF;
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    IF v_taken <> cardinality(v_places) THEN
        RAISE EXCEPTION '% of % locked deliveries were there to take', v_taken, cardinality(v_places);
    END IF;

    v_claim.lane_versions := ARRAY(
        SELECT CASE p_channel
            WHEN 'webhook' THEN (
                SELECT c.version FROM flametree.push_configs AS c
                WHERE c.tenant_id = l.tenant_id AND c.endpoint_id = l.endpoint_id AND c.enabled)
            WHEN 'browser_push' THEN (
                SELECT s.version FROM flametree.push_subscriptions AS s
                WHERE s.tenant_id = l.tenant_id AND s.id = l.endpoint_id AND s.active)
            END
        FROM (SELECT unnest(p_tenants) AS tenant_id, unnest(p_endpoints) AS endpoint_id) AS l
    );

    v_claim.claim_id := p_claim_id;
    v_claim.worker_id := p_worker_id;
    v_claim.channel := p_channel;
    v_claim.claimed_at := flametree.clock();
    v_claim.lane_tenants := p_tenants;
    v_claim.lane_endpoints := p_endpoints;
    INSERT INTO flametree.claims (claim_id, worker_id, channel, claimed_at, lane_tenants, lane_endpoints, lane_versions,
        lanes, positions, delivery_ids, event_ids, expiries)
    VALUES (v_claim.claim_id, v_claim.worker_id, v_claim.channel, v_claim.claimed_at, v_claim.lane_tenants,
        v_claim.lane_endpoints, v_claim.lane_versions, v_claim.lanes, v_claim.positions, v_claim.delivery_ids,
        v_claim.event_ids, v_claim.expiries);

    RETURN flametree.claimed_deliveries(v_claim);
END
$$;
COMMENT ON FUNCTION flametree.claim_deliveries IS
    'Claims deliveries: takes up to each lane''s quota from ready_deliveries, writes the claim and returns it with its events; NULL if no delivery was ready. Raises FT001 if the worker is fenced.';

CREATE OR REPLACE FUNCTION flametree.claimed_deliveries(p_claim flametree.claims) RETURNS flametree.claimed LANGUAGE plpgsql STABLE
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_lanes smallint[] := p_claim.lanes;
    v_events uuid[] := p_claim.event_ids;
    v_tenants text[] := p_claim.lane_tenants;
    -- With bounds that are known before execution, the executor skips the partitions of other days.
    v_sorted uuid[] := ARRAY(SELECT u FROM unnest(v_events) AS u ORDER BY u);
    v_first uuid := v_sorted[1];
    v_last uuid := v_sorted[cardinality(v_sorted)];
    v_claimed flametree.claimed;
BEGIN
    SELECT array_agg(e.type::text), array_agg(e.agent_id), array_agg(e.session_id), array_agg(e.customer_id),
           array_agg(e.assignee_id), array_agg(e.occurred_at), array_agg(e.text), array_agg(e.metadata),
           array_agg(e.trace)
    INTO v_claimed.event_types, v_claimed.agents, v_claimed.sessions, v_claimed.customers,
         v_claimed.assignees, v_claimed.occurred, v_claimed.texts, v_claimed.metadata,
         v_claimed.traces
    FROM (SELECT unnest(v_lanes) AS lane, unnest(v_events) AS event_id) AS d
    -- LEFT JOIN also returns a delivery without its event. Otherwise its claim could never be completed.
    LEFT JOIN LATERAL (
        SELECT e.type, e.agent_id, e.session_id, e.customer_id, e.assignee_id, e.occurred_at, e.text, e.metadata,
               e.trace
        FROM flametree.events AS e
        WHERE e.tenant_id = v_tenants[d.lane] AND e.id = d.event_id AND e.id >= v_first AND e.id <= v_last
        LIMIT 1
    ) AS e ON true;
    v_claimed.claimed_at := p_claim.claimed_at;
    v_claimed.lane_tenants := v_tenants;
    v_claimed.lane_endpoints := p_claim.lane_endpoints;
    v_claimed.lane_versions := p_claim.lane_versions;
    v_claimed.lanes := v_lanes;
    v_claimed.positions := p_claim.positions;
    v_claimed.delivery_ids := p_claim.delivery_ids;
    v_claimed.event_ids := v_events;
    v_claimed.expiries := p_claim.expiries;
    RETURN v_claimed;
END
$$;
COMMENT ON FUNCTION flametree.claimed_deliveries IS 'A claim with its events.';

CREATE OR REPLACE FUNCTION flametree.resolve_claim(p_claim_id uuid, p_worker_id uuid) RETURNS flametree.claimed LANGUAGE plpgsql
    SET enable_seqscan = off SET lock_timeout = '3s' AS $$
DECLARE
    v_claim flametree.claims;
BEGIN
    -- Inserts a row with the claim's key. The insert waits for a claim that is in progress, and prevents a claim that arrives
    -- later.
    INSERT INTO flametree.claims (claim_id, worker_id, channel, claimed_at, lane_tenants, lane_endpoints, lane_versions,
        lanes, positions, delivery_ids, event_ids, expiries)
    VALUES (p_claim_id, p_worker_id, 'webhook', flametree.clock(), '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')
    ON CONFLICT (claim_id) DO NOTHING;

    SELECT c.* INTO v_claim FROM flametree.claims AS c WHERE c.claim_id = p_claim_id AND c.worker_id = p_worker_id;
    IF NOT FOUND OR cardinality(v_claim.delivery_ids) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN flametree.claimed_deliveries(v_claim);
END
$$;
COMMENT ON FUNCTION flametree.resolve_claim IS
    'Called after a lost response. If the claim was committed, returns the claim with its deliveries. If not, returns NULL and prevents the claim.';
