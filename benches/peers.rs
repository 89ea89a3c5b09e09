//! Measures pinned versions of comparable systems under the same workload, with the same server and the same receiver.

use std::path::PathBuf;

use tokio::process::Command;

use crate::receiver::Receiver;
use crate::server::Server;

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    database: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

/// The names contain the versions, which the lock files in `benches/peers` pin.
pub(crate) const PEERS: [Peer; 3] = [
    Peer {
        name: "graphile-worker 0.17.3",
        database: "graphile",
        program: "node",
        arguments: &["node/graphile-worker.mjs"],
    },
    Peer {
        name: "apalis-postgres 1.0.0",
        database: "apalis",
        program: "apalis-postgres/target/release/peer-apalis-postgres",
        arguments: &[],
    },
    Peer { name: "pg-boss 10.4.2", database: "pgboss", program: "node", arguments: &["node/pg-boss.mjs"] },
];

/// The number of workers and the batch size with which apalis-postgres was fastest.
const APALIS: [&str; 2] = ["4", "500"];

impl Peer {
    /// Runs `count` prepared jobs. Each job sends a POST request. Returns jobs per second.
    pub(crate) async fn drain(&self, server: &Server, count: usize) -> f64 {
        server.create(self.database).await.close().await;
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let mut command = Command::new(self.program);
        if self.program.contains('/') {
            command = Command::new(directory.join(self.program));
        }
        command.current_dir(&directory).args(self.arguments).arg(count.to_string());
        if self.arguments.is_empty() {
            command.args(APALIS);
        }
        let output = command
            .env("DATABASE_URL", server.url(self.database))
            .env("RECEIVER_URL", Receiver::url("/hook"))
            .output()
            .await
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let rate = printed.lines().last().and_then(|line| line.trim().parse().ok());
        let rate =
            rate.unwrap_or_else(|| panic!("{}: {printed}{}", self.name, String::from_utf8_lossy(&output.stderr)));
        server.drop(self.database).await;
        rate
    }
}
