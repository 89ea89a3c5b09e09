//! Tests which addresses are public, including the limits of every forbidden range and IPv6 addresses that embed an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flametree_notify::channels::address::AddressRules;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

/// The first and the last address of each forbidden IPv4 range. The list does not use the constants of the code.
const FORBIDDEN_V4: [(&str, &str); 22] = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("161.26.0.0", "161.26.255.255"),
    ("166.8.0.0", "166.11.255.255"),
    ("168.63.129.16", "168.63.129.16"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.31.196.0", "192.31.196.255"),
    ("192.52.193.0", "192.52.193.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("192.175.48.0", "192.175.48.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("199.36.153.4", "199.36.153.11"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "239.255.255.255"),
    ("240.0.0.0", "255.255.255.255"),
];

/// The first and the last address of each forbidden IPv6 range. In these ranges, only addresses that embed IPv4 can be public.
const FORBIDDEN_V6: [(&str, &str); 9] = [
    ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2600:2d00:2:1000::", "2600:2d00:2:1000:ffff:ffff:ffff:ffff"),
    ("2600:2d00:2:2000::", "2600:2d00:2:2000:ffff:ffff:ffff:ffff"),
    ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
];

/// Addresses at which cloud providers serve metadata and credentials.
const METADATA: [&str; 14] = [
    "100.100.100.200",
    "168.63.129.16",
    "169.254.0.23",
    "169.254.42.42",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "192.0.0.192",
    "fd00:42::42",
    "fd00:ec2::23",
    "fd00:ec2::254",
    "fd00:a9fe:a9fe::1",
    "fd20:ce::254",
    "fe80::a9fe:a9fe",
];

fn ranges_v4() -> Vec<(u32, u32)> {
    let bits = |text: &str| text.parse::<Ipv4Addr>().unwrap().to_bits();
    FORBIDDEN_V4.iter().map(|(first, last)| (bits(first), bits(last))).collect()
}

fn ranges_v6() -> Vec<(u128, u128)> {
    let bits = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
    FORBIDDEN_V6.iter().map(|(first, last)| (bits(first), bits(last))).collect()
}

fn forbidden_v4(bits: u32) -> bool {
    ranges_v4().iter().any(|&(first, last)| (first..=last).contains(&bits))
}

/// True if the address is in a forbidden IPv6 range. The address must not embed an IPv4 address.
fn forbidden_v6(bits: u128) -> bool {
    ranges_v6().iter().any(|&(first, last)| (first..=last).contains(&bits))
}

fn metadata(address: impl Into<IpAddr>) -> bool {
    let address = address.into();
    METADATA.iter().any(|text| text.parse::<IpAddr>().unwrap() == address)
}

fn everything() -> Vec<IpNet> {
    ["0.0.0.0/0", "::/0"].map(|text| text.parse().unwrap()).to_vec()
}

fn public(address: impl Into<IpAddr>) -> bool {
    AddressRules::default().allow(address.into())
}

fn v4(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits)
}

/// The IPv6 address that starts with this prefix and contains the IPv4 address in the last four bytes.
fn embed(prefix: &str, inside: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.parse::<Ipv6Addr>().unwrap().to_bits() | u128::from(inside.to_bits()))
}

#[test]
fn each_forbidden_range_starts_and_ends_at_the_right_address() {
    for (first, last) in ranges_v4() {
        assert!(!public(v4(first)) && !public(v4(last)), "{}", v4(first));
        for neighbour in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
            assert_eq!(public(v4(neighbour)), !forbidden_v4(neighbour), "{}", v4(neighbour));
        }
    }
    let ranges = ranges_v6();
    let address = Ipv6Addr::from_bits;
    for &(first, last) in &ranges {
        assert!(!public(address(first)) && !public(address(last)), "{}", address(first));
        for neighbour in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
            assert_eq!(public(address(neighbour)), !forbidden_v6(neighbour), "{}", address(neighbour));
        }
    }
}

#[test]
fn ipv6_addresses_below_2000_are_public_only_if_they_embed_ipv4() {
    for (text, expected) in [
        ("::", false),
        ("::1", false),
        ("::8.8.8.8", false),
        ("ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ("100:0:0:1::", false),
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b::127.0.0.1", false),
        ("64:ff9b::ffff:ffff", false),
        ("64:ff9b:0:0:0:1::", false),
        ("64:ff9b:1::8.8.8.8", false),
        ("64:ff9a:ffff:ffff:ffff:ffff:808:808", false),
        ("::ffff:8.8.8.8", true),
        ("::ffff:127.0.0.1", false),
        ("::fffe:8.8.8.8", false),
        ("::1:0:0:0", false),
        ("::ffff:0:8.8.8.8", false),
    ] {
        assert_eq!(public(text.parse::<Ipv6Addr>().unwrap()), expected, "{text}");
    }
}

#[test]
fn only_global_unicast_ipv6_addresses_are_public() {
    for (text, expected) in [
        ("200::1", false),
        ("1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ("2000::", true),
        ("2001:1::1", false),
        ("2001:3::1", false),
        ("2001:4:112::1", false),
        ("2001:20::1", false),
        ("2001:30::1", false),
        ("2001:200::", true),
        ("2606:4700::1111", true),
        ("2620:4f:7fff::1", true),
        ("2620:4f:8000::1", false),
        ("2620:4f:8001::1", true),
        ("3fff:1000::", true),
        ("4000::1", false),
        ("8000::1", false),
        ("fe00::1", false),
    ] {
        assert_eq!(public(text.parse::<Ipv6Addr>().unwrap()), expected, "{text}");
    }
}

#[test]
fn no_setting_allows_a_metadata_service() {
    let opened = AddressRules::new(everything(), Vec::new());
    for text in METADATA {
        let address: IpAddr = text.parse().unwrap();
        assert!(!opened.allow(address) && !public(address), "{text}");
        let IpAddr::V4(inside) = address else { continue };
        for translated in [inside.to_ipv6_mapped(), embed("64:ff9b::", inside)] {
            assert!(!opened.allow(translated.into()), "{translated}");
        }
    }
}

/// True for a NAT64 or IPv4-mapped address that embeds a public IPv4 address.
fn embeds_public(bits: u128) -> bool {
    let address = Ipv6Addr::from_bits(bits);
    let nat64: Ipv6Net = "64:ff9b::/96".parse().unwrap();
    let inside = v4(u32::try_from(bits & 0xffff_ffff).unwrap());
    (address.to_ipv4_mapped().is_some() || nat64.contains(&address)) && public(inside)
}

proptest! {
    #[test]
    fn an_ipv4_address_is_public_unless_it_is_in_a_forbidden_range(bits: u32) {
        prop_assert_eq!(public(v4(bits)), !forbidden_v4(bits));
    }

    #[test]
    fn classifies_ipv4_addresses_near_range_limits(range in 0..FORBIDDEN_V4.len(), last: bool, offset in -3_i64..=3) {
        let (first, end) = ranges_v4()[range];
        let bits = i64::from(if last { end } else { first }) + offset;
        if let Ok(bits) = u32::try_from(bits) {
            prop_assert_eq!(public(v4(bits)), !forbidden_v4(bits));
        }
    }

    #[test]
    fn nat64_and_mapped_addresses_are_public_if_the_embedded_address_is_public(bits: u32) {
        let inside = v4(bits);
        prop_assert_eq!(public(inside.to_ipv6_mapped()), public(inside));
        prop_assert_eq!(public(embed("64:ff9b::", inside)), public(inside));
    }

    #[test]
    fn addresses_of_6to4_teredo_and_local_nat64_are_forbidden(bits: u32, rest: u64) {
        let six_to_four = (0x2002_u128 << 112) | (u128::from(bits) << 80) | u128::from(rest);
        prop_assert!(!public(Ipv6Addr::from_bits(six_to_four)));
        let teredo = (0x2001_0000_u128 << 96) | (u128::from(rest) << 32) | u128::from(bits);
        prop_assert!(!public(Ipv6Addr::from_bits(teredo)));
        prop_assert!(!public(embed("64:ff9b:1::", v4(bits))));
        prop_assert!(!public(embed("::", v4(bits))));
    }

    #[test]
    fn every_address_of_a_forbidden_ipv6_range_is_forbidden(range in 0..FORBIDDEN_V6.len(), offset: u128) {
        let (first, last) = ranges_v6()[range];
        let bits = first + (offset % (last - first));
        prop_assert!(!public(Ipv6Addr::from_bits(bits)) || embeds_public(bits));
    }

    #[test]
    fn an_ipv6_address_is_public_only_if_it_is_global_unicast_and_not_forbidden(bits: u128, high in 0_u16..) {
        let bits = (bits >> 16) | (u128::from(high) << 112);
        prop_assert_eq!(public(Ipv6Addr::from_bits(bits)), !forbidden_v6(bits) || embeds_public(bits));
    }

    #[test]
    fn classifies_ipv6_addresses_near_range_limits(range in 0..FORBIDDEN_V6.len(), last: bool, offset in 0_u128..4) {
        let (first, end) = ranges_v6()[range];
        let edge = if last { end } else { first };
        for bits in [edge.checked_sub(offset), edge.checked_add(offset)].into_iter().flatten() {
            prop_assert_eq!(public(Ipv6Addr::from_bits(bits)), !forbidden_v6(bits), "{:x}", bits);
        }
    }

    #[test]
    fn an_allowed_network_allows_no_other_address(bits: u32, prefix in 8_u8..=32, other: u32) {
        let network = Ipv4Net::new(v4(bits), prefix).unwrap();
        let rules = AddressRules::new(vec![IpNet::V4(network)], Vec::new());
        prop_assert_eq!(rules.allow(v4(bits).into()), !metadata(v4(bits)));
        prop_assert_eq!(rules.allow(v4(bits).to_ipv6_mapped().into()), !metadata(v4(bits)));
        let expected = !metadata(v4(other)) && (network.contains(&v4(other)) || !forbidden_v4(other));
        prop_assert_eq!(rules.allow(v4(other).into()), expected);
    }

    #[test]
    fn a_denied_network_stays_forbidden_even_if_it_is_also_allowed(bits: u32, prefix in 8_u8..=32, other: u32) {
        let network = Ipv4Net::new(v4(bits), prefix).unwrap();
        let rules = AddressRules::new(everything(), vec![IpNet::V4(network)]);
        for closed in [bits, network.network().to_bits(), network.broadcast().to_bits()].map(v4) {
            prop_assert!(!rules.allow(closed.into()));
            prop_assert!(!rules.allow(closed.to_ipv6_mapped().into()));
            prop_assert!(!rules.allow(embed("64:ff9b::", closed).into()));
        }
        prop_assert_eq!(rules.allow(v4(other).into()), !network.contains(&v4(other)) && !metadata(v4(other)));
    }

    #[test]
    fn a_denied_ipv6_network_stays_forbidden_even_if_it_is_also_allowed(bits: u128, prefix in 0_u8..=128, offset: u128) {
        let network = Ipv6Net::new(Ipv6Addr::from_bits(bits), prefix).unwrap();
        let rules = AddressRules::new(everything(), vec![IpNet::V6(network)]);
        let hosts = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let inside = Ipv6Addr::from_bits(network.network().to_bits() | (offset & hosts));
        prop_assert!(network.contains(&inside) && !rules.allow(inside.into()));
    }
}
