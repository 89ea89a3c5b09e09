-- The tables. Names of tenants, agents, sessions and people are opaque bytes: COLLATE "C" compares them as such, whatever
-- the database's locale is, and keeps their indexes valid when the locale library changes.
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
    'Accepted events, once each. The id is a UUID version 7: a partition is a day of ids, and goes with retention.';
COMMENT ON COLUMN flametree.events.deliveries IS
    'How many deliveries the event was fanned out to; their ids are the event''s id with the last 16 bits counting from 1.';
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
    'Deliveries that nobody has begun, in the order of each endpoint. A claim deletes the row. The key is the only index.';

CREATE SEQUENCE flametree.ready_positions;
COMMENT ON SEQUENCE flametree.ready_positions IS
    'Order of deliveries. Drawn in the accepting transaction, never handed out in blocks: a late block would land behind a reader.';

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
    'The ledger: what a worker has begun and not wholly recorded. A row without deliveries marks a claim that never happened.';
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
    detail           text,
    CONSTRAINT deliveries_delivered_has_status CHECK (outcome <> 'delivered' OR http_status IS NOT NULL),
    PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE flametree.deliveries IS
    'The log: one row per finished delivery, appended once. The key alone guarantees one outcome, whoever writes first.';

CREATE TABLE flametree.idempotency_keys (
    tenant_id  text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    event_id   uuid NOT NULL,
    body_hash  bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
COMMENT ON TABLE flametree.idempotency_keys IS
    'Keys of events accepted in the last day or more: the same key and body again is the same event.';

CREATE TABLE flametree.sessions (
    tenant_id            text COLLATE "C" NOT NULL,
    id                   text COLLATE "C" NOT NULL,
    agent_id             text COLLATE "C" NOT NULL,
    handler_id           text COLLATE "C",
    handler_changed_at   timestamptz NOT NULL,
    in_workspace         boolean NOT NULL,
    workspace_changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 80);
CREATE INDEX sessions_in_workspace ON flametree.sessions (tenant_id, workspace_changed_at) WHERE in_workspace;
COMMENT ON TABLE flametree.sessions IS
    'What events said of a session. Each of the two facts keeps the latest word by occurred_at, so order of arrival does not matter.';

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
    tenant_id    text COLLATE "C" NOT NULL,
    id           uuid NOT NULL,
    user_id      text COLLATE "C" NOT NULL,
    version      integer NOT NULL,
    active       boolean NOT NULL,
    ciphertext   bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id, id),
    CONSTRAINT push_subscriptions_endpoint UNIQUE (id, tenant_id)
);
COMMENT ON TABLE flametree.push_subscriptions IS
    'Browsers of portal users. The id is the endpoint id of deliveries; the subscription itself is encrypted.';

-- Access ----------------------------------------------------------------------------------------------------------

CREATE TABLE flametree.tokens (
    id           uuid PRIMARY KEY,
    tenant_id    text COLLATE "C",
    name         text NOT NULL,
    role         text NOT NULL CONSTRAINT tokens_role_known CHECK (
                     role IN ('service', 'admin', 'agent_editor', 'operator', 'viewer')),
    hash         bytea NOT NULL CONSTRAINT tokens_hash UNIQUE CONSTRAINT tokens_hash_is_sha256 CHECK (length(hash) = 32),
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
CREATE INDEX tokens_of_tenant ON flametree.tokens (tenant_id, id);
COMMENT ON TABLE flametree.tokens IS
    'API tokens as SHA-256. No tenant_id: the token speaks for all tenants.';

CREATE TABLE flametree.leases (
    name       text PRIMARY KEY,
    holder     uuid NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE flametree.leases IS
    'Work that one process at a time does, by the database''s clock; a session lock would not survive a transaction pooler.';
