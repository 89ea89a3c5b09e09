-- no-transaction
-- An index of a large table is built beside its writers.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_example ON flametree.sessions (agent_id);
