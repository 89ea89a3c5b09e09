//! Lookups of host names without a cache, with results set by the test.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use flametree_notify::channels::{Found, Lookup, LookupError};

pub type Addresses = Result<Vec<IpAddr>, LookupError>;

pub fn names(answer: impl Fn(&str) -> Addresses + Send + Sync + 'static) -> Lookup {
    slow_names(move |host| (Duration::ZERO, answer(host)))
}

pub fn slow_names(answer: impl Fn(&str) -> (Duration, Addresses) + Send + Sync + 'static) -> Lookup {
    Arc::new(move |host| {
        let (delay, found) = answer(host);
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            found.map(|addresses| Found { addresses, fresh_for: Duration::ZERO })
        })
    })
}

/// A lookup that resolves every name to this machine.
pub fn all_here() -> Lookup {
    names(|_host| Ok(vec![Ipv4Addr::LOCALHOST.into()]))
}
