//! Stops a server that still runs after flametree-notify was killed, and removes the files of a killed server.
//!
//! This process holds the lock of the data directory, so no other flametree-notify uses a server that still runs there.
//! PostgreSQL refuses to start if the process id in its lock file now belongs to another program. This happens when a container
//! restarts. This module therefore identifies the server's processes by their working directory, which is the cluster.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::error::Error;

/// The name of the server's socket.
const SOCKET: &str = ".s.PGSQL.5432";

/// Maximum time for a stale server's last checkpoint.
const STOP_DEADLINE: Duration = Duration::from_mins(1);
/// Maximum time for an immediate stop, and for the exit of child processes whose server is dead.
pub(super) const EXIT_DEADLINE: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Stops a stale server. Returns when no process uses the cluster.
pub(super) async fn end(cluster: &Path, socket_directory: &Path) -> Result<(), Error> {
    let Some(running) = processes_in(cluster) else {
        // Without /proc, only PostgreSQL checks for a running server. That check is stricter.
        return Ok(());
    };
    if let Some(server) = server_in(cluster).filter(|server| running.contains(server)) {
        tracing::warn!(process.pid = server.as_raw(), "found a server without its flametree-notify; stopping it");
        signal(server, Signal::SIGINT);
        wait_for_end(cluster, STOP_DEADLINE).await;
    } else if !running.is_empty() {
        // The server was killed. Its child processes exit as soon as they notice that the server is dead.
        wait_for_end(cluster, EXIT_DEADLINE).await;
    }
    end_processes(cluster).await?;
    let [socket, lock] = [SOCKET.to_owned(), format!("{SOCKET}.lock")].map(|name| socket_directory.join(name));
    for stale in [cluster.join("postmaster.pid"), socket, lock] {
        if stale.symlink_metadata().is_ok() {
            fs::remove_file(&stale).map_err(Error::io("remove", &stale))?;
        }
    }
    Ok(())
}

/// Ends all processes in a directory at once. For the server, this is an immediate shutdown, after which the next start
/// recovers.
pub(super) async fn end_processes(working_directory: &Path) -> Result<(), Error> {
    for process in processes_in(working_directory).unwrap_or_default() {
        signal(process, Signal::SIGQUIT);
    }
    match wait_for_end(working_directory, EXIT_DEADLINE).await.first() {
        Some(process) => Err(Error::LeftBehind { path: working_directory.to_owned(), pid: process.as_raw() }),
        None => Ok(()),
    }
}

/// The process id in the server's lock file. This process might no longer run.
fn server_in(cluster: &Path) -> Option<Pid> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
}

/// The processes with this working directory; `None` without /proc.
fn processes_in(working_directory: &Path) -> Option<Vec<Pid>> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    Some(
        ids.filter(|id| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|path| path == working_directory)).collect(),
    )
}

/// Waits until no process has this working directory. Returns the processes that still run at the deadline.
pub(super) async fn wait_for_end(working_directory: &Path, deadline: Duration) -> Vec<Pid> {
    let deadline = Instant::now() + deadline;
    loop {
        let running = processes_in(working_directory).unwrap_or_default();
        if running.is_empty() || Instant::now() >= deadline {
            return running;
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn signal(process: Pid, signal: Signal) {
    // The process might have exited already.
    if let Err(error) = kill(process, signal) {
        tracing::debug!(process.pid = process.as_raw(), %error, "a process could not be signalled");
    }
}
