-- The operator workspace: the active conversations of a tenant, and how a process detects changes.

-- Returns changes that the snapshot p_since did not see: changes by later transactions, and by transactions that were running
-- at p_since. Index probes find these changes. So a transaction that stays open for hours costs one probe, not a scan of all
-- changes since its start. Ignores changes with future transaction ids, which a restored dump of another server may contain.
CREATE OR REPLACE FUNCTION flametree.workspace_changes(p_since text) RETURNS TABLE (until text, tenants text[])
    LANGUAGE plpgsql STABLE SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_since pg_snapshot := p_since::pg_snapshot;
BEGIN
    RETURN QUERY
    SELECT pg_current_snapshot()::text, ARRAY(
        SELECT DISTINCT c.tenant
        FROM (
            SELECT s.tenant_id AS tenant
            FROM flametree.sessions AS s
            WHERE s.changed_in >= pg_snapshot_xmax(v_since) AND s.changed_in < pg_snapshot_xmax(pg_current_snapshot())
            UNION ALL
            SELECT r.tenant
            FROM pg_snapshot_xip(v_since) AS x (transaction)
            CROSS JOIN LATERAL (
                SELECT s.tenant_id AS tenant FROM flametree.sessions AS s WHERE s.changed_in = x.transaction OFFSET 0
            ) AS r
        ) AS c
    );
END
$$;
COMMENT ON FUNCTION flametree.workspace_changes IS
    'The tenants whose sessions changed since the snapshot p_since (no tenants if it is NULL), and the snapshot to pass to the next call.';

-- Sorting is off. Only the partial index returns rows in the wanted order, so no plan scans a tenant's history.
CREATE OR REPLACE FUNCTION flametree.active_conversations(p_tenants text[], p_most bigint) RETURNS TABLE (
    tenant text, as_of timestamptz, total bigint, sessions text[], agents text[], assignees text[], since timestamptz[]
) LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET jit = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    SELECT t.name, statement_timestamp(), n.total, l.sessions, l.agents, l.assignees, l.since
    FROM unnest(p_tenants) AS t (name)
    CROSS JOIN LATERAL (
        SELECT count(*) AS total
        FROM (
            SELECT FROM flametree.sessions AS s
            WHERE s.tenant_id = t.name AND s.in_workspace
            ORDER BY s.workspace_changed_at DESC
            OFFSET 0
        ) AS a
    ) AS n
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(a.id), '{}') AS sessions, coalesce(array_agg(a.agent_id), '{}') AS agents,
               coalesce(array_agg(a.handler_id), '{}') AS assignees, coalesce(array_agg(a.at), '{}') AS since
        FROM (
            SELECT s.id, s.agent_id, s.handler_id, s.workspace_changed_at AS at
            FROM flametree.sessions AS s
            WHERE s.tenant_id = t.name AND s.in_workspace
            ORDER BY s.workspace_changed_at DESC, s.id
            LIMIT p_most
        ) AS a
    ) AS l;
END
$$;
COMMENT ON FUNCTION flametree.active_conversations IS
    'For each tenant, the number of conversations in its operator workspace, and the p_most latest of them.';

CREATE OR REPLACE FUNCTION flametree.active_conversations_of_all() RETURNS bigint
    LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET jit = off AS $$
BEGIN
    RETURN (
        SELECT count(*)
        FROM (
            SELECT FROM flametree.sessions AS s WHERE s.in_workspace ORDER BY s.tenant_id, s.workspace_changed_at OFFSET 0
        ) AS a
    );
END
$$;
COMMENT ON FUNCTION flametree.active_conversations_of_all IS 'The number of conversations in the workspaces of all tenants.';
