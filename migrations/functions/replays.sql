-- Replays: new deliveries of past events, requested by a user.

CREATE OR REPLACE FUNCTION flametree.replay(
    p_tenant text, p_id uuid, p_oldest uuid, p_expires_seconds integer, p_operation uuid, p_requested_by text,
    p_dry_run boolean, p_request_key text DEFAULT NULL
) RETURNS TABLE (result text, delivery_id uuid) LANGUAGE plpgsql AS $$
DECLARE
    v_event_id uuid := flametree.delivery_id(p_id, 0);
    v_last uuid := flametree.delivery_id(p_id, 65535);
    v_agent text;
    v_type flametree.event_type;
    v_deliveries integer;
    v_replays integer;
    v_channel flametree.channel;
    v_endpoint uuid;
    v_id uuid;
    v_replay_of uuid;
    v_now timestamptz := flametree.clock();
BEGIN
    -- Locks the event's row first, so that replays of one event run one after another, and each sees the earlier replays.
    SELECT e.agent_id, e.type, e.deliveries, e.replays INTO v_agent, v_type, v_deliveries, v_replays
    FROM flametree.events AS e WHERE e.tenant_id = p_tenant AND e.id = v_event_id
    FOR UPDATE;
    IF NOT FOUND OR p_id = v_event_id OR p_id > flametree.delivery_id(p_id, v_deliveries + v_replays) THEN
        RETURN QUERY SELECT 'unknown', NULL::uuid;
        RETURN;
    END IF;

    -- This query must come after the lock, so that a repeated request waits for the first request and then finds the replay of
    -- the first request.
    IF p_request_key IS NOT NULL THEN
        SELECT r.id, r.replay_of INTO v_id, v_replay_of
        FROM flametree.replays AS r WHERE r.tenant_id = p_tenant AND r.request_key = p_request_key;
        IF FOUND THEN
            RETURN QUERY SELECT CASE WHEN v_replay_of = p_id THEN 'repeated' ELSE 'other_request' END,
                                CASE WHEN v_replay_of = p_id THEN v_id END;
            RETURN;
        END IF;
    END IF;

    SELECT d.channel, d.endpoint_id INTO v_channel, v_endpoint
    FROM flametree.deliveries AS d WHERE d.tenant_id = p_tenant AND d.id = p_id;
    IF NOT FOUND OR EXISTS (
        SELECT 1 FROM flametree.replays AS r
        WHERE r.tenant_id = p_tenant AND r.id > v_event_id AND r.id <= v_last AND r.channel = v_channel
          AND (v_channel = 'webhook' OR r.endpoint_id = v_endpoint)
          AND NOT EXISTS (SELECT 1 FROM flametree.deliveries AS d WHERE d.tenant_id = p_tenant AND d.id = r.id)
    ) THEN
        RETURN QUERY SELECT 'in_flight', NULL::uuid;
        RETURN;
    END IF;

    IF p_id < p_oldest THEN
        RETURN QUERY SELECT 'too_old', NULL::uuid;
        RETURN;
    END IF;

    -- Uses the agent's current endpoint, because a webhook that was deleted and created again has another id.
    IF v_channel = 'webhook' THEN
        SELECT c.endpoint_id INTO v_endpoint
        FROM flametree.push_configs AS c
        WHERE c.tenant_id = p_tenant AND c.agent_id = v_agent AND c.enabled
          AND flametree.webhook_event(v_type) = ANY (c.events);
    ELSE
        SELECT s.id INTO v_endpoint
        FROM flametree.push_subscriptions AS s
        WHERE s.id = v_endpoint AND s.tenant_id = p_tenant AND s.active;
    END IF;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unwanted', NULL::uuid;
        RETURN;
    END IF;

    IF v_deliveries + v_replays >= 32767 THEN
        RETURN QUERY SELECT 'exhausted', NULL::uuid;
        RETURN;
    END IF;
    IF p_dry_run THEN
        RETURN QUERY SELECT 'ready', NULL::uuid;
        RETURN;
    END IF;

    v_id := flametree.delivery_id(p_id, v_deliveries + v_replays + 1);
    UPDATE flametree.events AS e SET replays = v_replays + 1
    WHERE e.tenant_id = p_tenant AND e.id = v_event_id;
    INSERT INTO flametree.replays
        (id, tenant_id, replay_of, channel, endpoint_id, operation_id, requested_by, request_key, created_at)
    VALUES (v_id, p_tenant, p_id, v_channel, v_endpoint, p_operation, p_requested_by, p_request_key, v_now);
    INSERT INTO flametree.ready_deliveries (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
    VALUES (v_channel, p_tenant, v_endpoint, nextval('flametree.ready_positions'), v_id, v_event_id,
            v_now + make_interval(secs => p_expires_seconds));
    RETURN QUERY SELECT 'ready', v_id;
END
$$;
COMMENT ON FUNCTION flametree.replay IS
    'Creates a new delivery of the event of a finished delivery, with the current settings, in the caller''s transaction. With p_dry_run, only returns whether it would create one. Refuses ids below p_oldest, because their partition may be dropped before the delivery has ended. If the tenant has used p_request_key, returns the replay of the same delivery as repeated, and refuses another delivery; concurrent requests for two events with one key raise unique_violation (replays_once_per_key).';

CREATE OR REPLACE FUNCTION flametree.replay_step(
    p_operation uuid, p_holder uuid, p_rows integer, p_oldest uuid, p_expires_seconds integer
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_operation flametree.operations;
    v_outcomes flametree.outcome[];
    v_dry_run boolean;
    v_limit bigint;
    v_to uuid;
    v_row record;
    v_result text;
    v_rows integer := 0;
BEGIN
    -- Locks the operation, so that a user cannot cancel it and another process cannot lease it during this step.
    SELECT o.* INTO v_operation FROM flametree.operations AS o
    WHERE o.id = p_operation AND o.holder = p_holder AND o.state = 'running'
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;
    v_outcomes := ARRAY(SELECT jsonb_array_elements_text(v_operation.arguments -> 'outcomes'))::flametree.outcome[];
    v_dry_run := (v_operation.arguments ->> 'dry_run')::boolean;
    v_limit := (v_operation.arguments ->> 'limit')::bigint;
    v_to := flametree.first_id_at(coalesce((v_operation.arguments ->> 'to')::timestamptz, v_operation.created_at));
    v_operation.position := coalesce(v_operation.position,
        flametree.first_id_at((v_operation.arguments ->> 'from')::timestamptz));

    FOR v_row IN
        SELECT d.id, d.event_id, d.channel, d.outcome FROM flametree.deliveries AS d
        WHERE d.tenant_id = v_operation.tenant_id AND d.id > v_operation.position AND d.id < v_to
        ORDER BY d.id LIMIT p_rows
    LOOP
        EXIT WHEN v_operation.matched - v_operation.skipped >= v_limit;
        v_rows := v_rows + 1;
        v_operation.position := v_row.id;
        v_operation.examined := v_operation.examined + 1;
        CONTINUE WHEN v_row.channel <> 'webhook' OR v_row.outcome <> ALL (v_outcomes);
        CONTINUE WHEN NOT EXISTS (
            SELECT 1 FROM flametree.events AS e
            WHERE e.tenant_id = v_operation.tenant_id AND e.id = v_row.event_id AND e.agent_id = v_operation.agent_id);
        -- Skips deliveries that were replayed later, and deliveries that this operation created.
        CONTINUE WHEN EXISTS (
            SELECT 1 FROM flametree.replays AS r
            WHERE r.tenant_id = v_operation.tenant_id AND r.id >= v_row.id
              AND r.id <= flametree.delivery_id(v_row.id, 65535) AND r.channel = 'webhook'
              AND (r.id > v_row.id OR r.operation_id = v_operation.id));
        v_operation.matched := v_operation.matched + 1;
        SELECT r.result INTO v_result
        FROM flametree.replay(v_operation.tenant_id, v_row.id, p_oldest, p_expires_seconds, v_operation.id,
            v_operation.requested_by, v_dry_run) AS r;
        IF v_result <> 'ready' THEN
            v_operation.skipped := v_operation.skipped + 1;
        ELSIF NOT v_dry_run THEN
            v_operation.replayed := v_operation.replayed + 1;
        END IF;
    END LOOP;

    UPDATE flametree.operations AS o
    SET position = v_operation.position, examined = v_operation.examined, matched = v_operation.matched,
        skipped = v_operation.skipped, replayed = v_operation.replayed
    WHERE o.id = p_operation;
    RETURN CASE WHEN v_rows < p_rows THEN 'done' ELSE 'more' END;
END
$$;
COMMENT ON FUNCTION flametree.replay_step IS
    'One step of a replay operation: examines the next p_rows deliveries of the tenant, replays those that match, and stores its position, in one transaction. Returns lost if p_holder no longer holds the operation.';
