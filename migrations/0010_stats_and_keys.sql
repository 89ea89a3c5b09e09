-- Counts of deliveries that statistics are read from, and which keys stored values are encrypted with.

CREATE TABLE flametree.delivery_rollups (
    tenant_id    text COLLATE "C" NOT NULL,
    agent_id     text COLLATE "C" NOT NULL,
    span_minutes smallint NOT NULL CONSTRAINT delivery_rollups_span_known CHECK (span_minutes IN (1, 60)),
    starts_at    timestamptz NOT NULL,
    channel      flametree.channel NOT NULL,
    outcome      flametree.outcome NOT NULL,
    bucket       smallint NOT NULL CONSTRAINT delivery_rollups_bucket_range CHECK (bucket BETWEEN -1 AND 255),
    deliveries   bigint NOT NULL CONSTRAINT delivery_rollups_some CHECK (deliveries > 0),
    PRIMARY KEY (tenant_id, agent_id, span_minutes, starts_at, channel, outcome, bucket)
) WITH (fillfactor = 80);
CREATE INDEX delivery_rollups_by_age ON flametree.delivery_rollups (starts_at);
COMMENT ON TABLE flametree.delivery_rollups IS
    'Finished deliveries by the minute and the hour of their event''s acceptance, outcome and bucket of duration (-1: nothing was sent).';

CREATE TABLE flametree.rollup_progress (
    one            boolean PRIMARY KEY DEFAULT true CONSTRAINT rollup_progress_one_row CHECK (one),
    finished_until timestamptz NOT NULL
);
COMMENT ON TABLE flametree.rollup_progress IS
    'The watermark: deliveries that finished before finished_until are in delivery_rollups, all others are not.';
INSERT INTO flametree.rollup_progress (finished_until)
SELECT coalesce(min(d.finished_at), clock_timestamp()) FROM flametree.deliveries AS d;

-- Rows are appended in the order of finished_at: an index of ranges of pages finds a moment in each partition, and costs
-- an insert next to nothing.
CREATE INDEX deliveries_by_end ON flametree.deliveries USING brin (finished_at)
    WITH (pages_per_range = 32, autosummarize = on);

CREATE FUNCTION flametree.summarize_ends() RETURNS void LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    v_index oid;
BEGIN
    FOR v_index IN
        SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i
        WHERE i.inhparent = 'flametree.deliveries_by_end'::regclass ORDER BY i.inhrelid
    LOOP
        BEGIN
            PERFORM pg_catalog.brin_summarize_new_values(v_index);
        EXCEPTION WHEN lock_not_available OR insufficient_privilege THEN
            -- Being vacuumed, which summarizes too; or another's table: then it is read page by page until a vacuum comes.
            NULL;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION flametree.summarize_ends IS
    'Tells the index of finished_at of pages that it does not know yet: autosummarize may be late, and pages unknown to it are all read.';

CREATE FUNCTION flametree.duration_bucket(p_duration_us integer) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_duration_us > 0 THEN floor(8 * ln(p_duration_us::float8) / ln(2::float8)) ELSE -1 END::smallint
$$;
COMMENT ON FUNCTION flametree.duration_bucket IS
    'The bucket of a duration: eight for each doubling, from 1 microsecond; -1: nothing was sent.';

CREATE FUNCTION flametree.span_of_id(p_id uuid, p_minutes integer) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT to_timestamp(('x' || lpad(left(replace(p_id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint
                        / (p_minutes * 60000) * (p_minutes * 60))
$$;
COMMENT ON FUNCTION flametree.span_of_id IS 'The beginning of the span of p_minutes that the time in the id lies in.';

CREATE FUNCTION flametree.roll_up(p_window interval) RETURNS TABLE (is_behind boolean, spans bigint) LANGUAGE plpgsql
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_from timestamptz;
    v_to timestamptz;
    v_safe timestamptz;
BEGIN
    -- Whoever comes second waits here, and goes on behind the first.
    SELECT p.finished_until INTO v_from FROM flametree.rollup_progress AS p FOR UPDATE;
    -- An outcome may be written and not committed yet. Its transaction began before its finished_at: so nothing behind the
    -- oldest transaction that writes is counted. The seconds are for one that has read the clock and not written yet.
    v_safe := least(clock_timestamp() - interval '10 seconds', (
        SELECT min(a.xact_start) FROM pg_catalog.pg_stat_activity AS a
        WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()));
    v_to := least(v_from + p_window, v_safe);
    IF v_to <= v_from THEN
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
    WHERE d.finished_at >= v_from AND d.finished_at < v_to
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    ORDER BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (tenant_id, agent_id, span_minutes, starts_at, channel, outcome, bucket)
        DO UPDATE SET deliveries = r.deliveries + excluded.deliveries;
    GET DIAGNOSTICS spans = ROW_COUNT;

    UPDATE flametree.rollup_progress SET finished_until = v_to;
    is_behind := v_to < v_safe;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION flametree.roll_up IS
    'One step: counts what finished in the next p_window and moves the watermark, in one transaction. Answers whether more can be counted, and how many spans changed.';

-- Plain SQL, so that it is planned as part of the statement that calls it: EXPLAIN shows which rows are read.
CREATE FUNCTION flametree.rolled_up_deliveries(
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
    'What is counted already of an agent''s deliveries from p_from to p_to: whole hours between, minutes at the edges.';

CREATE FUNCTION flametree.fresh_deliveries(
    p_tenant text, p_agent text, p_from timestamptz, p_to timestamptz, p_channel flametree.channel
) RETURNS TABLE (outcome flametree.outcome, bucket smallint, deliveries bigint) LANGUAGE plpgsql STABLE
    SET jit = off SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    -- STABLE: the same snapshot as the caller's, so that a delivery is counted here or in the rollups, never in both.
    v_since timestamptz := (SELECT p.finished_until FROM flametree.rollup_progress AS p);
BEGIN
    RETURN QUERY
    -- Of all tenants first: were the tenant among the conditions, the planner would walk its whole day in the primary key
    -- to spare reading some of the pages that hold the last seconds.
    WITH just_finished AS MATERIALIZED (
        SELECT d.tenant_id, d.event_id, d.channel, d.outcome, d.duration_us
        FROM flametree.deliveries AS d
        WHERE d.finished_at >= v_since AND d.id >= flametree.first_id_at(p_from) AND d.id < flametree.first_id_at(p_to)
    )
    SELECT d.outcome, flametree.duration_bucket(d.duration_us), count(*)
    FROM just_finished AS d
    WHERE d.tenant_id = p_tenant AND (p_channel IS NULL OR d.channel = p_channel)
      AND (SELECT e.agent_id FROM flametree.events AS e
           WHERE e.tenant_id = p_tenant AND e.id = d.event_id LIMIT 1) = p_agent
    GROUP BY 1, 2;
END
$$;
COMMENT ON FUNCTION flametree.fresh_deliveries IS
    'An agent''s deliveries that finished behind the watermark, from the log.';

CREATE FUNCTION flametree.sealed_key_id(p_sealed bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN length(p_sealed) > 2 AND get_byte(p_sealed, 0) = 1
                THEN encode(substr(p_sealed, 3, get_byte(p_sealed, 1)), 'escape') END
$$;
COMMENT ON FUNCTION flametree.sealed_key_id IS
    'The id of the key that sealed bytes were made with (src/secrets/keyring.rs); NULL: of no known form.';
