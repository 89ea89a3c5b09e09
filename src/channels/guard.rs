//! Checks every address that a message could be sent to. Logs and counts each blocked address.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::address::AddressRules;
use crate::telemetry::metrics::{BlockReason, Metrics};

/// A blocked address. It appears only in the operator's log, never in a message to the customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host has the address {0}, which is not allowed")]
pub(super) struct Forbidden(IpAddr);

#[derive(Debug)]
pub(super) struct Guard {
    rules: AddressRules,
    metrics: Metrics,
}

impl Guard {
    pub(super) fn new(rules: AddressRules, metrics: Metrics) -> Self {
        Self { rules, metrics }
    }

    /// Checks a URL whose host is a literal address, because the connector does not resolve such hosts. The URL parser has
    /// normalized every notation (`0x7f.1`, `2130706433`, ...).
    pub(super) fn judge_literal(&self, url: &Url) -> Result<(), Forbidden> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        self.judge(url.host_str(), &[address], BlockReason::Literal)
    }

    /// Checks the addresses of a host name. One forbidden address blocks the name, because the name server chooses the
    /// order of the addresses.
    pub(super) fn judge_resolved(&self, host: &str, addresses: &[IpAddr]) -> Result<(), Forbidden> {
        self.judge(Some(host), addresses, BlockReason::Resolved)
    }

    /// Checks the peer's address again after connecting. This check should never fail. If it fails, the metric of blocked
    /// addresses counts the failure.
    pub(super) fn judge_peer(&self, url: &Url, peer: Option<SocketAddr>) -> Result<(), Forbidden> {
        peer.map_or(Ok(()), |peer| self.judge(url.host_str(), &[peer.ip()], BlockReason::Peer))
    }

    fn judge(&self, host: Option<&str>, addresses: &[IpAddr], reason: BlockReason) -> Result<(), Forbidden> {
        let Some(&address) = addresses.iter().find(|&&address| !self.rules.allow(address)) else { return Ok(()) };
        tracing::warn!(host, %address, met = <&str>::from(reason), "a host has an address that is not allowed");
        self.metrics.address_blocked(reason);
        Err(Forbidden(address))
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn counts_blocked_addresses_by_reason() {
        let metrics = Metrics::new("1", "a");
        let guard = Guard::new(AddressRules::new(vec!["127.0.0.1/32".parse().unwrap()], Vec::new()), metrics.clone());
        let url = |text| Url::parse(text).unwrap();
        let [good, bad]: [IpAddr; 2] = ["127.0.0.1", "127.0.0.2"].map(|text| text.parse().unwrap());
        assert_eq!(guard.judge_literal(&url("https://127.0.0.1/")), Ok(()));
        assert_eq!(guard.judge_literal(&url("https://a.test/")), Ok(()));
        assert_eq!(guard.judge_literal(&url("https://0x7f.2/")), Err(Forbidden(bad)));
        assert_eq!(guard.judge_resolved("a.test", &[good]), Ok(()));
        assert_eq!(guard.judge_resolved("a.test", &[good, bad, bad]), Err(Forbidden(bad)));
        assert_eq!(guard.judge_peer(&url("https://a.test/"), None), Ok(()));
        assert_eq!(guard.judge_peer(&url("https://a.test/"), Some((good, 1).into())), Ok(()));
        assert_eq!(guard.judge_peer(&url("https://a.test/"), Some((bad, 1).into())), Err(Forbidden(bad)));
        let text = metrics.render();
        for reason in BlockReason::VARIANTS {
            let series = format!("flametree_blocked_addresses_total{{reason=\"{}\"}} 1\n", <&str>::from(reason));
            assert!(text.contains(&series), "{text}");
        }
    }
}
