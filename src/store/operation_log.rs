//! User access to the table `operations`. Users request replays, and list, inspect and cancel operations.

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use super::operations::kind;
use super::{Db, known};
use crate::domain::ids::{OperationId, time_in};
use crate::domain::names::{AgentId, TenantId};
use crate::domain::operation::{NewReplay, Operation, OperationKind, ReplayProgress};
use crate::domain::page::{Cursor, Page, PageRows};
use crate::domain::replay::ReplayRequest;

/// Maximum number of waiting replays per tenant. Each replay may create 100,000 deliveries.
pub const MAX_WAITING_REPLAYS: i64 = 20;

/// The result of a request for a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    New(OperationId),
    /// The tenant sent the same request with the same idempotency key before.
    Repeated(OperationId),
    /// The tenant used the idempotency key for another request before.
    OtherRequest,
    /// The tenant has [`MAX_WAITING_REPLAYS`] waiting replays.
    TooMany,
}

/// Inserts a replay. The limit is not exact: each concurrent request can exceed it by one replay.
pub async fn enter_replay(db: &Db, new: &NewReplay) -> Result<Entered, Error> {
    let arguments = serde_json::to_string(&new.request).map_err(|error| Error::Encode(Box::new(error)))?;
    let id = Uuid::now_v7();
    let created = sqlx::query!(
        "-- operations::enter_replay
        INSERT INTO flametree.operations (id, kind, tenant_id, agent_id, requested_by, request_key, arguments, state,
            due_at, created_at)
        SELECT $1::uuid, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text::jsonb, 'waiting', flametree.clock(), flametree.clock()
        WHERE (SELECT count(*) FROM flametree.operations WHERE tenant_id = $3 AND state = 'waiting') < $8
        ON CONFLICT (tenant_id, request_key) DO NOTHING",
        id,
        OperationKind::Replay.as_str(),
        new.tenant_id.as_str(),
        new.agent_id.as_str(),
        &new.requested_by,
        new.key,
        arguments,
        MAX_WAITING_REPLAYS,
    )
    .execute(db)
    .await?;
    if created.rows_affected() == 1 {
        return Ok(Entered::New(OperationId::from_uuid(id)));
    }
    let of_key = sqlx::query!(
        r#"-- operations::entered_replay
        SELECT id, (agent_id = $3 AND kind = $4 AND arguments = $5::text::jsonb) AS "is_same!"
        FROM flametree.operations
        WHERE tenant_id = $1 AND request_key = $2"#,
        new.tenant_id.as_str(),
        new.key,
        new.agent_id.as_str(),
        OperationKind::Replay.as_str(),
        arguments,
    )
    .fetch_optional(db)
    .await?;
    Ok(match of_key {
        None => Entered::TooMany,
        Some(entered) if entered.is_same => Entered::Repeated(OperationId::from_uuid(entered.id)),
        Some(_) => Entered::OtherRequest,
    })
}

/// Cancels an operation of the tenant, unless the operation has already ended.
pub async fn cancel(db: &Db, tenant: &TenantId, id: OperationId) -> Result<(), Error> {
    sqlx::query!(
        "-- operations::cancel
        UPDATE flametree.operations
        SET state = 'canceled', holder = NULL, finished_at = flametree.clock()
        WHERE id = $1 AND tenant_id = $2 AND state IN ('waiting', 'running')",
        id.uuid(),
        tenant.as_str(),
    )
    .execute(db)
    .await?;
    Ok(())
}

struct Row {
    id: Uuid,
    kind: String,
    tick: Option<DateTime<Utc>>,
    agent_id: Option<String>,
    arguments: Option<String>,
    state: String,
    attempts: i32,
    position: Option<Uuid>,
    examined: i64,
    matched: i64,
    skipped: i64,
    replayed: i64,
    note: Option<String>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// Lists the operations of `tenant`, or the operations of schedules if `tenant` is `None`, newest first, after the cursor.
pub async fn list(
    db: &Db,
    tenant: Option<&TenantId>,
    behind: Option<Cursor>,
    page_rows: PageRows,
) -> Result<Page<Operation>, Error> {
    let rows = sqlx::query_as!(
        Row,
        "-- operations::list
        SELECT id, kind, tick, agent_id, arguments::text AS arguments, state, attempts, position, examined, matched, skipped, replayed, note,
               created_at, started_at, finished_at
        FROM flametree.operations
        WHERE coalesce(tenant_id, '') = coalesce($1, '') AND id < $2
        ORDER BY id DESC
        LIMIT $3",
        tenant.map(TenantId::as_str),
        behind.map_or(Uuid::max(), Cursor::id),
        i64::from(page_rows.get()) + 1,
    )
    .fetch_all(db)
    .await?;
    Page::of(rows, page_rows, |row| Cursor::behind(row.id), Operation::try_from)
}

/// An operation of `tenant`, or of a schedule if `tenant` is `None`.
pub async fn find(db: &Db, tenant: Option<&TenantId>, id: OperationId) -> Result<Option<Operation>, Error> {
    sqlx::query_as!(
        Row,
        "-- operations::find
        SELECT id, kind, tick, agent_id, arguments::text AS arguments, state, attempts, position, examined, matched, skipped, replayed, note,
               created_at, started_at, finished_at
        FROM flametree.operations
        WHERE id = $1 AND coalesce(tenant_id, '') = coalesce($2, '')",
        id.uuid(),
        tenant.map(TenantId::as_str),
    )
    .fetch_optional(db)
    .await?
    .map(Operation::try_from)
    .transpose()
}

impl TryFrom<Row> for Operation {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let request: Option<ReplayRequest> = row
            .arguments
            .map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|error| Error::Decode(Box::new(error)))?;
        let progress = ReplayProgress {
            examined: row.examined.unsigned_abs(),
            matched: row.matched.unsigned_abs(),
            skipped: row.skipped.unsigned_abs(),
            replayed: row.replayed.unsigned_abs(),
        };
        Ok(Self {
            id: OperationId::from_uuid(row.id),
            kind: kind(&row.kind)?,
            tick: row.tick,
            agent_id: row.agent_id.map(AgentId::from_stored),
            state: known(&row.state, "an operation has the unknown state")?,
            attempts: row.attempts.unsigned_abs(),
            note: row.note,
            replay: request.map(|request| (request, progress)),
            reached: row.position.and_then(time_in),
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        })
    }
}
