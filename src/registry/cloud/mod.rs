//! Credentials that a cloud gives to what runs in it: AWS for ECR, Google for Artifact Registry and gcr.io, Azure for ACR.
//! No helper program is needed. They are asked for when nothing else knows the registry, and only for the clouds' own
//! registries.
//!
//! What each looks at is what its own tools look at, so a pod or a job that works with those works here. Endpoints are
//! taken from the variables of the clouds' own tools (`AWS_ENDPOINT_URL*`, `GCE_METADATA_HOST`, `AZURE_AUTHORITY_HOST`).

mod aws;
mod azure;
mod google;
mod objects;
mod signature;

pub use objects::{ObjectError, fetch_object};

use super::{Credential, Environment, Identity};
use crate::http::{
    Body, HeaderName, HeaderValue, Http, HttpError, Method, Proxies, Request, RetryPolicy, Secret, Settings, Timeouts,
    Url, header,
};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of an answer that are read.
const ANSWER_LIMIT: u64 = 1 << 20;
/// A metadata server is next door or not there at all.
const NEARBY: Duration = Duration::from_secs(2);
/// Tokens are renewed so long before they end.
const MARGIN: Duration = Duration::from_secs(60);
/// A cloud that gave none is not asked again for so long.
const UNKNOWN: Duration = Duration::from_secs(600);
/// The same where there is one that may hold still.
const AGAIN: Duration = Duration::from_secs(10);

/// Why a cloud gave no credential. It is told where access is denied, and stops nothing by itself: the image may be public.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloudError {
    /// Nothing says who we are.
    #[error("{0}")]
    Nothing(&'static str),
    /// A request failed.
    #[error("{what}")]
    Http {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        cause: HttpError,
    },
    /// A file cannot be read; the cause names it.
    #[error("{what}")]
    File {
        /// What it should hold.
        what: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// An answer or a file that does not hold what it should.
    #[error("{0}")]
    Form(String),
}

/// A credential and how long it holds.
struct Grant {
    identity: Identity,
    source: String,
    lives: Duration,
}

/// What was found, by registry.
#[derive(Default)]
pub(super) struct Clouds(Mutex<HashMap<String, Answer>>);

/// What a cloud said, for as long as it holds.
struct Answer {
    credential: Option<Credential>,
    looked_at: String,
    until: Instant,
}

impl Clouds {
    /// The cloud's credential for `registry`, and what was looked at. `None` where the registry is no cloud's.
    pub(super) fn lookup(
        &self,
        http: &Http,
        environment: &Environment,
        registry: &str,
    ) -> Option<(Option<Credential>, String)> {
        let cloud = Cloud::of(registry).filter(|_| !environment.is_empty())?;
        // The lock is held while a cloud is asked: other transfers need the same answer.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Answer { credential, looked_at, until }) = known.get(registry)
            && *until > Instant::now()
        {
            return Some((credential.clone(), looked_at.clone()));
        }
        let inquiry = Inquiry { http, nearby: nearby(http), environment, registry };
        let had = known.remove(registry).and_then(|answer| answer.credential);
        let (credential, looked_at, lives) = match inquiry.ask(&cloud) {
            Ok(Grant { identity, source, lives }) => (Some(Credential { identity, source }), String::new(), lives),
            Err(error) => {
                let looked_at = format!("{}: {}", cloud.name(), told(&error));
                // What there was may hold still: asking begins before it ends.
                let wait = if had.is_some() { MARGIN + AGAIN } else { UNKNOWN };
                (had, looked_at, wait)
            }
        };
        let until = Instant::now() + lives.saturating_sub(MARGIN);
        let answer = Answer { credential: credential.clone(), looked_at: looked_at.clone(), until };
        known.insert(registry.to_string(), answer);
        Some((credential, looked_at))
    }

    /// Has the cloud of `registry` asked at the next lookup.
    pub(super) fn ask_again(&self, registry: &str) {
        if let Some(answer) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(registry) {
            answer.until = Instant::now();
        }
    }
}

fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

/// A client for what is next door: no proxy, little patience.
fn nearby(http: &Http) -> Http {
    let timeouts = Timeouts { connect: NEARBY, idle: NEARBY, commit: NEARBY };
    let retry = RetryPolicy { tries: 2, first: Duration::from_millis(100), longest: NEARBY };
    Http::new(Settings { proxies: Proxies::default(), timeouts, retry, ..http.settings().clone() })
}

/// Whose registry it is.
enum Cloud {
    Aws(aws::Home),
    Google,
    Azure,
}

impl Cloud {
    fn of(registry: &str) -> Option<Cloud> {
        let host = registry.split(':').next().unwrap_or_default();
        if let Some(home) = aws::Home::of(host) {
            return Some(Cloud::Aws(home));
        }
        let google = host == "gcr.io" || [".gcr.io", "-docker.pkg.dev"].iter().any(|end| host.ends_with(end));
        let azure = [".azurecr.io", ".azurecr.cn", ".azurecr.us"].iter().any(|end| host.ends_with(end));
        match (google, azure) {
            (true, _) => Some(Cloud::Google),
            (_, true) => Some(Cloud::Azure),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Cloud::Aws(_) => "AWS",
            Cloud::Google => "Google Cloud",
            Cloud::Azure => "Azure",
        }
    }
}

/// One search.
struct Inquiry<'a> {
    http: &'a Http,
    nearby: Http,
    environment: &'a Environment,
    registry: &'a str,
}

impl Inquiry<'_> {
    fn ask(&self, cloud: &Cloud) -> Result<Grant, CloudError> {
        match cloud {
            Cloud::Aws(home) => self.aws(home),
            Cloud::Google => self.google(),
            Cloud::Azure => self.azure(),
        }
    }

    /// The content of a file that a variable names.
    fn file(&self, path: PathBuf, what: &'static str) -> Result<String, CloudError> {
        fs_err::read_to_string(path).map_err(|cause| CloudError::File { what, cause })
    }

    /// Sends a request by `http`, tried again as its policy says, and reads the answer's body.
    fn send(&self, http: &Http, request: &Request<'_>, what: &'static str) -> Result<Vec<u8>, CloudError> {
        let once = || http.send_ok(request, &[])?.into_bytes(ANSWER_LIMIT);
        http.settings().retry.run(once).map_err(|cause| CloudError::Http { what, cause })
    }

    /// As [`Inquiry::send`], for an answer in JSON.
    fn json<T: serde::de::DeserializeOwned>(
        &self,
        http: &Http,
        request: &Request<'_>,
        what: &'static str,
    ) -> Result<T, CloudError> {
        let bytes = self.send(http, request, what)?;
        // The parser's message could quote a token.
        serde_json::from_slice(&bytes).map_err(|_| CloudError::Form(format!("{what}: the answer is not as documented")))
    }
}

fn url(text: &str) -> Result<Url, CloudError> {
    Url::parse(text).map_err(|_| CloudError::Form(format!("'{text}' is not a URL")))
}

/// A GET with headers.
fn get(url: Url, headers: &[(&'static str, &str)]) -> Result<Request<'static>, CloudError> {
    let mut request = Request::new(Method::GET, url);
    set(&mut request, headers)?;
    Ok(request)
}

/// Puts headers on a request; none of their values is shown in logs.
fn set(request: &mut Request<'_>, headers: &[(&'static str, &str)]) -> Result<(), CloudError> {
    for (name, value) in headers {
        let wrong = || CloudError::Form(format!("the value of {name} cannot be sent in a header"));
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        request.headers.insert(HeaderName::from_static(name), value);
    }
    Ok(())
}

/// A POST of a form (application/x-www-form-urlencoded).
pub(super) fn form(url: Url, pairs: &[(&str, &str)]) -> Request<'static> {
    let mut request = Request::new(Method::POST, url);
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers.insert(header::CONTENT_TYPE, kind);
    request.body = Body::Bytes(encoded(pairs).into());
    request
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    // Any URL will do: its query is a form.
    let Ok(mut url) = Url::parse("form:?") else { return String::new() };
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_string()
}

/// An OAuth 2 token endpoint's answer.
#[derive(serde::Deserialize)]
struct Token {
    access_token: Secret,
    #[serde(default)]
    expires_in: Option<Number>,
}

/// A number, which Azure writes as text at times.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

impl Token {
    fn lives(&self) -> Duration {
        Duration::from_secs(match &self.expires_in {
            Some(Number::Number(seconds)) => *seconds,
            Some(Number::Text(text)) => text.parse().unwrap_or(300),
            None => 300,
        })
    }
}
