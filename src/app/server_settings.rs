//! Checks the settings of the database. At the start, rejects bad settings and logs risky settings. The command
//! `config check` shows all checked settings.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use super::now;
use crate::config::DatabaseUrl;
use crate::store::server_settings::{Finding, ServerSettings, Verdict};
use crate::store::{Db, with_timeout};

/// How long the command `config check` waits for the database. The time is enough for a slow handshake.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Fails if a database setting would break a guarantee of the service. Logs risky settings.
pub(super) async fn check(db: &Db) -> anyhow::Result<()> {
    refuse(&read(db).await?.findings())
}

/// Fails if the schema cannot be created in this database.
pub(super) async fn check_before_migration(db: &Db) -> anyhow::Result<()> {
    refuse(&read(db).await?.findings_before_migration())
}

/// Reads and checks the database settings on a new connection.
pub async fn look(url: &DatabaseUrl) -> anyhow::Result<Vec<Finding>> {
    let looking = async {
        let mut connection = url.connect_options().connect().await?;
        let found = ServerSettings::read(&mut connection, now).await?.findings();
        connection.close().await?;
        Ok(found)
    };
    timeout(CHECK_TIMEOUT, looking).await.context("the database did not respond in time")?
}

async fn read(db: &Db) -> anyhow::Result<ServerSettings> {
    let reading = async {
        let mut connection = db.acquire().await?;
        ServerSettings::read(&mut connection, now).await
    };
    // Boxed, because otherwise the future of every command that opens the database would contain this large future.
    with_timeout(Box::pin(reading)).await.context("the settings of the database cannot be read")
}

fn refuse(findings: &[Finding]) -> anyhow::Result<()> {
    for Finding { setting, value, reason, remedy, .. } in with(Verdict::Warning, findings) {
        tracing::warn!(setting, value, reason, remedy, "found a risky PostgreSQL setting");
    }
    let refused: Vec<_> = with(Verdict::Refused, findings).map(ToString::to_string).collect();
    anyhow::ensure!(
        refused.is_empty(),
        "the database settings would break guarantees of the service:\n  {}",
        refused.join("\n  ")
    );
    Ok(())
}

fn with(verdict: Verdict, findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(move |finding| finding.verdict == verdict)
}
