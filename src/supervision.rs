//! Spawns and supervises every long-lived task of the process. If a task panics or returns early, the process shuts down in
//! order and exits with an error. Otherwise, the process would look healthy but do only a part of its work.
//!
//! A task that serves one request, connection, attempt or operation is not supervised, because its panic ends only the
//! task's own work. `tests/conventions/tasks.rs` lists these tasks with the reasons.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::telemetry::metrics::{Metrics, TaskName};

/// A long-lived task that ended unexpectedly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the background task `{}` failed: {reason}", task.as_str())]
pub struct TaskFailure {
    pub task: TaskName,
    reason: String,
}

/// Watches the long-lived tasks of a process. Clones share the state.
#[derive(Debug, Clone)]
pub struct Supervisor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
    shutdown: CancellationToken,
    failure: OnceLock<TaskFailure>,
}

impl Supervisor {
    /// Canceling `shutdown` stops the process. The supervisor cancels it when a task fails.
    pub fn new(metrics: &Metrics, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner { metrics: metrics.clone(), shutdown, failure: OnceLock::new() }))
    }

    /// The first failure of a task, or `None` if no task has failed.
    pub fn failure(&self) -> Option<&TaskFailure> {
        self.0.failure.get()
    }

    /// A stage whose tasks stop as soon as the shutdown begins.
    pub fn first_stage(&self) -> Stage {
        Stage { supervisor: self.clone(), stop: self.0.shutdown.clone(), tasks: TaskTracker::new() }
    }

    /// A stage whose tasks run until [`Stage::end`].
    pub fn stage(&self) -> Stage {
        Stage { supervisor: self.clone(), stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    fn failed(&self, task: TaskName, reason: &str) {
        tracing::error!(task = task.as_str(), error = reason, "a background task failed; the process stops");
        self.0.metrics.task_failed(task);
        // `set` fails if another task failed earlier, because only the first failure is reported.
        drop(self.0.failure.set(TaskFailure { task, reason: reason.to_owned() }));
        self.0.shutdown.cancel();
    }
}

/// Tasks that stop together during the shutdown. Clones share the tasks.
#[derive(Debug, Clone)]
pub struct Stage {
    pub stop: CancellationToken,
    /// Also tracks short tasks, which are not supervised. The end of the stage waits for all tasks.
    pub tasks: TaskTracker,
    supervisor: Supervisor,
}

impl Stage {
    /// Runs a long-lived task until the stage cancels its stop token.
    pub fn spawn<F>(&self, task: TaskName, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (supervisor, stop) = (self.supervisor.clone(), self.stop.clone());
        let running = run(stop.clone());
        #[cfg(feature = "failpoints")]
        let running = failpoint::checked(task, running);
        let running = AssertUnwindSafe(running).catch_unwind();
        self.tasks.spawn(async move {
            match running.await {
                Ok(()) if stop.is_cancelled() => {}
                Ok(()) => supervisor.failed(task, "it returned before its stop"),
                Err(panic) => supervisor.failed(task, &format!("it panicked: {}", panic_message(&*panic))),
            }
        });
    }

    /// The failure that stops the process, or `None` if no task has failed.
    pub fn failure(&self) -> Option<&TaskFailure> {
        self.supervisor.failure()
    }

    /// Makes the tasks stop, and waits until they have ended.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The message of a panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// The failpoint `task::NAME` of each task. The action `panic` ends the task at once. `return(FILE)` ends the task when the
/// file exists, so a test can choose the time.
#[cfg(feature = "failpoints")]
mod failpoint {
    use std::fs::remove_file;
    use std::time::Duration;

    use crate::telemetry::metrics::TaskName;

    /// The interval is short enough for tests, and long enough that the checks of many tasks cost little.
    const CHECK_EVERY: Duration = Duration::from_millis(100);

    pub(super) async fn checked(task: TaskName, running: impl Future<Output = ()>) {
        let name = format!("task::{}", task.as_str());
        let checking = async {
            loop {
                tokio::time::sleep(CHECK_EVERY).await;
                check(&name);
            }
        };
        tokio::select! {
            () = running => {}
            never = checking => never,
        }
    }

    fn check(name: &str) {
        fail::fail_point!(name, |file: Option<String>| {
            // Only one task can remove the file, so only one of several tasks with the same name fails.
            assert!(file.is_none_or(|file| remove_file(file).is_err()), "the failpoint {name} was reached");
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    struct Process {
        metrics: Metrics,
        shutdown: CancellationToken,
        supervisor: Supervisor,
    }

    impl Process {
        fn new() -> Self {
            let (metrics, shutdown) = (Metrics::new("test", "test"), CancellationToken::new());
            let supervisor = Supervisor::new(&metrics, shutdown.clone());
            Self { metrics, shutdown, supervisor }
        }

        /// Waits until the task has failed. Returns its failure.
        async fn failed(&self, task: TaskName) -> String {
            self.shutdown.cancelled().await;
            let failures = format!("flametree_task_failures_total{{task=\"{}\"}} 1\n", task.as_str());
            assert!(self.metrics.render().contains(&failures), "{failures}");
            let failure = self.supervisor.failure().unwrap();
            assert_eq!(failure.task, task);
            failure.to_string()
        }
    }

    #[tokio::test]
    async fn a_panic_stops_the_process_and_names_the_task() {
        let process = Process::new();
        let stage = process.supervisor.stage();
        stage.spawn(TaskName::Reaper, |_| async { panic!("an internal {}", "error") });
        let failure = process.failed(TaskName::Reaper).await;
        assert_eq!(failure, "the background task `reaper` failed: it panicked: an internal error");
        stage.end().await;
    }

    #[tokio::test]
    async fn an_early_return_stops_the_process() {
        let process = Process::new();
        process.supervisor.stage().spawn(TaskName::Claimer, |_| ready(()));
        let failure = process.failed(TaskName::Claimer).await;
        assert!(failure.ends_with("failed: it returned before its stop"), "{failure}");
    }

    #[tokio::test]
    async fn a_task_may_return_after_its_stage_has_stopped() {
        let process = Process::new();
        let stage = process.supervisor.stage();
        stage.spawn(TaskName::Completer, |stop| async move { stop.cancelled().await });
        stage.end().await;
        assert_eq!((process.supervisor.failure(), process.shutdown.is_cancelled()), (None, false));
    }

    #[tokio::test]
    async fn a_panic_during_the_shutdown_is_a_failure() {
        let process = Process::new();
        let stage = process.supervisor.first_stage();
        stage.spawn(TaskName::Completer, |stop| async move {
            stop.cancelled().await;
            panic!("late");
        });
        process.shutdown.cancel();
        stage.end().await;
        assert_eq!(process.supervisor.failure().unwrap().task, TaskName::Completer);
    }

    #[tokio::test]
    async fn reports_the_first_of_several_failures() {
        let process = Process::new();
        let stage = process.supervisor.first_stage();
        stage.spawn(TaskName::Reaper, |_| async { panic!("first") });
        process.failed(TaskName::Reaper).await;
        stage.spawn(TaskName::Heartbeat, |_| async { panic!("second") });
        stage.end().await;
        assert!(process.metrics.render().contains("flametree_task_failures_total{task=\"heartbeat\"} 1\n"));
        assert_eq!(process.supervisor.failure().unwrap().task, TaskName::Reaper);
    }

    #[cfg(feature = "failpoints")]
    #[tokio::test]
    async fn a_failpoint_ends_a_waiting_task() {
        fail::cfg("task::hint_sender", "panic").unwrap();
        let process = Process::new();
        process.supervisor.stage().spawn(TaskName::HintSender, |_| std::future::pending());
        let failure = process.failed(TaskName::HintSender).await;
        assert!(failure.contains("failpoint task::hint_sender"), "{failure}");
    }
}
