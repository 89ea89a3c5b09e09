-- Partitions. `events` and `deliveries` are partitioned by ranges of ids, `idempotency_keys` by UTC days. Bounds are read from
-- the catalog, never from names. The service detaches an expired partition (DETACH ... CONCURRENTLY, which cannot run in a
-- function) and then drops it. It removes one partition at a time.

CREATE OR REPLACE FUNCTION flametree.bound_time(p_bound text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_bound ~ '^[0-9a-f]{8}-[0-9a-f-]{27}$' THEN flametree.time_of_id(p_bound::uuid)
                ELSE p_bound::date::timestamp AT TIME ZONE 'UTC' END
$$;
COMMENT ON FUNCTION flametree.bound_time IS 'The time of a partition bound: the time of an id, or the start of a UTC day.';

-- The CTE is MATERIALIZED and calls pg_get_expr in the select list, so that pg_get_expr is not evaluated for other tables.
-- A bound contains no columns, so pg_get_expr needs no table. With a table, it would wait for locks on that table.
CREATE OR REPLACE FUNCTION flametree.partitions() RETURNS TABLE (
    parent text, name text, starts_at timestamptz, ends_at timestamptz, state text
) LANGUAGE sql STABLE AS $$
    WITH attached AS MATERIALIZED (
        SELECT p.relname::text AS parent, c.relname::text AS name, i.inhdetachpending AS is_detaching,
               regexp_match(pg_get_expr(c.relpartbound, 0), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') AS bounds
        FROM pg_catalog.pg_class AS p
        JOIN pg_catalog.pg_inherits AS i ON i.inhparent = p.oid
        JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
        WHERE p.oid IN ('flametree.events'::regclass, 'flametree.deliveries'::regclass, 'flametree.idempotency_keys'::regclass)
    )
    SELECT a.parent, a.name, flametree.bound_time(a.bounds[1]), flametree.bound_time(a.bounds[2]),
           CASE WHEN a.is_detaching THEN 'detaching' ELSE 'attached' END
    FROM attached AS a
    UNION ALL
    SELECT NULL, t.name, NULL, NULL, 'detached'
    FROM flametree.partitions_to_drop AS t
    WHERE NOT EXISTS (SELECT FROM attached AS a WHERE a.name = t.name)
$$;
COMMENT ON FUNCTION flametree.partitions IS
    'All partitions. state: attached; detaching (a concurrent detach was interrupted and must be finalized); detached by retention (to be dropped; its parent and bounds are unknown).';

CREATE OR REPLACE FUNCTION flametree.ensure_partitions(
    p_from date, p_to date, p_days integer DEFAULT 1,
    p_parents text[] DEFAULT ARRAY['events', 'deliveries', 'idempotency_keys']
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_created integer := 0;
    v_parent text;
    v_name text;
    v_day date;
    v_end date;
BEGIN
    FOREACH v_parent IN ARRAY p_parents LOOP
        v_day := p_from;
        WHILE v_day <= p_to LOOP
            SELECT (p.ends_at AT TIME ZONE 'UTC')::date INTO v_end
            FROM flametree.partitions() AS p
            WHERE p.parent = v_parent AND p.state = 'attached'
              AND v_day::timestamp AT TIME ZONE 'UTC' >= p.starts_at AND v_day::timestamp AT TIME ZONE 'UTC' < p.ends_at;
            IF NOT FOUND THEN
                -- The partition ends at the next multiple of p_days since 1970, or earlier if another partition starts earlier.
                v_end := least(
                    date '1970-01-01' + ((v_day - date '1970-01-01') / p_days + 1) * p_days,
                    (SELECT min((p.starts_at AT TIME ZONE 'UTC')::date) FROM flametree.partitions() AS p
                     WHERE p.parent = v_parent AND p.starts_at > v_day::timestamp AT TIME ZONE 'UTC'));
                v_name := v_parent || '_' || to_char(v_day, 'YYYYMMDD');
                WHILE to_regclass('flametree.' || v_name) IS NOT NULL LOOP
                    -- A partition that an operator detached still uses this name.
                    v_name := v_name || 'x';
                END LOOP;
                -- Creates and then attaches the table, because ATTACH takes a weaker lock on the parent than CREATE ...
                -- PARTITION OF.
                EXECUTE format('CREATE TABLE flametree.%I (LIKE flametree.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                               v_name, v_parent);
                EXECUTE format('ALTER TABLE flametree.%I ATTACH PARTITION flametree.%I FOR VALUES FROM (%L) TO (%L)',
                    v_parent, v_name, flametree.bound_of(v_parent, v_day), flametree.bound_of(v_parent, v_end));
                v_created := v_created + 1;
            END IF;
            v_day := v_end;
        END LOOP;
    END LOOP;
    RETURN v_created;
END
$$;
COMMENT ON FUNCTION flametree.ensure_partitions IS
    'Creates the missing partitions for the UTC days from p_from to p_to, each of up to p_days days. Returns the number of created partitions.';

CREATE OR REPLACE FUNCTION flametree.bound_of(p_parent text, p_day date) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE p_parent WHEN 'idempotency_keys' THEN p_day::text
                         ELSE flametree.first_id_at(p_day::timestamp AT TIME ZONE 'UTC')::text END
$$;
COMMENT ON FUNCTION flametree.bound_of IS 'The bound of a partition that starts on this UTC day.';

-- Each partition covers p_days_kept / 30 days, so that there are about 30 partitions for any retention. The number is limited
-- because a statement locks each partition that its plan might read.
CREATE OR REPLACE FUNCTION flametree.prepare_partitions(p_days_kept integer) RETURNS integer LANGUAGE plpgsql
    SET lock_timeout = '2s' AS $$
DECLARE
    v_today date := (flametree.clock() AT TIME ZONE 'UTC')::date;
BEGIN
    -- Without this lock, processes that start together on an empty database would create the same tables.
    PERFORM pg_advisory_xact_lock(28829613327478881);
    RETURN flametree.ensure_partitions(v_today - 1, v_today + 2, ceil(p_days_kept / 30.0)::integer, ARRAY['events', 'deliveries'])
        + flametree.ensure_partitions(v_today - 2, v_today + 2, 1, ARRAY['idempotency_keys']);
END
$$;
COMMENT ON FUNCTION flametree.prepare_partitions IS
    'Creates the partitions that accepting and recording need today and for the next two days. Raises lock_not_available if a lock on a parent is not granted within two seconds.';

CREATE OR REPLACE FUNCTION flametree.expired_partitions(p_days_kept integer) RETURNS TABLE (parent text, name text, state text)
    LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
    v_today timestamptz := date_trunc('day', flametree.clock(), 'UTC');
    v_before timestamptz := v_today - make_interval(days => p_days_kept);
    v_bound uuid := flametree.first_id_at(v_before);
    v_unfinished uuid;
BEGIN
    -- The search for unfinished deliveries reads whole tables, so it only runs if a partition is old enough.
    IF EXISTS (SELECT FROM flametree.partitions() AS p WHERE p.parent <> 'idempotency_keys' AND p.ends_at <= v_before) THEN
        -- Finds the oldest unfinished delivery, which needs a partition for its outcome. A single statement sees each row, even
        -- if the row moves between tables meanwhile. Ignores deliveries whose partition an operator detached,
        -- because their outcomes are not visible.
        WITH kept AS MATERIALIZED (
            SELECT flametree.first_id_at(p.starts_at) AS first_id, flametree.first_id_at(p.ends_at) AS end_id
            FROM flametree.partitions() AS p WHERE p.parent = 'deliveries'
        )
        SELECT u.id INTO v_unfinished
        FROM (
            SELECT r.id FROM flametree.ready_deliveries AS r WHERE r.id < v_bound
            UNION ALL
            SELECT d.id FROM flametree.claims AS c CROSS JOIN LATERAL unnest(c.delivery_ids) AS d (id) WHERE d.id < v_bound
            UNION ALL
            SELECT r.id FROM flametree.replays AS r
            WHERE r.id < v_bound
              AND NOT EXISTS (SELECT FROM flametree.deliveries AS d WHERE d.tenant_id = r.tenant_id AND d.id = r.id)
        ) AS u
        WHERE EXISTS (SELECT FROM kept AS k WHERE u.id >= k.first_id AND u.id < k.end_id)
        ORDER BY u.id LIMIT 1;
        v_before := least(v_before, flametree.time_of_id(v_unfinished));
        DELETE FROM flametree.replays AS r
        WHERE r.id < (SELECT flametree.first_id_at(max(p.ends_at)) FROM flametree.partitions() AS p
                      WHERE p.parent = 'deliveries' AND p.ends_at <= v_before);
    END IF;
    RETURN QUERY
    SELECT p.parent, p.name, p.state FROM flametree.partitions() AS p
    WHERE p.state <> 'attached' OR p.ends_at <= CASE p.parent
        -- Requests use the keys of today and yesterday. A transaction that began yesterday also uses the keys of the day before
        -- yesterday.
        WHEN 'idempotency_keys' THEN v_today - interval '2 days'
        ELSE v_before END
    -- A pending detach comes first, because each table can have only one pending detach.
    ORDER BY p.state = 'attached', p.ends_at, p.name;
END
$$;
COMMENT ON FUNCTION flametree.expired_partitions IS
    'The partitions that retention removes now, including those of an interrupted run. Excludes partitions that an unfinished delivery needs. Deletes the replay rows that belong to these partitions. Raises lock_not_available if a lock is not granted within two seconds.';

CREATE OR REPLACE FUNCTION flametree.drop_detached_partition(p_name text) RETURNS void LANGUAGE plpgsql
    SET lock_timeout = '2s' AS $$
BEGIN
    IF EXISTS (SELECT FROM flametree.partitions() AS p WHERE p.name = p_name AND p.state = 'detached') THEN
        EXECUTE format('DROP TABLE IF EXISTS flametree.%I', p_name);
        DELETE FROM flametree.partitions_to_drop AS t WHERE t.name = p_name;
    END IF;
END
$$;
COMMENT ON FUNCTION flametree.drop_detached_partition IS 'Drops a partition that retention detached; does nothing if it is attached or was dropped before.';

CREATE OR REPLACE FUNCTION flametree.partition_span(p_days_kept integer)
    RETURNS TABLE (ends_at timestamptz, removal_due timestamptz) LANGUAGE sql STABLE AS $$
    WITH p AS MATERIALIZED (SELECT * FROM flametree.partitions() WHERE state <> 'detached'),
         now AS MATERIALIZED (SELECT flametree.clock() AS at)
    SELECT (
               SELECT min(CASE
                   WHEN EXISTS (SELECT FROM p WHERE p.parent = m.name AND p.state = 'attached'
                                  AND p.starts_at <= now.at AND p.ends_at > now.at)
                   -- The end of the first partition that no other partition directly follows.
                   THEN (SELECT min(p.ends_at) FROM p
                         WHERE p.parent = m.name AND p.state = 'attached' AND p.ends_at > now.at
                           AND NOT EXISTS (SELECT FROM p AS next WHERE next.parent = m.name AND next.state = 'attached'
                                             AND next.starts_at = p.ends_at))
                   ELSE now.at END)
               FROM unnest(ARRAY['events', 'deliveries', 'idempotency_keys']) AS m (name), now
           ),
           least(
               (SELECT min(p.ends_at + make_interval(days => CASE p.parent WHEN 'idempotency_keys' THEN 2 ELSE p_days_kept END))
                FROM p),
               (SELECT min(t.since) FROM flametree.partitions_to_drop AS t))
$$;
COMMENT ON FUNCTION flametree.partition_span IS
    'The time until which every partitioned table has partitions without a gap, and the earliest time when a removal is due: when the oldest partition expires, or when a removal started that is not complete.';
