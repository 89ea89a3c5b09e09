//! The table `push_config_changes` records who changed which fields of a push config, but not the values of the fields. A
//! change and its row are written in one transaction.

use std::time::Duration;

use sqlx::Error;
use uuid::Uuid;

use super::{Db, Tx, known};
use crate::domain::names::{AgentId, TenantId};
use crate::domain::page::{Cursor, Page, PageRows};
use crate::domain::push_config::{ChangeAction, PushConfigChange};

/// Records a change that the caller makes in `tx`. A trigger records the changes that the service makes.
pub async fn record(
    tx: &mut Tx,
    tenant: &TenantId,
    agent: &AgentId,
    action: ChangeAction,
    actor: &str,
    fields: &[String],
) -> Result<(), Error> {
    sqlx::query!(
        "-- push_config_history::record
        SELECT flametree.record_push_config_change($1, $2, $3, $4, $5)",
        tenant.as_str(),
        agent.as_str(),
        action.as_str(),
        actor,
        fields,
    )
    .execute(&mut **tx)
    .await
    .map(|_| ())
}

/// Lists the changes of an agent's push config, newest first, after the cursor.
pub async fn list(
    db: &Db,
    tenant: &TenantId,
    agent: &AgentId,
    behind: Option<Cursor>,
    page_rows: PageRows,
) -> Result<Page<PushConfigChange>, Error> {
    let rows = sqlx::query!(
        "-- push_config_history::list
        SELECT position, changed_at, action, actor, fields
        FROM flametree.push_config_changes
        WHERE tenant_id = $1
          AND agent_id = $2
          AND position < $3
        ORDER BY position DESC
        LIMIT $4",
        tenant.as_str(),
        agent.as_str(),
        behind.map_or(i64::MAX, position),
        i64::from(page_rows.get()) + 1,
    )
    .fetch_all(db)
    .await?;
    let change = |action: String, changed_at, actor, fields| {
        let action = known(&action, "a change has the unknown action")?;
        Ok(PushConfigChange { changed_at, action, actor, fields })
    };
    Page::of(
        rows,
        page_rows,
        |row| cursor(row.position),
        |row| change(row.action, row.changed_at, row.actor, row.fields),
    )
}

/// Deletes up to `limit` changes older than `age` and returns how many. If it returns `limit`, call again.
pub async fn forget(db: &Db, age: Duration, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- push_config_history::forget
        DELETE FROM flametree.push_config_changes AS c
        USING (
            SELECT tenant_id, agent_id, position FROM flametree.push_config_changes
            WHERE changed_at < (SELECT flametree.clock()) - make_interval(secs => $1)
            ORDER BY changed_at
            LIMIT $2
        ) AS old
        WHERE c.tenant_id = old.tenant_id AND c.agent_id = old.agent_id AND c.position = old.position",
        age.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Encodes a change's position, which is a number, as an opaque cursor.
fn cursor(position: i64) -> Cursor {
    Cursor::behind(Uuid::from_u128(position.unsigned_abs().into()))
}

/// Decodes a cursor. The cursor of another list may be larger than any position; the list then starts at its first row.
fn position(cursor: Cursor) -> i64 {
    i64::try_from(cursor.id().as_u128()).unwrap_or(i64::MAX)
}
