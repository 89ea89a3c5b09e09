-- Operations: work besides deliveries, by a schedule or asked for by a person. At least once, in steps that may be repeated.

CREATE TABLE flametree.operations (
    id           uuid PRIMARY KEY,
    kind         text NOT NULL,
    tick         timestamptz,
    tenant_id    text COLLATE "C",
    agent_id     text COLLATE "C",
    requested_by text,
    request_key  text COLLATE "C",
    arguments    jsonb,
    state        text NOT NULL CONSTRAINT operations_state_known CHECK (
                     state IN ('waiting', 'running', 'succeeded', 'failed', 'canceled')),
    due_at       timestamptz NOT NULL,
    holder       uuid,
    attempts     integer NOT NULL DEFAULT 0,
    position     uuid,
    examined     bigint NOT NULL DEFAULT 0,
    matched      bigint NOT NULL DEFAULT 0,
    skipped      bigint NOT NULL DEFAULT 0,
    replayed     bigint NOT NULL DEFAULT 0,
    note         text,
    created_at   timestamptz NOT NULL,
    started_at   timestamptz,
    finished_at  timestamptz,
    CONSTRAINT operations_once_per_tick UNIQUE (kind, tick),
    CONSTRAINT operations_once_per_key UNIQUE (tenant_id, request_key),
    CONSTRAINT operations_scheduled_or_asked_for CHECK ((tick IS NULL) = (tenant_id IS NOT NULL)),
    CONSTRAINT operations_running_is_held CHECK ((state = 'running') = (holder IS NOT NULL)),
    CONSTRAINT operations_end_has_time CHECK ((state IN ('waiting', 'running')) = (finished_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX operations_due ON flametree.operations (due_at) WHERE state IN ('waiting', 'running');
-- Ticks of one kind run one after another, on whatever node.
CREATE UNIQUE INDEX operations_one_of_a_schedule ON flametree.operations (kind)
    WHERE state = 'running' AND tick IS NOT NULL;
CREATE INDEX operations_of_tenant ON flametree.operations (coalesce(tenant_id, ''), id);
CREATE INDEX operations_finished ON flametree.operations (finished_at) WHERE finished_at IS NOT NULL;
COMMENT ON TABLE flametree.operations IS
    'One row per tick of a schedule (no tenant) or per request (a tenant''s). Whoever holds it says so by the database''s clock; every step of it is guarded by the holder.';
COMMENT ON COLUMN flametree.operations.due_at IS
    'From when on anybody may take it: its time while it waits, the end of the holder''s lease while it runs.';
COMMENT ON COLUMN flametree.operations.position IS
    'How far it has come: the last id that a committed step has looked at.';
