//! How a registry is reached, which its first answer tells, and what is known of it from then on.
//!
//! Who has a credential asks `GET /v2/` first what the registry wants to see, as Docker does: some registries hide from
//! the nameless what they would show to a user. Who has none saves that round trip: the first request goes out as it is,
//! and a 401 says the same.

use super::challenge::Challenge;
use super::session::challenges;
use super::{RegistryClient, RegistryError, auth};
use crate::http::{HttpError, Method, Request, Response, StatusCode, TlsSettings, Url, is_loopback};
use crate::oci::Digest;
use crate::oci::reference::DOCKER_HUB;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What is known of a registry.
pub(super) struct Registry {
    pub(super) name: String,
    /// Scheme, host and port as they are tried first.
    likely: Url,
    /// What is tried next.
    other: Option<Url>,
    /// The one of them that answered.
    base: OnceLock<Url>,
    /// Whether it was asked what it wants to see.
    greeted: Mutex<bool>,
    state: Mutex<State>,
}

/// What changes while requests go out.
#[derive(Default)]
pub(super) struct State {
    pub(super) challenge: Option<Challenge>,
    pub(super) tokens: Vec<auth::Token>,
    /// Blobs that are known to be there, by repository.
    pub(super) blobs: HashSet<(String, Digest)>,
}

impl Registry {
    fn new(name: &str, tls: &TlsSettings) -> Result<Self, RegistryError> {
        let host = if name == DOCKER_HUB { "registry-1.docker.io" } else { name };
        let (likely, other) = match tls.is_insecure(host) {
            // On this machine plain http is the rule.
            true if is_loopback(host) => ("http", Some("https")),
            true => ("https", Some("http")),
            false => ("https", None),
        };
        let url = |scheme| Url::parse(&format!("{scheme}://{host}/")).map_err(|_| RegistryError::Name(name.into()));
        let (likely, other) = (url(likely)?, other.map(url).transpose()?);
        let (base, greeted, state) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Ok(Registry { name: name.to_string(), likely, other, base, greeted, state })
    }

    /// Scheme, host and port.
    pub(super) fn base(&self) -> &Url {
        self.base.get().unwrap_or(&self.likely)
    }

    /// Whether `url` is the registry's own.
    pub(super) fn is_at(&self, url: &Url) -> bool {
        url.origin() == self.base().origin()
    }

    /// `url` as it must be since another request found out that the registry speaks https.
    pub(super) fn moved(&self, mut url: Url) -> Url {
        if self.base().scheme() == "https" && url.origin() == self.likely.origin() {
            // Between http and https the scheme can always be set.
            let _ = url.set_scheme("https");
        }
        url
    }

    /// Whether a request may be the first one. Where https may be given up for plain http, a greeting goes before.
    fn needs_greeting(&self) -> bool {
        self.likely.scheme() == "https" && self.other.is_some()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegistryClient {
    /// The registry `name`; with `greeting`, it was asked what it wants to see.
    pub(super) fn registry(&self, name: &str, greeting: bool) -> Result<Arc<Registry>, RegistryError> {
        let registry = {
            let mut known = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(name) {
                Some(registry) => registry.clone(),
                None => {
                    let registry = Arc::new(Registry::new(name, &self.http.settings().tls)?);
                    known.insert(name.to_string(), registry.clone());
                    registry
                }
            }
        };
        if greeting || registry.needs_greeting() {
            self.greet(&registry)?;
        }
        Ok(registry)
    }

    /// `GET /v2/`, once. Any answer but a passing failure will do: some registries have nothing there, and what they want
    /// comes out with the first real request.
    fn greet(&self, registry: &Registry) -> Result<(), RegistryError> {
        let mut greeted = registry.greeted.lock().unwrap_or_else(PoisonError::into_inner);
        if *greeted {
            return Ok(());
        }
        let url = registry.base().join("v2/").map_err(|_| RegistryError::Name(registry.name.clone()))?;
        let ping = || {
            let response = self.try_schemes(registry, &mut Request::new(Method::GET, url.clone()))?;
            let status = response.status();
            let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 429 | 499);
            if passing || registry.base.get().is_none() { Err(response.into_error()) } else { Ok(response) }
        };
        let response = self.http.settings().retry.run(ping).map_err(|cause| unreachable(registry, cause))?;
        if let Some(challenge) = Challenge::parse(challenges(&response)) {
            registry.state().challenge = Some(challenge);
        }
        *greeted = true;
        Ok(())
    }

    /// Sends `request` to the registry that it is for; if that is the first one, it becomes the one that was answered.
    pub(super) fn send_to(&self, registry: &Registry, request: &mut Request<'_>) -> Result<Response, RegistryError> {
        if registry.base.get().is_some() {
            return Ok(self.http.send(request)?);
        }
        let first = || self.try_schemes(registry, request);
        self.http.settings().retry.run(first).map_err(|cause| unreachable(registry, cause))
    }

    /// As [`RegistryClient::send_to`], where the request went out already and this came of it.
    pub(super) fn sent_to(
        &self,
        registry: &Registry,
        request: &mut Request<'_>,
        answer: Result<Response, HttpError>,
    ) -> Result<Response, RegistryError> {
        match (registry.base.get(), answer) {
            (Some(base), answer) if base.origin() == request.url.origin() => Ok(answer?),
            (None, Ok(response)) if !is_doubtful(registry, &request.url, &response) => {
                // Another request may have been faster.
                let _ = registry.base.set(registry.likely.clone());
                Ok(response)
            }
            _ => {
                request.url = registry.moved(request.url.clone());
                self.send_to(registry, request)
            }
        }
    }

    /// Sends `request` under each scheme that may be spoken, and remembers the one that was answered.
    fn try_schemes(&self, registry: &Registry, request: &mut Request<'_>) -> Result<Response, HttpError> {
        let likely = match self.http.send(request) {
            Ok(response) if !is_doubtful(registry, &request.url, &response) => {
                let _ = registry.base.set(registry.likely.clone());
                return Ok(response);
            }
            other => other,
        };
        let Some(other) = &registry.other else { return likely };
        let mut again = request.clone();
        let _ = again.url.set_scheme(other.scheme());
        // What the likelier scheme gave says more.
        let Ok(response) = self.http.send(&again) else { return likely };
        let _ = registry.base.set(other.clone());
        *request = again;
        Ok(response)
    }
}

/// Whether it may be a TLS server that answers: 400 to plain http.
fn is_doubtful(registry: &Registry, url: &Url, response: &Response) -> bool {
    url.scheme() == "http" && registry.other.is_some() && response.status() == StatusCode::BAD_REQUEST
}

fn unreachable(registry: &Registry, cause: HttpError) -> RegistryError {
    RegistryError::Unreachable { registry: registry.name.clone(), cause }
}
