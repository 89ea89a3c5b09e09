-- Counts of deliveries are read by their key, whatever the statistics say. The minutes at the edges of a range are few and
-- recent, and the planner knows nothing of recent ones: it took the index by age instead, and with it the rows of all
-- agents. An index of an expression serves only who asks by that expression: retention.
DROP INDEX flametree.delivery_rollups_by_age;
CREATE INDEX delivery_rollups_by_age ON flametree.delivery_rollups ((starts_at AT TIME ZONE 'UTC'));
COMMENT ON INDEX flametree.delivery_rollups_by_age IS 'For retention alone.';
