//! Fake push services of Google and Apple, over HTTP/2 and TLS. The fake Google also issues access tokens. Both services verify
//! the sender as the real services do. The test sets the responses for each device.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use url::form_urlencoded;

use super::tls::{Authority, Certificate};

pub(crate) const PROJECT: &str = "shop-1";
pub(crate) const CLIENT_EMAIL: &str = "push@shop-1.example";
pub(crate) const TEAM: &str = "TEAM000001";
pub(crate) const KEY_ID: &str = "KEY0000001";
pub(crate) const TOPIC: &str = "com.example.shop";

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Status(u16, Value),
    /// Sends no response while the client waits.
    Silence,
}

/// A push from a verified sender.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    pub(crate) device: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

struct Record {
    /// The public key of Google's service account, as PKCS #1.
    google_key: Vec<u8>,
    /// The public key for Apple, as a point on the curve.
    apple_key: Vec<u8>,
    pushes: Mutex<Vec<Push>>,
    replies: Mutex<HashMap<String, VecDeque<Reply>>>,
    /// The number of issued access tokens. Only the token issued last is valid.
    tokens: AtomicUsize,
    revoked: AtomicUsize,
}

pub(crate) struct PushServices {
    pub(crate) origin: String,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

impl Drop for PushServices {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PushServices {
    pub(crate) async fn start(google_key: Vec<u8>, apple_key: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let tls = TlsAcceptor::from(Authority::shared().server_of("localhost", Certificate::Good, &[b"h2"]));
        let record = Arc::new(Record {
            google_key,
            apple_key,
            pushes: Mutex::default(),
            replies: Mutex::default(),
            tokens: AtomicUsize::new(0),
            revoked: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&record)));
        Self { origin, record, task }
    }

    /// Sets the responses to the next pushes to the device. Pushes after these succeed.
    pub(crate) fn will_say(&self, device: &str, replies: &[Reply]) {
        self.record.replies.lock().unwrap().insert(device.to_owned(), replies.iter().cloned().collect());
    }

    /// Invalidates the access tokens issued so far.
    pub(crate) fn revoke(&self) {
        self.record.revoked.store(self.record.tokens.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    pub(crate) fn tokens(&self) -> usize {
        self.record.tokens.load(Ordering::SeqCst)
    }

    pub(crate) fn pushes(&self) -> Vec<Push> {
        self.record.pushes.lock().unwrap().clone()
    }

    /// The device and event of each push, sorted.
    pub(crate) fn seen(&self) -> Vec<(String, String)> {
        let pushes = self.pushes();
        let mut seen: Vec<_> = pushes.into_iter().map(|push| (push.device.clone(), push.event())).collect();
        seen.sort();
        seen
    }
}

impl Push {
    pub(crate) fn event(&self) -> String {
        let google = &self.body["message"]["data"]["event_id"];
        google.as_str().or_else(|| self.body["event_id"].as_str()).unwrap().to_owned()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, record: Arc<Record>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, record) = (tls.clone(), Arc::clone(&record));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(serve(request, respond, Arc::clone(&record)));
            }
        });
    }
}

async fn serve(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>, record: Arc<Record>) {
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(chunk)) = stream.data().await {
        stream.flow_control().release_capacity(chunk.len()).unwrap();
        body.extend_from_slice(&chunk);
    }
    let reply = record.reply(head.uri.path(), &head.headers, &body);
    let Reply::Status(status, body) = reply else {
        // The stream stays open until the client stops waiting.
        drop(std::future::poll_fn(|context| respond.poll_reset(context)).await);
        return;
    };
    let response = Response::builder().status(status).header("retry-after", "0").body(()).unwrap();
    if let Ok(mut stream) = respond.send_response(response, false) {
        drop(stream.send_data(body.to_string().into(), true));
    }
}

impl Record {
    fn reply(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        if path == "/token" {
            return self.access_token(body);
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        let authorization = headers["authorization"].to_str().unwrap();
        let device = if let Some(device) = path.strip_prefix("/3/device/") {
            if !self.is_apples_developer(authorization) {
                return Reply::Status(403, json!({"reason": "InvalidProviderToken"}));
            }
            device
        } else {
            assert_eq!(path, format!("/v1/projects/{PROJECT}/messages:send"));
            let good = self.tokens.load(Ordering::SeqCst);
            let is_good = good > self.revoked.load(Ordering::SeqCst) && authorization == format!("Bearer at-{good}");
            if !is_good {
                return Reply::Status(401, json!({"error": {"code": 401, "status": "UNAUTHENTICATED"}}));
            }
            body["message"]["token"].as_str().unwrap()
        };
        let push = Push { device: device.to_owned(), headers: headers.clone(), body: body.clone() };
        self.pushes.lock().unwrap().push(push);
        let mut replies = self.replies.lock().unwrap();
        let scripted = replies.get_mut(device).and_then(VecDeque::pop_front);
        scripted.unwrap_or_else(|| Reply::Status(200, json!({"name": "projects/shop-1/messages/1"})))
    }

    /// Issues an access token to a client whose assertion is signed by the service account (RFC 7523).
    fn access_token(&self, body: &[u8]) -> Reply {
        let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
        let Some((_, claims)) = verified(&form["assertion"], &RSA_PKCS1_2048_8192_SHA256, &self.google_key) else {
            return Reply::Status(400, json!({"error": "invalid_grant"}));
        };
        assert_eq!(claims["iss"], CLIENT_EMAIL);
        assert_eq!(claims["scope"], "https://www.googleapis.com/auth/firebase.messaging");
        assert!(claims["aud"].as_str().unwrap().ends_with("/token"), "{claims}");
        assert!(claims["exp"].as_i64() <= claims["iat"].as_i64().map(|begin| begin + 3600), "{claims}");
        let number = self.tokens.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::Status(200, json!({"access_token": format!("at-{number}"), "expires_in": 3599, "token_type": "Bearer"}))
    }

    fn is_apples_developer(&self, authorization: &str) -> bool {
        let token = authorization.strip_prefix("bearer ").unwrap();
        verified(token, &ECDSA_P256_SHA256_FIXED, &self.apple_key).is_some_and(|(header, claims)| {
            header["alg"] == "ES256" && header["kid"] == KEY_ID && claims["iss"] == TEAM && claims["iat"].is_i64()
        })
    }
}

/// Returns the header and claims of a token that the key signed, or `None` for any other token.
fn verified(token: &str, algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Option<(Value, Value)> {
    let (message, signature) = token.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    UnparsedPublicKey::new(algorithm, key).verify(message.as_bytes(), &signature).ok()?;
    let part = |text: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    let (header, claims) = message.split_once('.')?;
    Some((part(header)?, part(claims)?))
}
