-- What event types mean.

CREATE OR REPLACE FUNCTION flametree.webhook_event(p_type flametree.event_type) RETURNS flametree.event_type LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_type WHEN 'human_agent_message' THEN 'ai_assistant_message' ELSE p_type END
$$;
COMMENT ON FUNCTION flametree.webhook_event IS
    'The event that a push config selects to get events of this type: a human agent''s message counts as the assistant''s.';
