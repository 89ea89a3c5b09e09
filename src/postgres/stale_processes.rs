//! Ends the server that a killed process has left behind, and clears what a killed server has left.
//!
//! We hold the lock of the directory, so that whatever still runs there belongs to nobody. PostgreSQL itself refuses
//! to start when the process id in its lock file now belongs to another program, as it does after a container's
//! restart; whether that is so is decided here by the working directory, which all processes of a server have in
//! common: it is the cluster.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::directory::Directory;
use super::error::Error;
use super::process::SOCKET;

/// How long a server that was left behind may take for its last checkpoint.
const STOP_DEADLINE: Duration = Duration::from_mins(1);
/// How long processes without their server may take to notice it, or any may take to obey an immediate stop.
pub(super) const EXIT_DEADLINE: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Comes back when no process uses the cluster any more.
pub(super) async fn end(directory: &Directory) -> Result<(), Error> {
    let cluster = directory.cluster();
    let Some(running) = processes_in(cluster) else {
        // Without /proc PostgreSQL's own, more cautious check has to do.
        return Ok(());
    };
    if let Some(server) = server_in(cluster).filter(|server| running.contains(server)) {
        tracing::warn!(process.pid = server.as_raw(), "stopping a server that was left behind");
        signal(server, Signal::SIGINT);
        wait_for_end(cluster, STOP_DEADLINE).await;
    } else if !running.is_empty() {
        // The server was killed; its processes exit as soon as they notice.
        wait_for_end(cluster, EXIT_DEADLINE).await;
    }
    end_processes(cluster).await?;
    let socket_lock = format!("{SOCKET}.lock");
    for stale in [cluster.join("postmaster.pid"), directory.socket().join(SOCKET), directory.socket().join(socket_lock)]
    {
        if stale.symlink_metadata().is_ok() {
            fs::remove_file(&stale).map_err(Error::io("remove", &stale))?;
        }
    }
    Ok(())
}

/// Ends at once whatever works in a directory: the server's immediate stop, which a next start repairs.
pub(super) async fn end_processes(working_directory: &Path) -> Result<(), Error> {
    for process in processes_in(working_directory).unwrap_or_default() {
        signal(process, Signal::SIGQUIT);
    }
    match wait_for_end(working_directory, EXIT_DEADLINE).await.first() {
        Some(process) => Err(Error::LeftBehind { path: working_directory.to_owned(), pid: process.as_raw() }),
        None => Ok(()),
    }
}

/// The server's process by its lock file, whether it still runs or not.
fn server_in(cluster: &Path) -> Option<Pid> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
}

/// Every process whose working directory this is; `None` where the system does not tell.
fn processes_in(working_directory: &Path) -> Option<Vec<Pid>> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    Some(
        ids.filter(|id| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|path| path == working_directory)).collect(),
    )
}

/// The processes that are still there at the deadline.
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
    // A process that is gone is what is wanted.
    if let Err(error) = kill(process, signal) {
        tracing::debug!(process.pid = process.as_raw(), %error, "a process could not be signalled");
    }
}
