//! Credentials that were wrong, counted by the address that they came from: guessing must not pay, nor keep the
//! database busy.
//!
//! Wrong credentials of an address with too many of them are answered by 429. Valid ones are accepted: users behind one proxy
//! or one NAT have the same address. Unknown tokens of such an address share a small number of look-ups.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::problem::{Problem, ProblemCode};

/// How long wrong credentials are counted, from the first one on.
const WINDOW: Duration = Duration::from_secs(10);
/// How many addresses are told apart in that time; the ones beyond share a count, so that memory has a bound.
const ADDRESSES: usize = 10_000;
const EVERYBODY_ELSE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The address that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer(pub(super) IpAddr);

impl Peer {
    /// Whom to count as one: a customer's network of IPv6 has 64 bits for its hosts.
    pub(super) fn counted(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address @ IpAddr::V4(_) => address,
        }
    }
}

#[derive(Debug)]
pub(super) struct AuthThrottle {
    most: u32,
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    began_at: Instant,
    wrong: HashMap<IpAddr, u32>,
}

impl AuthThrottle {
    /// `most` wrong credentials of an address in ten seconds are answered as such.
    pub(super) fn new(most: u32) -> Self {
        Self { most, window: Mutex::new(None) }
    }

    /// 429 for an address that has guessed too often.
    pub(super) fn check(&self, peer: Peer, now: Instant) -> Result<(), Problem> {
        match &*self.window() {
            Some(window) if window.wrong.get(&window.key(peer)).is_some_and(|wrong| *wrong >= self.most) => {
                window.wait(now).map_or(Ok(()), |wait| Err(too_many(wait)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Counts a wrong credential; the answer is `refused`, or 429 once there have been too many.
    pub(super) fn wrong(&self, peer: Peer, now: Instant, refused: Problem) -> Problem {
        if let Err(too_many) = self.check(peer, now) {
            return too_many;
        }
        let mut current = self.window();
        let window = match current.take() {
            Some(window) if window.wait(now).is_some() => window,
            Some(_) | None => Window { began_at: now, wrong: HashMap::new() },
        };
        let window = current.insert(window);
        let address = window.key(peer);
        let wrong = window.wrong.entry(address).or_default();
        *wrong += 1;
        if *wrong == self.most {
            tracing::warn!(client.address = %address, wrong, "an address shows one wrong credential after the other");
        }
        refused
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Option<Window>> {
        // Counts are counts, even if somebody panicked beside them.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// How long the window goes on; `None`: it is over.
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
    fn an_address_may_be_wrong_so_often_and_then_waits_for_the_window_to_end() {
        let (auth_throttle, start) = (AuthThrottle::new(2), Instant::now());
        let wrong = |from: &str, now| auth_throttle.wrong(peer(from), now, refused()).code();
        assert_eq!(wrong("192.0.2.1", start), ProblemCode::Unauthorized);
        assert!(auth_throttle.check(peer("192.0.2.1"), start).is_ok());
        assert_eq!(wrong("::ffff:192.0.2.1", start), ProblemCode::Unauthorized);
        assert_eq!(wrong("192.0.2.1", start), ProblemCode::RateLimited);
        assert_eq!(auth_throttle.check(peer("192.0.2.1"), start).unwrap_err().code(), ProblemCode::RateLimited);
        assert!(auth_throttle.check(peer("192.0.2.2"), start).is_ok(), "another address is another matter");
        let over = start + WINDOW;
        assert!(auth_throttle.check(peer("192.0.2.1"), over).is_ok());
        assert_eq!(wrong("192.0.2.1", over), ProblemCode::Unauthorized);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let (auth_throttle, now) = (AuthThrottle::new(1), Instant::now());
        auth_throttle.wrong(peer("2001:db8:0:1::1"), now, refused());
        assert!(auth_throttle.check(peer("2001:db8:0:1:ffff::2"), now).is_err());
        assert!(auth_throttle.check(peer("2001:db8:0:2::1"), now).is_ok());
    }

    #[test]
    fn a_crowd_of_addresses_shares_a_count() {
        let (auth_throttle, now) = (AuthThrottle::new(3), Instant::now());
        for number in 0..u32::try_from(ADDRESSES).unwrap() + 3 {
            auth_throttle.wrong(Peer(Ipv4Addr::from(0x0a00_0000 + number).into()), now, refused());
        }
        assert!(auth_throttle.check(peer("203.0.113.9"), now).is_err());
        assert!(auth_throttle.check(peer("10.0.0.1"), now).is_ok());
        assert_eq!(auth_throttle.window().as_ref().unwrap().wrong.len(), ADDRESSES + 1);
    }
}
