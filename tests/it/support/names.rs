//! Look-ups of host names with answers of the test's choice, which are not kept.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use flametree_notify::channels::{Found, Lookup, LookupError};

/// What a name resolves to.
pub type Addresses = Result<Vec<IpAddr>, LookupError>;

/// A look-up that answers at once.
pub fn names(answer: impl Fn(&str) -> Addresses + Send + Sync + 'static) -> Lookup {
    slow_names(move |host| (Duration::ZERO, answer(host)))
}

/// A look-up that answers after a while.
pub fn slow_names(answer: impl Fn(&str) -> (Duration, Addresses) + Send + Sync + 'static) -> Lookup {
    Arc::new(move |host| {
        let (delay, found) = answer(host);
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            found.map(|addresses| Found { addresses, fresh_for: Duration::ZERO })
        })
    })
}

/// A look-up for which every name is this machine.
pub fn all_here() -> Lookup {
    names(|_host| Ok(vec![Ipv4Addr::LOCALHOST.into()]))
}
