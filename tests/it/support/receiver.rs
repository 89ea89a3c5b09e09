//! An independent receiver of webhooks. It has a separate thread and runtime, so that no fault of a worker affects it.
//!
//! The receiver records each request as soon as the headers arrive, even if the request then fails.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flametree_notify::domain::ids::DeliveryId;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// The response to requests of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 200 at once, the default for every path.
    Answers,
    AnswersAfter(Duration),
    /// 200 after [`Receiver::let_go`].
    Hangs,
    /// 200 with the headers of the request, as lines and as JSON.
    Echoes,
    /// 410.
    Gone,
}

#[derive(Debug, Clone)]
pub struct Seen {
    pub delivery: DeliveryId,
    pub path: String,
    pub at: Instant,
}

pub struct Receiver {
    address: SocketAddr,
    record: Arc<Record>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    seen: Mutex<Vec<Seen>>,
    modes: Mutex<HashMap<String, Mode>>,
    open: Mutex<HashMap<String, usize>>,
    let_go: watch::Sender<bool>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let record = Arc::clone(&record);
            move || serve(listener, &record, stopped)
        });
        Self { address, record, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn set(&self, path: &str, mode: Mode) {
        lock(&self.record.modes).insert(path.to_owned(), mode);
    }

    /// Responds to all waiting requests, and to later requests at once.
    pub fn let_go(&self) {
        self.record.let_go.send_replace(true);
    }

    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.record.seen).clone()
    }

    pub fn count(&self) -> usize {
        lock(&self.record.seen).len()
    }

    pub fn count_at(&self, path: &str) -> usize {
        lock(&self.record.seen).iter().filter(|seen| seen.path == path).count()
    }

    /// Requests without a response whose connection is still open.
    pub fn open_at(&self, path: &str) -> usize {
        lock(&self.record.open).get(path).copied().unwrap_or(0)
    }

    /// The ids of the deliveries that the receiver saw. Fails if the receiver saw a delivery twice.
    pub fn seen_once(&self) -> HashSet<DeliveryId> {
        let mut first: HashMap<DeliveryId, Seen> = HashMap::new();
        for seen in self.seen() {
            if let Some(earlier) = first.insert(seen.delivery, seen.clone()) {
                let between = seen.at.duration_since(earlier.at);
                panic!("{} was requested twice: at {} and {between:?} later", seen.delivery, seen.path);
            }
        }
        first.into_keys().collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the receiver has panicked");
        }
    }
}

fn serve(listener: std::net::TcpListener, record: &Arc<Record>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).unwrap();
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let record = Arc::clone(record);
                let service = service_fn(move |request| {
                    let record = Arc::clone(&record);
                    async move { Ok::<_, Infallible>(record.receive(request).await) }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = stopped => {}
        }
    });
}

impl Record {
    async fn receive(self: &Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let delivery = request.headers()["x-flametree-delivery"].to_str().unwrap().parse().unwrap();
        lock(&self.seen).push(Seen { delivery, path: path.clone(), at: Instant::now() });
        let _open = Open::new(self, &path);
        let head = request.headers().clone();
        // A request counts as seen even if the client dies before it has sent the whole body.
        drop(request.into_body().collect().await);
        let mode = lock(&self.modes).get(&path).copied().unwrap_or(Mode::Answers);
        match mode {
            Mode::Answers => {}
            Mode::AnswersAfter(time) => tokio::time::sleep(time).await,
            Mode::Hangs => drop(self.let_go.subscribe().wait_for(|let_go| *let_go).await),
            Mode::Echoes => return Response::new(Full::from(echo(&head))),
            Mode::Gone => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::GONE;
                return response;
            }
        }
        Response::new(Full::default())
    }
}

fn echo(head: &HeaderMap) -> String {
    let headers: BTreeMap<&str, &str> =
        head.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let lines: String = headers.iter().flat_map(|(name, value)| [name, ": ", value, "\n"]).collect();
    lines + &serde_json::to_string(&headers).unwrap()
}

/// Counts a request as open until this value is dropped.
struct Open {
    record: Arc<Record>,
    path: String,
}

impl Open {
    fn new(record: &Arc<Record>, path: &str) -> Self {
        *lock(&record.open).entry(path.to_owned()).or_default() += 1;
        Self { record: Arc::clone(record), path: path.to_owned() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(open) = lock(&self.record.open).get_mut(&self.path) {
            *open -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
