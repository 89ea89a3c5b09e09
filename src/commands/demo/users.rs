//! The fictional users that a visitor can sign in as. Only this demonstration accepts their tokens.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use flametree_notify::domain::role::Role;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// How long a visitor stays signed in: the maximum lifetime of a token.
const TOKEN_LIFE: TimeDelta = TimeDelta::hours(24);

/// One user for each role that can use the portal.
pub(super) const USERS: [Person; 4] = [
    Person { name: "Ada", user: "ada", role: Role::Admin, title: "Admin", about: "Everything of the tenant." },
    Person {
        name: "Emil",
        user: "emil",
        role: Role::AgentEditor,
        title: "Agent editor",
        about: "Configures endpoints, tests them, and replays deliveries.",
    },
    Person {
        name: "Olga",
        user: "olga",
        role: Role::Operator,
        title: "Operator",
        about: "Answers customers: the badge, the red dot, and notifications.",
    },
    Person {
        name: "Vera",
        user: "vera",
        role: Role::Viewer,
        title: "Viewer",
        about: "Reads configs and deliveries, and changes nothing.",
    },
];

/// A fictional user.
#[derive(Debug)]
pub(super) struct Person {
    name: &'static str,
    /// The user's name in assignments.
    pub(super) user: &'static str,
    role: Role,
    /// The role's name on the sign-in page.
    title: &'static str,
    about: &'static str,
}

/// The secret that signs the tokens of one demonstration. It is never stored.
#[derive(Debug)]
pub(super) struct JwtSecret(String);

impl JwtSecret {
    pub(super) fn generate() -> anyhow::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("cannot get random bytes for a secret")?;
        Ok(Self(STANDARD.encode(bytes)))
    }

    /// The value of `FLAMETREE_JWT_SECRET`.
    pub(super) fn setting(&self) -> String {
        self.0.clone()
    }

    /// The users that the portal's sign-in page offers, as JSON.
    pub(super) fn choices(&self, tenant: &str, now: DateTime<Utc>) -> String {
        let choice = |person: &Person| {
            let Person { name, user, role, title, about } = person;
            let claims = json!({
                "sub": user, "tenant_id": tenant, "role": role, "exp": (now + TOKEN_LIFE).timestamp(),
            });
            json!({"name": name, "role": title, "about": about, "token": self.token(&claims)})
        };
        json!({"people": USERS.iter().map(choice).collect::<Vec<_>>()}).to_string()
    }

    /// Creates a JWT with HS256 (RFC 7515, appendix A.1).
    fn token(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
        // HMAC accepts keys of any length, so this cannot fail.
        let signature = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).map(|mut mac| {
            mac.update(signed.as_bytes());
            mac.finalize().into_bytes()
        });
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use flametree_notify::supervision::Supervisor;
    use flametree_notify::telemetry::metrics::Metrics;
    use flametree_notify::users::{Key, KeySource, Settings, UserAuthenticator};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the service checks the expiry against the system clock")]
    fn now() -> DateTime<Utc> {
        Utc::now()
    }

    #[tokio::test]
    async fn the_service_accepts_only_tokens_of_demonstration_users() {
        let secret = JwtSecret::generate().unwrap();
        let choices: Value = serde_json::from_str(&secret.choices("demo", now())).unwrap();
        let supervisor = Supervisor::new(&Metrics::new("test", "test"), CancellationToken::new());
        let believer = |secret: &JwtSecret| {
            let keys = KeySource::One(Key::from_secret(&secret.setting()).unwrap());
            let settings = Settings { keys, issuer: None, audience: None };
            UserAuthenticator::start(settings, &supervisor.stage()).unwrap()
        };
        let (ours, others) = (believer(&secret), believer(&JwtSecret::generate().unwrap()));
        for (choice, person) in choices["people"].as_array().unwrap().iter().zip(USERS) {
            let token = choice["token"].as_str().unwrap();
            let identified = ours.identify(token).await.unwrap();
            assert_eq!((identified.user.as_str(), identified.role), (person.user, person.role));
            assert_eq!(identified.tenant.as_str(), "demo");
            assert!(others.identify(token).await.is_err());
        }
    }
}
