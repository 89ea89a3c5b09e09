//! The callers: they post events to the API at a steady rate, and repeat them as docs/api.md describes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::book::Book;
use super::traffic::Event;
use crate::http::{self, Message, try_request};
use crate::load::CONNECTIONS;
use crate::receiver::now_us;

/// The timeout for a response. The API always responds sooner.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The pause before a caller opens a new connection.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// The pause before an event is posted again, if the response has no `Retry-After`.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Callers {
    pub(crate) book: Arc<Book>,
    pub(crate) apis: Vec<SocketAddr>,
    pub(crate) token: String,
    pub(crate) events: u32,
    pub(crate) per_second: u32,
}

impl Callers {
    /// Posts all events, each when it is due or as soon as its connection is free.
    pub(crate) async fn run(self) {
        let callers = Arc::new(self);
        let started = (Instant::now(), now_us());
        let mut connections = JoinSet::new();
        for (connection, first) in (0..CONNECTIONS).zip(0..) {
            let api = callers.apis[connection % callers.apis.len()];
            let caller = Caller { callers: Arc::clone(&callers), api, stream: None };
            connections.spawn(caller.run(first, started));
        }
        while let Some(connection) = connections.join_next().await {
            connection.unwrap();
        }
    }
}

struct Caller {
    callers: Arc<Callers>,
    api: SocketAddr,
    stream: Option<TcpStream>,
}

enum Reply {
    Accepted {
        duplicate: bool,
        deliveries: Option<u64>,
    },
    Later(Duration),
    /// A response that docs/api.md does not list.
    Unexpected(String),
    None,
}

impl Caller {
    async fn run(mut self, first: u32, (started, started_us): (Instant, i64)) {
        let (events, per_second) = (self.callers.events, self.callers.per_second);
        for number in (first..events).step_by(CONNECTIONS) {
            let due = Duration::from_secs(1) * number / per_second;
            sleep_until(started + due).await;
            let event = Event::posted(number);
            self.post(event, started_us + i64::try_from(due.as_micros()).unwrap()).await;
            if event.is_repeated() {
                self.repeat(event).await;
            }
        }
    }

    /// Posts an event until it is accepted.
    async fn post(&mut self, event: Event, due: i64) {
        let callers = Arc::clone(&self.callers);
        let (counts, findings) = (&callers.book.counts, &callers.book.findings);
        let text = self.text(event);
        let mut may_be_there = false;
        loop {
            match self.request(&text).await {
                Reply::Accepted { duplicate, deliveries } => {
                    callers.book.accept(event, due, now_us());
                    if duplicate && !may_be_there {
                        findings.add("a new event was reported as a duplicate", event.number);
                    }
                    let counter = if duplicate { &counts.accepted_before } else { &counts.accepted };
                    counter.fetch_add(1, Ordering::Relaxed);
                    let told = deliveries.and_then(|count| usize::try_from(count).ok());
                    if told != Some(event.deliveries()) {
                        findings.add("a response has a wrong number of deliveries", event.number);
                    }
                    return;
                }
                Reply::Later(pause) => {
                    counts.told_to_repeat.fetch_add(1, Ordering::Relaxed);
                    sleep(pause).await;
                }
                Reply::Unexpected(answer) => {
                    findings.add("the API gave an answer that docs/api.md does not list", answer);
                    sleep(REPEAT_PAUSE).await;
                }
                Reply::None => {
                    counts.unanswered.fetch_add(1, Ordering::Relaxed);
                    sleep(RECONNECT_PAUSE).await;
                }
            }
            may_be_there = true;
        }
    }

    /// Posts an accepted event again. The API must report it as a duplicate.
    async fn repeat(&mut self, event: Event) {
        let text = self.text(event);
        loop {
            match self.request(&text).await {
                Reply::Accepted { duplicate: true, .. } => return,
                Reply::Accepted { duplicate: false, .. } => {
                    return self.callers.book.findings.add("a repeated event was accepted as a new one", event.number);
                }
                Reply::Later(pause) => sleep(pause).await,
                Reply::Unexpected(answer) => {
                    return self
                        .callers
                        .book
                        .findings
                        .add("the API gave an answer that docs/api.md does not list", answer);
                }
                Reply::None => sleep(RECONNECT_PAUSE).await,
            }
        }
    }

    fn text(&self, event: Event) -> Vec<u8> {
        http::json("POST", "/v1/events", &self.callers.token, &event.body().to_string())
    }

    async fn request(&mut self, text: &[u8]) -> Reply {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => match TcpStream::connect(self.api).await {
                Ok(stream) => none.insert(stream),
                Err(_) => return Reply::None,
            },
        };
        if let Ok(Ok(answer)) = timeout(ANSWER_WITHIN, try_request(stream, text)).await {
            return reply(&answer);
        }
        self.stream = None;
        Reply::None
    }
}

fn reply(answer: &Message) -> Reply {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status() {
        202 => Reply::Accepted { duplicate: false, deliveries: body["deliveries"].as_u64() },
        200 => Reply::Accepted { duplicate: true, deliveries: body["deliveries"].as_u64() },
        408 | 429 | 503 => {
            let seconds = answer.header("retry-after").and_then(|text| text.parse().ok());
            Reply::Later(seconds.map_or(REPEAT_PAUSE, Duration::from_secs))
        }
        status => Reply::Unexpected(format!("{status} {body}")),
    }
}
