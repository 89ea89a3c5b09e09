-- The tables. The functions are in migrations/functions/; trigger functions are here, beside the tables that they belong to.
--
-- Names of tenants, agents, sessions and users are opaque bytes: COLLATE "C" compares them as such, whatever the database's
-- locale is, and keeps their indexes valid when the locale library changes.
SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '60s';

CREATE SCHEMA IF NOT EXISTS flametree;

CREATE TYPE flametree.channel AS ENUM ('webhook', 'browser_push');

CREATE TYPE flametree.event_type AS ENUM (
    'new_session_started', 'ai_assistant_message', 'human_agent_message', 'user_message',
    'transferred_to_live_agent', 'session_assigned', 'session_resolved'
);

CREATE TYPE flametree.outcome AS ENUM (
    'delivered', 'http_error', 'redirect', 'timeout', 'dns_error', 'connect_error', 'tls_error', 'protocol_error',
    'blocked_address', 'gone', 'expired', 'interrupted', 'canceled', 'config_error', 'payload_too_large', 'throttled'
);

-- Events and deliveries -------------------------------------------------------------------------------------------

-- What columns may hold: a CHECK of their table would be parsed again by every statement that inserts.
CREATE DOMAIN flametree.delivery_count AS smallint
    CONSTRAINT delivery_count_range CHECK (VALUE >= 0);
CREATE DOMAIN flametree.trace_context AS bytea
    CONSTRAINT trace_context_size CHECK (octet_length(VALUE) BETWEEN 17 AND 529);
CREATE DOMAIN flametree.duration_us AS integer
    CONSTRAINT duration_us_range CHECK (VALUE >= 0);
CREATE DOMAIN flametree.http_status AS smallint
    CONSTRAINT http_status_range CHECK (VALUE BETWEEN 100 AND 999);

CREATE TABLE flametree.events (
    tenant_id   text COLLATE "C" NOT NULL,
    id          uuid NOT NULL,
    type        flametree.event_type NOT NULL,
    deliveries  flametree.delivery_count NOT NULL,
    replays     flametree.delivery_count NOT NULL DEFAULT 0,
    occurred_at timestamptz NOT NULL,
    agent_id    text COLLATE "C" NOT NULL,
    session_id  text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C",
    assignee_id text COLLATE "C",
    text        text,
    metadata    text,
    trace       flametree.trace_context,
    PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE flametree.events IS
    'Accepted events, once each. The id is a UUID version 7, so a partition is a range of ids and of times. Retention drops partitions.';
COMMENT ON COLUMN flametree.events.deliveries IS
    'How many deliveries the event was fanned out to when it was accepted. Their ids are the event''s id with the last 16 bits counting from 1.';
COMMENT ON COLUMN flametree.events.replays IS
    'How many deliveries were added by replays; their ids count on behind the others.';
COMMENT ON COLUMN flametree.events.trace IS
    'The W3C trace context that the event came with: 16 bytes of trace id, one of flags, and the tracestate; NULL where it came without.';

CREATE TABLE flametree.ready_deliveries (
    channel     flametree.channel NOT NULL,
    tenant_id   text COLLATE "C" NOT NULL,
    endpoint_id uuid NOT NULL,
    position    bigint NOT NULL,
    id          uuid NOT NULL,
    event_id    uuid NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (channel, tenant_id, endpoint_id, position)
) PARTITION BY LIST (channel);
COMMENT ON TABLE flametree.ready_deliveries IS
    'Deliveries that no worker has claimed, in the order of each endpoint. A claim deletes the row. The key is the only index.';

CREATE SEQUENCE flametree.ready_positions;
COMMENT ON SEQUENCE flametree.ready_positions IS
    'Order of deliveries. Drawn in the accepting transaction, never cached in blocks: a late block would land behind a reader.';

-- Rows live for milliseconds; without eager vacuuming the table is mostly dead rows.
CREATE TABLE flametree.ready_deliveries_webhook PARTITION OF flametree.ready_deliveries FOR VALUES IN ('webhook')
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
          autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000,
          autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);
CREATE TABLE flametree.ready_deliveries_browser_push PARTITION OF flametree.ready_deliveries FOR VALUES IN ('browser_push')
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
          autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000,
          autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);

CREATE TABLE flametree.workers (
    id           uuid PRIMARY KEY,
    started_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    fenced_at    timestamptz,
    description  text NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE flametree.workers IS
    'One row per start of a worker process. A fenced worker was found dead: it can claim nothing any more.';

CREATE TABLE flametree.claims (
    claim_id       uuid PRIMARY KEY,
    worker_id      uuid NOT NULL,
    channel        flametree.channel NOT NULL,
    claimed_at     timestamptz NOT NULL,
    lane_tenants   text[] COLLATE "C" NOT NULL,
    lane_endpoints uuid[] NOT NULL,
    lane_versions  integer[] NOT NULL,
    lanes          smallint[] NOT NULL,
    positions      bigint[] NOT NULL,
    delivery_ids   uuid[] NOT NULL,
    event_ids      uuid[] NOT NULL,
    expiries       timestamptz[] NOT NULL,
    CONSTRAINT claims_arrays_match CHECK (
        cardinality(lanes) = cardinality(delivery_ids) AND cardinality(positions) = cardinality(delivery_ids)
        AND cardinality(event_ids) = cardinality(delivery_ids) AND cardinality(expiries) = cardinality(delivery_ids)
        AND cardinality(lane_tenants) = cardinality(lane_endpoints)
        AND cardinality(lane_tenants) = cardinality(lane_versions)
    )
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000);
CREATE INDEX claims_of_worker ON flametree.claims (worker_id);
-- A claim fits one page and lives for milliseconds: compressing ids, or moving them out of line, only costs.
ALTER TABLE flametree.claims
    ALTER COLUMN lane_tenants SET STORAGE EXTERNAL,
    ALTER COLUMN lane_endpoints SET STORAGE EXTERNAL,
    ALTER COLUMN lane_versions SET STORAGE EXTERNAL,
    ALTER COLUMN lanes SET STORAGE EXTERNAL,
    ALTER COLUMN positions SET STORAGE EXTERNAL,
    ALTER COLUMN delivery_ids SET STORAGE EXTERNAL,
    ALTER COLUMN event_ids SET STORAGE EXTERNAL,
    ALTER COLUMN expiries SET STORAGE EXTERNAL;
COMMENT ON TABLE flametree.claims IS
    'What workers have claimed and not completely recorded. A row without deliveries marks a claim that never happened.';
COMMENT ON COLUMN flametree.claims.lanes IS
    'For each delivery the index (from 1) into lane_tenants, lane_endpoints and lane_versions.';

CREATE TABLE flametree.deliveries (
    tenant_id        text COLLATE "C" NOT NULL,
    id               uuid NOT NULL,
    endpoint_id      uuid NOT NULL,
    event_id         uuid NOT NULL,
    claimed_at       timestamptz NOT NULL,
    finished_at      timestamptz NOT NULL,
    channel          flametree.channel NOT NULL,
    outcome          flametree.outcome NOT NULL,
    endpoint_version integer,
    duration_us      flametree.duration_us NOT NULL,
    http_status      flametree.http_status,
    batch            bigint NOT NULL,
    detail           text,
    CONSTRAINT deliveries_delivered_has_status CHECK (outcome <> 'delivered' OR http_status IS NOT NULL),
    PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE flametree.deliveries IS
    'One row per finished delivery, appended once. The primary key alone guarantees one outcome: the first writer wins.';
COMMENT ON COLUMN flametree.deliveries.batch IS
    'The transaction that recorded the row. While uncounted_batches has it, the row is not in delivery_rollups.';
-- Rows are appended in the order of their batches: an index of page ranges finds a batch, and an insert costs next to nothing.
CREATE INDEX deliveries_by_batch ON flametree.deliveries USING brin (batch)
    WITH (pages_per_range = 32, autosummarize = on);

CREATE SEQUENCE flametree.delivery_batches;
COMMENT ON SEQUENCE flametree.delivery_batches IS 'Numbers the transactions that record outcomes.';

CREATE TABLE flametree.uncounted_batches (
    batch      bigint PRIMARY KEY,
    first_id   uuid NOT NULL,
    last_id    uuid NOT NULL,
    deliveries integer NOT NULL CONSTRAINT uncounted_batches_some CHECK (deliveries > 0)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
COMMENT ON TABLE flametree.uncounted_batches IS
    'Batches of outcomes that delivery_rollups does not contain yet. The transaction that records a batch inserts its row; the transaction that counts the batch deletes it. So each outcome is counted exactly once, whatever order transactions commit in.';
COMMENT ON COLUMN flametree.uncounted_batches.first_id IS 'The smallest delivery id of the batch; last_id is the largest.';

CREATE TABLE flametree.idempotency_keys (
    tenant_id text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    event_id  uuid NOT NULL,
    body_hash bytea NOT NULL,
    PRIMARY KEY (tenant_id, key, day)
) PARTITION BY RANGE (day);
COMMENT ON TABLE flametree.idempotency_keys IS
    'Idempotency keys of accepted events: the same key and body again is the same event. Each key is in the partition of its UTC day and of the day before, so that two requests around midnight meet in one of them; a key is remembered for 24 to 48 hours.';

CREATE TABLE flametree.sessions (
    tenant_id            text COLLATE "C" NOT NULL,
    id                   text COLLATE "C" NOT NULL,
    agent_id             text COLLATE "C" NOT NULL,
    handler_id           text COLLATE "C",
    handler_changed_at   timestamptz NOT NULL,
    in_workspace         boolean NOT NULL,
    workspace_changed_at timestamptz NOT NULL,
    changed_in           xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 80);
CREATE INDEX sessions_in_workspace ON flametree.sessions (tenant_id, workspace_changed_at) WHERE in_workspace;
CREATE INDEX sessions_changed ON flametree.sessions (changed_in);
COMMENT ON TABLE flametree.sessions IS
    'What events said of a session. Each of the two facts keeps the latest word by occurred_at, so order of arrival does not matter.';
COMMENT ON COLUMN flametree.sessions.changed_in IS
    'The transaction that changed the row last. Only ever compared with snapshots of the same server.';

-- Every process must hear of every change, in whatever order transactions commit. A counter per tenant would make all of
-- its events wait for the one transaction that holds the row, and a platform's own transaction may be open for minutes.
-- So a row says in which transaction it changed, and a reader asks what its last snapshot had not seen.
CREATE FUNCTION flametree.stamp_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id();
    RETURN NEW;
END
$$;
-- An event that came too late to change anything leaves the row as it was, and wakes no reader.
CREATE TRIGGER sessions_stamp BEFORE UPDATE ON flametree.sessions FOR EACH ROW
    WHEN (NEW.in_workspace <> OLD.in_workspace OR NEW.workspace_changed_at <> OLD.workspace_changed_at
          OR NEW.handler_id IS DISTINCT FROM OLD.handler_id)
    EXECUTE FUNCTION flametree.stamp_session();

-- Endpoints -------------------------------------------------------------------------------------------------------

CREATE TABLE flametree.push_configs (
    tenant_id       text COLLATE "C" NOT NULL,
    agent_id        text COLLATE "C" NOT NULL,
    endpoint_id     uuid NOT NULL,
    version         integer NOT NULL,
    enabled         boolean NOT NULL,
    disabled_reason text CONSTRAINT push_configs_disabled_reason_known CHECK (disabled_reason IN ('gone')),
    url             text,
    timeout_ms      integer CONSTRAINT push_configs_timeout_range CHECK (timeout_ms BETWEEN 1000 AND 10000),
    signing         boolean NOT NULL,
    events          flametree.event_type[] NOT NULL,
    header_names    text[] NOT NULL,
    header_values   bytea[] NOT NULL,
    header_secrets  boolean[] NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    CONSTRAINT push_configs_headers_match CHECK (
        cardinality(header_names) = cardinality(header_values) AND cardinality(header_names) = cardinality(header_secrets)
    ),
    CONSTRAINT push_configs_enabled_is_complete CHECK (NOT enabled OR (url IS NOT NULL AND cardinality(events) > 0)),
    CONSTRAINT push_configs_reason_means_disabled CHECK (NOT enabled OR disabled_reason IS NULL),
    PRIMARY KEY (tenant_id, agent_id),
    -- The endpoint first: a look-up by tenant and agent must find no second index that begins with the tenant.
    CONSTRAINT push_configs_endpoint UNIQUE (endpoint_id, tenant_id)
);
COMMENT ON TABLE flametree.push_configs IS
    'An agent''s webhook. Every header value is encrypted (associated data: tenant, agent, header name); version counts changes.';

CREATE TABLE flametree.signing_secrets (
    tenant_id   text COLLATE "C" NOT NULL,
    endpoint_id uuid NOT NULL,
    id          uuid NOT NULL,
    ciphertext  bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz,
    PRIMARY KEY (tenant_id, endpoint_id, id),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES flametree.push_configs (tenant_id, endpoint_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX signing_secrets_one_current ON flametree.signing_secrets (tenant_id, endpoint_id)
    WHERE expires_at IS NULL;
COMMENT ON TABLE flametree.signing_secrets IS
    'Signing secrets of webhooks, encrypted. One is current; the others sign along until they expire.';

CREATE TABLE flametree.push_subscriptions (
    tenant_id       text COLLATE "C" NOT NULL,
    id              uuid NOT NULL,
    user_id         text COLLATE "C" NOT NULL,
    version         integer NOT NULL,
    active          boolean NOT NULL,
    ciphertext      bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    last_seen_at    timestamptz NOT NULL,
    endpoint_hash   bytea NOT NULL
        CONSTRAINT push_subscriptions_endpoint_hash_is_sha256 CHECK (length(endpoint_hash) = 32),
    host            text NOT NULL,
    vapid_key_id    text NOT NULL,
    label           text CONSTRAINT push_subscriptions_label_length CHECK (length(label) BETWEEN 1 AND 100),
    disabled_reason text CONSTRAINT push_subscriptions_disabled_reason_known CHECK (
                        disabled_reason IN ('vapid_key_mismatch')),
    tested_at       timestamptz,
    was_accepted    boolean NOT NULL DEFAULT false,
    paused_until    timestamptz,
    CONSTRAINT push_subscriptions_reason_means_disabled CHECK (active = (disabled_reason IS NULL)),
    PRIMARY KEY (tenant_id, user_id, id),
    CONSTRAINT push_subscriptions_endpoint UNIQUE (id, tenant_id),
    -- Over all tenants: an endpoint is one browser, which belongs to the user who is signed in there now.
    CONSTRAINT push_subscriptions_endpoint_once UNIQUE (endpoint_hash)
);
CREATE INDEX push_subscriptions_by_vapid_key ON flametree.push_subscriptions (vapid_key_id);
CREATE INDEX push_subscriptions_paused ON flametree.push_subscriptions (paused_until) WHERE paused_until IS NOT NULL;
COMMENT ON TABLE flametree.push_subscriptions IS
    'Browsers of portal users. The id is the endpoint id of deliveries; endpoint and keys are encrypted (associated data: tenant, user, id); version counts changes of what is sent to and by, and pauses: workers read the row again.';
COMMENT ON COLUMN flametree.push_subscriptions.endpoint_hash IS
    'SHA-256 of the endpoint, which is a random capability of its push service.';
COMMENT ON COLUMN flametree.push_subscriptions.host IS 'The host of the endpoint: which push service it is.';
COMMENT ON COLUMN flametree.push_subscriptions.vapid_key_id IS
    'The key that the browser subscribed with; only that key signs messages to it.';
COMMENT ON COLUMN flametree.push_subscriptions.tested_at IS 'When a test message was sent last.';
COMMENT ON COLUMN flametree.push_subscriptions.was_accepted IS
    'Whether the push service has accepted a message for this endpoint: only then do its refusals count against the service.';
COMMENT ON COLUMN flametree.push_subscriptions.paused_until IS
    'Until when nothing is sent, because the push service refused a message or asked for a pause.';

-- Access ----------------------------------------------------------------------------------------------------------

CREATE TABLE flametree.tokens (
    id           uuid PRIMARY KEY,
    tenant_id    text COLLATE "C",
    name         text NOT NULL,
    role         text NOT NULL CONSTRAINT tokens_role_known CHECK (
                     role IN ('service', 'admin', 'agent_editor', 'operator', 'viewer')),
    hash         bytea NOT NULL CONSTRAINT tokens_hash UNIQUE CONSTRAINT tokens_hash_is_sha256 CHECK (length(hash) = 32),
    created_by   text,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
CREATE INDEX tokens_of_tenant ON flametree.tokens (tenant_id, id);
COMMENT ON TABLE flametree.tokens IS
    'API tokens as SHA-256. No tenant_id: the token speaks for all tenants. No created_by: the command line made it.';

CREATE TABLE flametree.leases (
    name       text PRIMARY KEY,
    holder     uuid NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE flametree.leases IS
    'Work that one process at a time does, by the database''s clock; a session lock would not survive a transaction pooler.';

-- Unlogged: a ticket lives for a minute, and one that a crash of the server takes is simply asked for again.
CREATE UNLOGGED TABLE flametree.stream_tickets (
    hash       bytea PRIMARY KEY CONSTRAINT stream_tickets_hash_is_sha256 CHECK (length(hash) = 32),
    tenant_id  text COLLATE "C" NOT NULL,
    role       text NOT NULL CONSTRAINT stream_tickets_role_known CHECK (
                   role IN ('service', 'admin', 'agent_editor', 'operator', 'viewer')),
    actor      text NOT NULL,
    -- When the credential that made it expires; null: it does not expire.
    valid_until timestamptz,
    expires_at timestamptz NOT NULL CONSTRAINT stream_tickets_end_with_their_maker CHECK (expires_at <= valid_until)
);
CREATE INDEX stream_tickets_expired ON flametree.stream_tickets (expires_at);
COMMENT ON TABLE flametree.stream_tickets IS
    'Tickets that open one stream of an operator workspace, as SHA-256. Using one deletes it; making one clears away old ones.';

-- Changes and tests of push configs ---------------------------------------------------------------------------------

CREATE TABLE flametree.push_config_changes (
    tenant_id  text COLLATE "C" NOT NULL,
    agent_id   text COLLATE "C" NOT NULL,
    position   bigint GENERATED ALWAYS AS IDENTITY,
    changed_at timestamptz NOT NULL,
    action     text NOT NULL CONSTRAINT push_config_changes_action_known CHECK (
                   action IN ('created', 'changed', 'deleted', 'signing_secret_rotated', 'disabled')),
    actor      text,
    fields     text[] NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, position)
);
CREATE INDEX push_config_changes_by_age ON flametree.push_config_changes (changed_at);
COMMENT ON TABLE flametree.push_config_changes IS
    'Who changed an agent''s push config, when, and which fields; never values. The newest 500 of an agent are kept, for 400 days. It outlives the config.';
COMMENT ON COLUMN flametree.push_config_changes.position IS
    'Order. Drawn while the config''s row is locked by the change, so that it is the order of an agent''s changes.';
COMMENT ON COLUMN flametree.push_config_changes.actor IS 'Null: the service itself.';

-- The service disables a config in finish_deliveries, the queue's hottest function, when its endpoint responded with 410.
-- A trigger on push_configs costs that function nothing: batches without a 410 touch no row of this table. Users' changes
-- never set a reason, so WHEN excludes them. The change is recorded in the transaction of the outcome.
CREATE FUNCTION flametree.record_disabling() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM flametree.record_push_config_change(
        NEW.tenant_id, NEW.agent_id, 'disabled', NULL, ARRAY['enabled', 'disabled_reason']);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION flametree.record_disabling IS 'Records that the service itself has disabled a push config.';
CREATE TRIGGER push_configs_disabled AFTER UPDATE OF disabled_reason ON flametree.push_configs
    FOR EACH ROW WHEN (OLD.disabled_reason IS NULL AND NEW.disabled_reason IS NOT NULL)
    EXECUTE FUNCTION flametree.record_disabling();

CREATE TABLE flametree.endpoint_tests (
    tenant_id text COLLATE "C" NOT NULL,
    agent_id  text COLLATE "C" NOT NULL,
    tested_at timestamptz[] NOT NULL CONSTRAINT endpoint_tests_bounded CHECK (cardinality(tested_at) BETWEEN 1 AND 10),
    PRIMARY KEY (tenant_id, agent_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE flametree.endpoint_tests IS
    'When the last ten test events of an agent were sent, the oldest first: ten a minute on all nodes together.';

-- Operations and statistics ------------------------------------------------------------------------------------------

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
-- A tenant has one running replay, so that it cannot keep others' replays from running.
CREATE UNIQUE INDEX operations_one_of_a_tenant ON flametree.operations (tenant_id)
    WHERE state = 'running' AND tenant_id IS NOT NULL;
CREATE INDEX operations_waiting_of_tenant ON flametree.operations (tenant_id)
    WHERE state = 'waiting' AND tenant_id IS NOT NULL;
CREATE INDEX operations_of_tenant ON flametree.operations (coalesce(tenant_id, ''), id);
CREATE INDEX operations_finished ON flametree.operations (finished_at) WHERE finished_at IS NOT NULL;
COMMENT ON TABLE flametree.operations IS
    'One row per tick of a schedule (no tenant) or per request (a tenant''s). Whoever holds it says so by the database''s clock; every step of it is guarded by the holder.';
COMMENT ON COLUMN flametree.operations.due_at IS
    'From when on anybody may take it: its time while it waits, the end of the holder''s lease while it runs.';
COMMENT ON COLUMN flametree.operations.position IS
    'How far it has come: the last id that a committed step has looked at.';

CREATE TABLE flametree.replays (
    id           uuid NOT NULL,
    tenant_id    text COLLATE "C" NOT NULL,
    replay_of    uuid NOT NULL,
    channel      flametree.channel NOT NULL,
    endpoint_id  uuid NOT NULL,
    operation_id uuid,
    requested_by text NOT NULL,
    request_key  text COLLATE "C",
    created_at   timestamptz NOT NULL,
    -- The id first: retention removes by ranges of ids.
    PRIMARY KEY (id, tenant_id)
);
CREATE UNIQUE INDEX replays_once_per_key ON flametree.replays (tenant_id, request_key) WHERE request_key IS NOT NULL;
COMMENT ON COLUMN flametree.replays.request_key IS
    'The caller''s idempotency key. It is remembered as long as the replay, until retention removes the partition of its event.';
COMMENT ON TABLE flametree.replays IS
    'Which deliveries are replays, of what, for whom. The id is the delivery''s own, the next of its event.';

CREATE TABLE flametree.delivery_rollups (
    tenant_id    text COLLATE "C" NOT NULL,
    agent_id     text COLLATE "C" NOT NULL,
    span_minutes smallint NOT NULL CONSTRAINT delivery_rollups_span_known CHECK (span_minutes IN (1, 60)),
    starts_at    timestamptz NOT NULL,
    channel      flametree.channel NOT NULL,
    outcome      flametree.outcome NOT NULL,
    bucket       smallint NOT NULL CONSTRAINT delivery_rollups_bucket_range CHECK (bucket BETWEEN -1 AND 255),
    deliveries   bigint NOT NULL CONSTRAINT delivery_rollups_some CHECK (deliveries > 0),
    PRIMARY KEY (tenant_id, agent_id, span_minutes, starts_at, channel, outcome, bucket)
) WITH (fillfactor = 80);
-- An index of an expression serves only queries with that expression: the planner, which knows nothing of recent minutes,
-- would otherwise read all agents' rows of a range by age instead of one agent's by the primary key.
CREATE INDEX delivery_rollups_by_age ON flametree.delivery_rollups ((starts_at AT TIME ZONE 'UTC'));
COMMENT ON INDEX flametree.delivery_rollups_by_age IS 'For retention alone.';
COMMENT ON TABLE flametree.delivery_rollups IS
    'Finished deliveries by the minute and the hour of their event''s acceptance, outcome and bucket of duration (-1: nothing was sent).';

CREATE TABLE flametree.partitions_to_drop (
    name text PRIMARY KEY
);
COMMENT ON TABLE flametree.partitions_to_drop IS
    'Partitions that retention detaches: noted before the detach, removed with the table. A table that is not listed is never dropped.';

-- Which function sources are in force: see migrations/functions/.
CREATE TABLE flametree.function_sources (
    one     boolean PRIMARY KEY DEFAULT true CONSTRAINT function_sources_one_row CHECK (one),
    version integer[] NOT NULL,
    sha256  bytea NOT NULL
);
COMMENT ON TABLE flametree.function_sources IS
    'The release whose functions are installed, and the hash of their sources. An older release leaves newer functions alone.';

-- Results of functions. One row of arrays costs both sides half of what a row per element does. ----------------------

CREATE TYPE flametree.accepted AS (
    results        text[],
    event_ids      uuid[],
    deliveries     smallint[],
    webhooks       uuid[],
    positions      bigint[],
    push_events    integer[],
    push_endpoints uuid[],
    push_positions bigint[]
);
COMMENT ON TYPE flametree.accepted IS
    'What became of events: the n-th of results, event_ids and deliveries is of the n-th event, and the n-th of webhooks and positions is its webhook''s delivery that is now ready, NULL where none is. The push arrays have one element for each browser''s delivery that is now ready, push_events the number of its event, from 1; they are NULL where there is none. One row of arrays costs both sides less than a row for each event.';

CREATE TYPE flametree.claimed AS (
    claimed_at     timestamptz,
    lane_tenants   text[],
    lane_endpoints uuid[],
    lane_versions  integer[],
    lanes          smallint[],
    positions      bigint[],
    delivery_ids   uuid[],
    event_ids      uuid[],
    expiries       timestamptz[],
    event_types    text[],
    agents         text[],
    sessions       text[],
    customers      text[],
    assignees      text[],
    occurred       timestamptz[],
    texts          text[],
    metadata       text[],
    traces         bytea[]
);
COMMENT ON TYPE flametree.claimed IS
    'A ledger row with its events: the n-th of each array from lanes on is of the n-th delivery. One row of arrays costs both sides half of what a row for each delivery does.';
