//! An HTTP client of the API that handles missing responses, as a platform's service does.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Request};
use hyper::body::Bytes;
use serde_json::Value;

use super::answer::{Answer, exchange};

/// A timeout that is longer than any timeout of the service.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    token: String,
}

impl Client {
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.to_owned() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns an error if no response arrived. In this case, the outcome of the request is unknown.
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        self.request_with(method, path, &[], body).await
    }

    /// Sends a request with additional headers.
    pub async fn request_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let body = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Bytes::from(body))
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let exchange = tokio::time::timeout(PATIENCE, exchange(self.address, request)).await;
        exchange.map_err(|_elapsed| "no response in time".to_owned())?.map_err(|error| error.to_string())
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await.unwrap()
    }

    /// Repeats the request while the API returns 503, as it does right after a database outage.
    pub async fn get_when_available(&self, path: &str) -> Answer {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if answer.status != 503 || tokio::time::Instant::now() > deadline {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path, Some(body)).await.unwrap()
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::PUT, path, Some(body)).await.unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "the service's client does not connect to loopback addresses")]
pub fn plain_client() -> reqwest::Client {
    // Ignores the error, because another test may have installed the provider.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap()
}
