//! Makes a background task of a running process fail when the test chooses, and holds an HTTP request that delays the stop.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use flametree_notify::telemetry::metrics::TaskName;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::deployment::{Deployment, TENANT};
use super::service::{Service, Settings};
use super::temp_dir::TempDir;
use super::waiting::within;

const PATIENCE: Duration = Duration::from_secs(20);

/// Makes a task fail. The failpoint in the task waits until the test creates a file.
pub struct Trigger {
    directory: TempDir,
    task: TaskName,
}

impl Trigger {
    pub fn of(task: TaskName) -> Self {
        Self { directory: TempDir::new(), task }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("fail")
    }

    /// The settings of the process whose task will fail.
    pub fn set(&self, settings: &Settings) -> Settings {
        let failpoint = format!("task::{}=return({})", self.task.as_str(), self.file().display());
        settings.clone().with("FAILPOINTS", &failpoint)
    }

    /// Makes the task fail. Returns when the task has panicked.
    pub async fn pull(&self) {
        File::create(self.file()).unwrap();
        let what = format!("the task {} has failed", self.task.as_str());
        within(PATIENCE, &what, async || !self.file().exists()).await;
    }
}

/// A request in flight. A process that stops waits for this request.
pub struct HeldRequest {
    stream: TcpStream,
    body: String,
}

impl HeldRequest {
    /// Sends the headers. Returns when the handler asks for the body.
    pub async fn open(deployment: &Deployment, service: &Service) -> Self {
        let event =
            json!({"type": "user_message", "tenant_id": TENANT, "agent_id": "held", "session_id": "s-1", "text": "?"});
        let body = event.to_string();
        let mut stream = TcpStream::connect(service.client("").address()).await.unwrap();
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            deployment.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { stream, body }
    }

    /// Sends the body, and returns the response.
    pub async fn finish(mut self) -> String {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        let mut response = String::new();
        self.stream.read_to_string(&mut response).await.unwrap();
        response
    }
}
