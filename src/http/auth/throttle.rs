//! Counts wrong credentials per client address, so that guessing neither succeeds nor overloads the database.
//!
//! An address over the limit gets 429 for wrong credentials. Valid credentials still work, because users behind a proxy or NAT
//! share an address. Lookups of unknown tokens from addresses over the limit share a small quota.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::http::request::problem::{Problem, ProblemCode};

/// The counting period. It starts at the first wrong credential.
const WINDOW: Duration = Duration::from_secs(10);
/// Maximum number of addresses with their own counter. Further addresses share one counter, so that memory stays bounded.
const ADDRESSES: usize = 10_000;
/// The prefix length of the IPv6 network that counts as one address, in bits.
const IPV6_NETWORK_BITS: u32 = 56;
const EVERYBODY_ELSE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The client address of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Peer {
    /// The counted address: an IPv4 address, or the /56 network of an IPv6 address. A /64 network would be too small, because
    /// many customers have a whole /56.
    pub(crate) fn counted(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << (128 - IPV6_NETWORK_BITS));
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address @ IpAddr::V4(_) => address,
        }
    }
}

#[derive(Debug)]
pub(crate) struct AuthThrottle {
    most: u32,
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    began_at: Instant,
    wrong: HashMap<IpAddr, u32>,
}

impl AuthThrottle {
    /// After `most` wrong credentials in a period, an address gets 429.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, window: Mutex::new(None) }
    }

    /// Returns 429 for an address over the limit.
    pub(crate) fn check(&self, peer: Peer, now: Instant) -> Result<(), Problem> {
        match &*self.window.lock() {
            Some(window) if window.wrong.get(&window.key(peer)).is_some_and(|wrong| *wrong >= self.most) => {
                window.wait(now).map_or(Ok(()), |wait| Err(too_many(wait)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Counts a wrong credential. Returns `refused`, or 429 if the address is over the limit.
    pub(crate) fn wrong(&self, peer: Peer, now: Instant, refused: Problem) -> Problem {
        if let Err(too_many) = self.check(peer, now) {
            return too_many;
        }
        let mut current = self.window.lock();
        let window = match current.take() {
            Some(window) if window.wait(now).is_some() => window,
            Some(_) | None => Window { began_at: now, wrong: HashMap::new() },
        };
        let window = current.insert(window);
        let address = window.key(peer);
        let wrong = window.wrong.entry(address).or_default();
        *wrong += 1;
        if *wrong == self.most {
            tracing::warn!(client.address = %address, wrong, "an address sent too many wrong credentials");
        }
        refused
    }
}

impl Window {
    /// Time until the period ends; `None` if the period has ended.
    fn wait(&self, now: Instant) -> Option<Duration> {
        WINDOW.checked_sub(now.duration_since(self.began_at)).filter(|wait| !wait.is_zero())
    }

    fn key(&self, peer: Peer) -> IpAddr {
        let address = peer.counted();
        if self.wrong.len() < ADDRESSES || self.wrong.contains_key(&address) { address } else { EVERYBODY_ELSE }
    }
}

fn too_many(wait: Duration) -> Problem {
    Problem::new(ProblemCode::RateLimited).detail("too many wrong credentials from this address").retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer(text.parse().unwrap())
    }

    fn refused() -> Problem {
        Problem::new(ProblemCode::Unauthorized)
    }

    #[test]
    fn limits_wrong_credentials_per_address_until_the_period_ends() {
        let (auth_throttle, start) = (AuthThrottle::new(2), Instant::now());
        let wrong = |from: &str, now| auth_throttle.wrong(peer(from), now, refused()).code();
        assert_eq!(wrong("192.0.2.1", start), ProblemCode::Unauthorized);
        assert!(auth_throttle.check(peer("192.0.2.1"), start).is_ok());
        assert_eq!(wrong("::ffff:192.0.2.1", start), ProblemCode::Unauthorized);
        assert_eq!(wrong("192.0.2.1", start), ProblemCode::RateLimited);
        assert_eq!(auth_throttle.check(peer("192.0.2.1"), start).unwrap_err().code(), ProblemCode::RateLimited);
        assert!(auth_throttle.check(peer("192.0.2.2"), start).is_ok(), "other addresses are not affected");
        let over = start + WINDOW;
        assert!(auth_throttle.check(peer("192.0.2.1"), over).is_ok());
        assert_eq!(wrong("192.0.2.1", over), ProblemCode::Unauthorized);
    }

    #[test]
    fn counts_an_ipv6_network_as_one_address() {
        let (auth_throttle, now) = (AuthThrottle::new(1), Instant::now());
        auth_throttle.wrong(peer("2001:db8:0:100::1"), now, refused());
        assert!(auth_throttle.check(peer("2001:db8:0:1ff:ffff::2"), now).is_err());
        assert!(auth_throttle.check(peer("2001:db8:0:200::1"), now).is_ok());
    }

    #[test]
    fn addresses_without_their_own_counter_share_one_counter() {
        let (auth_throttle, now) = (AuthThrottle::new(3), Instant::now());
        for number in 0..u32::try_from(ADDRESSES).unwrap() + 3 {
            auth_throttle.wrong(Peer(Ipv4Addr::from(0x0a00_0000 + number).into()), now, refused());
        }
        assert!(auth_throttle.check(peer("203.0.113.9"), now).is_err());
        assert!(auth_throttle.check(peer("10.0.0.1"), now).is_ok());
        assert_eq!(auth_throttle.window.lock().as_ref().unwrap().wrong.len(), ADDRESSES + 1);
    }
}
