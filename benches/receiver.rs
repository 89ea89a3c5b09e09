//! A fast HTTP receiver in a separate process with one thread, and a handle to that process.
//!
//! `/hook` responds at once. `/timed` also records when each event arrived.
//! `/timed/closing` is like `/timed`, then closes the connection. `/hang` responds until the benchmark
//! switches it to hanging. `/echo` responds with 8 KiB of [`REPEATED`]. `/control/...` is for the benchmark itself.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::http::{Message, request};

/// The address of the receiver for the service and its peers.
pub(crate) const ADDRESS: &str = "127.0.0.1:9901";
/// The argument with which the benchmark program runs as a receiver.
pub(crate) const ARGUMENT: &str = "receiver";

/// The address of a second receiver, for the tenant that is measured while another tenant attacks.
pub(crate) const OTHER_ADDRESS: &str = "127.0.0.1:9905";
/// The text that the response of `/echo` repeats.
pub(crate) const REPEATED: &str = "a";
/// The length of the response of `/echo`. The service reads at most this many bytes of a response.
const ECHO_BYTES: usize = 8 * 1024;

/// A running receiver, stopped on drop.
#[derive(Debug)]
pub(crate) struct Receiver {
    process: Child,
    address: &'static str,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::start_at(ADDRESS).await
    }

    pub(crate) async fn start_at(address: &'static str) -> Self {
        let program = std::env::current_exe().unwrap();
        let process = Command::new(program).args([ARGUMENT, address]).stdin(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { process, address }
    }

    pub(crate) fn url(path: &str) -> String {
        format!("http://{ADDRESS}{path}")
    }

    /// How many requests were answered since the last reset.
    pub(crate) async fn answered(&self) -> usize {
        self.control("answered").await.parse().unwrap()
    }

    /// How many requests hang now.
    pub(crate) async fn hanging(&self) -> usize {
        self.control("hanging").await.parse().unwrap()
    }

    /// Makes `/hang` stop responding.
    pub(crate) async fn hang(&self) {
        self.control("hang").await;
    }

    /// Returns and clears the arrival time of each event's request, in microseconds since 1970, by event id.
    pub(crate) async fn arrivals(&self) -> HashMap<String, i64> {
        let text = self.control("arrivals").await;
        let line = |line: &str| line.split_once(' ').map(|(id, at)| (id.to_owned(), at.parse().unwrap()));
        text.lines().filter_map(line).collect()
    }

    pub(crate) async fn reset(&self) {
        self.control("reset").await;
    }

    async fn control(&self, what: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let text = format!("GET /control/{what} HTTP/1.1\r\nhost: receiver\r\ncontent-length: 0\r\n\r\n");
        String::from_utf8(request(&mut stream, text.as_bytes()).await.body).unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[derive(Debug, Default)]
struct Seen {
    answered: usize,
    hanging: usize,
    hangs: bool,
    arrivals: Vec<(String, i64)>,
}

pub(crate) fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = std::env::args().nth(2).unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream, Arc::clone(&seen)));
        }
    });
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        while let Some((message, length)) = Message::read(&buffer) {
            buffer.drain(..length);
            let Some(answer) = answer(&message, &seen) else {
                // Hangs until the client closes the connection.
                let mut rest = [0; 64];
                while matches!(stream.read(&mut rest).await, Ok(1..)) {}
                seen.lock().unwrap().hanging -= 1;
                return;
            };
            let closes = message.path() == "/timed/closing";
            let close = if closes { "connection: close\r\n" } else { "" };
            let text = format!("HTTP/1.1 200 OK\r\n{close}content-length: {}\r\n\r\n{answer}", answer.len());
            if stream.write_all(text.as_bytes()).await.is_err() || closes {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
    }
}

fn answer(message: &Message, seen: &Mutex<Seen>) -> Option<String> {
    let mut seen = seen.lock().unwrap();
    let path = message.path().to_owned();
    match path.as_str() {
        "/control/answered" => return Some(seen.answered.to_string()),
        "/control/hanging" => return Some(seen.hanging.to_string()),
        "/control/hang" => seen.hangs = true,
        "/control/reset" => *seen = Seen { hanging: seen.hanging, ..Seen::default() },
        "/control/arrivals" => {
            let lines = std::mem::take(&mut seen.arrivals).into_iter().map(|(id, at)| format!("{id} {at}\n"));
            return Some(lines.collect());
        }
        "/hang" if seen.hangs => {
            seen.hanging += 1;
            return None;
        }
        "/echo" => {
            seen.answered += 1;
            return Some(REPEATED.repeat(ECHO_BYTES));
        }
        "/timed" | "/timed/closing" => {
            seen.answered += 1;
            if let Some(id) = message.header("webhook-id") {
                seen.arrivals.push((id, now_us()));
            }
        }
        _ => seen.answered += 1,
    }
    Some(String::new())
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}
