//! Which addresses a message may go to: the public internet, and what the operator opened.
//!
//! Pure rules over addresses; nothing is resolved or connected here. The ranges are those of the IANA special-purpose
//! registries (RFC 6890 and its successors) that are not globally reachable, with every form that embeds an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(groups: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(groups[0], groups[1], groups[2], 0, 0, 0, 0, 0), prefix)
}

const fn v6_host(groups: [u16; 2], last: u16) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(groups[0], groups[1], 0, 0, 0, 0, 0, last), 128)
}

/// IPv4 ranges that are not the public internet.
const FORBIDDEN_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 8),       // this network
    v4(10, 0, 0, 8),      // private
    v4(100, 64, 0, 10),   // carrier-grade NAT, also some clouds' metadata
    v4(127, 0, 0, 8),     // loopback
    v4(169, 254, 0, 16),  // link-local, the clouds' metadata
    v4(172, 16, 0, 12),   // private
    v4(192, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 24),    // documentation
    v4(192, 88, 99, 24),  // 6to4 relays
    v4(192, 168, 0, 16),  // private
    v4(198, 18, 0, 15),   // benchmarking
    v4(198, 51, 100, 24), // documentation
    v4(203, 0, 113, 24),  // documentation
    v4(224, 0, 0, 4),     // multicast
    v4(240, 0, 0, 4),     // reserved, and broadcast
];

/// IPv6 ranges that are not the public internet, save for the exceptions below.
const FORBIDDEN_V6: [Ipv6Net; 11] = [
    v6([0, 0, 0], 8),           // unspecified, loopback, IPv4-compatible, local NAT64 (64:ff9b:1::/48)
    v6([0x100, 0, 0], 64),      // discard
    v6([0x2001, 0, 0], 23),     // protocol assignments, Teredo
    v6([0x2001, 0xdb8, 0], 32), // documentation
    v6([0x2002, 0, 0], 16),     // 6to4: any IPv4 address inside
    v6([0x3fff, 0, 0], 20),     // documentation
    v6([0x5f00, 0, 0], 16),     // segment routing
    v6([0xfc00, 0, 0], 7),      // unique local
    v6([0xfe80, 0, 0], 10),     // link-local
    v6([0xfec0, 0, 0], 10),     // site-local, deprecated
    v6([0xff00, 0, 0], 8),      // multicast
];

/// The parts of `2001::/23` that the registry calls globally reachable.
const GLOBAL_IN_2001: [Ipv6Net; 7] = [
    v6_host([0x2001, 1], 1),    // port control protocol anycast
    v6_host([0x2001, 1], 2),    // TURN anycast
    v6_host([0x2001, 1], 3),    // DNS service registration anycast
    v6([0x2001, 3, 0], 32),     // automatic multicast tunnelling
    v6([0x2001, 4, 0x112], 48), // AS112
    v6([0x2001, 0x20, 0], 28),  // ORCHIDv2
    v6([0x2001, 0x30, 0], 28),  // drone remote identification
];

/// RFC 6052: the IPv4 address stands in the last four bytes.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0], 96);

/// Decides whether an address may be reached.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    allowed_networks: Vec<IpNet>,
}

impl AddressRules {
    /// The public internet and these networks.
    pub fn new(allowed_networks: Vec<IpNet>) -> Self {
        Self { allowed_networks }
    }

    /// Whether a message may go to this address. An address that embeds an IPv4 address in a form that networks
    /// translate (IPv4-mapped, NAT64) has the verdict of the one inside.
    pub fn allow(&self, address: IpAddr) -> bool {
        let opened = |address: IpAddr| self.allowed_networks.iter().any(|network| network.contains(&address));
        if opened(address) {
            return true;
        }
        match embedded_v4(address) {
            Some(inside) => opened(IpAddr::V4(inside)) || is_public_v4(inside),
            None => is_public(address),
        }
    }
}

/// The IPv4 address that such an address reaches.
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

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let within = |networks: &[Ipv6Net]| networks.iter().any(|network| network.contains(&address));
            within(&GLOBAL_IN_2001) || !within(&FORBIDDEN_V6)
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !FORBIDDEN_V4.iter().any(|network| network.contains(&address))
}
