//! URLs as they may be shown, and what kind of host they name.

use reqwest::Url;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// A URL without what may be secret: user, password, query and fragment. Signed storage URLs carry their signature in
/// the query, upload URLs their state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// What may be shown of `url`.
    pub fn of(url: &Url) -> Self {
        let mut shown = url.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        // Both fail only for URLs that cannot have a user at all.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        Address(shown.to_string())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `host`, or `host:port` where the port is not the scheme's own.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
}

/// Whether `host` (with or without a port) is this machine: `localhost`, 127.0.0.0/8 or ::1.
pub fn is_loopback(host: &str) -> bool {
    let bare = host_of(host);
    bare == "localhost" || literal(bare).is_some_and(|ip| ip.is_loopback())
}

/// `host` without its port.
pub(super) fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        },
    }
}

/// The address that `host` spells out, v4-mapped ones as IPv4.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let ip: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(ip.to_canonical())
}

/// Whether a public server has no business sending anybody to `ip`: private, shared, link-local, loopback, unspecified.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4 == Ipv4Addr::UNSPECIFIED || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Whether a server at `from` may send us to `to`. Another host that is a private address is refused, since such a
/// redirect makes the client reach what the server cannot (cloud metadata services, for one); a server that itself is
/// addressed by a private literal gains nothing by it, link-local targets excepted.
pub(super) fn may_go(from: &Url, to: &Url) -> bool {
    let (Some(from), Some(to)) = (from.host_str(), to.host_str()) else { return false };
    match literal(to) {
        Some(ip) if from != to && is_private(ip) => literal(from).is_some_and(is_private) && !is_link_local(ip),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let url = Url::parse("https://me:hunter2@r.io:5000/v2/a/blobs/x?sig=hunter2#hunter2").unwrap();
        assert_eq!(Address::of(&url).to_string(), "https://r.io:5000/v2/a/blobs/x");
    }

    #[test]
    fn loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "example.com:127", "127.0.0.1.example.com"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn redirects_to_private_addresses() {
        for (from, to, expected) in [
            ("https://r.io", "https://storage.example.com", true),
            ("https://r.io", "https://8.8.8.8", true),
            ("https://r.io", "http://169.254.169.254/latest", false),
            ("https://r.io", "https://10.0.0.1", false),
            ("https://r.io", "https://100.64.0.1", false),
            ("https://r.io", "https://127.0.0.1:1", false),
            ("https://r.io", "https://[::1]", false),
            ("https://r.io", "https://[::ffff:10.0.0.1]", false),
            ("https://r.io", "https://[fd00::1]", false),
            ("http://127.0.0.1:5000", "http://127.0.0.1:9000", true),
            ("http://10.0.0.1", "http://10.0.0.2", true),
            ("http://10.0.0.1", "http://169.254.169.254", false),
        ] {
            let (from_url, to_url) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            assert_eq!(may_go(&from_url, &to_url), expected, "{from} -> {to}");
        }
    }
}
