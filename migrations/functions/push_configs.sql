-- The history of changes to push configs.

CREATE OR REPLACE FUNCTION flametree.record_push_config_change(
    p_tenant text, p_agent text, p_action text, p_actor text, p_fields text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO flametree.push_config_changes (tenant_id, agent_id, changed_at, action, actor, fields)
    VALUES (p_tenant, p_agent, flametree.clock(), p_action, p_actor, p_fields);
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
    'Records a change to a push config, in the transaction that makes it. Keeps the agent''s newest 500 changes.';
