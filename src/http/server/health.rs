//! Liveness and readiness of the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::http::auth::authorized::Anyone;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::store::{Db, connection, schema};
use crate::supervision::{Stage, TaskFailure};

/// How long the result of a check is reused, so that unauthenticated requests cannot overload the database.
const FRESH_FOR: Duration = Duration::from_millis(500);
/// Timeout of the database check. After this time, the database counts as unavailable.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The health of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    Ok,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthDocument {
    status: Health,
}

/// Checks the process and its database.
#[derive(Debug)]
pub(crate) struct Readiness {
    db: Db,
    stage: Stage,
    /// The latest result of the database check, and its time.
    last: Mutex<Option<(Instant, Result<(), Unready>)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unready {
    #[error("the database does not answer")]
    NoDatabase,
    #[error("the database's schema is older than this release; run `flametree-notify migrate`")]
    OldSchema,
    #[error("the database is read-only")]
    ReadOnly,
}

impl Readiness {
    pub(crate) fn new(db: Db, stage: Stage) -> Self {
        Self { db, stage, last: Mutex::new(None) }
    }

    async fn check(&self) -> Result<(), Unready> {
        let mut last = self.last.lock().await;
        match *last {
            Some((at, result)) if at.elapsed() < FRESH_FOR => result,
            Some(_) | None => {
                let result = look(&self.db).await;
                *last = Some((Instant::now(), result));
                result
            }
        }
    }
}

async fn look(db: &Db) -> Result<(), Unready> {
    match timeout(TIMEOUT, ask(db)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database was not ready");
            Err(Unready::NoDatabase)
        }
        Err(_elapsed) => Err(Unready::NoDatabase),
    }
}

async fn ask(db: &Db) -> Result<Result<(), Unready>, schema::Error> {
    if !schema::is_current(db).await? {
        return Ok(Err(Unready::OldSchema));
    }
    let is_read_only = connection::is_read_only(&mut *db.acquire().await?).await?;
    Ok(if is_read_only { Err(Unready::ReadOnly) } else { Ok(()) })
}

/// Returns 500 after a background task has failed, until the process exits. Does not check the database, because a restart would
/// not repair it.
#[utoipa::path(get, path = "/livez", tag = "Service",
    responses((status = 200, description = "Alive", body = HealthDocument)))]
pub(crate) async fn livez(_: Anyone, State(readiness): State<Arc<Readiness>>) -> Response {
    liveness(&readiness.stage)
}

/// The response of `/livez` on both listeners. Names the failed task, but not its panic message, because the route needs no
/// token.
pub(crate) fn liveness(stage: &Stage) -> Response {
    match stage.failure() {
        None => Json(HealthDocument { status: Health::Ok }).into_response(),
        Some(failure) => Problem::new(ProblemCode::Internal).detail(task_failed(failure)).into_response(),
    }
}

fn task_failed(failure: &TaskFailure) -> String {
    format!("the background task `{}` failed; the process is stopping", failure.task.as_str())
}

/// Returns 200 if the database responds with this release's schema and the process is not stopping. Otherwise `detail`
/// contains the reason.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Service",
    responses(
        (status = 200, description = "Ready", body = HealthDocument),
    ),
)]
pub(crate) async fn readyz(_: Anyone, State(readiness): State<Arc<Readiness>>) -> Response {
    if let Some(failure) = readiness.stage.failure() {
        return Problem::unavailable().detail(task_failed(failure)).into_response();
    }
    if readiness.stage.stop.is_cancelled() {
        return Problem::unavailable().detail("the process is stopping").into_response();
    }
    match readiness.check().await {
        Ok(()) => Json(HealthDocument { status: Health::Ok }).into_response(),
        Err(unready) => Problem::unavailable().detail(unready.to_string()).into_response(),
    }
}
