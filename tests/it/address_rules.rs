//! Which addresses are public: every edge of every range, and the forms that embed an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flametree_notify::channels::address::AddressRules;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

/// Written down apart from the code: first and last address of each forbidden IPv4 range.
const FORBIDDEN_V4: [(&str, &str); 15] = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "239.255.255.255"),
    ("240.0.0.0", "255.255.255.255"),
];

const FORBIDDEN_V6: [(&str, &str); 11] = [
    ("100::", "100::ffff:ffff:ffff:ffff"),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:2::", "2001:2:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
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

fn public(address: impl Into<IpAddr>) -> bool {
    AddressRules::default().allow(address.into())
}

fn v4(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits)
}

/// An IPv6 address with an IPv4 address in its last four bytes.
fn embed(prefix: &str, inside: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.parse::<Ipv6Addr>().unwrap().to_bits() | u128::from(inside.to_bits()))
}

#[test]
fn each_forbidden_range_ends_where_it_should() {
    for (first, last) in ranges_v4() {
        assert!(!public(v4(first)) && !public(v4(last)), "{}", v4(first));
        for neighbour in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
            assert_eq!(public(v4(neighbour)), !forbidden_v4(neighbour), "{}", v4(neighbour));
        }
    }
    let ranges = ranges_v6();
    let address = Ipv6Addr::from_bits;
    let with_exceptions = ["::/8", "2001::/23"].map(|text| text.parse::<Ipv6Net>().unwrap());
    for &(first, last) in &ranges {
        assert!(!public(address(first)) && !public(address(last)), "{}", address(first));
        for neighbour in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
            // Those have tests of their own.
            if !with_exceptions.iter().any(|network| network.contains(&address(neighbour))) {
                let inside = ranges.iter().any(|&(first, last)| (first..=last).contains(&neighbour));
                assert_eq!(public(address(neighbour)), !inside, "{}", address(neighbour));
            }
        }
    }
}

#[test]
fn the_first_eighth_of_ipv6_is_open_only_through_ipv4_forms() {
    for (text, expected) in [
        ("::", false),
        ("::1", false),
        ("::8.8.8.8", false),
        ("ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ("100:0:0:1::", true),
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
fn the_global_parts_of_the_protocol_assignments_are_open() {
    for (text, expected) in [
        ("2001:1::1", true),
        ("2001:1::2", true),
        ("2001:1::3", true),
        ("2001:1::4", false),
        ("2001:1::", false),
        ("2001:3::1", true),
        ("2001:4:112::1", true),
        ("2001:4:113::", false),
        ("2001:10::1", false),
        ("2001:20::1", true),
        ("2001:2f:ffff::", true),
        ("2001:30::1", true),
        ("2001:40::", false),
        ("2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ("2001:200::", true),
        ("2606:4700::1111", true),
        ("fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
    ] {
        assert_eq!(public(text.parse::<Ipv6Addr>().unwrap()), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn an_ipv4_address_is_public_unless_it_is_in_a_range(bits: u32) {
        prop_assert_eq!(public(v4(bits)), !forbidden_v4(bits));
    }

    #[test]
    fn addresses_near_an_edge_are_judged_right(range in 0..FORBIDDEN_V4.len(), last: bool, offset in -3_i64..=3) {
        let (first, end) = ranges_v4()[range];
        let bits = i64::from(if last { end } else { first }) + offset;
        if let Ok(bits) = u32::try_from(bits) {
            prop_assert_eq!(public(v4(bits)), !forbidden_v4(bits));
        }
    }

    #[test]
    fn forms_that_networks_translate_have_the_verdict_of_the_address_inside(bits: u32) {
        let inside = v4(bits);
        prop_assert_eq!(public(inside.to_ipv6_mapped()), public(inside));
        prop_assert_eq!(public(embed("64:ff9b::", inside)), public(inside));
    }

    #[test]
    fn forms_that_relays_translate_are_closed(bits: u32, rest: u64) {
        let six_to_four = (0x2002_u128 << 112) | (u128::from(bits) << 80) | u128::from(rest);
        prop_assert!(!public(Ipv6Addr::from_bits(six_to_four)));
        let teredo = (0x2001_0000_u128 << 96) | (u128::from(rest) << 32) | u128::from(bits);
        prop_assert!(!public(Ipv6Addr::from_bits(teredo)));
        prop_assert!(!public(embed("64:ff9b:1::", v4(bits))));
        prop_assert!(!public(embed("::", v4(bits))));
    }

    #[test]
    fn every_address_of_a_forbidden_ipv6_range_is_closed(range in 0..FORBIDDEN_V6.len(), offset: u128) {
        let (first, last) = ranges_v6()[range];
        let bits = first + (offset % (last - first));
        prop_assert!(!public(Ipv6Addr::from_bits(bits)));
    }

    #[test]
    fn an_opened_network_opens_itself_alone(bits: u32, prefix in 8_u8..=32, other: u32) {
        let network = Ipv4Net::new(v4(bits), prefix).unwrap();
        let rules = AddressRules::new(vec![IpNet::V4(network)]);
        prop_assert!(rules.allow(v4(bits).into()));
        prop_assert!(rules.allow(v4(bits).to_ipv6_mapped().into()));
        let expected = network.contains(&v4(other)) || !forbidden_v4(other);
        prop_assert_eq!(rules.allow(v4(other).into()), expected);
    }
}
