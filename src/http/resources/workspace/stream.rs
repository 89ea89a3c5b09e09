//! The stream of a workspace: Server-Sent Events, first a snapshot, then a badge for each change.
//!
//! A stream has no event queue: it sends the latest view when the client can receive it. Slow clients skip views. A client that
//! stops reading loses its connection after the write timeout.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::time::{Instant, sleep, sleep_until};

use super::tickets::Watching;
use crate::domain::workspace::Watcher;
use crate::http::clock::now;
use crate::http::openapi::parameter_docs::OfTenant;
use crate::http::request::parameters::{Parameters, TICKET_PARAMETER};
use crate::http::request::problem::{Problem, ProblemCode, RETRY_SOON};
use crate::http::state::ApiState;
use crate::http::workspace::documents::{StreamEvent, View};
use crate::http::workspace::hub::Views;
use crate::http::workspace::stream_slots::{NoSlot, StreamSlot};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The query parameter that replaces the header `Last-Event-ID` for clients that cannot send headers.
const LAST_EVENT_ID_PARAMETER: &str = "last_event_id";
/// Keeps proxies such as nginx from buffering events.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// A stream ends after this time or up to 50 % later. Clients that reconnect must authenticate again, and can reach newly added
/// processes.
const LIFE: Duration = Duration::from_mins(20);
/// Clients reconnect after a random delay of one to four seconds, so that they do not all reconnect at once.
const RETRY_MS: std::ops::Range<u32> = 1_000..4_000;
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");
const RESUMED: Bytes = Bytes::from_static(b": nothing has changed\n\n");

/// Streams Server-Sent Events: a snapshot of the workspace, then a badge for each change.
///
/// With a `Last-Event-ID` from any process, a stream resumes. It starts with a badge if nothing has changed since that event,
/// otherwise with a snapshot. A snapshot contains the response of `GET /v1/workspace/active-conversations`. A badge contains the
/// fields `count` and `as_of`. A comment is sent at least every 20 s. The stream can end at any time, at the latest after half
/// an hour. Then connect again, with a new ticket if the stream was opened with a ticket. A stream belongs to the token that
/// opened it or created its ticket. It ends when this token expires, and within 5 s after this token is revoked.
#[utoipa::path(
    get,
    path = "/v1/workspace/stream",
    operation_id = "stream_workspace",
    tag = "Operator workspace",
    params(
        ("Last-Event-ID" = Option<String>, Header, example = "5feceb66ffc86f38",
            description = "The id of the last received event."),
        ("last_event_id" = Option<String>, Query, example = "5feceb66ffc86f38",
            description = "The same as `Last-Event-ID`, for clients that cannot send headers."),
        ("ticket" = Option<String>, Query, example = "ftt_hq3vT0mW8yqkXcZ5bR1nUo6eJd9aLs2gPiYf7wKxQ4M",
            description = "A ticket instead of the header `Authorization`."),
        OfTenant,
    ),
    responses(
        (status = 200, description = "The stream; this is one event of it", body = StreamEvent,
            content_type = "text/event-stream"),
    ),
)]
pub(crate) async fn stream(
    Watching(watcher): Watching,
    State(state): State<ApiState>,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.take(TICKET_PARAMETER);
    let named = parameters.take(LAST_EVENT_ID_PARAMETER);
    parameters.finish()?;
    let seen = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).map(str::to_owned).or(named);
    let feed = open(&state, &watcher, seen).await?;
    let headers = [(CONTENT_TYPE, "text/event-stream"), (ACCEL_BUFFERING, "no")];
    Ok((headers, feed.into_body()).into_response())
}

async fn open(state: &ApiState, watcher: &Watcher, seen: Option<String>) -> Result<Feed, Problem> {
    if state.stage.stop.is_cancelled() {
        return Err(Problem::unavailable().detail("the process is stopping"));
    }
    let slot = state.workspace.slots.take(watcher).map_err(no_slot)?;
    let views = state.workspace.hub.watch(&watcher.tenant).await.ok_or_else(Problem::unavailable)?;
    let mut feed = Feed::new(views, seen.as_deref(), slot, state.settings.workspace.heartbeat);
    if let Some(until) = watcher.until {
        // A time in the past becomes a delay of zero.
        feed.end_in((until - now()).to_std().unwrap_or_default());
    }
    Ok(feed)
}

fn no_slot(reason: NoSlot) -> Problem {
    match reason {
        NoSlot::ProcessIsFull => Problem::new(ProblemCode::Overloaded).detail("this process has too many open streams"),
        NoSlot::TenantHasEnough => {
            Problem::new(ProblemCode::RateLimited).detail("your tenant has too many streams open")
        }
        NoSlot::CallerHasEnough => Problem::new(ProblemCode::RateLimited).detail("you have too many streams open"),
    }
    .retry_after(RETRY_SOON)
}

/// The output of one stream.
struct Feed {
    /// The first messages of the stream, in reverse order.
    opening: Vec<Bytes>,
    views: Views,
    slot: StreamSlot,
    heartbeat: Duration,
    ends_at: Instant,
}

impl Feed {
    fn new(mut views: Views, seen: Option<&str>, slot: StreamSlot, heartbeat: Duration) -> Self {
        let shown = views.borrow_and_update().clone();
        let is_known = |view: &Arc<View>| seen == Some(view.id.as_str());
        let first = shown.map_or(RESUMED, |view| if is_known(&view) { RESUMED } else { view.snapshot.clone() });
        // Without random bytes, clients reconnect at the same time, which is better than rejecting a client.
        let chance = getrandom::u32().unwrap_or(0);
        let retry = RETRY_MS.start + chance % (RETRY_MS.end - RETRY_MS.start);
        let ends_at = Instant::now() + LIFE + LIFE / 2 * (chance % 1_000) / 1_000;
        Self { opening: vec![first, format!("retry: {retry}\n\n").into()], views, slot, heartbeat, ends_at }
    }

    fn end_in(&mut self, time: Duration) {
        if let Some(end) = Instant::now().checked_add(time) {
            self.ends_at = self.ends_at.min(end);
        }
    }

    /// Returns the next bytes, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.opening.pop() {
            return Some(bytes);
        }
        tokio::select! {
            biased;
            () = self.slot.ended() => None,
            () = sleep_until(self.ends_at) => None,
            changed = self.views.changed() => {
                changed.ok()?;
                self.views.borrow_and_update().as_ref().map(|view| view.badge.clone())
            }
            () = sleep(self.heartbeat) => Some(HEARTBEAT),
        }
    }

    fn into_body(self) -> Body {
        let events = unfold(self, |mut feed| async move {
            let bytes = feed.next().await?;
            Some((Ok::<_, Infallible>(bytes), feed))
        });
        Body::from_stream(events)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::domain::names::TenantId;
    use crate::domain::role::Role;
    use crate::domain::workspace::ActiveConversations;
    use crate::http::workspace::Settings;
    use crate::http::workspace::stream_slots::StreamSlots;
    use crate::telemetry::metrics::Metrics;

    fn view(count: u64) -> Arc<View> {
        let as_of = chrono::DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        Arc::new(View::new(ActiveConversations { count, listed: Vec::new(), as_of }))
    }

    fn feed(views: &watch::Sender<Option<Arc<View>>>, seen: Option<&str>, end: &CancellationToken) -> Feed {
        let slots = StreamSlots::new(&Settings::default(), Metrics::new("test", "test"), end.clone());
        let tenant = TenantId::parse("acme").unwrap();
        let watcher = Watcher { tenant, role: Role::Operator, actor: "someone".to_owned(), until: None };
        Feed::new(views.subscribe(), seen, slots.take(&watcher).unwrap(), Duration::from_hours(1))
    }

    #[tokio::test]
    async fn a_slow_reader_receives_only_the_latest_view() {
        let (views, end) = (watch::channel(Some(view(0))).0, CancellationToken::new());
        let mut feed = feed(&views, None, &end);
        assert!(feed.next().await.unwrap().starts_with(b"retry: "));
        assert_eq!(feed.next().await, Some(view(0).snapshot.clone()));
        for count in 1..=100_000 {
            views.send_replace(Some(view(count)));
        }
        assert_eq!(feed.next().await, Some(view(100_000).badge.clone()));
        end.cancel();
        assert_eq!(feed.next().await, None);
    }

    #[tokio::test]
    async fn a_resumed_stream_receives_the_next_change() {
        let (views, end) = (watch::channel(Some(view(7))).0, CancellationToken::new());
        let id = view(7).id.clone();
        let mut feed = feed(&views, Some(&id), &end);
        assert!(feed.next().await.unwrap().starts_with(b"retry: "));
        assert_eq!(feed.next().await, Some(RESUMED));
        views.send_replace(Some(view(8)));
        assert_eq!(feed.next().await, Some(view(8).badge.clone()));
    }

    #[tokio::test]
    async fn an_idle_stream_sends_comments_until_it_ends() {
        let (views, end) = (watch::channel(Some(view(0))).0, CancellationToken::new());
        let mut feed = feed(&views, None, &end);
        let life = feed.ends_at - Instant::now();
        assert!(life + Duration::from_mins(1) > LIFE && life <= LIFE * 3 / 2, "{life:?}");
        feed.heartbeat = Duration::from_millis(1);
        feed.ends_at = Instant::now() + Duration::from_millis(100);
        feed.opening.clear();
        assert_eq!(feed.next().await, Some(HEARTBEAT));
        while let Some(bytes) = feed.next().await {
            assert_eq!(bytes, HEARTBEAT);
        }
        assert!(Instant::now() >= feed.ends_at);
    }
}
