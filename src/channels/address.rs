//! Decides whether a message may be sent to an address. The public internet and the networks of the operator are allowed.
//!
//! The rules only compare addresses. They use no DNS and open no connection. The forbidden ranges are the internal networks
//! of cloud providers and the ranges in the IANA special-purpose registries (RFC 6890 and its successors). These registries
//! include the IPv6 ranges that embed IPv4 addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(groups: [u16; 4], prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = groups;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

const fn v6_host(groups: [u16; 3], last: [u16; 2]) -> Ipv6Net {
    let [a, b, c] = groups;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, last[0], last[1]), 128)
}

/// IPv4 ranges that do not belong to the public internet.
const FORBIDDEN_V4: [Ipv4Net; 22] = [
    v4(0, 0, 0, 0, 8),       // this network
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // carrier-grade NAT and Alibaba Cloud's services
    v4(127, 0, 0, 0, 8),     // loopback
    v4(161, 26, 0, 0, 16),   // IBM Cloud's services
    v4(166, 8, 0, 0, 14),    // IBM Cloud's services
    v4(169, 254, 0, 0, 16),  // link-local
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 31, 196, 0, 24), // AS112
    v4(192, 52, 193, 0, 24), // automatic multicast tunnelling
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(192, 168, 0, 0, 16),  // private
    v4(192, 175, 48, 0, 24), // AS112
    v4(198, 18, 0, 0, 15),   // benchmarking
    v4(198, 51, 100, 0, 24), // documentation
    v4(199, 36, 153, 4, 30), // Google APIs: restricted.googleapis.com
    v4(199, 36, 153, 8, 30), // Google APIs: private.googleapis.com
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 4),     // multicast
    v4(240, 0, 0, 0, 4),     // reserved and broadcast
];

/// The only IPv6 range that is allocated for the public internet.
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// Ranges in [`GLOBAL_UNICAST`] that do not belong to the public internet.
const FORBIDDEN_V6: [Ipv6Net; 7] = [
    v6([0x2001, 0, 0, 0], 23),             // protocol assignments, including Teredo and ORCHIDv2
    v6([0x2001, 0xdb8, 0, 0], 32),         // documentation
    v6([0x2002, 0, 0, 0], 16),             // 6to4, which embeds any IPv4 address
    v6([0x2600, 0x2d00, 0x2, 0x1000], 64), // Google APIs: restricted.googleapis.com
    v6([0x2600, 0x2d00, 0x2, 0x2000], 64), // Google APIs: private.googleapis.com
    v6([0x2620, 0x4f, 0x8000, 0], 48),     // AS112
    v6([0x3fff, 0, 0, 0], 20),             // documentation
];

/// Addresses where cloud providers serve the credentials and metadata of a virtual machine. No setting allows them.
const METADATA_V4: [Ipv4Net; 8] = [
    v4(100, 100, 100, 200, 32), // Alibaba Cloud
    v4(168, 63, 129, 16, 32),   // Azure's platform, including the guest agent's secrets
    v4(169, 254, 0, 23, 32),    // Tencent Cloud
    v4(169, 254, 42, 42, 32),   // Scaleway
    v4(169, 254, 169, 254, 32), // AWS, Azure, Google Cloud, Oracle Cloud, IBM Cloud and others
    v4(169, 254, 170, 2, 32),   // containers at AWS (ECS)
    v4(169, 254, 170, 23, 32),  // pods at AWS (EKS)
    v4(192, 0, 0, 192, 32),     // Oracle Cloud, formerly
];

/// IPv6 addresses where cloud providers serve the credentials and metadata of a virtual machine.
const METADATA_V6: [Ipv6Net; 6] = [
    v6_host([0xfd00, 0x42, 0], [0, 0x42]),     // Scaleway
    v6_host([0xfd00, 0xec2, 0], [0, 0x23]),    // pods at AWS (EKS)
    v6_host([0xfd00, 0xec2, 0], [0, 0x254]),   // AWS
    v6_host([0xfd00, 0xa9fe, 0xa9fe], [0, 1]), // Akamai
    v6_host([0xfd20, 0xce, 0], [0, 0x254]),    // Google Cloud
    v6_host([0xfe80, 0, 0], [0xa9fe, 0xa9fe]), // OpenStack
];

/// The NAT64 prefix (RFC 6052). The last four bytes of an IPv6 address with this prefix are an IPv4 address.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);

/// Decides whether a message may be sent to an address.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    allowed_networks: Vec<IpNet>,
    denied_networks: Vec<IpNet>,
}

impl AddressRules {
    /// Allows the public internet and `allowed_networks`, except `denied_networks`.
    pub fn new(allowed_networks: Vec<IpNet>, denied_networks: Vec<IpNet>) -> Self {
        Self { allowed_networks, denied_networks }
    }

    /// True if a message may be sent to this address. If an IPv6 address is translated to IPv4 (IPv4-mapped, NAT64), the
    /// rules apply to the IPv4 address. The settings can list a network as IPv4 or IPv6.
    pub fn allow(&self, address: IpAddr) -> bool {
        let inside = embedded_v4(address).map(IpAddr::V4);
        let is_in = |networks: &[IpNet]| {
            networks.iter().any(|network| network.contains(&address) || inside.is_some_and(|ip| network.contains(&ip)))
        };
        let reached = inside.unwrap_or(address);
        !is_metadata(reached) && !is_in(&self.denied_networks) && (is_in(&self.allowed_networks) || is_public(reached))
    }
}

/// The IPv4 address to which networks translate this IPv6 address.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    if NAT64.contains(&address) {
        let [.., a, b, c, d] = address.octets();
        return Some(Ipv4Addr::new(a, b, c, d));
    }
    address.to_ipv4_mapped()
}

fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => METADATA_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => METADATA_V6.iter().any(|network| network.contains(&address)),
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !FORBIDDEN_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_UNICAST.contains(&address) && !FORBIDDEN_V6.iter().any(|network| network.contains(&address))
        }
    }
}
