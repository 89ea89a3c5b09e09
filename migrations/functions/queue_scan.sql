-- The functions of the delivery queue that find endpoints with ready deliveries. Each function is one transaction and one round
-- trip.
--
-- Plans must not depend on how many rows a table has at planning time, because the queue's tables are usually empty, but huge
-- during a backlog. So each function pins planner settings. It also keeps its plans (force_generic_plan), because planning
-- costs more than running. JIT is off, because statements that look expensive during a backlog read only a few rows.

CREATE OR REPLACE FUNCTION flametree.waiting_lanes(
    p_channel flametree.channel, p_tenant text, p_endpoint uuid, p_limit integer
) RETURNS TABLE (
    tenant_id text, endpoint_id uuid, first_position bigint, first_id uuid, replayed_at timestamptz
) LANGUAGE plpgsql STABLE
    SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off SET jit = off
    SET plan_cache_mode = force_generic_plan SET lock_timeout = '3s' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE lane AS (
        (SELECT r.tenant_id, r.endpoint_id, r.position, r.id
         FROM flametree.ready_deliveries AS r
         WHERE r.channel = p_channel AND (r.tenant_id, r.endpoint_id) > (p_tenant, p_endpoint)
         ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1)
        UNION ALL
        SELECT n.tenant_id, n.endpoint_id, n.position, n.id
        FROM lane AS l
        CROSS JOIN LATERAL (
            SELECT r.tenant_id, r.endpoint_id, r.position, r.id
            FROM flametree.ready_deliveries AS r
            WHERE r.channel = p_channel AND (r.tenant_id, r.endpoint_id) > (l.tenant_id, l.endpoint_id)
            ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1
        ) AS n
    )
    SELECT l.tenant_id, l.endpoint_id, l.position, l.id,
           (SELECT r.created_at FROM flametree.replays AS r WHERE r.id = l.id AND r.tenant_id = l.tenant_id)
    FROM lane AS l LIMIT p_limit;
END
$$;
COMMENT ON FUNCTION flametree.waiting_lanes IS
    'The endpoints with ready deliveries, in key order after (p_tenant, p_endpoint), with one index probe each. If the first delivery is a replay, replayed_at is the time since which it has waited.';

CREATE OR REPLACE FUNCTION flametree.waiting_beside(
    p_channel flametree.channel, p_tenants text[], p_endpoints uuid[], p_after bigint[]
) RETURNS TABLE (
    tenant_id text, endpoint_id uuid, first_position bigint, first_id uuid, replayed_at timestamptz
) LANGUAGE plpgsql STABLE
    SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off SET jit = off
    SET plan_cache_mode = force_generic_plan SET lock_timeout = '3s' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT f.tenant_id, f.endpoint_id, f.position, f.id,
           (SELECT r.created_at FROM flametree.replays AS r WHERE r.id = f.id AND r.tenant_id = f.tenant_id)
    FROM unnest(p_tenants, p_endpoints, p_after, p_tenants[2:], p_endpoints[2:])
        AS k (tenant_id, endpoint_id, after, next_tenant, next_endpoint)
    CROSS JOIN LATERAL (
        (SELECT r.tenant_id, r.endpoint_id, r.position, r.id
         FROM flametree.ready_deliveries AS r
         WHERE r.channel = p_channel AND r.tenant_id = k.tenant_id AND r.endpoint_id = k.endpoint_id
           AND r.position > k.after
         ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1)
        UNION ALL
        -- Three queries search a gap. Each query fixes the leading columns and limits the next column, because an index scan
        -- does not stop at the second column of a row comparison.
        (SELECT r.tenant_id, r.endpoint_id, r.position, r.id
         FROM flametree.ready_deliveries AS r
         WHERE r.channel = p_channel AND r.tenant_id = k.tenant_id AND r.endpoint_id > k.endpoint_id
           AND r.endpoint_id < CASE WHEN k.next_tenant = k.tenant_id THEN k.next_endpoint
                                    ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff' END
         ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1)
        UNION ALL
        (SELECT r.tenant_id, r.endpoint_id, r.position, r.id
         FROM flametree.ready_deliveries AS r
         -- A tenant id has at most 128 bytes, so no tenant comes after this bound.
         WHERE k.next_tenant IS DISTINCT FROM k.tenant_id AND r.channel = p_channel AND r.tenant_id > k.tenant_id
           AND r.tenant_id < coalesce(k.next_tenant, repeat(U&'\+10FFFF', 33))
         ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1)
        UNION ALL
        (SELECT r.tenant_id, r.endpoint_id, r.position, r.id
         FROM flametree.ready_deliveries AS r
         WHERE k.next_tenant <> k.tenant_id AND r.channel = p_channel AND r.tenant_id = k.next_tenant
           AND r.endpoint_id < k.next_endpoint
         ORDER BY r.tenant_id, r.endpoint_id, r.position LIMIT 1)
    ) AS f
    WHERE k.after IS NOT NULL;
END
$$;
COMMENT ON FUNCTION flametree.waiting_beside IS
    'For places in key order (an endpoint and a position), returns the first ready delivery of the endpoint after the position, and the first ready deliveries of other endpoints and tenants before the next place. A place without a position only ends the gap of the previous place. Never reads rows before the positions, which may be dead.';
