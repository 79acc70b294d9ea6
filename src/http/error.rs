//! What can go wrong with a request.

use super::{Address, TlsError};
use reqwest::{Method, StatusCode};
use std::error::Error;
use std::io;
use std::time::Duration;

/// How a request failed below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The name does not exist.
    UnknownHost,
    /// The name could not be resolved now.
    Dns,
    /// No connection.
    Connect,
    /// The peer's certificate is not trusted or does not fit.
    Certificate,
    /// The peer does not speak TLS: most often plain http where https was expected.
    NotTls,
    /// A TLS failure of another kind.
    Tls,
    /// Silence for too long.
    Timeout,
    /// The connection broke, or what came was not HTTP.
    Broken,
}

/// A request that failed. Its text says method, address and what happened; the cause below is its `source`.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The runtime's threads could not be started.
    #[error("cannot start the network threads")]
    Runtime(#[source] io::Error),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A client could not be made, for example because of a proxy's URL.
    #[error("cannot set up HTTP")]
    Setup(#[source] reqwest::Error),
    /// The request got no whole answer.
    #[error("{method} {address}: {}", describe(*.fault))]
    Transport {
        /// Method of the request.
        method: Method,
        /// Where to.
        address: Address,
        /// Kind of failure.
        fault: Fault,
        /// The cause.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The answer was not what was asked for.
    #[error("{method} {address}: {status}{}", message(.body))]
    Status {
        /// Method of the request.
        method: Method,
        /// Where to.
        address: Address,
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// A redirect that is not followed.
    #[error("{address} redirects to {target}, which is refused: {reason}")]
    Redirect {
        /// Where the request went.
        address: Address,
        /// Where it was sent on to.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// What is to be sent could not be read.
    #[error("cannot read what is to be sent to {address}")]
    Source {
        /// Where to.
        address: Address,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A body that is larger than anything sensible.
    #[error("{address}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// Where from.
        address: Address,
        /// The bound.
        limit: u64,
    },
}

fn describe(fault: Fault) -> &'static str {
    match fault {
        Fault::UnknownHost => "the host name is not known",
        Fault::Dns => "the host name cannot be resolved",
        Fault::Connect => "cannot connect",
        Fault::Certificate => "the server's certificate is not trusted",
        Fault::NotTls => "the server does not speak TLS (it may be a plain http server)",
        Fault::Tls => "TLS failed",
        Fault::Timeout => "no answer in time",
        Fault::Broken => "the connection broke",
    }
}

/// The server's own words: those of the registry's error list if the body is one, else the body's first line.
fn message(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_str::<Envelope>(body) {
        Ok(envelope) => {
            let entries = envelope.errors.iter().map(|e| format!("{}: {}", e.code, e.message));
            entries.map(|e| e.trim_matches([':', ' ']).to_string()).collect::<Vec<_>>().join("; ")
        }
        Err(_) => body.trim().lines().next().unwrap_or_default().chars().take(300).collect(),
    };
    let shown: String = text.chars().filter(|c| !c.is_control()).collect();
    if shown.is_empty() { shown } else { format!(" ({shown})") }
}

impl HttpError {
    /// The status, where there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            HttpError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// How it failed below HTTP.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            HttpError::Transport { fault, .. } => Some(*fault),
            _ => None,
        }
    }

    /// Whether the body of the answer is a registry's error list that holds `code`, such as `DIGEST_INVALID`.
    pub fn has_code(&self, code: &str) -> bool {
        matches!(self, HttpError::Status { body, .. } if body.contains(&format!("\"{code}\"")))
    }

    /// How long the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            HttpError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the same request may well succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            HttpError::Transport { fault, .. } => {
                matches!(fault, Fault::Dns | Fault::Connect | Fault::Tls | Fault::Timeout | Fault::Broken)
            }
            HttpError::Status { status, retry_after, body, .. } => match status.as_u16() {
                // Docker Hub's limit lasts for hours; others say when to come back.
                429 => retry_after.is_some() || !body.contains("pull rate limit"),
                // 501 and 505 do not change by asking again.
                code => matches!(code, 408 | 499 | 500 | 502..=504 | 506..=599),
            },
            _ => false,
        }
    }

    /// A transport failure as `reqwest` reports it.
    pub(super) fn transport(method: &Method, address: Address, error: reqwest::Error) -> Self {
        let fault = classify(&error);
        let source = Some(error.without_url().into());
        HttpError::Transport { method: method.clone(), address, fault, source }
    }

    /// The task that had the request ended without an answer.
    pub(super) fn broken(method: &Method, address: Address, join: tokio::task::JoinError) -> Self {
        HttpError::Transport { method: method.clone(), address, fault: Fault::Broken, source: Some(join.into()) }
    }

    /// Silence for too long.
    pub(super) fn timeout(method: &Method, address: Address) -> Self {
        HttpError::Transport { method: method.clone(), address, fault: Fault::Timeout, source: None }
    }
}

/// Finds the kind by what lies at the bottom of the chain.
fn classify(error: &reqwest::Error) -> Fault {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return match tls {
                rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Fault::Certificate,
                rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => Fault::NotTls,
                _ => Fault::Tls,
            };
        }
        // An `io::Error` that wraps another error gives that one's source, so it would be skipped.
        next = match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    let unknown = ["Name or service not known", "Name does not resolve", "No address associated", "Name has no usable"];
    match error {
        e if e.is_timeout() => Fault::Timeout,
        e if e.is_dns() && unknown.iter().any(|text| chain(e).contains(text)) => Fault::UnknownHost,
        e if e.is_dns() => Fault::Dns,
        e if e.is_connect() => Fault::Connect,
        _ => Fault::Broken,
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::Url;

    fn answer(status: u16, body: &str, retry_after: Option<u64>) -> HttpError {
        HttpError::Status {
            method: Method::GET,
            address: Address::of(&Url::parse("https://r.io/v2/?x=hunter2").unwrap()),
            status: StatusCode::from_u16(status).unwrap(),
            body: body.into(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn what_is_worth_another_try() {
        for status in [408, 429, 499, 500, 502, 503, 504] {
            assert!(answer(status, "", None).is_transient(), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 416, 501] {
            assert!(!answer(status, "", None).is_transient(), "{status}");
        }
        let limit = "You have reached your pull rate limit";
        assert!(!answer(429, limit, None).is_transient());
        assert!(answer(429, limit, Some(1)).is_transient());
    }

    #[test]
    fn shows_the_registrys_words() {
        let list = r#"{"errors":[{"code":"DENIED","message":"no push for you","detail":{"a":1}}]}"#;
        assert_eq!(
            answer(403, list, None).to_string(),
            "GET https://r.io/v2/: 403 Forbidden (DENIED: no push for you)"
        );
        assert_eq!(answer(500, "", None).to_string(), "GET https://r.io/v2/: 500 Internal Server Error");
        assert_eq!(answer(502, "<html>\nx", None).to_string(), "GET https://r.io/v2/: 502 Bad Gateway (<html>)");
    }
}
