-- Browser push: what a subscription is found by, which VAPID key it was made with, and why it is not used any more.
--
-- The table was made with the queue, and no release has written to it: a row that is there has no browser behind it.

DELETE FROM flametree.push_subscriptions;

ALTER TABLE flametree.push_subscriptions
    ADD COLUMN endpoint_hash bytea NOT NULL
        CONSTRAINT push_subscriptions_endpoint_hash_is_sha256 CHECK (length(endpoint_hash) = 32),
    ADD COLUMN host text NOT NULL,
    ADD COLUMN vapid_key_id text NOT NULL,
    ADD COLUMN label text CONSTRAINT push_subscriptions_label_length CHECK (length(label) BETWEEN 1 AND 100),
    ADD COLUMN disabled_reason text CONSTRAINT push_subscriptions_disabled_reason_known CHECK (
        disabled_reason IN ('vapid_key_mismatch')),
    ADD COLUMN tested_at timestamptz,
    ADD CONSTRAINT push_subscriptions_reason_means_disabled CHECK (active = (disabled_reason IS NULL)),
    -- Of all tenants together: an endpoint is one browser, which belongs to whoever is signed in there now.
    ADD CONSTRAINT push_subscriptions_endpoint_once UNIQUE (endpoint_hash);

CREATE INDEX push_subscriptions_by_vapid_key ON flametree.push_subscriptions (vapid_key_id);

COMMENT ON TABLE flametree.push_subscriptions IS
    'Browsers of portal users. The id is the endpoint id of deliveries; endpoint and keys are encrypted (associated data: tenant, user, id); version counts changes of what is sent to and by.';
COMMENT ON COLUMN flametree.push_subscriptions.endpoint_hash IS
    'SHA-256 of the endpoint, which is a random capability of its push service.';
COMMENT ON COLUMN flametree.push_subscriptions.host IS 'Of the endpoint: which push service it is.';
COMMENT ON COLUMN flametree.push_subscriptions.vapid_key_id IS
    'The key that the browser has subscribed with; messages to it are signed by that one alone.';
COMMENT ON COLUMN flametree.push_subscriptions.tested_at IS 'When a test message was sent last.';
