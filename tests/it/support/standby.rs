//! A primary with a standby that confirms each commit.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _};

use super::own_server::OwnServer;
use super::waiting::within;

/// A time limit for creating and connecting a standby, which takes seconds.
const STREAMING: Duration = Duration::from_secs(30);

impl OwnServer {
    /// Starts a standby of this server. After that, a commit returns only when both servers have stored the transaction.
    pub(crate) async fn start_standby(&self) -> Self {
        let standby = Self::prepare();
        let primary = self.directory().display().to_string();
        let from = ["--host", &primary, "--username", "flametree", "--pgdata", &standby.data()];
        let how = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream"];
        standby.run("pg_basebackup", &[from.as_slice(), how.as_slice()].concat());
        standby.start_again();
        let mut connection = self.connect_options().connect().await.unwrap();
        for statement in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        }
        within(STREAMING, "the standby confirms commits", async || {
            let is_sync = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')";
            sqlx::query_scalar::<_, bool>(is_sync).fetch_one(&mut connection).await.unwrap()
        })
        .await;
        connection.close().await.unwrap();
        standby
    }

    /// Promotes the standby. Returns when it accepts writes.
    pub(crate) fn promote(&self) {
        self.run("pg_ctl", &["promote", "--silent", "--wait", "--pgdata", &self.data()]);
    }
}
