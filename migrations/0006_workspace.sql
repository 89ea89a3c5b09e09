-- What operators watch: the active conversations of a tenant, how a process hears of changes, and tickets for streams.

-- Every process must hear of every change, in whatever order transactions commit. A counter per tenant would make all of
-- its events wait for the one transaction that holds the row, and a platform's own transaction may be open for minutes.
-- So a row says in which transaction it changed, and a reader asks what its last snapshot had not seen.
ALTER TABLE flametree.sessions ADD COLUMN changed_in xid8 NOT NULL DEFAULT pg_current_xact_id();
COMMENT ON COLUMN flametree.sessions.changed_in IS
    'The transaction that changed the row last. Only ever compared with snapshots of the same server.';
CREATE INDEX sessions_changed ON flametree.sessions (changed_in);

CREATE FUNCTION flametree.stamp_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id();
    RETURN NEW;
END
$$;
-- An event that was too late to change anything leaves the row as it was, and wakes nobody.
CREATE TRIGGER sessions_stamp BEFORE UPDATE ON flametree.sessions FOR EACH ROW
    WHEN (NEW.in_workspace <> OLD.in_workspace OR NEW.workspace_changed_at <> OLD.workspace_changed_at
          OR NEW.handler_id IS DISTINCT FROM OLD.handler_id)
    EXECUTE FUNCTION flametree.stamp_session();

-- What the snapshot p_since had not seen: changes of transactions that began after it, and of those that it saw running.
-- Both are probes of the index by value: a transaction that stays open for hours costs one probe, not a walk over
-- everything since its beginning. Changes of the future (a dump of another server was restored) are left out.
CREATE FUNCTION flametree.workspace_changes(p_since text) RETURNS TABLE (until text, tenants text[])
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
    'The tenants whose sessions changed since the snapshot p_since (none of them if it is null), and the snapshot to go on from.';

-- The order of the rows, and no sort: only the partial index can give that, so no plan walks over a tenant's history.
CREATE FUNCTION flametree.active_conversations(p_tenants text[], p_most bigint) RETURNS TABLE (
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
    'For each tenant how many conversations are in its operator workspace, and the p_most latest of them.';

CREATE FUNCTION flametree.active_conversations_of_all() RETURNS bigint
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
COMMENT ON FUNCTION flametree.active_conversations_of_all IS 'How many conversations are in the workspaces of all tenants.';

-- Unlogged: a ticket lives for a minute, and one that a crash of the server takes is simply asked for again.
CREATE UNLOGGED TABLE flametree.stream_tickets (
    hash       bytea PRIMARY KEY CONSTRAINT stream_tickets_hash_is_sha256 CHECK (length(hash) = 32),
    tenant_id  text COLLATE "C" NOT NULL,
    role       text NOT NULL CONSTRAINT stream_tickets_role_known CHECK (
                   role IN ('service', 'admin', 'agent_editor', 'operator', 'viewer')),
    actor      text NOT NULL,
    -- When the credential ends that it was made with; null: when somebody ends it.
    valid_until timestamptz,
    expires_at timestamptz NOT NULL CONSTRAINT stream_tickets_end_with_their_maker CHECK (expires_at <= valid_until)
);
CREATE INDEX stream_tickets_expired ON flametree.stream_tickets (expires_at);
COMMENT ON TABLE flametree.stream_tickets IS
    'Tickets that open one stream of an operator workspace, as SHA-256. Using one deletes it; making one clears away old ones.';
