//! What a process does about the settings of its database: it refuses them, logs them, or shows them in `config check`.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use super::now;
use crate::config::DatabaseUrl;
use crate::store::server_settings::{Finding, ServerSettings, Verdict};
use crate::store::{Db, with_timeout};

/// How long `config check` waits for a database that may be away: longer than a slow handshake, short for a person.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Fails if the service would break a promise on this database; logs settings that have a risk.
pub(super) async fn check(db: &Db) -> anyhow::Result<()> {
    refuse(&read(db).await?.findings())
}

/// Fails if the schema cannot be made in this database.
pub(super) async fn check_before_migration(db: &Db) -> anyhow::Result<()> {
    refuse(&read(db).await?.findings_before_migration())
}

/// What the database has, by a connection of its own.
pub async fn look(url: &DatabaseUrl) -> anyhow::Result<Vec<Finding>> {
    let looking = async {
        let mut connection = url.connect_options().connect().await?;
        let found = ServerSettings::read(&mut connection, now).await?.findings();
        connection.close().await?;
        Ok(found)
    };
    timeout(CHECK_TIMEOUT, looking).await.context("it did not answer in time")?
}

async fn read(db: &Db) -> anyhow::Result<ServerSettings> {
    let reading = async {
        let mut connection = db.acquire().await?;
        ServerSettings::read(&mut connection, now).await
    };
    // Boxed: every command that opens the database would carry the size of this.
    with_timeout(Box::pin(reading)).await.context("the settings of the database cannot be read")
}

fn refuse(findings: &[Finding]) -> anyhow::Result<()> {
    for Finding { setting, value, reason, remedy, .. } in with(Verdict::Warning, findings) {
        tracing::warn!(setting, value, reason, remedy, "found a PostgreSQL setting with a risk");
    }
    let refused: Vec<_> = with(Verdict::Refused, findings).map(ToString::to_string).collect();
    anyhow::ensure!(
        refused.is_empty(),
        "the service cannot keep its promises on this database:\n  {}",
        refused.join("\n  ")
    );
    Ok(())
}

fn with(verdict: Verdict, findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(move |finding| finding.verdict == verdict)
}
