//! Limits concurrent look-ups in total and per tenant, so that unanswered look-ups of one tenant do not delay other tenants.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::names::TenantId;

/// Limits of concurrent look-ups. The API and the workers have separate limits, so that neither waits for the other.
///
/// An unanswered look-up keeps its permit for four seconds and uses up to six sockets, so the total limits are small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupLimits {
    pub total: usize,
    pub per_tenant: usize,
}

impl LookupLimits {
    /// The limits for deliveries. A tenant gets an eighth of the permits, so eight tenants with unanswered look-ups can use
    /// up all permits. If name servers respond within 50 ms, an eighth is enough for 600 names per second.
    pub const WORKERS: Self = Self { total: 256, per_tenant: 32 };
    /// The limits for endpoint tests and for URL checks when a push config is saved. Users start both by hand, so few
    /// permits suffice.
    pub const API: Self = Self { total: 64, per_tenant: 8 };
}

pub(super) struct Budget {
    per_tenant: usize,
    all: Arc<Semaphore>,
    /// The semaphores of tenants whose look-ups run or wait.
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
}

/// A permit for one look-up. The look-up keeps the permit until it ends.
pub(super) struct Permit {
    _of_tenant: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Budget {
    pub(super) fn new(limits: LookupLimits) -> Self {
        let LookupLimits { total, per_tenant } = limits;
        Self { per_tenant, all: Arc::new(Semaphore::new(total)), tenants: Mutex::default() }
    }

    /// Waits for a permit of the tenant, then for a shared permit. Returns `None` only if a semaphore is closed, which does
    /// not happen. Cancel-safe.
    pub(super) async fn permit(&self, tenant: &TenantId) -> Option<Permit> {
        let of_tenant = self.of(tenant).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Permit { _of_tenant: of_tenant, _of_all: of_all })
    }

    fn of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock();
        if let Some(known) = tenants.get(tenant).and_then(Weak::upgrade) {
            return known;
        }
        tenants.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Semaphore::new(self.per_tenant));
        tenants.insert(tenant.clone(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn a_tenant_at_its_limit_does_not_block_other_tenants() {
        let budget = Budget::new(LookupLimits { total: 3, per_tenant: 2 });
        let permit = |name| budget.permit(&tenant(name)).now_or_never().flatten();
        let held = [permit("a"), permit("a")];
        assert!(held.iter().all(Option::is_some) && permit("a").is_none());
        let other = permit("b");
        assert!(other.is_some() && permit("c").is_none(), "three in total");
        drop(held);
        assert!(permit("a").is_some() && permit("c").is_some());
    }

    #[test]
    fn removes_tenants_without_look_ups() {
        let budget = Budget::new(LookupLimits { total: 3, per_tenant: 2 });
        for number in 0..100 {
            drop(budget.permit(&tenant(&format!("t-{number}"))).now_or_never());
        }
        assert_eq!(budget.tenants.lock().len(), 1);
    }
}
