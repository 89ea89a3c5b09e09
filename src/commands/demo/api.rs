//! A client of the service's HTTP API. It creates tokens and push configs, posts events and reads deliveries.

use anyhow::{Context as _, ensure};
use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, Request, StatusCode};
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::role::Role;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::conversations::Agent;

/// An API client. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    origin: String,
    token: String,
}

/// The response to a posted event.
#[derive(Debug, Deserialize)]
pub(super) struct AcceptedEvent {
    pub(super) id: String,
    pub(super) deliveries: usize,
}

/// A delivery with its outcome.
#[derive(Debug, Deserialize)]
pub(super) struct FinishedDelivery {
    pub(super) event_id: String,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Deserialize)]
struct Page {
    data: Vec<FinishedDelivery>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct CreatedToken {
    token: String,
}

#[derive(Debug, Deserialize)]
struct CreatedPushConfig {
    signing_secret: String,
}

impl Api {
    pub(super) fn new(origin: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, origin: origin.to_owned(), token: String::new() }
    }

    /// A client of the same API, with another token.
    pub(super) fn with_token(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Returns once the service responds. The listener exists before the service runs, so an early request waits in the
    /// listener's backlog.
    pub(super) async fn ready(&self) -> anyhow::Result<()> {
        self.call::<Value>(Method::GET, "/readyz", None, StatusCode::OK).await.map(drop)
    }

    pub(super) async fn create_token(&self, name: &str, role: Role) -> anyhow::Result<String> {
        let body = json!({"name": name, "role": role, "expires_in_seconds": 24 * 3600});
        let created: CreatedToken =
            self.call(Method::POST, "/v1/tokens", Some(body.to_string()), StatusCode::CREATED).await?;
        Ok(created.token)
    }

    /// Creates the push config of an agent and returns the signing secret, which is shown only once.
    pub(super) async fn create_push_config(&self, agent: &Agent, url: &str) -> anyhow::Result<String> {
        let path = format!("/v1/agents/{}/push-config", agent.id);
        let body = json!({"enabled": true, "url": url, "events": agent.events});
        let created: CreatedPushConfig = self.call(Method::PUT, &path, Some(body.to_string()), StatusCode::OK).await?;
        Ok(created.signing_secret)
    }

    /// Posts one event with this body.
    pub(super) async fn post_event(&self, body: &str) -> anyhow::Result<AcceptedEvent> {
        self.call(Method::POST, "/v1/events", Some(body.to_owned()), StatusCode::ACCEPTED).await
    }

    /// Reads all delivery records.
    pub(super) async fn finished_deliveries(&self) -> anyhow::Result<Vec<FinishedDelivery>> {
        let mut finished = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/deliveries?limit=250{cursor}");
            let page: Page = self.call(Method::GET, &path, None, StatusCode::OK).await?;
            finished.extend(page.data);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(finished),
            }
        }
    }

    /// Sends a request; any status other than `wanted` is an error that quotes the response.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        wanted: StatusCode,
    ) -> anyhow::Result<T> {
        let what = format!("{method} {path}");
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.origin));
        if !self.token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::from(body.unwrap_or_default())).context("the request is not valid")?;
        let answer = self.client.request(request).await.with_context(|| format!("{what} got no response"))?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .with_context(|| format!("the response to {what} is incomplete"))?
            .to_bytes();
        ensure!(status == wanted, "{what} returned {status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("the response to {what} is not as expected"))
    }
}
