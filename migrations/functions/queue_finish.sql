-- The functions of the delivery queue that record outcomes, release deliveries and reap the claims of dead workers. Each
-- function is one transaction and one round trip.
--
-- Plans must not depend on how many rows a table has at planning time, because the queue's tables are usually empty, but huge
-- during a backlog. So each function pins planner settings. It also keeps its plans (force_generic_plan), because planning
-- costs more than running. JIT is off, because statements that look expensive during a backlog read only a few rows.

CREATE OR REPLACE FUNCTION flametree.next_batch() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_current_xact_id();
    RETURN nextval('flametree.delivery_batches');
END
$$;
COMMENT ON FUNCTION flametree.next_batch IS
    'The number of a new batch. The transaction gets its id before the number: rollups find out by the id whether a transaction with a smaller number still runs.';

CREATE OR REPLACE FUNCTION flametree.finish_deliveries(
    p_complete_claims uuid[], p_channel flametree.channel, p_tenants text[], p_ids uuid[], p_endpoints uuid[],
    p_events uuid[], p_claimed timestamptz[], p_outcomes text[], p_versions integer[], p_durations_us integer[],
    p_statuses smallint[], p_details text[], p_first_id uuid, p_last_id uuid
) RETURNS uuid[] LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
    SET lock_timeout = '3s' AS $$
DECLARE
    v_now timestamptz := flametree.clock();
    v_batch bigint := flametree.next_batch();
    v_recorded uuid[] := p_ids;
    v_late uuid[] := '{}';
BEGIN
    -- Locks claims before deliveries, as the reaper does. After a deadlock, PostgreSQL cancels one transaction, which is retried.
    DELETE FROM flametree.claims AS c WHERE c.claim_id = ANY (p_complete_claims);

    BEGIN
        INSERT INTO flametree.deliveries (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel, outcome,
            endpoint_version, duration_us, http_status, batch, detail)
        SELECT g.tenant_id, g.id, g.endpoint_id, g.event_id, g.claimed_at, v_now, p_channel,
               g.outcome::flametree.outcome, g.version, g.duration_us, g.status, v_batch, g.detail
        FROM (
            SELECT unnest(p_tenants) AS tenant_id, unnest(p_ids) AS id, unnest(p_endpoints) AS endpoint_id,
                   unnest(p_events) AS event_id, unnest(p_claimed) AS claimed_at, unnest(p_outcomes) AS outcome,
                   unnest(p_versions) AS version, unnest(p_durations_us) AS duration_us, unnest(p_statuses) AS status,
                   unnest(p_details) AS detail
        ) AS g;
    EXCEPTION WHEN unique_violation THEN
        -- The reaper, or an earlier call whose response was lost, has already recorded an outcome. The existing outcome
        -- stays. This is rare, and ON CONFLICT in the statement above would double the time and write more WAL for each row.
        WITH recorded AS (
            INSERT INTO flametree.deliveries AS d (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel,
                outcome, endpoint_version, duration_us, http_status, batch, detail)
            SELECT g.tenant_id, g.id, g.endpoint_id, g.event_id, g.claimed_at, v_now, p_channel,
                   g.outcome::flametree.outcome, g.version, g.duration_us, g.status, v_batch, g.detail
            FROM unnest(p_tenants, p_ids, p_endpoints, p_events, p_claimed, p_outcomes, p_versions, p_durations_us,
                        p_statuses, p_details)
                AS g (tenant_id, id, endpoint_id, event_id, claimed_at, outcome, version, duration_us, status, detail)
            ON CONFLICT (tenant_id, id) DO NOTHING
            RETURNING d.id
        )
        SELECT coalesce(array_agg(r.id), '{}') INTO v_recorded FROM recorded AS r;
        v_late := ARRAY(
            SELECT g.id FROM unnest(p_tenants, p_ids, p_outcomes) AS g (tenant_id, id, outcome)
            CROSS JOIN LATERAL (
                SELECT d.outcome FROM flametree.deliveries AS d
                WHERE d.tenant_id = g.tenant_id AND d.id = g.id LIMIT 1
            ) AS d
            WHERE g.id <> ALL (v_recorded) AND d.outcome::text <> g.outcome
        );
    END;
    IF v_recorded <> '{}' THEN
        -- Like note_batch, but without sorting the ids, which would take a tenth of this function's time.
        INSERT INTO flametree.uncounted_batches (batch, first_id, last_id, deliveries)
        VALUES (v_batch, p_first_id, p_last_id, cardinality(v_recorded));
    END IF;

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
    'Records outcomes, of which p_first_id and p_last_id are the smallest and the largest id, and deletes the claims that are now complete. Returns the ids whose outcome the reaper had already written. Disables or removes endpoints that reported they are gone, in the same transaction.';

CREATE OR REPLACE FUNCTION flametree.taken_locks(
    p_channel flametree.channel, p_days date[], p_tenants text[], p_endpoints uuid[], p_complete_claims uuid[]
) RETURNS TABLE (day date, endpoint_id uuid, claim_id uuid) LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_day date;
    v_name text;
    v_existing uuid[];
    v_free uuid[];
BEGIN
    FOREACH v_day IN ARRAY p_days LOOP
        SELECT p.name INTO v_name FROM flametree.partitions() AS p
        WHERE p.parent = 'deliveries' AND p.state = 'attached' AND p.starts_at <= v_day::timestamp AT TIME ZONE 'UTC'
          AND p.ends_at > v_day::timestamp AT TIME ZONE 'UTC';
        BEGIN
            EXECUTE format('LOCK TABLE ONLY flametree.%I IN ROW EXCLUSIVE MODE NOWAIT', coalesce(v_name, 'deliveries'));
        EXCEPTION WHEN lock_not_available THEN
            RETURN QUERY SELECT v_day, NULL::uuid, NULL::uuid;
        END;
    END LOOP;

    BEGIN
        IF p_channel = 'webhook' THEN
            LOCK TABLE flametree.push_configs IN ROW EXCLUSIVE MODE NOWAIT;
            v_existing := ARRAY(
                SELECT c.endpoint_id FROM flametree.push_configs AS c
                JOIN unnest(p_tenants, p_endpoints) AS g (tenant_id, endpoint_id) USING (tenant_id, endpoint_id));
            v_free := ARRAY(
                SELECT c.endpoint_id FROM flametree.push_configs AS c
                JOIN unnest(p_tenants, p_endpoints) AS g (tenant_id, endpoint_id) USING (tenant_id, endpoint_id)
                FOR NO KEY UPDATE OF c SKIP LOCKED);
        ELSE
            LOCK TABLE flametree.push_subscriptions IN ROW EXCLUSIVE MODE NOWAIT;
            v_existing := ARRAY(
                SELECT s.id FROM flametree.push_subscriptions AS s
                JOIN unnest(p_tenants, p_endpoints) AS g (tenant_id, id) USING (tenant_id, id));
            v_free := ARRAY(
                SELECT s.id FROM flametree.push_subscriptions AS s
                JOIN unnest(p_tenants, p_endpoints) AS g (tenant_id, id) USING (tenant_id, id)
                FOR UPDATE OF s SKIP LOCKED);
        END IF;
        RETURN QUERY SELECT NULL::date, e.id, NULL::uuid FROM unnest(v_existing) AS e (id) WHERE e.id <> ALL (v_free);
    EXCEPTION WHEN lock_not_available THEN
        RETURN QUERY SELECT NULL::date, g.id, NULL::uuid FROM unnest(p_endpoints) AS g (id);
    END;

    BEGIN
        LOCK TABLE flametree.claims IN ROW EXCLUSIVE MODE NOWAIT;
        v_existing := ARRAY(SELECT c.claim_id FROM flametree.claims AS c WHERE c.claim_id = ANY (p_complete_claims));
        v_free := ARRAY(
            SELECT c.claim_id FROM flametree.claims AS c WHERE c.claim_id = ANY (p_complete_claims)
            FOR UPDATE SKIP LOCKED);
        RETURN QUERY SELECT NULL::date, NULL::uuid, e.id FROM unnest(v_existing) AS e (id) WHERE e.id <> ALL (v_free);
    EXCEPTION WHEN lock_not_available THEN
        RETURN QUERY SELECT NULL::date, NULL::uuid, g.id FROM unnest(p_complete_claims) AS g (id);
    END;
END
$$;
COMMENT ON FUNCTION flametree.taken_locks IS
    'The locks of finish_deliveries that other sessions hold now: those of the tables of these days, of these endpoints that are gone, and of these claims. Never waits.';

CREATE OR REPLACE FUNCTION flametree.note_batch(p_batch bigint, p_ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_sorted uuid[] := ARRAY(SELECT u FROM unnest(p_ids) AS u ORDER BY u);
BEGIN
    IF p_ids <> '{}' THEN
        INSERT INTO flametree.uncounted_batches (batch, first_id, last_id, deliveries)
        VALUES (p_batch, v_sorted[1], v_sorted[cardinality(v_sorted)], cardinality(v_sorted));
    END IF;
END
$$;
COMMENT ON FUNCTION flametree.note_batch IS
    'Marks the outcomes of a batch as not yet in delivery_rollups, in the transaction that records them.';

CREATE OR REPLACE FUNCTION flametree.release_deliveries(p_claim_id uuid, p_ids uuid[], p_is_last boolean DEFAULT false)
    RETURNS integer LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET lock_timeout = '3s' AS $$
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
    IF v_kept = '{}' OR p_is_last THEN
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
    'Releases deliveries that were claimed but not started, so that they are ready again at their old positions. Returns the number of released deliveries, or 0 if the reaper has already handled the claim. If p_is_last is true, all other deliveries of the claim have outcomes, and the claim is deleted.';

-- Looks up the claims of each dead worker. A scan of the table would also read the dead rows that an old snapshot keeps.
CREATE OR REPLACE FUNCTION flametree.reap_claims(p_limit integer, p_except uuid[] DEFAULT '{}', p_only uuid DEFAULT NULL)
    RETURNS TABLE (channel text, interrupted bigint) LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan
    SET lock_timeout = '3s' AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := flametree.clock();
    v_batch bigint;
    v_channels text[];
    v_recorded uuid[];
    v_recorded_channels text[];
BEGIN
    WITH dead AS (
        DELETE FROM flametree.claims AS c
        WHERE c.claim_id IN (
            SELECT x.claim_id FROM flametree.workers AS w
            CROSS JOIN LATERAL (
                SELECT l.claim_id FROM flametree.claims AS l
                WHERE l.worker_id = w.id AND l.claim_id <> ALL (p_except) AND (p_only IS NULL OR l.claim_id = p_only)
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
            endpoint_version, duration_us, batch)
        SELECT c.lane_tenants[u.lane], u.id, c.lane_endpoints[u.lane], u.event_id, c.claimed_at, v_now,
               c.channel, 'interrupted', c.lane_versions[u.lane], 0, (SELECT flametree.next_batch())
        FROM dead AS c
        CROSS JOIN LATERAL unnest(c.lanes, c.delivery_ids, c.event_ids) AS u (lane, id, event_id)
        ON CONFLICT (tenant_id, id) DO NOTHING
        RETURNING d.channel, d.id, d.batch
    )
    SELECT ARRAY(SELECT DISTINCT c.channel::text FROM dead AS c), coalesce(array_agg(r.id), '{}'),
           coalesce(array_agg(r.channel::text), '{}'), max(r.batch)
    INTO v_channels, v_recorded, v_recorded_channels, v_batch
    FROM recorded AS r;
    PERFORM flametree.note_batch(v_batch, v_recorded);
    RETURN QUERY
    SELECT c.name, cardinality(array_positions(v_recorded_channels, c.name))::bigint FROM unnest(v_channels) AS c (name);
END
$$;
COMMENT ON FUNCTION flametree.reap_claims IS
    'Records the unfinished deliveries of fenced workers as interrupted, for up to p_limit claims except p_except, or only for p_only. Existing outcomes stay. Returns the channel of each claim with the number of new outcomes. Returns no rows if no such claims are left or all of them are locked.';
