-- The clock, and ids that contain a time: a UUID of version 7 starts with the milliseconds since 1970 (RFC 9562).

CREATE OR REPLACE FUNCTION flametree.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.clock_timestamp()
$$;
COMMENT ON FUNCTION flametree.clock IS
    'The current time. All functions of the schema and statements of the service use it, so that a test can change the time. PostgreSQL inlines the call.';

CREATE OR REPLACE FUNCTION flametree.first_id_at(p_at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT rpad(lpad(to_hex(greatest((extract(epoch FROM p_at) * 1000)::bigint, 0)), 12, '0'), 32, '0')::uuid
$$;
COMMENT ON FUNCTION flametree.first_id_at IS 'The smallest id at this time.';

CREATE OR REPLACE FUNCTION flametree.time_of_id(p_id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT to_timestamp(('x' || lpad(left(replace(p_id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0)
$$;
COMMENT ON FUNCTION flametree.time_of_id IS 'The time that an id contains, with millisecond precision.';

CREATE OR REPLACE FUNCTION flametree.delivery_id(p_event_id uuid, p_ordinal bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT overlay(p_event_id::text PLACING lpad(to_hex(p_ordinal), 4, '0') FROM 33)::uuid
$$;
COMMENT ON FUNCTION flametree.delivery_id IS
    'The id of the p_ordinal-th delivery of an event. It is the event''s id with p_ordinal, counted from 1, as the last 16 bits.';
