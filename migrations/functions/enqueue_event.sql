-- Accepts an event in the caller's transaction: the event is accepted if and only if the transaction commits.

CREATE OR REPLACE FUNCTION flametree.event_fault(p_pointer text, p_code text, p_message text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_array(jsonb_build_object('pointer', p_pointer, 'code', p_code, 'message', p_message))
$$;

CREATE OR REPLACE FUNCTION flametree.name_faults(p_event jsonb, p_field text, p_required boolean) RETURNS jsonb
    LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN coalesce(jsonb_typeof(p_event -> p_field), 'null') = 'null' THEN
            CASE WHEN p_required THEN flametree.event_fault('/' || p_field, 'required', 'is required') ELSE '[]'::jsonb END
        WHEN jsonb_typeof(p_event -> p_field) <> 'string' THEN
            flametree.event_fault('/' || p_field, 'invalid_type', 'must be a string')
        WHEN p_event ->> p_field = '' THEN flametree.event_fault('/' || p_field, 'invalid_value', 'must not be empty')
        WHEN octet_length(p_event ->> p_field) > 128 THEN
            flametree.event_fault('/' || p_field, 'invalid_value', 'must be at most 128 bytes')
        WHEN p_event ->> p_field ~ U&'[\0001-\001F\007F-\009F]' THEN
            flametree.event_fault('/' || p_field, 'invalid_value', 'must not contain control characters')
        ELSE '[]'::jsonb
    END
$$;

CREATE OR REPLACE FUNCTION flametree.event_time(p_text text) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_parts text[] := regexp_match(p_text,
        '^(\d{4}-\d{2}-\d{2})[T ]((?!24)\d{2}:\d{2}:\d{2})(\.\d+)?(?:Z|([+-](?:[01]\d|2[0-3]):[0-5]\d))$', 'i');
    v_time timestamptz;
BEGIN
    -- Parses date, time, fraction and offset separately, because PostgreSQL is stricter than RFC 3339. It rejects offsets above
    -- 15:59 and fractions of a leap second. As in the API, digits after the microsecond are cut off, not rounded.
    v_time := (v_parts[1] || ' ' || v_parts[2] || 'Z')::timestamptz
        + coalesce('0' || left(v_parts[3], 7), '0')::interval - coalesce(v_parts[4], '0')::interval;
    RETURN CASE WHEN v_time >= '0001-01-01 00:00:00Z' AND v_time < '10000-01-01 00:00:00Z' THEN v_time END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION flametree.event_time IS 'An RFC 3339 time of the years 1 to 9999, or NULL for any other text.';

CREATE OR REPLACE FUNCTION flametree.compact_json_bytes(p_json jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    WITH RECURSIVE part AS (
        SELECT p_json AS value
        UNION ALL
        SELECT c.value
        FROM part AS p
        CROSS JOIN LATERAL (
            SELECT e.value FROM jsonb_each(CASE jsonb_typeof(p.value) WHEN 'object' THEN p.value END) AS e
            UNION ALL
            SELECT a.value FROM jsonb_array_elements(CASE jsonb_typeof(p.value) WHEN 'array' THEN p.value END) AS a
        ) AS c
    )
    SELECT octet_length(p_json::text) - sum(CASE jsonb_typeof(p.value)
        WHEN 'object' THEN greatest(2 * (SELECT count(*) FROM jsonb_object_keys(p.value)) - 1, 0)
        WHEN 'array' THEN greatest(jsonb_array_length(p.value) - 1, 0)
        ELSE 0 END)::bigint
    FROM part AS p
$$;
COMMENT ON FUNCTION flametree.compact_json_bytes IS
    'The length of the JSON without the space that jsonb writes after each colon and comma.';

-- Returns the faults of an event. A test compares rules, JSON pointers, codes and messages with src/domain/event.rs.
CREATE OR REPLACE FUNCTION flametree.event_faults(p_event jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_faults jsonb := '[]';
    v_type text := CASE WHEN jsonb_typeof(p_event -> 'type') = 'string' THEN p_event ->> 'type' END;
    v_is_message boolean := coalesce(v_type IN ('ai_assistant_message', 'human_agent_message', 'user_message'), false);
    v_text jsonb := CASE WHEN jsonb_typeof(p_event -> 'text') <> 'null' THEN p_event -> 'text' END;
    v_number numeric;
    v_unknown text[];
    -- The maximum number of unknown fields that are reported, as in the API.
    c_most_unknown CONSTANT integer := 20;
BEGIN
    IF coalesce(jsonb_typeof(p_event), 'null') <> 'object' THEN
        RETURN flametree.event_fault('', 'invalid_type', 'must be a JSON object');
    END IF;

    IF coalesce(jsonb_typeof(p_event -> 'type'), 'null') = 'null' THEN
        v_faults := v_faults || flametree.event_fault('/type', 'required', 'is required');
    ELSIF v_type IS NULL THEN
        v_faults := v_faults || flametree.event_fault('/type', 'invalid_type', 'must be a string');
    ELSIF v_type <> ALL (enum_range(NULL::flametree.event_type)::text[]) THEN
        v_faults := v_faults || flametree.event_fault('/type', 'invalid_value',
            'must be one of ' || array_to_string(enum_range(NULL::flametree.event_type)::text[], ', '));
    END IF;

    v_faults := v_faults || flametree.name_faults(p_event, 'tenant_id', true)
        || flametree.name_faults(p_event, 'agent_id', true)
        || flametree.name_faults(p_event, 'session_id', true)
        || flametree.name_faults(p_event, 'customer_id', false);

    IF coalesce(jsonb_typeof(p_event -> 'occurred_at'), 'null') <> 'null' THEN
        IF jsonb_typeof(p_event -> 'occurred_at') <> 'string' THEN
            v_faults := v_faults || flametree.event_fault('/occurred_at', 'invalid_type', 'must be a string');
        ELSIF flametree.event_time(p_event ->> 'occurred_at') IS NULL THEN
            v_faults := v_faults || flametree.event_fault('/occurred_at', 'invalid_value',
                'must be an RFC 3339 time like 2026-01-01T00:00:00.123Z');
        END IF;
    END IF;

    IF v_text IS NULL THEN
        IF v_is_message THEN
            v_faults := v_faults || flametree.event_fault('/text', 'required', 'is required');
        END IF;
    ELSIF jsonb_typeof(v_text) <> 'string' THEN
        v_faults := v_faults || flametree.event_fault('/text', 'invalid_type', 'must be a string');
    ELSIF v_is_message AND v_text = '""'::jsonb THEN
        v_faults := v_faults || flametree.event_fault('/text', 'invalid_value', 'must not be empty');
    END IF;

    v_faults := v_faults || flametree.name_faults(p_event, 'assignee_id', coalesce(v_type = 'session_assigned', false));

    IF coalesce(jsonb_typeof(p_event -> 'metadata'), 'null') NOT IN ('null', 'object') THEN
        v_faults := v_faults || flametree.event_fault('/metadata', 'invalid_type', 'must be a JSON object');
    -- If the metadata is 50 % longer than the limit, it is too long even without spaces.
    ELSIF octet_length((p_event -> 'metadata')::text) > 24576
        OR (octet_length((p_event -> 'metadata')::text) > 16384
            AND flametree.compact_json_bytes(p_event -> 'metadata') > 16384) THEN
        v_faults := v_faults || flametree.event_fault('/metadata', 'too_long', 'must be at most 16384 bytes of JSON');
    END IF;

    IF coalesce(jsonb_typeof(p_event -> 'idempotency_key'), 'null') <> 'null' THEN
        IF jsonb_typeof(p_event -> 'idempotency_key') <> 'string' THEN
            v_faults := v_faults || flametree.event_fault('/idempotency_key', 'invalid_type', 'must be a string');
        ELSIF p_event ->> 'idempotency_key' = '' OR p_event ->> 'idempotency_key' ~ U&'[\0001-\001F\007F-\009F]' THEN
            v_faults := v_faults || flametree.event_fault('/idempotency_key', 'invalid_value',
                'must be text without control characters');
        ELSIF octet_length(p_event ->> 'idempotency_key') > 255 THEN
            v_faults := v_faults || flametree.event_fault('/idempotency_key', 'too_long', 'must be at most 255 bytes');
        END IF;
    END IF;

    IF coalesce(jsonb_typeof(p_event -> 'expires_in_seconds'), 'null') <> 'null' THEN
        IF jsonb_typeof(p_event -> 'expires_in_seconds') <> 'number' THEN
            v_faults := v_faults || flametree.event_fault('/expires_in_seconds', 'invalid_type',
                'must be a whole number from 1 to 604800');
        ELSE
            v_number := (p_event ->> 'expires_in_seconds')::numeric;
            IF v_number <> trunc(v_number) OR v_number NOT BETWEEN 1 AND 604800 THEN
                v_faults := v_faults || flametree.event_fault('/expires_in_seconds', 'invalid_value',
                    'must be a whole number from 1 to 604800');
            END IF;
        END IF;
    END IF;

    v_unknown := ARRAY(
        SELECT '/' || replace(replace(k, '~', '~0'), '/', '~1') FROM jsonb_object_keys(p_event) AS k
        WHERE k NOT IN ('type', 'tenant_id', 'agent_id', 'session_id', 'customer_id', 'occurred_at', 'text', 'assignee_id',
                        'metadata', 'idempotency_key', 'expires_in_seconds')
        ORDER BY k COLLATE "C");
    FOR v_index IN 1 .. least(cardinality(v_unknown), c_most_unknown) LOOP
        v_faults := v_faults || flametree.event_fault(v_unknown[v_index], 'unknown_field', 'is not a field of this object'
            || CASE WHEN v_index = c_most_unknown AND cardinality(v_unknown) > c_most_unknown
                THEN ', nor are ' || cardinality(v_unknown) - c_most_unknown || ' others' ELSE '' END);
    END LOOP;
    RETURN v_faults;
END
$$;

-- Runs with its owner's privileges: the caller's role only needs USAGE on the schema and EXECUTE on this function.
CREATE OR REPLACE FUNCTION flametree.enqueue_event(p_event jsonb) RETURNS TABLE (id text, duplicate boolean, deliveries smallint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_faults jsonb := flametree.event_faults(p_event);
    v_accepted flametree.accepted;
BEGIN
    IF v_faults <> '[]' THEN
        RAISE EXCEPTION 'the event is not valid'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_faults::text,
                  HINT = 'DETAIL lists every fault with its place in the event.';
    END IF;

    v_accepted := flametree.accept_events(
        ARRAY[p_event ->> 'tenant_id'], ARRAY[p_event ->> 'type'], ARRAY[p_event ->> 'agent_id'],
        ARRAY[p_event ->> 'session_id'], ARRAY[p_event ->> 'customer_id'], ARRAY[p_event ->> 'assignee_id'],
        ARRAY[flametree.event_time(p_event ->> 'occurred_at')], ARRAY[p_event ->> 'text'],
        ARRAY[nullif(p_event -> 'metadata', '{}') #>> '{}'], ARRAY[p_event ->> 'idempotency_key'],
        ARRAY[(p_event ->> 'expires_in_seconds')::numeric::integer], '{}', 86400);

    IF v_accepted.results[1] = 'conflict' THEN
        RAISE EXCEPTION 'the idempotency key belongs to another event'
            USING ERRCODE = 'unique_violation', HINT = 'Use a new idempotency_key for each event.';
    END IF;
    id := 'evt_' || replace(v_accepted.event_ids[1]::text, '-', '');
    duplicate := v_accepted.results[1] = 'duplicate';
    deliveries := v_accepted.deliveries[1];
    RETURN NEXT;
END
$$;
REVOKE EXECUTE ON FUNCTION flametree.enqueue_event FROM PUBLIC;
COMMENT ON FUNCTION flametree.enqueue_event IS
    'Accepts one event (the JSON of POST /v1/events, with tenant_id) in the caller''s transaction. Raises invalid_parameter_value with every fault in DETAIL, or unique_violation when the idempotency key belongs to another event.';
