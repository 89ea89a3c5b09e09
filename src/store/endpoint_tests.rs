//! The table `endpoint_tests`: limits the rate of test events across all nodes.

use std::time::Duration;

use sqlx::Error;

use super::Db;
use crate::domain::names::{AgentId, TenantId};

/// Maximum number of test events per agent in one minute.
pub const MAX_PER_MINUTE: usize = 10;

/// Counts a test event before it is sent. If the agent has reached the limit, counts nothing and returns the time until the
/// next test event may be sent.
pub async fn count(db: &Db, tenant: &TenantId, agent: &AgentId) -> Result<Option<Duration>, Error> {
    let row = sqlx::query!(
        r#"-- endpoint_tests::count
        WITH counted AS (
            INSERT INTO flametree.endpoint_tests AS t (tenant_id, agent_id, tested_at)
            VALUES ($1, $2, ARRAY[flametree.clock()])
            ON CONFLICT (tenant_id, agent_id) DO UPDATE
            SET tested_at = ARRAY(
                SELECT at FROM unnest(t.tested_at) AS at
                WHERE at > (SELECT flametree.clock()) - interval '1 minute'
                ORDER BY at
            ) || flametree.clock()
            WHERE cardinality(t.tested_at) < 10
               OR t.tested_at[1] <= (SELECT flametree.clock()) - interval '1 minute'
            RETURNING 1
        )
        SELECT EXISTS (SELECT 1 FROM counted) AS "counted!",
               (SELECT extract(epoch FROM t.tested_at[1] + interval '1 minute' - flametree.clock())::float8
                FROM flametree.endpoint_tests AS t
                WHERE t.tenant_id = $1 AND t.agent_id = $2) AS wait_seconds"#,
        tenant.as_str(),
        agent.as_str(),
    )
    .fetch_one(db)
    .await?;
    let wait = row.wait_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok((!row.counted).then(|| wait.unwrap_or_default()))
}

/// Deletes the rows of up to `limit` agents whose last test event is older than `age`. Returns the number of deleted rows; if
/// it is `limit`, call again.
pub async fn forget(db: &Db, age: Duration, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- endpoint_tests::forget
        DELETE FROM flametree.endpoint_tests AS t
        USING (
            SELECT tenant_id, agent_id FROM flametree.endpoint_tests
            WHERE tested_at[cardinality(tested_at)] < (SELECT flametree.clock()) - make_interval(secs => $1)
            LIMIT $2
        ) AS old
        WHERE t.tenant_id = old.tenant_id AND t.agent_id = old.agent_id",
        age.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
