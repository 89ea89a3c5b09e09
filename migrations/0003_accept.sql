-- The one implementation of accepting events: the HTTP API and flametree.enqueue_event both end here.

CREATE FUNCTION flametree.delivery_id(p_event_id uuid, p_ordinal bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT overlay(p_event_id::text PLACING lpad(to_hex(p_ordinal), 4, '0') FROM 33)::uuid
$$;
COMMENT ON FUNCTION flametree.delivery_id IS
    'The id of the p_ordinal-th delivery of an event: its id with the last 16 bits counting from 1.';

-- Plans are made once and kept. A table that was empty when its plan was made must not be scanned whole when it is not:
-- hence enable_seqscan = off, and lateral lookups that can only be walked by key.
CREATE FUNCTION flametree.accept_events(
    p_tenants text[], p_types text[], p_agents text[], p_sessions text[], p_customers text[], p_assignees text[],
    p_occurred timestamptz[], p_texts text[], p_metadata text[], p_keys text[], p_expires_seconds integer[]
) RETURNS TABLE (
    ordinal integer, result text, event_id uuid, deliveries smallint,
    lane_channels text[], lane_endpoints uuid[], lane_positions bigint[]
) LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_count integer := cardinality(p_types);
    v_now timestamptz := clock_timestamp();
    v_time text := lpad(to_hex((extract(epoch FROM v_now) * 1000)::bigint), 12, '0');
    v_ids uuid[];
    v_results text[] := array_fill('accepted'::text, ARRAY[v_count]);
    v_stored_ids uuid[];
    v_people text[];
    v_has_effects boolean := p_types && ARRAY['session_assigned', 'transferred_to_live_agent', 'session_resolved'];
BEGIN
    v_time := left(v_time, 8) || '-' || right(v_time, 4) || '-7';
    v_ids := ARRAY(
        SELECT (v_time || substr(r.id, 16, 3) || '-' || substr(r.id, 20, 4) || '-' || substr(r.id, 25, 8) || '0000')::uuid
        FROM (SELECT gen_random_uuid()::text AS id FROM generate_series(1, v_count)) AS r
    );

    -- Idempotency. Keys are written in their order, so that two transactions with the same keys cannot deadlock; the
    -- read after it sees who was first, because each statement has a snapshot of its own.
    IF array_remove(p_keys, NULL) <> '{}' THEN
        INSERT INTO flametree.idempotency_keys (tenant_id, key, event_id, body_hash, created_at)
        SELECT DISTINCT ON (i.tenant, i.key COLLATE "C") i.tenant, i.key, v_ids[i.ord],
            flametree.event_hash(p_types[i.ord], p_agents[i.ord], p_sessions[i.ord], p_customers[i.ord],
                p_assignees[i.ord], p_occurred[i.ord], p_texts[i.ord], p_metadata[i.ord], p_expires_seconds[i.ord]),
            v_now
        FROM unnest(p_tenants, p_keys) WITH ORDINALITY AS i (tenant, key, ord)
        WHERE i.key IS NOT NULL
        ORDER BY i.tenant, i.key COLLATE "C", i.ord
        ON CONFLICT (tenant_id, key) DO NOTHING;

        SELECT array_agg(CASE
                   WHEN k.event_id IS NULL OR k.event_id = v_ids[i.ord] THEN 'accepted'
                   WHEN k.body_hash = flametree.event_hash(p_types[i.ord], p_agents[i.ord], p_sessions[i.ord],
                       p_customers[i.ord], p_assignees[i.ord], p_occurred[i.ord], p_texts[i.ord], p_metadata[i.ord],
                       p_expires_seconds[i.ord]) THEN 'duplicate'
                   ELSE 'conflict' END ORDER BY i.ord),
               array_agg(k.event_id ORDER BY i.ord)
        INTO v_results, v_stored_ids
        FROM unnest(p_tenants, p_keys) WITH ORDINALITY AS i (tenant, key, ord)
        LEFT JOIN LATERAL (
            SELECT s.event_id, s.body_hash FROM flametree.idempotency_keys AS s
            WHERE s.tenant_id = i.tenant AND s.key = i.key LIMIT 1
        ) AS k ON true;
    END IF;

    -- Whom each event concerns in person: the assignee of an assignment; of a customer's message, the session's handler as
    -- the events before it left it, those of this call included.
    IF p_types && ARRAY['session_assigned', 'user_message'] THEN
        WITH effects AS MATERIALIZED (
            SELECT i.ord, i.tenant, i.session, least(coalesce(p_occurred[i.ord], v_now), v_now) AS occurred,
                   CASE i.type WHEN 'session_assigned' THEN p_assignees[i.ord] END AS handler
            FROM unnest(p_tenants, p_sessions, p_types) WITH ORDINALITY AS i (tenant, session, type, ord)
            WHERE v_has_effects AND i.type IN ('session_assigned', 'session_resolved') AND v_results[i.ord] = 'accepted'
        )
        SELECT array_agg(CASE i.type
                   WHEN 'session_assigned' THEN p_assignees[i.ord]
                   WHEN 'user_message' THEN (
                       SELECT h.handler FROM (
                           SELECT s.handler_id AS handler, s.handler_changed_at AS occurred, 0 AS ord
                           FROM flametree.sessions AS s WHERE s.tenant_id = i.tenant AND s.id = i.session
                           UNION ALL
                           SELECT e.handler, e.occurred, e.ord FROM effects AS e
                           WHERE e.tenant = i.tenant AND e.session = i.session AND e.ord < i.ord
                       ) AS h ORDER BY h.occurred DESC, h.ord DESC LIMIT 1)
               END ORDER BY i.ord)
        INTO v_people
        FROM unnest(p_tenants, p_sessions, p_types) WITH ORDINALITY AS i (tenant, session, type, ord);
    END IF;

    IF v_has_effects THEN
        PERFORM flametree.apply_effects(
            ARRAY(SELECT o FROM generate_series(1, v_count) AS o WHERE v_results[o] = 'accepted'),
            p_tenants, p_types, p_agents, p_sessions, p_assignees, p_occurred, v_now);
    END IF;

    RETURN QUERY
    WITH fan AS MATERIALIZED (
        SELECT i.ord, e.channel, e.endpoint_id,
               row_number() OVER (PARTITION BY i.ord) AS n
        FROM unnest(p_tenants, p_agents, p_types) WITH ORDINALITY AS i (tenant, agent, type, ord)
        CROSS JOIN LATERAL (
            (SELECT 'webhook'::flametree.channel AS channel, c.endpoint_id
             FROM flametree.push_configs AS c
             WHERE c.tenant_id = i.tenant AND c.agent_id = i.agent AND c.enabled
               AND CASE i.type WHEN 'human_agent_message' THEN 'ai_assistant_message' ELSE i.type END::flametree.event_type
                   = ANY (c.events)
             LIMIT 1)
            UNION ALL
            (SELECT 'browser_push'::flametree.channel, s.id
             FROM flametree.push_subscriptions AS s
             WHERE s.tenant_id = i.tenant AND s.user_id = v_people[i.ord] AND s.active
             LIMIT 100)
        ) AS e
        WHERE v_results[i.ord] = 'accepted'
    ), counted AS (
        SELECT f.ord, count(*)::smallint AS n FROM fan AS f GROUP BY f.ord
    ), stored AS (
        INSERT INTO flametree.events AS e (tenant_id, id, type, deliveries, occurred_at, agent_id, session_id, customer_id,
            assignee_id, text, metadata)
        SELECT p_tenants[o.ord], v_ids[o.ord], p_types[o.ord]::flametree.event_type, coalesce(c.n, 0::smallint),
               coalesce(p_occurred[o.ord], v_now), p_agents[o.ord], p_sessions[o.ord], p_customers[o.ord],
               p_assignees[o.ord], p_texts[o.ord], p_metadata[o.ord]
        FROM generate_series(1, v_count) AS o (ord)
        LEFT JOIN counted AS c ON c.ord = o.ord
        WHERE v_results[o.ord] = 'accepted'
        RETURNING e.id, e.deliveries
    ), ready AS (
        INSERT INTO flametree.ready_deliveries AS r (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
        SELECT f.channel, p_tenants[f.ord], f.endpoint_id, nextval('flametree.ready_positions'),
               flametree.delivery_id(v_ids[f.ord], f.n), v_ids[f.ord],
               v_now + make_interval(secs => p_expires_seconds[f.ord])
        FROM fan AS f ORDER BY f.ord, f.n
        RETURNING r.event_id, r.channel, r.endpoint_id, r.position
    ), lanes AS (
        SELECT r.event_id, array_agg(r.channel::text) AS channels, array_agg(r.endpoint_id) AS endpoints,
               array_agg(r.position) AS positions
        FROM ready AS r GROUP BY r.event_id
    )
    SELECT o.ord, v_results[o.ord],
           CASE v_results[o.ord] WHEN 'accepted' THEN v_ids[o.ord] ELSE v_stored_ids[o.ord] END,
           coalesce(s.deliveries, d.deliveries, 0::smallint),
           coalesce(l.channels, '{}'), coalesce(l.endpoints, '{}'), coalesce(l.positions, '{}')
    FROM generate_series(1, v_count) AS o (ord)
    LEFT JOIN stored AS s ON s.id = v_ids[o.ord]
    LEFT JOIN lanes AS l ON l.event_id = v_ids[o.ord]
    LEFT JOIN LATERAL (
        -- A repeated event answers with what its first acceptance answered, as long as that is kept. The first may stand
        -- in this very call, where this snapshot does not see it.
        SELECT e.deliveries FROM flametree.events AS e
        WHERE v_results[o.ord] = 'duplicate' AND e.tenant_id = p_tenants[o.ord] AND e.id = v_stored_ids[o.ord] LIMIT 1
    ) AS d ON true
    ORDER BY o.ord;
END
$$;
COMMENT ON FUNCTION flametree.accept_events IS
    'Stores events, applies their effects, fans them out and makes their deliveries ready, in the caller''s transaction. The caller has validated them. Answers in the order given.';

CREATE FUNCTION flametree.event_hash(
    p_type text, p_agent text, p_session text, p_customer text, p_assignee text, p_occurred timestamptz, p_text text,
    p_metadata text, p_expires_seconds integer
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to(jsonb_build_array(p_type, p_agent, p_session, p_customer, p_assignee,
        extract(epoch FROM p_occurred), p_text, p_metadata::jsonb, p_expires_seconds)::text, 'UTF8'))
$$;
COMMENT ON FUNCTION flametree.event_hash IS 'What makes two bodies under one idempotency key the same.';

-- A session has two facts: who handles it, and whether it is in the operator workspace. Each keeps the latest word by
-- occurred_at, on a tie by arrival; a time in the future counts as now, else it would silence what follows.
CREATE FUNCTION flametree.apply_effects(
    p_ordinals integer[], p_tenants text[], p_types text[], p_agents text[], p_sessions text[], p_assignees text[],
    p_occurred timestamptz[], p_now timestamptz
) RETURNS void LANGUAGE sql SET enable_seqscan = off AS $$
    INSERT INTO flametree.sessions AS s
        (tenant_id, id, agent_id, handler_id, handler_changed_at, in_workspace, workspace_changed_at)
    SELECT e.tenant, e.session, min(e.agent),
           (array_agg(e.handler ORDER BY e.occurred DESC, e.ord DESC) FILTER (WHERE e.sets_handler))[1],
           coalesce(max(e.occurred) FILTER (WHERE e.sets_handler), '-infinity'),
           (array_agg(e.in_workspace ORDER BY e.occurred DESC, e.ord DESC))[1],
           max(e.occurred)
    FROM (
        SELECT o.ord, p_tenants[o.ord] AS tenant, p_sessions[o.ord] AS session, p_agents[o.ord] AS agent,
               least(coalesce(p_occurred[o.ord], p_now), p_now) AS occurred,
               p_types[o.ord] IN ('session_assigned', 'session_resolved') AS sets_handler,
               CASE p_types[o.ord] WHEN 'session_assigned' THEN p_assignees[o.ord] END AS handler,
               p_types[o.ord] <> 'session_resolved' AS in_workspace
        FROM unnest(p_ordinals) AS o (ord)
        WHERE p_types[o.ord] IN ('session_assigned', 'transferred_to_live_agent', 'session_resolved')
    ) AS e
    GROUP BY e.tenant, e.session
    ORDER BY e.tenant, e.session
    ON CONFLICT (tenant_id, id) DO UPDATE SET
        handler_id = CASE WHEN excluded.handler_changed_at >= s.handler_changed_at
                          THEN excluded.handler_id ELSE s.handler_id END,
        handler_changed_at = greatest(excluded.handler_changed_at, s.handler_changed_at),
        in_workspace = CASE WHEN excluded.workspace_changed_at >= s.workspace_changed_at
                            THEN excluded.in_workspace ELSE s.in_workspace END,
        workspace_changed_at = greatest(excluded.workspace_changed_at, s.workspace_changed_at)
$$;
