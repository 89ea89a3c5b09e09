-- What people do with push configs: the history of changes, and the rate of test events.

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

CREATE FUNCTION flametree.record_push_config_change(
    p_tenant text, p_agent text, p_action text, p_actor text, p_fields text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO flametree.push_config_changes (tenant_id, agent_id, changed_at, action, actor, fields)
    VALUES (p_tenant, p_agent, clock_timestamp(), p_action, p_actor, p_fields);
    DELETE FROM flametree.push_config_changes AS c
    WHERE c.tenant_id = p_tenant
      AND c.agent_id = p_agent
      AND c.position <= (
          SELECT o.position FROM flametree.push_config_changes AS o
          WHERE o.tenant_id = p_tenant AND o.agent_id = p_agent
          ORDER BY o.position DESC OFFSET 500 LIMIT 1);
END
$$;
COMMENT ON FUNCTION flametree.record_push_config_change IS
    'Records a change in the transaction that makes it, and forgets what is older than the agent''s newest 500.';

-- The service disables a config inside finish_deliveries, the queue's hottest function, when its endpoint answered 410.
-- A trigger on push_configs leaves that function as it is and costs it nothing: batches without a 410 touch no row of
-- this table, and of changes by people the WHEN lets none pass, for they never set a reason where there was none. It is
-- one transaction with the outcome: whoever records a 410 by any other way is seen too.
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
