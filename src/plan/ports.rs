//! EXPOSE: `[[ip:]host:]port[-port][/protocol]`, of which only the container's side matters.

use core::net::IpAddr;

/// A port that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nothing before the protocol, or after the last colon.
    #[error("invalid port: \"{0}\": no port specified")]
    Missing(String),
    /// Neither tcp, udp nor sctp.
    #[error("invalid port: \"{port}\": invalid proto: {protocol}")]
    Protocol {
        /// The whole word.
        port: String,
        /// The protocol in it.
        protocol: String,
    },
    /// Not a number from 0 to 65535 or a rising range of them.
    #[error("invalid containerPort: {0}")]
    Container(String),
    /// As before, on the host's side.
    #[error("invalid hostPort: {0}")]
    Host(String),
    /// Not an address.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// More host ports than container ports, or the reverse.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's.
        container: String,
        /// The host's.
        host: String,
    },
}

/// The ports that one word of EXPOSE names, as `80/tcp`, in order.
pub(super) fn parse(word: &str) -> Result<Vec<String>, PortError> {
    let missing = || PortError::Missing(word.to_string());
    let (address, protocol) = match word.split_once('/') {
        Some((address, "")) => (address, "tcp".to_string()),
        Some((address, protocol)) => (address, protocol.to_lowercase()),
        None => (word, "tcp".to_string()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(PortError::Protocol { port: word.to_string(), protocol });
    }
    let (outside, container) = address.rsplit_once(':').map_or((None, address), |(out, port)| (Some(out), port));
    if container.is_empty() {
        return Err(missing());
    }
    let (ip, host) = outside.map_or(("", ""), |out| out.rsplit_once(':').unwrap_or(("", out)));
    let ports = range(container).ok_or_else(|| PortError::Container(container.to_string()))?;
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(PortError::Address(ip.to_string()));
    }
    if !host.is_empty() {
        let hosts = range(host).ok_or_else(|| PortError::Host(host.to_string()))?;
        if hosts.len() != ports.len() && ports.len() != 1 {
            return Err(PortError::Ranges { container: container.to_string(), host: host.to_string() });
        }
    }
    Ok(ports.map(|port| format!("{port}/{protocol}")).collect())
}

/// `80` or `80-82`. A sign before a number is accepted, as Go reads it.
fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let number = |text: &str| text.parse::<u16>().ok();
    match text.split_once('-') {
        None => number(text).map(|port| port..=port),
        Some((first, last)) => {
            let range = number(first)?..=number(last)?;
            (!range.is_empty()).then_some(range)
        }
    }
}
