//! Where the router may send anything at all: hosts on a list, and never into the machine or its cloud's metadata (RTE-11).
//!
//! Checked when the configuration is read, for what it says literally, and again at every connection for what a name
//! resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use config::rules::matches as glob;

/// A network, `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Reads `address/prefix`; an address alone is itself.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(longest), |prefix| prefix.parse().ok())?;
        (prefix <= longest).then_some(Self { address, prefix })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// What is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// Names with `*`; empty allows every name.
    pub hosts: Vec<String>,
    /// Networks that are allowed although they are closed otherwise.
    pub networks: Vec<Network>,
}

impl Guard {
    /// Why nothing is sent to this host, as far as its name says.
    pub fn refuses_host(&self, host: &str) -> Option<String> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if !self.hosts.is_empty() && !self.hosts.iter().any(|allowed| glob(&allowed.to_ascii_lowercase(), &host)) {
            return Some(format!("{host} is not one of allow_hosts"));
        }
        if host == "localhost" || host.ends_with(".localhost") {
            return self.refuses(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        host.parse().ok().and_then(|address| self.refuses(address))
    }

    /// True for an address that was opened on purpose.
    pub fn opens(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Why nothing is sent to this address.
    pub fn refuses(&self, address: IpAddr) -> Option<String> {
        let address = address.to_canonical();
        if self.opens(address) {
            return None;
        }
        let what = match address {
            IpAddr::V4(v4) => closed_v4(v4),
            IpAddr::V6(v6) => closed_v6(v6),
        }?;
        Some(format!("{address} is {what}; allow_networks can open it"))
    }
}

fn closed_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, ..] = address.octets();
    match () {
        () if address.is_loopback() => Some("this machine"),
        () if a == 0 => Some("no address of a machine"),
        () if address.is_link_local() => Some("link-local, where clouds keep their metadata"),
        () if a >= 224 => Some("no address of one machine"),
        () => None,
    }
}

fn closed_v6(address: Ipv6Addr) -> Option<&'static str> {
    // addresses that carry an IPv4 address: NAT64 and 6to4
    let inner = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    };
    match () {
        () if inner.is_some_and(|inner| closed_v4(inner).is_some()) => Some("a way to a closed address"),
        () if address.is_loopback() => Some("this machine"),
        () if address.is_unspecified() => Some("no address of a machine"),
        () if address.is_unicast_link_local() => Some("link-local"),
        () if address.is_unique_local() => Some("unique local, where clouds keep their metadata"),
        () if address.is_multicast() => Some("no address of one machine"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_itself_and_metadata_are_closed() {
        // RTE-11, attack 33
        let guard = Guard::default();
        for closed in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "localhost",
            "[::1]",
            "db.localhost",
        ] {
            assert!(guard.refuses_host(closed).is_some(), "{closed}");
        }
        for open in ["10.1.2.3", "192.168.0.5", "93.184.216.34", "2606:4700::1111", "hooks.slack.com"] {
            assert_eq!(guard.refuses_host(open), None, "{open}");
        }
    }

    #[test]
    fn lists_open_networks_and_close_hosts() {
        let guard = Guard {
            hosts: vec!["*.slack.com".to_owned(), "127.0.0.1".to_owned()],
            networks: vec![Network::parse("127.0.0.0/8").unwrap(), Network::parse("fd12::/16").unwrap()],
        };
        assert_eq!(guard.refuses_host("HOOKS.slack.com"), None);
        assert_eq!(guard.refuses_host("127.0.0.1"), None);
        assert!(guard.refuses_host("slack.com.evil.example").is_some());
        assert_eq!(guard.refuses("fd12:1::9".parse().unwrap()), None);
        assert!(guard.refuses("fd13::9".parse().unwrap()).is_some());
        for wrong in ["10.0.0.0/33", "10.0.0/8", "::/129", "x"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("8.8.8.8".parse().unwrap()));
    }
}
