-- no-transaction
-- An index on a large table is built without blocking writers.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_example ON flametree.sessions (agent_id);
