//! The database of this process: the embedded server or an external one, the connection pools, and the hint listener.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::server_settings;
use crate::config::{Config, Database, DatabaseUrl};
use crate::postgres::{self, EmbeddedServer};
use crate::queue::{QueuePools, Wakeup};
use crate::store::queue::{hints, workers};
use crate::store::{Db, connection, schema, with_timeout};
use crate::supervision::Stage;
use crate::telemetry::metrics::{PoolName, TaskName};

/// Number of connections in the pool for claims, and also in the pool for outcomes. Both are small because sqlx uses the
/// connections of a pool in rotation, so the server process of each connection must plan the statements and fill its caches.
const QUEUE_CONNECTIONS: u32 = 2;
/// The minimum and the maximum number of connections in the pool for operations. A blocked detach uses one connection for a
/// minute; the process needs another one to renew the operation's lease and to cancel the detach.
const OPERATION_CONNECTIONS: RangeInclusive<u32> = 2..=3;
/// Each pool except the API pool has at most a fifth of the process's connections, but not fewer than its minimum.
const POOL_PART: u32 = 5;
/// Maximum time to close the pools. Without this limit, closing a connection to an unreachable host might never end.
const CLOSE_POOLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the hint listener reconnects after a failure.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);
/// The hint listener tests its connection after this time without a hint, because a vanished host closes no connection.
const LISTEN_CHECK: Duration = Duration::from_secs(15);

/// An open database that has the schema of this build.
#[derive(Debug)]
pub struct Data {
    pub db: Db,
    pub queue: QueuePools,
    pub operations_db: Db,
    embedded: Option<EmbeddedServer>,
}

impl Data {
    /// Opens the database. An embedded database is migrated; an external database must be migrated already.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        match &config.database {
            Database::Embedded(settings) => {
                let server = EmbeddedServer::start(settings).await.context("the embedded PostgreSQL cannot run")?;
                let data = Self::connect(&server.connect_options(), settings.max_connections, Some(server));
                migrate(&data.db).await?;
                // Only this process uses the data directory, so the workers of earlier processes are dead.
                workers::fence_all(&data.db).await.context("workers of earlier processes could not be fenced")?;
                Ok(data)
            }
            Database::External { url, max_connections, .. } => {
                let data = Self::connect(&url.connect_options(), *max_connections, None);
                let migrated = schema::is_current(&data.db).await.context("the schema version could not be read")?;
                anyhow::ensure!(
                    migrated,
                    "the database does not have the schema of this build: run `flametree-notify migrate`"
                );
                Ok(data)
            }
        }
    }

    /// Opens the database for a short command, while another process may be running the embedded server.
    pub async fn visit(config: &Config) -> anyhow::Result<Self> {
        if let Database::Embedded(settings) = &config.database {
            match EmbeddedServer::start(settings).await {
                Ok(server) => {
                    let data = Self::connect(&server.connect_options(), settings.max_connections, Some(server));
                    migrate(&data.db).await?;
                    return Ok(data);
                }
                Err(postgres::Error::InUse { .. }) => {
                    let options = EmbeddedServer::of_other_process(&settings.data_dir)?;
                    return Ok(Self::connect(&options, settings.max_connections, None));
                }
                Err(error) => return Err(error).context("the embedded PostgreSQL cannot run"),
            }
        }
        Self::open(config).await
    }

    /// Opens the database and migrates its schema to the version of this build.
    pub async fn migrate(config: &Config) -> anyhow::Result<Self> {
        if let Database::External { url, max_connections, .. } = &config.database {
            let data = Self::connect(&url.connect_options(), *max_connections, None);
            migrate(&data.db).await?;
            return Ok(data);
        }
        Self::open(config).await
    }

    fn connect(options: &PgConnectOptions, connections: u32, embedded: Option<EmbeddedServer>) -> Self {
        let part = (connections / POOL_PART).max(1);
        let of_queue = QUEUE_CONNECTIONS.min(part);
        let of_operations = part.clamp(*OPERATION_CONNECTIONS.start(), *OPERATION_CONNECTIONS.end());
        let of_api = connections.saturating_sub(1 + 2 * of_queue + of_operations).max(1);
        let pool = |connections, name| connection::pool(options.clone(), connections, name);
        let queue = QueuePools {
            claims: pool(of_queue, "flametree-notify claims"),
            outcomes: pool(of_queue, "flametree-notify outcomes"),
            heartbeat: pool(1, "flametree-notify heartbeat"),
        };
        let (db, operations_db) =
            (pool(of_api, "flametree-notify"), pool(of_operations, "flametree-notify operations"));
        Self { db, queue, operations_db, embedded }
    }

    /// Listens for hints if a direct connection is configured. Without hints, deliveries start later, but no delivery is lost.
    pub fn listen(&self, config: &Config, wakeup: &Wakeup, stage: &Stage) {
        if let Database::External { listen_url: Some(url), .. } = &config.database {
            stage.spawn(TaskName::HintListener, |stop| listen(url.clone(), wakeup.clone(), stop));
        }
    }

    /// Sends hints about ready deliveries to other processes that listen.
    pub fn hint_others(&self, config: &Config, stage: &Stage) -> Wakeup {
        if !matches!(&config.database, Database::External { listen_url: Some(_), .. }) {
            return Wakeup::default();
        }
        Wakeup::of_others(self.db.clone(), stage)
    }

    /// All pools. The API pool is the first.
    pub fn pools(&self) -> [(PoolName, Db); 5] {
        let QueuePools { claims, outcomes, heartbeat } = self.queue.clone();
        [
            (PoolName::Api, self.db.clone()),
            (PoolName::Claims, claims),
            (PoolName::Outcomes, outcomes),
            (PoolName::Heartbeat, heartbeat),
            (PoolName::Operations, self.operations_db.clone()),
        ]
    }

    /// Closes the pools, then stops the embedded server.
    pub async fn close(self) {
        let pools = async {
            for (_, pool) in self.pools() {
                pool.close().await;
            }
        };
        if timeout(CLOSE_POOLS_TIMEOUT, pools).await.is_err() {
            tracing::warn!("the database connections did not close in time");
        }
        if let Some(server) = self.embedded
            && let Err(error) = server.stop().await
        {
            tracing::error!(%error, "the embedded PostgreSQL did not stop");
        }
    }
}

async fn migrate(db: &Db) -> anyhow::Result<()> {
    server_settings::check_before_migration(db).await?;
    schema::migrate(db, schema::LOCK_TIMEOUT).await.context("the database could not be migrated")
}

async fn listen(url: DatabaseUrl, wakeup: Wakeup, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let listening = async {
            let pool = connection::pool(url.connect_options(), 1, "flametree-notify listener");
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(hints::READY_CHANNEL).await?;
            // A hint may have been sent before this process listened.
            wakeup.search();
            loop {
                match timeout(LISTEN_CHECK, listener.try_recv()).await {
                    Ok(received) => match received? {
                        Some(hint) => wakeup.heard(hint.payload()),
                        // The connection was lost and restored. Hints may have been lost.
                        None => wakeup.search(),
                    },
                    Err(_elapsed) => {
                        with_timeout(sqlx::raw_sql("SELECT").execute(&mut listener)).await?;
                    }
                }
            }
        };
        let ended: Option<Result<(), sqlx::Error>> = stop.run_until_cancelled(listening).await;
        if let Some(Err(error)) = ended {
            tracing::warn!(%error, "hints of ready deliveries cannot be received; discovery continues without them");
            tokio::time::sleep(LISTEN_PAUSE).await;
        }
    }
}
