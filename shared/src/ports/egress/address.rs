//! Which addresses may be called: the ranges that are not public, and the networks that the configuration allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::kernel::{Code, Error, Result};

/// The environment variable that lists the allowed networks. This module never reads it, but names it in messages.
pub const ALLOW_VARIABLE: &str = "CHATIA_EGRESS_ALLOW";

/// A network, such as `127.0.0.0/8` or `::1/128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(a: u16, b: u16, bits: u8) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0)), bits }
    }

    /// Reads `address/bits`; an address alone is a network of one.
    ///
    /// # Errors
    /// `not_configured` with a message for whoever wrote the configuration: not an address, too many bits, or an
    /// address inside its network (`10.1.2.3/8`), which would allow far more than it seems to.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let message = format!("{ALLOW_VARIABLE}: \"{text}\" {why}, as in 127.0.0.0/8,::1");
            Error::with_message(Code::NotConfigured, message)
        };
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let base: IpAddr = address.parse().map_err(|_| bad("is not an IP network: write address/bits"))?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            // `u8::from_str` takes a plus sign; nobody writes a network so.
            Some(bits) if bits.starts_with('+') => return Err(bad("has no number of bits")),
            Some(bits) => bits.parse().map_err(|_| bad("has no number of bits"))?,
        };
        if bits > width {
            return Err(bad("has more bits than an address"));
        }
        if matches!(base, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(bad("is an IPv4 network written as IPv6: write it as IPv4"));
        }
        let network = Self { base, bits };
        if network.has_host_bits() {
            return Err(bad("is an address inside a network: write the network's first address"));
        }
        Ok(network)
    }

    /// Reads a comma-separated list, as the environment variable has it. Empty parts are skipped.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Self::parse).collect()
    }

    /// Whether the address is in this network. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (base, width) = number(self.base);
        let (address, other) = number(address.to_canonical());
        width == other && same_prefix(base, address, width - u32::from(self.bits))
    }

    fn has_host_bits(&self) -> bool {
        let (base, width) = number(self.base);
        let free = width - u32::from(self.bits);
        // With 128 free bits every bit is a host bit; a plain shift by 128 would overflow.
        base & !u128::MAX.checked_shl(free).unwrap_or(0) != 0
    }
}

/// The address as a number, and how many bits it has.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

fn same_prefix(left: u128, right: u128, free: u32) -> bool {
    (left ^ right).checked_shr(free).unwrap_or(0) == 0
}

/// What IPv4 keeps for itself (IANA's special-purpose registry, RFC 6890), and one metadata address outside of it.
const CLOSED_V4: &[Cidr] = &[
    Cidr::v4(0, 0, 0, 0, 8),        // this network, unspecified
    Cidr::v4(10, 0, 0, 0, 8),       // private
    Cidr::v4(100, 64, 0, 0, 10),    // carrier-grade NAT; a cloud's metadata at 100.100.100.200
    Cidr::v4(127, 0, 0, 0, 8),      // loopback
    Cidr::v4(168, 63, 129, 16, 32), // a cloud's host agent, though in a public range
    Cidr::v4(169, 254, 0, 0, 16),   // link-local, with instance and task metadata
    Cidr::v4(172, 16, 0, 0, 12),    // private
    Cidr::v4(192, 0, 0, 0, 24),     // protocol assignments
    Cidr::v4(192, 0, 2, 0, 24),     // documentation
    Cidr::v4(192, 88, 99, 0, 24),   // 6to4 relays
    Cidr::v4(192, 168, 0, 0, 16),   // private
    Cidr::v4(198, 18, 0, 0, 15),    // benchmarking
    Cidr::v4(198, 51, 100, 0, 24),  // documentation
    Cidr::v4(203, 0, 113, 0, 24),   // documentation
    Cidr::v4(224, 0, 0, 0, 4),      // multicast
    Cidr::v4(240, 0, 0, 0, 4),      // reserved, broadcast
];

/// The only part of IPv6 that is public at all. Outside of it lie loopback, ULA (fc00::/7), link-local (fe80::/10),
/// site-local (fec0::/10), multicast (ff00::/8), NAT64 (64:ff9b::/96, 64:ff9b:1::/48), discard and segment routing.
const GLOBAL_V6: Cidr = Cidr::v6(0x2000, 0, 3);

/// What is closed within [`GLOBAL_V6`].
const CLOSED_V6: &[Cidr] = &[
    Cidr::v6(0x2001, 0, 23),     // protocol assignments: Teredo, benchmarking, ORCHID
    Cidr::v6(0x2001, 0xdb8, 32), // documentation
    Cidr::v6(0x2002, 0, 16),     // 6to4: carries any IPv4 address
    Cidr::v6(0x3fff, 0, 20),     // documentation
];

/// Whether the address is one of the public Internet.
#[must_use]
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => !CLOSED_V4.iter().any(|closed| closed.contains(address)),
        // `to_ipv4` takes both forms that carry an IPv4 address as it is, ::ffff:a.b.c.d and ::a.b.c.d. The second
        // covers `::` and `::1`, which read as 0.0.0.0 and 0.0.0.1.
        IpAddr::V6(v6) => match v6.to_ipv4() {
            Some(embedded) => is_public(IpAddr::V4(embedded)),
            None => GLOBAL_V6.contains(address) && !CLOSED_V6.iter().any(|closed| closed.contains(address)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let closed = "
            0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1
            127.255.255.254 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255
            192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255
            198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::2 ::7f00:1
            ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
            64:ff9b::7f00:1 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 1fff::1 2001::1 2001:0:4136:e378::1 2001:2::1
            2001:10::1 2001:20::1 2001:1ff:ffff::1 2001:db8::1 2002:7f00:1::1 2002:808:808::1 3fff::1
            3fff:fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1 febf::1 fec0::1 feff::1 ff02::1
            ff0e::1
        ";
        for text in closed.split_whitespace() {
            assert!(!is_public(text.parse().unwrap()), "{text} is not public");
        }
        let open = "
            1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
            168.63.129.15 169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.1 192.167.255.255 198.17.255.255
            198.20.0.0 223.255.255.255 ::ffff:8.8.8.8 ::8.8.8.8 2001:200::1 2001:4860:4860::8888 2003::1
            2606:4700:4700::1111 2a00:1450::1 3ffe::1
        ";
        for text in open.split_whitespace() {
            assert!(is_public(text.parse().unwrap()), "{text} is public");
        }
    }

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        let table = [
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "2003::1", false),
            ("::/0", "2003::1", true),
            ("::/0", "10.0.0.1", false),
            ("::1", "::1", true),
            ("0.0.0.0/8", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
        ];
        for (network, address, contained) in table {
            let network = Cidr::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), contained, "{network:?} and {address}");
        }
    }

    #[test]
    fn a_malformed_network_is_named_in_the_error() {
        let malformed = "localhost 10.0.0.0/33 ::/129 10.0.0.0/ 10.0.0.0/+8 10.0.0.0/8/8 10.0.0.1/8 1/8 ::1/0";
        for text in malformed.split_whitespace().chain([""]) {
            let error = Cidr::parse(text).unwrap_err();
            assert_eq!(error.code(), Code::NotConfigured);
            assert!(error.message().starts_with(&format!("CHATIA_EGRESS_ALLOW: \"{text}\"")), "{error}");
        }
        assert!(Cidr::parse("::ffff:10.0.0.0/104").unwrap_err().message().contains("write it as IPv4"));
    }

    #[test]
    fn a_list_is_comma_separated() {
        assert_eq!(Cidr::parse_list("").unwrap(), []);
        let list = Cidr::parse_list(" 127.0.0.0/8, ::1 ,").unwrap();
        assert_eq!(list, [Cidr::parse("127.0.0.0/8").unwrap(), Cidr::parse("::1/128").unwrap()]);
        assert!(Cidr::parse_list("127.0.0.0/8;::1").is_err());
    }
}
