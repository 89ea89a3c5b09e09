-- Accepts events, for the HTTP API and for flametree.enqueue_event.

-- Each statement is planned once and its plan is kept (force_generic_plan), because planning these statements costs as much as
-- running them for twenty events. A plan that was made while a table was empty must not scan the whole table later. So
-- enable_seqscan is off, and lateral lookups can only use an index.
CREATE OR REPLACE FUNCTION flametree.accept_events(
    p_tenants text[], p_types text[], p_agents text[], p_sessions text[], p_customers text[], p_assignees text[],
    p_occurred timestamptz[], p_texts text[], p_metadata text[], p_keys text[], p_expires_seconds integer[],
    -- This array may be shorter than the other arrays. Its missing items count as NULL.
    p_traces bytea[],
    -- The expiry of events without expires_in_seconds. It is not part of the hash, so that equal bodies have equal hashes under
    -- any setting.
    p_default_expires_seconds integer,
    -- How long to wait for an open transaction that has locked a key or a session, before lock_not_available is raised. NULL
    -- uses the lock_timeout of the caller.
    p_lock_timeout text DEFAULT NULL
) RETURNS flametree.accepted LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_count integer := cardinality(p_types);
    v_now timestamptz := flametree.clock();
    v_time text := lpad(to_hex((extract(epoch FROM v_now) * 1000)::bigint), 12, '0') || '7';
    -- 55 random bits. The ids of one call count up from this number (RFC 9562, 6.2, method 2).
    v_random bigint := uuid_hash_extended(gen_random_uuid(), 0) & 36028797018963967;
    v_ids uuid[];
    v_hashes bytea[];
    v_users text[];
    v_accepted flametree.accepted;
    v_has_effects boolean := p_types && ARRAY['session_assigned', 'transferred_to_live_agent', 'session_resolved'];
BEGIN
    IF p_lock_timeout IS NOT NULL THEN
        p_lock_timeout := set_config('lock_timeout', p_lock_timeout, true);
    END IF;
    v_ids := ARRAY(
        SELECT (v_time || overlay(lpad(to_hex(i.n), 14, '0') PLACING '8' FROM 4 FOR 0) || '0000')::uuid
        FROM (SELECT generate_series(v_random, v_random + v_count - 1) AS n) AS i
    );
    v_accepted.event_ids := v_ids;
    v_accepted.results := array_fill('accepted'::text, ARRAY[v_count]);

    -- Statements unnest arrays and never use subscripts, because PostgreSQL reaches the n-th item of a text array by reading
    -- the n - 1 items before it. unnest in the select list reads several arrays in parallel and in order. In FROM, it first
    -- materializes each array, which takes a third of the execution time.

    IF array_remove(p_keys, NULL) <> '{}' THEN
        v_hashes := ARRAY(
            SELECT CASE WHEN i.key IS NOT NULL THEN flametree.event_hash(i.type, i.agent, i.session, i.customer, i.assignee,
                       i.occurred, i.text, i.metadata, i.expires_seconds) END
            FROM unnest(p_keys, p_types, p_agents, p_sessions, p_customers, p_assignees, p_occurred, p_texts, p_metadata,
                        p_expires_seconds) WITH ORDINALITY
                AS i (key, type, agent, session, customer, assignee, occurred, text, metadata, expires_seconds, ord)
            ORDER BY i.ord
        );
        SELECT r.results, r.event_ids INTO v_accepted.results, v_accepted.event_ids
        FROM flametree.remember_keys(p_tenants, p_keys, v_ids, v_hashes, (v_now AT TIME ZONE 'UTC')::date) AS r;
    END IF;

    IF v_has_effects THEN
        v_users := flametree.users_to_notify(v_accepted.results, p_tenants, p_types, p_sessions, p_assignees, p_occurred, v_now);
        PERFORM flametree.apply_effects(
            v_accepted.results, p_tenants, p_types, p_agents, p_sessions, p_assignees, p_occurred, v_now);
    END IF;

    -- Several small statements follow, because a single large statement took more than twice as long, and a function for each
    -- took a quarter longer. Only what most events do not need is a function of its own.
    SELECT array_agg(f.webhook), array_agg(f.person),
           array_agg(CASE WHEN f.webhook IS NOT NULL THEN nextval('flametree.ready_positions') END),
           array_agg(num_nonnulls(f.webhook)::smallint)
    INTO v_accepted.webhooks, v_users, v_accepted.positions, v_accepted.deliveries
    FROM (
        SELECT (
                   SELECT c.endpoint_id FROM flametree.push_configs AS c
                   WHERE i.result = 'accepted' AND c.tenant_id = i.tenant AND c.agent_id = i.agent AND c.enabled
                     AND flametree.webhook_event(i.type::flametree.event_type) = ANY (c.events)
                   LIMIT 1
               ) AS webhook,
               CASE WHEN v_has_effects THEN i.person WHEN i.type = 'user_message' THEN (
                   SELECT s.handler_id FROM flametree.sessions AS s
                   WHERE s.tenant_id = i.tenant AND s.id = i.session LIMIT 1)
               END AS person
        FROM (
            SELECT unnest(v_accepted.results) AS result, unnest(v_users) AS person, unnest(p_tenants) AS tenant,
                   unnest(p_types) AS type, unnest(p_agents) AS agent, unnest(p_sessions) AS session
        ) AS i
        OFFSET 0 -- Makes each look-up run once, even if its result is used several times above.
    ) AS f;
    IF array_remove(v_users, NULL) <> '{}' THEN
        v_accepted := flametree.fan_out_to_browsers(v_accepted, p_tenants, v_users);
    END IF;

    INSERT INTO flametree.events (tenant_id, id, type, deliveries, occurred_at, agent_id, session_id, customer_id, assignee_id,
        text, metadata, trace)
    SELECT i.tenant, i.id, i.type::flametree.event_type, i.deliveries, coalesce(i.occurred, v_now), i.agent, i.session,
           i.customer, i.assignee, i.text, i.metadata, i.trace
    FROM (
        SELECT unnest(v_ids) AS id, unnest(v_accepted.results) AS result, unnest(v_accepted.deliveries) AS deliveries,
               unnest(p_tenants) AS tenant, unnest(p_types) AS type, unnest(p_agents) AS agent, unnest(p_sessions) AS session,
               unnest(p_customers) AS customer, unnest(p_assignees) AS assignee, unnest(p_occurred) AS occurred,
               unnest(p_texts) AS text, unnest(p_metadata) AS metadata, unnest(p_traces) AS trace
    ) AS i
    WHERE i.result = 'accepted';

    INSERT INTO flametree.ready_deliveries_webhook (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
    SELECT 'webhook', i.tenant, i.webhook, i.position, flametree.delivery_id(i.id, 1), i.id,
           v_now + make_interval(secs => coalesce(i.expires_seconds, p_default_expires_seconds))
    FROM (
        SELECT unnest(v_ids) AS id, unnest(v_accepted.webhooks) AS webhook, unnest(v_accepted.positions) AS position,
               unnest(p_tenants) AS tenant, unnest(p_expires_seconds) AS expires_seconds
    ) AS i
    WHERE i.webhook IS NOT NULL;

    IF v_accepted.push_events IS NOT NULL THEN
        PERFORM flametree.make_pushes_ready(v_accepted, v_ids, p_tenants, p_expires_seconds, p_default_expires_seconds, v_now);
    END IF;

    IF 'duplicate' = ANY (v_accepted.results) THEN
        v_accepted.deliveries := flametree.deliveries_with_duplicates(v_accepted, p_tenants);
    END IF;
    RETURN v_accepted;
END
$$;
COMMENT ON FUNCTION flametree.accept_events IS
    'Stores events, applies their effects, fans them out and makes their deliveries ready, in the caller''s transaction. The caller must have validated the events.';

CREATE OR REPLACE FUNCTION flametree.users_to_notify(
    p_results text[], p_tenants text[], p_types text[], p_sessions text[], p_assignees text[], p_occurred timestamptz[],
    p_now timestamptz
) RETURNS text[] LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF NOT p_types && ARRAY['session_assigned', 'user_message'] THEN
        RETURN NULL;
    END IF;
    RETURN (
        WITH effects AS MATERIALIZED (
            SELECT i.ord, i.tenant, i.session, least(coalesce(i.occurred, p_now), p_now) AS occurred,
                   CASE i.type WHEN 'session_assigned' THEN i.assignee END AS handler
            FROM unnest(p_tenants, p_sessions, p_types, p_occurred, p_assignees, p_results) WITH ORDINALITY
                AS i (tenant, session, type, occurred, assignee, result, ord)
            WHERE i.type IN ('session_assigned', 'session_resolved') AND i.result = 'accepted'
        )
        SELECT array_agg(CASE i.type
                   WHEN 'session_assigned' THEN i.assignee
                   WHEN 'user_message' THEN (
                       SELECT h.handler FROM (
                           SELECT s.handler_id AS handler, s.handler_changed_at AS occurred, 0 AS ord
                           FROM flametree.sessions AS s WHERE s.tenant_id = i.tenant AND s.id = i.session
                           UNION ALL
                           SELECT e.handler, e.occurred, e.ord FROM effects AS e
                           WHERE e.tenant = i.tenant AND e.session = i.session AND e.ord < i.ord
                       ) AS h ORDER BY h.occurred DESC, h.ord DESC LIMIT 1)
               END ORDER BY i.ord)
        FROM unnest(p_tenants, p_sessions, p_types, p_assignees) WITH ORDINALITY
            AS i (tenant, session, type, assignee, ord)
    );
END
$$;
COMMENT ON FUNCTION flametree.users_to_notify IS
    'The user to notify of each event. For an assignment, this is the assignee. For a customer''s message, it is the session''s handler after all earlier events, including the earlier events of this call. Call it before apply_effects.';

CREATE OR REPLACE FUNCTION flametree.fan_out_to_browsers(p_accepted flametree.accepted, p_tenants text[], p_users text[])
RETURNS flametree.accepted LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    SELECT array_agg(b.ord), array_agg(b.id), array_agg(nextval('flametree.ready_positions'))
    INTO p_accepted.push_events, p_accepted.push_endpoints, p_accepted.push_positions
    FROM (
        SELECT i.ord::integer AS ord, s.id
        FROM unnest(p_accepted.results, p_users, p_tenants) WITH ORDINALITY AS i (result, person, tenant, ord)
        CROSS JOIN LATERAL (
            SELECT s.id FROM flametree.push_subscriptions AS s
            WHERE s.tenant_id = i.tenant AND s.user_id = i.person AND s.active
            LIMIT 100
        ) AS s
        WHERE i.result = 'accepted' AND i.person IS NOT NULL
        ORDER BY i.ord
    ) AS b;
    p_accepted.deliveries := ARRAY(
        SELECT (i.deliveries + count(b.ord))::smallint
        FROM unnest(p_accepted.deliveries) WITH ORDINALITY AS i (deliveries, ord)
        LEFT JOIN unnest(p_accepted.push_events) AS b (ord) ON b.ord = i.ord
        GROUP BY i.ord, i.deliveries ORDER BY i.ord
    );
    RETURN p_accepted;
END
$$;
COMMENT ON FUNCTION flametree.fan_out_to_browsers IS
    'Adds a delivery for each browser of the users, whose n-th element is the user to notify of the n-th event.';

CREATE OR REPLACE FUNCTION flametree.make_pushes_ready(
    p_accepted flametree.accepted, p_ids uuid[], p_tenants text[], p_expires_seconds integer[], p_default_expires_seconds integer,
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO flametree.ready_deliveries_browser_push (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
    SELECT 'browser_push', i.tenant, b.endpoint, b.position,
           flametree.delivery_id(i.id, num_nonnulls(i.webhook) + row_number() OVER (PARTITION BY b.event ORDER BY b.position)),
           i.id, p_now + make_interval(secs => coalesce(i.expires_seconds, p_default_expires_seconds))
    FROM unnest(p_accepted.push_events, p_accepted.push_endpoints, p_accepted.push_positions) AS b (event, endpoint, position)
    JOIN unnest(p_ids, p_accepted.webhooks, p_tenants, p_expires_seconds) WITH ORDINALITY
        AS i (id, webhook, tenant, expires_seconds, ord) ON i.ord = b.event;
END
$$;
COMMENT ON FUNCTION flametree.make_pushes_ready IS 'Makes the browser push deliveries of accepted events ready.';

CREATE OR REPLACE FUNCTION flametree.deliveries_with_duplicates(p_accepted flametree.accepted, p_tenants text[])
RETURNS smallint[] LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT array_agg(coalesce(CASE i.result WHEN 'duplicate' THEN (
               SELECT e.deliveries FROM flametree.events AS e
               WHERE e.tenant_id = i.tenant AND e.id = i.id LIMIT 1)
           END, i.deliveries) ORDER BY i.ord)
    FROM unnest((p_accepted).results, (p_accepted).event_ids, (p_accepted).deliveries, p_tenants) WITH ORDINALITY
        AS i (result, id, deliveries, tenant, ord)
$$;
COMMENT ON FUNCTION flametree.deliveries_with_duplicates IS
    'The number of deliveries of each event. A duplicate has the number of the first event, if that event is still stored.';

-- Each key is written for yesterday and for today. So two requests with one key share at least one row, unless their clocks
-- differ by two days. Rows are written in the order of tenant, key and day, so that two transactions with the same keys cannot
-- deadlock. Each statement has its own snapshot, so it sees which transaction was first.
CREATE OR REPLACE FUNCTION flametree.remember_keys(
    p_tenants text[], p_keys text[], p_ids uuid[], p_hashes bytea[], p_today date, OUT results text[], OUT event_ids uuid[]
) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO flametree.idempotency_keys (tenant_id, key, day, event_id, body_hash)
    SELECT DISTINCT ON (i.tenant, i.key COLLATE "C") i.tenant, i.key, p_today - 1, i.id, i.hash
    FROM unnest(p_tenants, p_keys, p_ids, p_hashes) WITH ORDINALITY AS i (tenant, key, id, hash, ord)
    WHERE i.key IS NOT NULL
    ORDER BY i.tenant, i.key COLLATE "C", i.ord
    ON CONFLICT (tenant_id, key, day) DO NOTHING;

    -- Today's row is a copy of yesterday's row, which may belong to an earlier event.
    INSERT INTO flametree.idempotency_keys (tenant_id, key, day, event_id, body_hash)
    SELECT DISTINCT ON (i.tenant, i.key COLLATE "C") i.tenant, i.key, p_today, k.event_id, k.body_hash
    FROM unnest(p_tenants, p_keys) AS i (tenant, key)
    CROSS JOIN LATERAL (
        SELECT s.event_id, s.body_hash FROM flametree.idempotency_keys AS s
        WHERE s.tenant_id = i.tenant AND s.key = i.key AND s.day = p_today - 1 LIMIT 1
    ) AS k
    ORDER BY i.tenant, i.key COLLATE "C"
    ON CONFLICT (tenant_id, key, day) DO NOTHING;

    SELECT array_agg(CASE
               WHEN k.event_id IS NULL OR k.event_id = i.id THEN 'accepted'
               WHEN k.body_hash = i.hash THEN 'duplicate'
               ELSE 'conflict' END ORDER BY i.ord),
           array_agg(coalesce(k.event_id, i.id) ORDER BY i.ord)
    INTO results, event_ids
    FROM unnest(p_tenants, p_keys, p_ids, p_hashes) WITH ORDINALITY AS i (tenant, key, id, hash, ord)
    LEFT JOIN LATERAL (
        SELECT s.event_id, s.body_hash FROM flametree.idempotency_keys AS s
        WHERE s.tenant_id = i.tenant AND s.key = i.key AND s.day = p_today LIMIT 1
    ) AS k ON true;
END
$$;
COMMENT ON FUNCTION flametree.remember_keys IS
    'Claims idempotency keys for events. Returns for each event: accepted, duplicate (an earlier event, whose id is returned, has the same key and body) or conflict (another body has the key). Waits for transactions that have locked one of the keys.';

CREATE OR REPLACE FUNCTION flametree.event_hash(
    p_type text, p_agent text, p_session text, p_customer text, p_assignee text, p_occurred timestamptz, p_text text,
    p_metadata text, p_expires_seconds integer
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to(jsonb_build_array(p_type, p_agent, p_session, p_customer, p_assignee,
        extract(epoch FROM p_occurred), p_text, p_metadata::jsonb, p_expires_seconds)::text, 'UTF8'))
$$;
COMMENT ON FUNCTION flametree.event_hash IS 'The hash of a body, to detect another body under the same idempotency key.';

-- The event with the latest occurred_at determines the handler of a session, and whether the session is in the operator
-- workspace. If times are equal, the event that arrives last counts. A time in the future counts as the current time, because
-- otherwise later events would have no effect.
CREATE OR REPLACE FUNCTION flametree.apply_effects(
    p_results text[], p_tenants text[], p_types text[], p_agents text[], p_sessions text[], p_assignees text[],
    p_occurred timestamptz[], p_now timestamptz
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO flametree.sessions AS s
        (tenant_id, id, agent_id, handler_id, handler_changed_at, in_workspace, workspace_changed_at)
    SELECT e.tenant, e.session, min(e.agent),
           (array_agg(e.handler ORDER BY e.occurred DESC, e.ord DESC) FILTER (WHERE e.sets_handler))[1],
           coalesce(max(e.occurred) FILTER (WHERE e.sets_handler), '-infinity'),
           (array_agg(e.in_workspace ORDER BY e.occurred DESC, e.ord DESC))[1],
           max(e.occurred)
    FROM (
        SELECT i.ord, i.tenant, i.session, i.agent, least(coalesce(i.occurred, p_now), p_now) AS occurred,
               i.type IN ('session_assigned', 'session_resolved') AS sets_handler,
               CASE i.type WHEN 'session_assigned' THEN i.assignee END AS handler,
               i.type <> 'session_resolved' AS in_workspace
        FROM unnest(p_results, p_tenants, p_types, p_agents, p_sessions, p_assignees, p_occurred) WITH ORDINALITY
            AS i (result, tenant, type, agent, session, assignee, occurred, ord)
        WHERE i.result = 'accepted' AND i.type IN ('session_assigned', 'transferred_to_live_agent', 'session_resolved')
    ) AS e
    GROUP BY e.tenant, e.session
    ORDER BY e.tenant, e.session
    ON CONFLICT (tenant_id, id) DO UPDATE SET
        handler_id = CASE WHEN excluded.handler_changed_at >= s.handler_changed_at
                          THEN excluded.handler_id ELSE s.handler_id END,
        handler_changed_at = greatest(excluded.handler_changed_at, s.handler_changed_at),
        in_workspace = CASE WHEN excluded.workspace_changed_at >= s.workspace_changed_at
                            THEN excluded.in_workspace ELSE s.in_workspace END,
        workspace_changed_at = greatest(excluded.workspace_changed_at, s.workspace_changed_at);
END
$$;
