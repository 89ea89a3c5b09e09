-- The delivery queue's protocol: claim, finish, release, reap. Each function is one transaction and one round trip.
--
-- Their plans must not depend on how full the tables were when they were made: a queue's tables are empty most of the time
-- and huge when it matters. Hence the planner settings on each function; and plans are kept (force_generic_plan), for to
-- make one costs more than to run it. Nor are they compiled (jit): what looks dear by the size of a backlog reads a few rows.

CREATE FUNCTION flametree.waiting_lanes(
    p_channel flametree.channel, p_tenant text, p_endpoint uuid, p_limit integer
) RETURNS TABLE (
    tenant_id text, endpoint_id uuid, first_position bigint, first_id uuid, replayed_at timestamptz
) LANGUAGE plpgsql STABLE
    SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off SET jit = off
    SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE lane AS (
        (SELECT r.tenant_id, r.endpoint_id, r.position, r.id
         FROM flametree.ready_deliveries AS r
         WHERE r.channel = p_channel AND (r.tenant_id, r.endpoint_id) > (p_tenant, p_endpoint)
         ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1)
        UNION ALL
        SELECT n.tenant_id, n.endpoint_id, n.position, n.id
        FROM lane AS l
        CROSS JOIN LATERAL (
            SELECT r.tenant_id, r.endpoint_id, r.position, r.id
            FROM flametree.ready_deliveries AS r
            WHERE r.channel = p_channel AND (r.tenant_id, r.endpoint_id) > (l.tenant_id, l.endpoint_id)
            ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1
        ) AS n
    )
    SELECT l.tenant_id, l.endpoint_id, l.position, l.id,
           (SELECT r.created_at FROM flametree.replays AS r WHERE r.id = l.id AND r.tenant_id = l.tenant_id)
    FROM lane AS l LIMIT p_limit;
END
$$;
COMMENT ON FUNCTION flametree.waiting_lanes IS
    'The endpoints that have ready deliveries, in key order behind (p_tenant, p_endpoint), one index probe each; replayed_at: since when the first one waits, where it is a replay.';

CREATE FUNCTION flametree.waiting_beside(
    p_channel flametree.channel, p_tenants text[], p_endpoints uuid[], p_after bigint[]
) RETURNS TABLE (
    tenant_id text, endpoint_id uuid, first_position bigint, first_id uuid, replayed_at timestamptz
) LANGUAGE plpgsql STABLE
    SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off SET jit = off
    SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT f.tenant_id, f.endpoint_id, f.position, f.id,
           (SELECT r.created_at FROM flametree.replays AS r WHERE r.id = f.id AND r.tenant_id = f.tenant_id)
    FROM unnest(p_tenants, p_endpoints, p_after, p_tenants[2:], p_endpoints[2:])
        AS k (tenant_id, endpoint_id, after, next_tenant, next_endpoint)
    CROSS JOIN LATERAL (
        -- Each part is bounded by single columns behind equal ones: the scan of an index does not end where the second
        -- column of a row's bound does.
        (SELECT r.tenant_id, r.endpoint_id, r.position, r.id
         FROM flametree.ready_deliveries AS r
         WHERE r.channel = p_channel AND r.tenant_id = k.tenant_id
           AND (r.endpoint_id, r.position) > (k.endpoint_id, k.after)
           AND r.endpoint_id < CASE WHEN k.next_tenant = k.tenant_id THEN k.next_endpoint
                                    ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff' END
         ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1)
        UNION ALL
        (SELECT r.tenant_id, r.endpoint_id, r.position, r.id
         FROM flametree.ready_deliveries AS r
         -- No tenant is longer than 128 bytes: nothing lies behind the last one's bound.
         WHERE k.next_tenant IS DISTINCT FROM k.tenant_id AND r.channel = p_channel AND r.tenant_id > k.tenant_id
           AND r.tenant_id < coalesce(k.next_tenant, repeat(U&'\+10FFFF', 33))
         ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1)
        UNION ALL
        (SELECT r.tenant_id, r.endpoint_id, r.position, r.id
         FROM flametree.ready_deliveries AS r
         WHERE k.next_tenant <> k.tenant_id AND r.channel = p_channel AND r.tenant_id = k.next_tenant
           AND r.endpoint_id < k.next_endpoint
         ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1)
    ) AS f;
END
$$;
COMMENT ON FUNCTION flametree.waiting_beside IS
    'For places in key order (an endpoint and a position in it): the first ready delivery between each and the endpoint of the next, and the first ones of other tenants between them. Never looks at what lies before the places, which may be dead rows.';

CREATE TYPE flametree.claimed AS (
    claimed_at     timestamptz,
    lane_tenants   text[],
    lane_endpoints uuid[],
    lane_versions  integer[],
    lanes          smallint[],
    positions      bigint[],
    delivery_ids   uuid[],
    event_ids      uuid[],
    expiries       timestamptz[],
    event_types    text[],
    agents         text[],
    sessions       text[],
    customers      text[],
    assignees      text[],
    occurred       timestamptz[],
    texts          text[],
    metadata       text[],
    traces         bytea[]
);
COMMENT ON TYPE flametree.claimed IS
    'A ledger row with its events: the n-th of each array from lanes on is of the n-th delivery. One row of arrays costs both sides half of what a row for each delivery does.';

CREATE FUNCTION flametree.claim_deliveries(
    p_claim_id uuid, p_worker_id uuid, p_channel flametree.channel,
    p_tenants text[], p_endpoints uuid[], p_after bigint[], p_quotas integer[]
) RETURNS flametree.claimed LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
    SET jit = off SET plan_cache_mode = force_generic_plan AS $$
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
    -- By place and by nothing else, in the channel's own table: by the key, the plan that is kept, made while the table was
    -- empty, may be to read all of the index: dear once it holds dead rows.
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
    v_claim.claimed_at := clock_timestamp();
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
    'Begins deliveries: takes up to each lane''s quota from ready_deliveries, writes the ledger row and answers it with its events; NULL where nothing was ready. Raises FT001 when the worker is fenced.';

CREATE FUNCTION flametree.claimed_deliveries(p_claim flametree.claims) RETURNS flametree.claimed LANGUAGE plpgsql STABLE
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_lanes smallint[] := p_claim.lanes;
    v_events uuid[] := p_claim.event_ids;
    v_tenants text[] := p_claim.lane_tenants;
    -- Bounds known before execution let the executor leave out the partitions of other days.
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
    -- LEFT: a delivery whose event is gone is still answered, else its claim could never be completed.
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
COMMENT ON FUNCTION flametree.claimed_deliveries IS 'A ledger row with its events.';

CREATE FUNCTION flametree.resolve_claim(p_claim_id uuid, p_worker_id uuid) RETURNS flametree.claimed LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
DECLARE
    v_claim flametree.claims;
BEGIN
    -- Writing the same key waits for a claim that is still under way, and forbids one that would come later.
    INSERT INTO flametree.claims (claim_id, worker_id, channel, claimed_at, lane_tenants, lane_endpoints, lane_versions,
        lanes, positions, delivery_ids, event_ids, expiries)
    VALUES (p_claim_id, p_worker_id, 'webhook', clock_timestamp(), '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')
    ON CONFLICT (claim_id) DO NOTHING;

    SELECT c.* INTO v_claim FROM flametree.claims AS c WHERE c.claim_id = p_claim_id AND c.worker_id = p_worker_id;
    IF NOT FOUND OR cardinality(v_claim.delivery_ids) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN flametree.claimed_deliveries(v_claim);
END
$$;
COMMENT ON FUNCTION flametree.resolve_claim IS
    'After a lost answer: the claim with its deliveries if it happened; if not, NULL, and it cannot happen any more.';

CREATE FUNCTION flametree.finish_deliveries(
    p_complete_claims uuid[], p_channel flametree.channel, p_tenants text[], p_ids uuid[], p_endpoints uuid[],
    p_events uuid[], p_claimed timestamptz[], p_outcomes text[], p_versions integer[], p_durations_us integer[],
    p_statuses smallint[], p_details text[]
) RETURNS uuid[] LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_recorded uuid[];
    v_late uuid[] := '{}';
BEGIN
    -- Ledger first, then the log, as the reaper does: where the two still wait for each other, one is ended and repeated.
    DELETE FROM flametree.claims AS c WHERE c.claim_id = ANY (p_complete_claims);

    BEGIN
        INSERT INTO flametree.deliveries (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel, outcome,
            endpoint_version, duration_us, http_status, detail)
        SELECT g.tenant_id, g.id, g.endpoint_id, g.event_id, g.claimed_at, v_now, p_channel,
               g.outcome::flametree.outcome, g.version, g.duration_us, g.status, g.detail
        FROM (
            SELECT unnest(p_tenants) AS tenant_id, unnest(p_ids) AS id, unnest(p_endpoints) AS endpoint_id,
                   unnest(p_events) AS event_id, unnest(p_claimed) AS claimed_at, unnest(p_outcomes) AS outcome,
                   unnest(p_versions) AS version, unnest(p_durations_us) AS duration_us, unnest(p_statuses) AS status,
                   unnest(p_details) AS detail
        ) AS g;
    EXCEPTION WHEN unique_violation THEN
        -- Somebody was first: the reaper (its outcome stays), or this very call, sent again after a lost answer. Seldom:
        -- hence not ON CONFLICT at once, which takes twice the time and more WAL for each row.
        WITH recorded AS (
            INSERT INTO flametree.deliveries AS d (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel,
                outcome, endpoint_version, duration_us, http_status, detail)
            SELECT g.tenant_id, g.id, g.endpoint_id, g.event_id, g.claimed_at, v_now, p_channel,
                   g.outcome::flametree.outcome, g.version, g.duration_us, g.status, g.detail
            FROM unnest(p_tenants, p_ids, p_endpoints, p_events, p_claimed, p_outcomes, p_versions, p_durations_us,
                        p_statuses, p_details)
                AS g (tenant_id, id, endpoint_id, event_id, claimed_at, outcome, version, duration_us, status, detail)
            ON CONFLICT (tenant_id, id) DO NOTHING
            RETURNING d.id
        )
        SELECT array_agg(r.id) INTO v_recorded FROM recorded AS r;
        v_late := ARRAY(
            SELECT g.id FROM unnest(p_tenants, p_ids, p_outcomes) AS g (tenant_id, id, outcome)
            CROSS JOIN LATERAL (
                SELECT d.outcome FROM flametree.deliveries AS d
                WHERE d.tenant_id = g.tenant_id AND d.id = g.id LIMIT 1
            ) AS d
            WHERE g.id <> ALL (coalesce(v_recorded, '{}')) AND d.outcome::text <> g.outcome
        );
    END;

    IF 'gone' = ANY (p_outcomes) THEN
        IF p_channel = 'webhook' THEN
            UPDATE flametree.push_configs AS c
            SET enabled = false, disabled_reason = 'gone', version = c.version + 1, updated_at = v_now
            FROM unnest(p_tenants, p_endpoints, p_versions, p_outcomes) AS g (tenant_id, endpoint_id, version, outcome)
            WHERE g.outcome = 'gone' AND c.tenant_id = g.tenant_id AND c.endpoint_id = g.endpoint_id
              AND c.version = g.version;
        ELSE
            DELETE FROM flametree.push_subscriptions AS s
            USING unnest(p_tenants, p_endpoints, p_versions, p_outcomes) AS g (tenant_id, endpoint_id, version, outcome)
            WHERE g.outcome = 'gone' AND s.tenant_id = g.tenant_id AND s.id = g.endpoint_id AND s.version = g.version;
        END IF;
    END IF;
    RETURN v_late;
END
$$;
COMMENT ON FUNCTION flametree.finish_deliveries IS
    'Records outcomes and removes the ledger rows that are now complete. Answers the ids whose outcome the reaper had written before. An endpoint that said it is gone is disabled or removed in the same transaction.';

CREATE FUNCTION flametree.release_deliveries(p_claim_id uuid, p_ids uuid[]) RETURNS integer LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_claim flametree.claims;
    v_kept smallint[];
BEGIN
    SELECT c.* INTO v_claim FROM flametree.claims AS c WHERE c.claim_id = p_claim_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;

    INSERT INTO flametree.ready_deliveries (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
    SELECT v_claim.channel, v_claim.lane_tenants[d.lane], v_claim.lane_endpoints[d.lane], d.position, d.id, d.event_id,
           d.expires_at
    FROM unnest(v_claim.lanes, v_claim.positions, v_claim.delivery_ids, v_claim.event_ids, v_claim.expiries)
        AS d (lane, position, id, event_id, expires_at)
    WHERE d.id = ANY (p_ids);

    v_kept := ARRAY(
        SELECT o.n FROM unnest(v_claim.delivery_ids) WITH ORDINALITY AS o (id, n) WHERE o.id <> ALL (p_ids) ORDER BY o.n);
    IF v_kept = '{}' THEN
        DELETE FROM flametree.claims AS c WHERE c.claim_id = p_claim_id;
    ELSE
        UPDATE flametree.claims AS c
        SET lanes = ARRAY(SELECT c.lanes[n] FROM unnest(v_kept) WITH ORDINALITY AS k (n, o) ORDER BY o),
            positions = ARRAY(SELECT c.positions[n] FROM unnest(v_kept) WITH ORDINALITY AS k (n, o) ORDER BY o),
            delivery_ids = ARRAY(SELECT c.delivery_ids[n] FROM unnest(v_kept) WITH ORDINALITY AS k (n, o) ORDER BY o),
            event_ids = ARRAY(SELECT c.event_ids[n] FROM unnest(v_kept) WITH ORDINALITY AS k (n, o) ORDER BY o),
            expiries = ARRAY(SELECT c.expiries[n] FROM unnest(v_kept) WITH ORDINALITY AS k (n, o) ORDER BY o)
        WHERE c.claim_id = p_claim_id;
    END IF;
    RETURN cardinality(v_claim.delivery_ids) - cardinality(v_kept);
END
$$;
COMMENT ON FUNCTION flametree.release_deliveries IS
    'Puts deliveries that were claimed but not begun back, at their old positions; 0 when the reaper has taken the claim.';

-- From the dead workers to their rows, never over the whole ledger: while somebody holds an old snapshot, that is mostly
-- dead rows.
CREATE FUNCTION flametree.reap_claims(p_limit integer) RETURNS TABLE (channel text, interrupted bigint) LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH dead AS (
        DELETE FROM flametree.claims AS c
        WHERE c.claim_id IN (
            SELECT x.claim_id FROM flametree.workers AS w
            CROSS JOIN LATERAL (
                SELECT l.claim_id FROM flametree.claims AS l
                WHERE l.worker_id = w.id
                LIMIT p_limit
                FOR UPDATE SKIP LOCKED
            ) AS x
            WHERE w.fenced_at IS NOT NULL
            LIMIT p_limit
        )
        RETURNING c.channel, c.claimed_at, c.lane_tenants, c.lane_endpoints, c.lane_versions, c.lanes, c.delivery_ids,
                  c.event_ids
    ), recorded AS (
        INSERT INTO flametree.deliveries AS d (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel, outcome,
            endpoint_version, duration_us)
        SELECT c.lane_tenants[u.lane], u.id, c.lane_endpoints[u.lane], u.event_id, c.claimed_at, clock_timestamp(),
               c.channel, 'interrupted', c.lane_versions[u.lane], 0
        FROM dead AS c
        CROSS JOIN LATERAL unnest(c.lanes, c.delivery_ids, c.event_ids) AS u (lane, id, event_id)
        ON CONFLICT (tenant_id, id) DO NOTHING
        RETURNING d.channel
    )
    SELECT c.channel::text, (SELECT count(*) FROM recorded AS r WHERE r.channel = c.channel)
    FROM dead AS c GROUP BY c.channel;
END
$$;
COMMENT ON FUNCTION flametree.reap_claims IS
    'Records what fenced workers had begun and not recorded as interrupted, up to p_limit ledger rows. An outcome that is there stays. Answers the channels of the rows; none: there are no more, or somebody has locked them.';
