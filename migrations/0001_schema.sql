-- Creates the tables and their trigger functions. The other functions are in migrations/functions/.
--
-- Names of tenants, agents, sessions and users are opaque bytes. COLLATE "C" compares them byte by byte in any locale of the
-- database, and keeps their indexes valid when the locale library changes.
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

-- The allowed values of columns are in domains, because each INSERT would parse a CHECK of the table again.
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
    'Accepted events, one row each. The id is a UUID version 7, so each partition is a range of ids and of times. Retention drops old partitions.';
COMMENT ON COLUMN flametree.events.deliveries IS
    'The number of deliveries that were created when the event was accepted. Their ids are the event''s id with a number from 1 in the last 16 bits.';
COMMENT ON COLUMN flametree.events.replays IS
    'The number of deliveries that replays added. Their ids continue the numbers of the first deliveries.';
COMMENT ON COLUMN flametree.events.trace IS
    'The W3C trace context of the request for the event: 16 bytes of trace id, one byte of flags, and the tracestate. NULL if the request had none.';

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
    'Deliveries that no worker has claimed, ordered by position for each endpoint. A claim deletes the row. The primary key is the only index.';

CREATE SEQUENCE flametree.ready_positions;
COMMENT ON SEQUENCE flametree.ready_positions IS
    'The order of deliveries. The accepting transaction draws the positions. Sessions do not cache positions, because a cached position could be used after a claim of later positions.';

-- Rows exist for milliseconds, so the table would be mostly dead rows without frequent vacuuming.
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
    'One row per start of a worker process. A fenced worker was found dead and can no longer claim deliveries.';

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
-- A claim fits in one page and exists for milliseconds, so compressing its ids or storing them out of line would only cost time.
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
    'Claims of workers that still have deliveries without a recorded outcome. A row without deliveries is a tombstone, so that the claim with this id can no longer commit.';
COMMENT ON COLUMN flametree.claims.lanes IS
    'For each delivery, the index (from 1) of its lane in lane_tenants, lane_endpoints and lane_versions.';

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
    'One row per finished delivery. The primary key guarantees a single outcome, because only the first insert of an id succeeds.';
COMMENT ON COLUMN flametree.deliveries.batch IS
    'The number of the transaction that recorded the row. While uncounted_batches contains this number, delivery_rollups does not count the row.';
-- Rows are appended in the order of their batches, so a BRIN index finds a batch, and maintaining the index costs almost nothing.
CREATE INDEX deliveries_by_batch ON flametree.deliveries USING brin (batch)
    WITH (pages_per_range = 32, autosummarize = on);

CREATE SEQUENCE flametree.delivery_batches;
COMMENT ON SEQUENCE flametree.delivery_batches IS
    'Numbers the transactions that record outcomes. A transaction gets its id before its number (next_batch), on which rollup_progress depends; so the sequence must not cache numbers.';

CREATE TABLE flametree.uncounted_batches (
    batch      bigint PRIMARY KEY,
    first_id   uuid NOT NULL,
    last_id    uuid NOT NULL,
    deliveries integer NOT NULL CONSTRAINT uncounted_batches_some CHECK (deliveries > 0)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
COMMENT ON TABLE flametree.uncounted_batches IS
    'Batches of outcomes that delivery_rollups does not contain yet. The transaction that records a batch inserts its row, and the transaction that counts the batch deletes this row. So each outcome is counted exactly once, in any order of commits.';
COMMENT ON COLUMN flametree.uncounted_batches.first_id IS 'The smallest delivery id of the batch; last_id is the largest.';

CREATE TABLE flametree.rollup_progress (
    one            boolean PRIMARY KEY DEFAULT true CONSTRAINT rollup_progress_one_row CHECK (one),
    low_water      bigint NOT NULL,
    next_low_water bigint NOT NULL,
    next_xid       xid8 NOT NULL
);
INSERT INTO flametree.rollup_progress (low_water, next_low_water, next_xid) VALUES (0, 0, '0');
COMMENT ON TABLE flametree.rollup_progress IS
    'Where rollups and statistics start to read uncounted_batches. While an old snapshot is open, vacuum cannot remove the index entries of counted batches, so a scan from the first entry would read all of them.';
COMMENT ON COLUMN flametree.rollup_progress.low_water IS
    'Each batch with a smaller number is counted or was rolled back, and no transaction can still commit such a batch.';
COMMENT ON COLUMN flametree.rollup_progress.next_low_water IS
    'The next low_water, or an upper bound of it: the transactions with smaller numbers have ids below next_xid, so none of them runs once all transactions below next_xid have ended.';

CREATE TABLE flametree.idempotency_keys (
    tenant_id text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    event_id  uuid NOT NULL,
    body_hash bytea NOT NULL,
    PRIMARY KEY (tenant_id, key, day)
) PARTITION BY RANGE (day);
COMMENT ON TABLE flametree.idempotency_keys IS
    'Idempotency keys of accepted events. A second request with the same key and body returns the same event. Each key is stored in the partitions of its UTC day and of the day before, so that two requests around midnight share one partition. A key is kept for 24 to 48 hours.';

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
CREATE INDEX sessions_outside_by_age ON flametree.sessions (greatest(workspace_changed_at, handler_changed_at))
    WHERE NOT in_workspace;
COMMENT ON TABLE flametree.sessions IS
    'The state of each session, derived from events. The handler and in_workspace are each set by the event with the latest occurred_at, so events may arrive in any order.';
COMMENT ON COLUMN flametree.sessions.changed_in IS
    'The last transaction that changed the row. It is compared only with snapshots of the same server.';

-- Every process must read every change, in any order of commits. With a counter per tenant, all events of a tenant would wait for
-- the transaction that has locked the counter, and a platform's transaction may be open for minutes. Instead, each row records
-- the transaction that changed it, and a reader selects the rows that its previous snapshot did not include.
CREATE FUNCTION flametree.stamp_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id();
    RETURN NEW;
END
$$;
-- An event that arrives too late to change the row does not update changed_in, so readers do not read the row again.
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
    -- The endpoint is the first column, so that the planner does not use this index for a look-up by tenant and agent.
    CONSTRAINT push_configs_endpoint UNIQUE (endpoint_id, tenant_id)
);
COMMENT ON TABLE flametree.push_configs IS
    'The webhook settings of an agent. Each header value is encrypted, with tenant, agent and header name as associated data. Each change increments the version.';

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
    'Encrypted signing secrets of webhooks. Each webhook has one current secret. Its earlier secrets also sign messages until they expire.';

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
    -- Unique over all tenants, because an endpoint is one browser, which belongs to the user who is signed in there now.
    CONSTRAINT push_subscriptions_endpoint_once UNIQUE (endpoint_hash)
);
CREATE INDEX push_subscriptions_by_age ON flametree.push_subscriptions (last_seen_at);
CREATE INDEX push_subscriptions_by_vapid_key ON flametree.push_subscriptions (vapid_key_id);
CREATE INDEX push_subscriptions_paused ON flametree.push_subscriptions (paused_until) WHERE paused_until IS NOT NULL;
COMMENT ON TABLE flametree.push_subscriptions IS
    'Browsers of portal users. The id is the endpoint id of deliveries. The endpoint and its keys are encrypted, with tenant, user and id as associated data. A change of endpoint, keys, VAPID key or pause increments the version, so that workers read the row again.';
COMMENT ON COLUMN flametree.push_subscriptions.endpoint_hash IS
    'SHA-256 of the endpoint, which is a secret, random URL of the push service.';
COMMENT ON COLUMN flametree.push_subscriptions.host IS 'The host of the endpoint, which identifies the push service.';
COMMENT ON COLUMN flametree.push_subscriptions.vapid_key_id IS
    'The VAPID key that the browser subscribed with. Only this key may sign messages to the browser.';
COMMENT ON COLUMN flametree.push_subscriptions.tested_at IS 'When the last test message was sent.';
COMMENT ON COLUMN flametree.push_subscriptions.was_accepted IS
    'Whether the push service has accepted a message for this endpoint. Only then can rejections for this endpoint pause the whole push service.';
COMMENT ON COLUMN flametree.push_subscriptions.paused_until IS
    'No message is sent before this time, because the push service rejected a message or asked for a pause.';

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
    'API tokens, stored as SHA-256. A token without tenant_id is valid for all tenants. A token without created_by was created on the command line.';

CREATE TABLE flametree.leases (
    name       text PRIMARY KEY,
    holder     uuid NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE flametree.leases IS
    'Leases for work that only one process may do at a time. They expire by the database''s clock. Session locks would not work through a transaction pooler.';

-- Unlogged, because a ticket expires after a minute, and clients request a new ticket if a crash of the server deletes theirs.
CREATE UNLOGGED TABLE flametree.stream_tickets (
    hash       bytea PRIMARY KEY CONSTRAINT stream_tickets_hash_is_sha256 CHECK (length(hash) = 32),
    tenant_id  text COLLATE "C" NOT NULL,
    role       text NOT NULL CONSTRAINT stream_tickets_role_known CHECK (
                   role IN ('service', 'admin', 'agent_editor', 'operator', 'viewer')),
    actor      text NOT NULL,
    -- When the credential that created this row expires. NULL means that the credential never expires.
    valid_until timestamptz,
    expires_at timestamptz NOT NULL CONSTRAINT stream_tickets_end_with_their_maker CHECK (expires_at <= valid_until)
);
CREATE INDEX stream_tickets_expired ON flametree.stream_tickets (expires_at);
COMMENT ON TABLE flametree.stream_tickets IS
    'Tickets, stored as SHA-256. A ticket opens one stream of an operator workspace. Using a ticket deletes it. Creating a ticket deletes expired tickets.';

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
    'Changes of push configs: who changed which fields and when, without values. The newest 500 changes of an agent are kept for 400 days, even if the config is deleted.';
COMMENT ON COLUMN flametree.push_config_changes.position IS
    'The order of an agent''s changes. The position is drawn while the change has locked the config''s row.';
COMMENT ON COLUMN flametree.push_config_changes.actor IS 'NULL if the service itself made the change.';

-- If an endpoint responds with 410, finish_deliveries disables the endpoint's config. This trigger does not slow that function,
-- because batches without a 410 change no row of push_configs. Users' changes never set disabled_reason, so WHEN excludes them.
-- The change is recorded in the transaction of the outcome.
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
    'When the last ten test events of an agent were sent, the oldest first. All processes together may send ten a minute.';

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
-- Ticks of one kind run one after another, even if different processes run them.
CREATE UNIQUE INDEX operations_one_of_a_schedule ON flametree.operations (kind)
    WHERE state = 'running' AND tick IS NOT NULL;
-- A tenant can run one replay at a time, so that its replays do not block those of other tenants.
CREATE UNIQUE INDEX operations_one_of_a_tenant ON flametree.operations (tenant_id)
    WHERE state = 'running' AND tenant_id IS NOT NULL;
CREATE INDEX operations_waiting_of_tenant ON flametree.operations (tenant_id)
    WHERE state = 'waiting' AND tenant_id IS NOT NULL;
CREATE INDEX operations_of_tenant ON flametree.operations (coalesce(tenant_id, ''), id);
CREATE INDEX operations_finished ON flametree.operations (finished_at) WHERE finished_at IS NOT NULL;
COMMENT ON TABLE flametree.operations IS
    'One row per tick of a schedule (without tenant_id) or per request of a tenant. The process that runs an operation is its holder, with a lease by the database''s clock. Each step checks that the holder has not changed.';
COMMENT ON COLUMN flametree.operations.due_at IS
    'When any process may start the operation: at its due time if it waits, or when the holder''s lease expires if it runs.';
COMMENT ON COLUMN flametree.operations.position IS
    'The progress of the operation: the last id that a committed step has examined.';

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
    -- The id is the first column, because retention deletes ranges of ids.
    PRIMARY KEY (id, tenant_id)
);
CREATE UNIQUE INDEX replays_once_per_key ON flametree.replays (tenant_id, request_key) WHERE request_key IS NOT NULL;
COMMENT ON COLUMN flametree.replays.request_key IS
    'The caller''s idempotency key. The key is kept with the replay, until retention removes the partition of the event.';
COMMENT ON TABLE flametree.replays IS
    'Deliveries that are replays, with the replayed delivery and the requester. The id is that of the new delivery, the next id of the event.';

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
-- Only queries with this expression can use the index. The planner has no statistics of recent minutes. With an index on the
-- column, it would read the rows of all agents in a time range, instead of one agent's rows by the primary key.
CREATE INDEX delivery_rollups_by_age ON flametree.delivery_rollups ((starts_at AT TIME ZONE 'UTC'));
COMMENT ON INDEX flametree.delivery_rollups_by_age IS 'Only retention uses this index.';
COMMENT ON TABLE flametree.delivery_rollups IS
    'The number of finished deliveries by minute and hour of their event''s acceptance, by outcome, and by bucket of duration (-1 if nothing was sent).';

CREATE TABLE flametree.partitions_to_drop (
    name  text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE flametree.partitions_to_drop IS
    'Partitions that retention detaches. A name is inserted before the detach and deleted when the detach fails or the table is dropped. Retention drops only listed tables.';

-- Records which function sources are installed. The sources are in migrations/functions/.
CREATE TABLE flametree.function_sources (
    one     boolean PRIMARY KEY DEFAULT true CONSTRAINT function_sources_one_row CHECK (one),
    version integer[] NOT NULL,
    sha256  bytea NOT NULL
);
COMMENT ON TABLE flametree.function_sources IS
    'The release whose functions are installed, and the hash of their sources. An older release does not replace newer functions.';

-- Results of functions ----------------------------------------------------------------------------------------------

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
    'The results for events. Element n of results, event_ids and deliveries belongs to event n. Element n of webhooks and positions is the endpoint and the position of the event''s webhook delivery, or NULL if none became ready. The push arrays have one element for each browser push delivery that became ready, and are NULL if none did; push_events is the number of the event, from 1. One row of arrays costs the server and the client less than a row for each event.';

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
    'A claim with its events. Element n of lanes and of each later array belongs to delivery n. One row of arrays costs the server and the client half as much as a row for each delivery.';
