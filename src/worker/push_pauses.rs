//! The push services that are paused for a tenant. Each process reads all pauses every two seconds, not once per delivery.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::names::TenantId;
use crate::store::push_pauses::{PausedService, paused_services};
use crate::store::{Db, with_timeout};

/// How often a process reads the pauses. It can still send messages to a paused push service for this long.
const READ_EVERY: Duration = Duration::from_secs(2);

/// A tenant's pauses. The key is the host name of the push service, and the value is the end of the pause.
type Hosts = HashMap<String, Instant>;

#[derive(Debug, Default)]
pub struct PausedServices(RwLock<HashMap<TenantId, Hosts>>);

impl PausedServices {
    /// True if no message may go to the push service for this tenant.
    pub(super) fn includes(&self, tenant: &TenantId, host: &str, now: Instant) -> bool {
        let services = self.0.read();
        services.get(tenant).and_then(|hosts| hosts.get(host)).is_some_and(|until| *until > now)
    }

    fn replace(&self, paused: Vec<PausedService>, now: Instant) {
        let mut services: HashMap<TenantId, Hosts> = HashMap::new();
        for PausedService { tenant, host, left } in paused {
            services.entry(tenant).or_default().insert(host, now + left);
        }
        *self.0.write() = services;
    }
}

/// Reads the pauses until `stop`. If the database does not respond, the known pauses apply until they end.
pub async fn read_push_pauses(db: Db, services: Arc<PausedServices>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match with_timeout(paused_services(&db, None)).await {
            Ok(paused) => services.replace(paused, Instant::now()),
            Err(error) => tracing::debug!(%error, "could not read the pauses of push services"),
        }
        stop.run_until_cancelled(tokio::time::sleep(READ_EVERY)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_and_applies_to_one_tenant_and_one_push_service_only() {
        let (services, now) = (PausedServices::default(), Instant::now());
        let [acme, other] = ["acme", "other"].map(|name| TenantId::parse(name).unwrap());
        let left = Duration::from_secs(7);
        services.replace(vec![PausedService { tenant: acme.clone(), host: "a".to_owned(), left }], now);
        assert!(services.includes(&acme, "a", now));
        assert!(!services.includes(&acme, "b", now));
        assert!(!services.includes(&other, "a", now));
        assert!(!services.includes(&acme, "a", now + left));
        services.replace(Vec::new(), now);
        assert!(!services.includes(&acme, "a", now));
    }
}
