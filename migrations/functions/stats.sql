-- Statistics: the counts of finished deliveries, and the deliveries that are not counted yet.

CREATE OR REPLACE FUNCTION flametree.duration_bucket(p_duration_us integer) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_duration_us > 0 THEN floor(8 * ln(p_duration_us::float8) / ln(2::float8)) ELSE -1 END::smallint
$$;
COMMENT ON FUNCTION flametree.duration_bucket IS
    'The bucket of a duration: eight per doubling, from 1 microsecond. -1 means that nothing was sent.';

CREATE OR REPLACE FUNCTION flametree.span_of_id(p_id uuid, p_minutes integer) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT to_timestamp(('x' || lpad(left(replace(p_id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint
                        / (p_minutes * 60000) * (p_minutes * 60))
$$;
COMMENT ON FUNCTION flametree.span_of_id IS 'The start of the span of p_minutes that contains the time in the id.';

-- Without these settings, the planner can prefer a bitmap scan and a sort, which do not mark dead entries of the index. The rows
-- are deleted by ctid, which a locked row keeps. A join by batch could scan the whole index, if the planner expects few rows.
CREATE OR REPLACE FUNCTION flametree.take_batches(p_deliveries integer) RETURNS SETOF flametree.uncounted_batches LANGUAGE sql
    SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
    DELETE FROM flametree.uncounted_batches AS u
    WHERE u.ctid = ANY (ARRAY(
        SELECT w.ctid
        FROM (
            SELECT l.ctid, sum(l.deliveries) OVER (ORDER BY l.batch) - l.deliveries AS before
            FROM (
                SELECT b.ctid, b.batch, b.deliveries FROM flametree.uncounted_batches AS b
                WHERE b.batch >= (SELECT p.low_water FROM flametree.rollup_progress AS p)
                ORDER BY b.batch LIMIT p_deliveries FOR UPDATE SKIP LOCKED
            ) AS l
        ) AS w
        WHERE w.before < p_deliveries
    ))
    RETURNING u.batch, u.first_id, u.last_id, u.deliveries
$$;
COMMENT ON FUNCTION flametree.take_batches IS
    'Deletes and returns at least one of the oldest batches, up to about p_deliveries deliveries. Skips batches that another rollup counts.';

CREATE OR REPLACE FUNCTION flametree.roll_up(p_deliveries integer) RETURNS TABLE (is_behind boolean, spans bigint) LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    -- Read before this transaction gets its id. So each transaction that has taken a smaller number has a smaller id.
    v_taken bigint := (SELECT s.last_value FROM flametree.delivery_batches AS s WHERE pg_current_xact_id_if_assigned() IS NULL);
    v_batches bigint[];
    v_first_id uuid;
    v_last_id uuid;
    v_wanted integer;
BEGIN
    SELECT array_agg(c.batch ORDER BY c.batch), (array_agg(c.first_id ORDER BY c.first_id))[1], (array_agg(c.last_id ORDER BY c.last_id DESC))[1],
           sum(c.deliveries)
    INTO v_batches, v_first_id, v_last_id, v_wanted
    FROM flametree.take_batches(p_deliveries) AS c;
    IF v_batches IS NULL THEN
        RETURN QUERY SELECT false, 0::bigint;
        RETURN;
    END IF;

    INSERT INTO flametree.delivery_rollups AS r
        (tenant_id, agent_id, span_minutes, starts_at, channel, outcome, bucket, deliveries)
    SELECT d.tenant_id, e.agent_id, s.minutes, flametree.span_of_id(d.id, s.minutes), d.channel, d.outcome,
           flametree.duration_bucket(d.duration_us), count(*)
    FROM flametree.deliveries AS d
    CROSS JOIN LATERAL (
        SELECT e.agent_id FROM flametree.events AS e WHERE e.tenant_id = d.tenant_id AND e.id = d.event_id LIMIT 1
    ) AS e
    CROSS JOIN (VALUES (1), (60)) AS s (minutes)
    WHERE d.batch >= v_batches[1] AND d.batch <= v_batches[cardinality(v_batches)] AND d.batch = ANY (v_batches)
      AND d.id >= v_first_id AND d.id <= v_last_id
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    ORDER BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (tenant_id, agent_id, span_minutes, starts_at, channel, outcome, bucket)
        DO UPDATE SET deliveries = r.deliveries + excluded.deliveries;
    GET DIAGNOSTICS spans = ROW_COUNT;
    IF v_taken IS NOT NULL THEN
        PERFORM flametree.raise_low_water(v_taken, v_batches[cardinality(v_batches)]);
    END IF;
    is_behind := v_wanted >= p_deliveries;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION flametree.roll_up IS
    'One step: counts the oldest batches of about p_deliveries outcomes, in one transaction. Returns whether there may be more, and how many spans changed.';

-- If all transactions below next_xid have ended, no transaction can still commit a batch below next_low_water. The next low water
-- is then the smallest batch that is left, but at most next_low_water. The transaction also records a later pair of a number and
-- an id, for the next call.
CREATE OR REPLACE FUNCTION flametree.raise_low_water(p_taken bigint, p_counted bigint) RETURNS void LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    -- In batches. The dead entries of a thousand batches fill only 4 pages of the index and 10 of the table. A smaller step would
    -- leave more dead versions of the row that is updated.
    c_step CONSTANT integer := 1000;
    v_old flametree.rollup_progress;
    v_low_water bigint;
BEGIN
    SELECT p.* INTO v_old FROM flametree.rollup_progress AS p WHERE p_counted - p.low_water >= c_step
    FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF v_old.next_xid > pg_current_xact_id() THEN
        -- A restore to another server kept the row, but transaction ids started again. The pair is replaced.
        v_low_water := v_old.low_water;
    ELSE
        -- One statement, because the smallest batch must be of the snapshot that contains no transaction below next_xid.
        SELECT least(v_old.next_low_water, (
            SELECT b.batch FROM flametree.uncounted_batches AS b WHERE b.batch >= v_old.low_water ORDER BY b.batch LIMIT 1))
        INTO v_low_water
        WHERE pg_snapshot_xmin(pg_current_snapshot()) >= v_old.next_xid;
        IF NOT FOUND OR (v_low_water - v_old.low_water < c_step AND v_old.next_low_water - v_old.low_water >= c_step) THEN
            -- The transactions still run, or an uncounted batch is next to the low water.
            RETURN;
        END IF;
    END IF;
    UPDATE flametree.rollup_progress
    SET low_water = v_low_water, next_low_water = p_taken, next_xid = pg_current_xact_id();
END
$$;
COMMENT ON FUNCTION flametree.raise_low_water IS
    'Updates rollup_progress after a rollup has counted the batch p_counted, if this saves enough reads. All numbers below p_taken were taken by transactions with smaller ids than this one.';

-- A function in plain SQL is planned within the calling statement, so EXPLAIN shows which rows it reads.
CREATE OR REPLACE FUNCTION flametree.rolled_up_deliveries(
    p_tenant text, p_agent text, p_from timestamptz, p_first_hour timestamptz, p_end_of_hours timestamptz,
    p_to timestamptz, p_channel flametree.channel
) RETURNS TABLE (outcome flametree.outcome, bucket smallint, deliveries bigint) LANGUAGE sql STABLE AS $$
    SELECT r.outcome, r.bucket, r.deliveries FROM flametree.delivery_rollups AS r
    WHERE r.tenant_id = p_tenant AND r.agent_id = p_agent AND r.span_minutes = 1
      AND r.starts_at >= p_from AND r.starts_at < p_first_hour AND (p_channel IS NULL OR r.channel = p_channel)
    UNION ALL
    SELECT r.outcome, r.bucket, r.deliveries FROM flametree.delivery_rollups AS r
    WHERE r.tenant_id = p_tenant AND r.agent_id = p_agent AND r.span_minutes = 60
      AND r.starts_at >= p_first_hour AND r.starts_at < p_end_of_hours AND (p_channel IS NULL OR r.channel = p_channel)
    UNION ALL
    SELECT r.outcome, r.bucket, r.deliveries FROM flametree.delivery_rollups AS r
    WHERE r.tenant_id = p_tenant AND r.agent_id = p_agent AND r.span_minutes = 1
      AND r.starts_at >= p_end_of_hours AND r.starts_at < p_to AND (p_channel IS NULL OR r.channel = p_channel)
$$;
COMMENT ON FUNCTION flametree.rolled_up_deliveries IS
    'The counted deliveries of an agent from p_from to p_to: by hours, and by minutes at the edges.';

CREATE OR REPLACE FUNCTION flametree.uncounted_deliveries(
    p_tenant text, p_agent text, p_from timestamptz, p_to timestamptz, p_channel flametree.channel
) RETURNS TABLE (outcome flametree.outcome, bucket smallint, deliveries bigint) LANGUAGE plpgsql STABLE
    SET enable_seqscan = off SET enable_sort = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    -- Up to this number of uncounted deliveries, the function reads the deliveries of all tenants by page ranges. For more
    -- deliveries, the function uses the tenant's key.
    c_most_deliveries CONSTANT integer := 200000;
    v_batches bigint[];
    v_first uuid;
    v_last uuid;
    v_count bigint;
BEGIN
    -- STABLE functions use the caller's snapshot. So each delivery is counted either here or in the rollups, never in both.
    SELECT array_agg(u.batch ORDER BY u.batch), (array_agg(u.first_id ORDER BY u.first_id))[1],
           (array_agg(u.last_id ORDER BY u.last_id DESC))[1], sum(u.deliveries)
    INTO v_batches, v_first, v_last, v_count
    -- A snapshot that contains this low_water also contains everything that the transaction which set it saw: the end of each
    -- transaction with a smaller number, and the deletion of each smaller batch. So no smaller batch is visible.
    FROM (
        SELECT * FROM flametree.uncounted_batches AS b
        WHERE b.batch >= (SELECT p.low_water FROM flametree.rollup_progress AS p)
        ORDER BY b.batch LIMIT c_most_deliveries
    ) AS u;
    IF v_batches IS NULL THEN
        RETURN;
    END IF;
    v_first := greatest(v_first, flametree.first_id_at(p_from));
    v_last := least(v_last, flametree.first_id_at(p_to));

    IF v_count < c_most_deliveries THEN
        RETURN QUERY
        -- Reads the deliveries of all tenants first. With a condition on the tenant, the planner would scan all of the tenant's
        -- deliveries by primary key, instead of the few pages of the last seconds.
        WITH recent AS MATERIALIZED (
            SELECT d.tenant_id, d.event_id, d.id, d.channel, d.outcome, d.duration_us
            FROM flametree.deliveries AS d
            WHERE d.batch >= v_batches[1] AND d.batch <= v_batches[cardinality(v_batches)] AND d.batch = ANY (v_batches)
              AND d.id >= v_first AND d.id <= v_last
        )
        SELECT d.outcome, flametree.duration_bucket(d.duration_us), count(*)
        FROM recent AS d
        WHERE d.tenant_id = p_tenant AND d.id < flametree.first_id_at(p_to) AND (p_channel IS NULL OR d.channel = p_channel)
          AND (SELECT e.agent_id FROM flametree.events AS e
               WHERE e.tenant_id = p_tenant AND e.id = d.event_id LIMIT 1) = p_agent
        GROUP BY 1, 2;
    ELSE
        RETURN QUERY
        SELECT d.outcome, flametree.duration_bucket(d.duration_us), count(*)
        FROM flametree.deliveries AS d
        WHERE d.tenant_id = p_tenant AND d.id >= flametree.first_id_at(p_from) AND d.id < flametree.first_id_at(p_to)
          AND (p_channel IS NULL OR d.channel = p_channel)
          AND EXISTS (SELECT FROM flametree.uncounted_batches AS u WHERE u.batch = d.batch AND u.batch >= v_batches[1])
          AND (SELECT e.agent_id FROM flametree.events AS e
               WHERE e.tenant_id = p_tenant AND e.id = d.event_id LIMIT 1) = p_agent
        GROUP BY 1, 2;
    END IF;
END
$$;
COMMENT ON FUNCTION flametree.uncounted_deliveries IS
    'An agent''s deliveries in batches that delivery_rollups does not contain yet.';

CREATE OR REPLACE FUNCTION flametree.summarize_batches() RETURNS void LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    v_index oid;
BEGIN
    FOR v_index IN
        SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i
        WHERE i.inhparent = 'flametree.deliveries_by_batch'::regclass ORDER BY i.inhrelid
    LOOP
        BEGIN
            PERFORM pg_catalog.brin_summarize_new_values(v_index);
        EXCEPTION WHEN lock_not_available OR insufficient_privilege OR undefined_table THEN
            -- A running vacuum adds the pages, or the table has another owner. Queries then read new pages without
            -- the index.
            NULL;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION flametree.summarize_batches IS
    'Adds new pages to the index of batches, because autosummarize may be late and every query reads all pages that the index does not cover.';
