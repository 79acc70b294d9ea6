//! The words of EXPOSE: `[[ip:]host:]port[-port][/protocol]`, of which only the container's ports matter.

use core::net::IpAddr;

/// A word that names no ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExposeError {
    /// Nothing where the container's port should be.
    #[error("invalid port: {0:?}: no port specified")]
    NoPort(String),
    /// Neither tcp, udp nor sctp.
    #[error("invalid port: {word:?}: invalid proto: {protocol}")]
    Protocol {
        /// The word.
        word: String,
        /// The protocol in it.
        protocol: String,
    },
    /// No address.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// Neither a number from 0 to 65535 nor a rising range of them.
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    /// As before, on the host's side.
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// A range of host ports that does not fit the container's.
    #[error("invalid ranges specified for container and host ports: {container} and {host}")]
    Ranges {
        /// The container's.
        container: String,
        /// The host's.
        host: String,
    },
}

/// What a word of EXPOSE names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The container's ports, as `80/tcp`, rising.
    pub ports: Vec<String>,
    /// The protocol was not written in lower case (a lint).
    pub protocol_cased: bool,
    /// There was an address or a host's port (a lint).
    pub host_side: bool,
}

/// Reads one expanded word.
///
/// # Errors
/// [`ExposeError`] with the part that is wrong.
pub fn parse(word: &str) -> Result<Exposed, ExposeError> {
    let (outside, inside) = word.rsplit_once(':').map_or(("", word), |(outside, inside)| (outside, inside));
    let (address, host) = outside.rsplit_once(':').unwrap_or(("", outside));
    let (port, protocol) = inside.split_once('/').unwrap_or((inside, ""));
    if port.is_empty() {
        return Err(ExposeError::NoPort(word.to_string()));
    }
    let lower = match protocol.to_lowercase() {
        empty if empty.is_empty() => "tcp".to_string(),
        known if ["tcp", "udp", "sctp"].contains(&known.as_str()) => known,
        _ => return Err(ExposeError::Protocol { word: word.to_string(), protocol: protocol.to_string() }),
    };
    let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(ExposeError::Address(address.to_string()));
    }
    let (first, last) = range(port).ok_or_else(|| ExposeError::ContainerPort(port.to_string()))?;
    if !host.is_empty() {
        let (host_first, host_last) = range(host).ok_or_else(|| ExposeError::HostPort(host.to_string()))?;
        // A range of host ports may also stand for any one of it.
        if host_last - host_first != last - first && last != first {
            return Err(ExposeError::Ranges { container: port.to_string(), host: host.to_string() });
        }
    }
    Ok(Exposed {
        ports: (first..=last).map(|port| format!("{port}/{lower}")).collect(),
        protocol_cased: protocol != protocol.to_lowercase(),
        host_side: !outside.is_empty() && (!address.is_empty() || !host.is_empty()),
    })
}

/// `80` or `80-82`.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok();
    match text.split_once('-') {
        Some((first, last)) if first != last => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
        Some((first, _)) => number(first).map(|port| (port, port)),
        None => number(text).map(|port| (port, port)),
    }
}
