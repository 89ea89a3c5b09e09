//! Slots for streams, limited per process, tenant and caller. A stream releases its slot when it ends. It ends when the
//! caller's token expires or is revoked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::domain::ids::TokenId;
use crate::domain::names::TenantId;
use crate::domain::workspace::Watcher;
use crate::http::server::shares::{NoPlace, Place, Shares};
use crate::store::{Db, tokens, workspace};
use crate::telemetry::metrics::Metrics;

/// How often the tokens of open streams are checked and the conversations of all tenants are counted.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(crate) struct StreamSlots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Lock order: lock this map before the mutex inside the field `places`.
    callers: Mutex<HashMap<CallerName, OfCaller>>,
    places: Shares<TenantId>,
    most_per_caller: usize,
    metrics: Metrics,
    shutdown: CancellationToken,
}

/// The tenant and the actor, because users of two tenants may have the same name.
type CallerName = (TenantId, String);

#[derive(Debug)]
struct OfCaller {
    streams: usize,
    /// Ends the streams of this caller.
    end: CancellationToken,
}

/// The reason why a slot was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// The process has reached its limit of streams.
    ProcessIsFull,
    /// The tenant has at least as many open streams as are free.
    TenantHasEnough,
    /// The caller has reached its limit of streams.
    CallerHasEnough,
}

/// A reserved slot. Dropping it releases the slot.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    slots: StreamSlots,
    caller: CallerName,
    place: Option<Place<TenantId>>,
    end: CancellationToken,
}

impl StreamSlot {
    /// Returns when the stream must end.
    pub(crate) async fn ended(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        drop(self.place.take());
        self.slots.release(&self.caller);
    }
}

impl StreamSlots {
    pub(crate) fn new(settings: &Settings, metrics: Metrics, shutdown: CancellationToken) -> Self {
        let (places, most_per_caller) = (Shares::new(settings.max_streams), settings.max_streams_per_caller);
        Self(Arc::new(Inner { callers: Mutex::default(), places, most_per_caller, metrics, shutdown }))
    }

    /// Reserves a slot for a watcher.
    pub(crate) fn take(&self, watcher: &Watcher) -> Result<StreamSlot, NoSlot> {
        let mut callers = self.0.callers.lock();
        let caller = (watcher.tenant.clone(), watcher.actor.clone());
        if callers.get(&caller).is_some_and(|of_caller| of_caller.streams >= self.0.most_per_caller) {
            return Err(NoSlot::CallerHasEnough);
        }
        let place = self.0.places.take(&watcher.tenant).map_err(|reason| match reason {
            NoPlace::Full => NoSlot::ProcessIsFull,
            NoPlace::KeyHasEnough => NoSlot::TenantHasEnough,
        })?;
        let fresh = || OfCaller { streams: 0, end: self.0.shutdown.child_token() };
        let of_caller = callers.entry(caller.clone()).or_insert_with(fresh);
        of_caller.streams += 1;
        self.report();
        Ok(StreamSlot { slots: self.clone(), caller, place: Some(place), end: of_caller.end.clone() })
    }

    fn release(&self, caller: &CallerName) {
        let mut callers = self.0.callers.lock();
        self.report();
        if let Some(of_caller) = callers.get_mut(caller) {
            of_caller.streams = of_caller.streams.saturating_sub(1);
            if of_caller.streams == 0 {
                callers.remove(caller);
            }
        }
    }

    fn report(&self) {
        self.0.metrics.set_stream_clients(i64::try_from(self.0.places.count()).unwrap_or(i64::MAX));
    }

    /// Until the process stops, counts conversations and ends streams whose token was revoked or has expired.
    /// Ends no stream while the database does not respond.
    pub(crate) async fn keep(self, db: Db, stop: CancellationToken) {
        let mut seen = Ok(());
        while !stop.is_cancelled() {
            let Some(looked) = stop.run_until_cancelled(self.look(&db)).await else { return };
            if let (Err(error), Ok(())) = (&looked, &seen) {
                tracing::warn!(%error, "could not check the tokens of open streams; streams of revoked tokens stay open");
            }
            seen = looked;
            stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
        }
    }

    async fn look(&self, db: &Db) -> Result<(), sqlx::Error> {
        let tokens: Vec<(CallerName, TokenId)> = {
            let callers = self.0.callers.lock();
            callers.keys().filter_map(|caller| Some((caller.clone(), caller.1.parse().ok()?))).collect()
        };
        if !tokens.is_empty() {
            let ids: Vec<TokenId> = tokens.iter().map(|(_, id)| *id).collect();
            let valid = tokens::still_valid(db, &ids).await?;
            let ended = tokens.iter().filter(|(_, id)| !valid.contains(id));
            let callers = self.0.callers.lock();
            for of_caller in ended.filter_map(|(caller, _)| callers.get(caller)) {
                of_caller.end.cancel();
            }
        }
        self.0.metrics.set_active_conversations(workspace::count_of_all(db).await?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::role::Role;

    #[test]
    fn limits_slots_per_process_tenant_and_caller() {
        let settings = Settings { max_streams: 3, max_streams_per_caller: 2, ..Settings::default() };
        let metrics = Metrics::new("test", "test");
        let slots = StreamSlots::new(&settings, metrics.clone(), CancellationToken::new());
        let take = |tenant: &str, actor: &str| {
            let tenant = TenantId::parse(tenant).unwrap();
            slots.take(&Watcher { tenant, role: Role::Operator, actor: actor.to_owned(), until: None })
        };
        let mut held: Vec<StreamSlot> = (0..2).map(|_| take("acme", "one").unwrap()).collect();
        assert_eq!(take("acme", "one").unwrap_err(), NoSlot::CallerHasEnough);
        held.push(take("other", "one").unwrap());
        assert_eq!(take("acme", "third").unwrap_err(), NoSlot::ProcessIsFull);
        assert!(metrics.render().contains("flametree_workspace_stream_clients 3\n"));
        held.remove(0);
        assert_eq!(take("acme", "one").unwrap_err(), NoSlot::TenantHasEnough);
        held.push(take("third", "one").unwrap());
        held.clear();
        assert!(metrics.render().contains("flametree_workspace_stream_clients 0\n"));
        assert!(slots.0.callers.lock().is_empty());
    }
}
