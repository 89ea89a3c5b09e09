-- Partitions of events and deliveries are days of ids: a UUID version 7 begins with the milliseconds of its time.

CREATE FUNCTION flametree.first_id_of(p_day date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT rpad(lpad(to_hex((extract(epoch FROM p_day) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;
COMMENT ON FUNCTION flametree.first_id_of IS 'The smallest id that a UTC day can have.';

CREATE FUNCTION flametree.ensure_partitions(p_from date, p_to date) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_created integer := 0;
    v_parent text;
    v_name text;
    v_day date;
BEGIN
    FOREACH v_parent IN ARRAY ARRAY['events', 'deliveries'] LOOP
        FOR v_day IN SELECT d::date FROM generate_series(p_from, p_to, interval '1 day') AS d LOOP
            v_name := v_parent || '_' || to_char(v_day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('flametree.' || v_name) IS NOT NULL;
            -- Made aside and then attached: attaching takes a weaker lock on the parent than CREATE ... PARTITION OF.
            EXECUTE format('CREATE TABLE flametree.%I (LIKE flametree.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                           v_name, v_parent);
            EXECUTE format('ALTER TABLE flametree.%I ATTACH PARTITION flametree.%I FOR VALUES FROM (%L) TO (%L)',
                           v_parent, v_name, flametree.first_id_of(v_day), flametree.first_id_of(v_day + 1));
            v_created := v_created + 1;
        END LOOP;
    END LOOP;
    RETURN v_created;
END
$$;
COMMENT ON FUNCTION flametree.ensure_partitions IS
    'Creates the missing partitions of the days from p_from to p_to; answers how many tables that were.';

CREATE FUNCTION flametree.partitions_before(p_day date) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT c.relname::text FROM pg_catalog.pg_inherits AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('flametree.events'::regclass, 'flametree.deliveries'::regclass)
      AND to_date(right(c.relname, 8), 'YYYYMMDD') < p_day
    ORDER BY c.relname
$$;
COMMENT ON FUNCTION flametree.partitions_before IS 'The names of the partitions of the days before p_day.';

-- Whoever comes behind a DROP that waits for its lock waits too: it gives up soon, and the next run goes on.
CREATE FUNCTION flametree.drop_partitions(p_before date) RETURNS integer LANGUAGE plpgsql
    SET lock_timeout = '100ms' AS $$
DECLARE
    v_dropped integer := 0;
    v_name text;
BEGIN
    FOR v_name IN SELECT p FROM flametree.partitions_before(p_before) AS p LOOP
        EXECUTE format('DROP TABLE flametree.%I', v_name);
        v_dropped := v_dropped + 1;
    END LOOP;
    RETURN v_dropped;
END
$$;
COMMENT ON FUNCTION flametree.drop_partitions IS
    'Retention: drops the partitions of the days before p_before whole. Raises lock_not_available behind a long reader.';
