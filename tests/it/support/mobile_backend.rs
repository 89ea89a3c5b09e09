//! Runs the example backend in `examples/mobile-push` as its README says, between a real service and fake push services.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use super::client::plain_client;
use super::jwt::{Signer, in_seconds};
use super::push_services::{CLIENT_EMAIL, KEY_ID, PROJECT, PushServices, TEAM, TOPIC};
use super::temp_dir::TempDir;
use super::tls::Authority;

const APP_SECRET: &str = "the secret of the app's sessions, of 32 bytes or more";

/// A Python program that prints a new RSA key, with the private key as PEM and the public key as PKCS #1.
const NEW_RSA_KEY: &str = "
import base64
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import rsa
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
print(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode())
print(base64.b64encode(key.public_key().public_bytes(s.Encoding.DER, s.PublicFormat.PKCS1)).decode())
";

pub(crate) struct Backend {
    pub(crate) services: PushServices,
    pub(crate) url: String,
    secret: String,
    directory: TempDir,
    process: Option<Child>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

fn python() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = root.join("target/mobile-push");
    assert!(libraries.exists(), "{} is missing: run scripts/install mobile-push", libraries.display());
    let path = format!("{}:{}", libraries.display(), root.join("examples/mobile-push").display());
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    python
}

impl Backend {
    pub(crate) async fn start(secret: &str) -> Self {
        let keys = python().args(["-c", NEW_RSA_KEY]).output().unwrap();
        let keys = String::from_utf8(keys.stdout).unwrap();
        let (google_private, google_public) = keys.trim().rsplit_once('\n').unwrap();
        let apple = KeyPair::generate().unwrap();
        let google_public = STANDARD.decode(google_public).unwrap();
        let services = PushServices::start(google_public, apple.der_bytes().to_vec()).await;
        let directory = TempDir::new();
        let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
        write("authority.pem", Authority::shared().pem());
        write("apns.p8", apple.serialize_pem());
        let account = json!({
            "type": "service_account", "project_id": PROJECT, "client_email": CLIENT_EMAIL,
            "private_key": google_private, "token_uri": format!("{}/token", services.origin),
        });
        write("fcm.json", account.to_string());
        let mut backend = Self { services, url: String::new(), secret: secret.to_owned(), directory, process: None };
        backend.run();
        backend
    }

    /// Starts the backend process on the existing database.
    pub(crate) fn run(&mut self) {
        let mut child = python()
            .args(["-m", "mobile_push"])
            .current_dir(self.directory.path())
            .env("PORT", "0")
            .env("SIGNING_SECRET", &self.secret)
            .env("APP_SECRET", APP_SECRET)
            .env("FCM_SERVICE_ACCOUNT_FILE", "fcm.json")
            .env("FCM_ORIGIN", &self.services.origin)
            .env("APNS_KEY_FILE", "apns.p8")
            .env("APNS_KEY_ID", KEY_ID)
            .env("APNS_TEAM_ID", TEAM)
            .env("APNS_TOPIC", TOPIC)
            .env("APNS_ORIGIN", &self.services.origin)
            .env("SSL_CERT_FILE", "authority.pem")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.process = Some(child);
        let port = line.trim().strip_prefix("port ").expect("the backend prints its port");
        self.url = format!("http://127.0.0.1:{port}");
    }

    /// Like a power failure.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Registers a device (PUT) as the app does at its start, or removes it (DELETE) at the customer's sign-out.
    pub(crate) async fn device(&self, method: Method, customer: &str, device: &Value) -> u16 {
        let claims = json!({"sub": customer, "exp": in_seconds(600)});
        self.device_by(method, &Signer::secret(APP_SECRET).token(&claims), device).await
    }

    pub(crate) async fn device_by(&self, method: Method, session: &str, device: &Value) -> u16 {
        let request = plain_client().request(method, format!("{}/devices", self.url)).bearer_auth(session);
        request.body(device.to_string()).send().await.unwrap().status().as_u16()
    }

    /// Sends a message built by the test, with a signature of this age.
    pub(crate) async fn message(&self, secret: &str, id: &str, message: &Value, age: Duration) -> u16 {
        let body = message.to_string();
        let timestamp = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let signature = Webhook::new(secret).unwrap().sign(id, timestamp, body.as_bytes()).unwrap();
        let request = plain_client().post(format!("{}/webhook", self.url)).body(body).header("webhook-id", id);
        let request = request.header("webhook-timestamp", timestamp.to_string()).header("webhook-signature", signature);
        request.send().await.unwrap().status().as_u16()
    }
}
