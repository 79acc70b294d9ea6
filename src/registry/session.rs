//! Requests to one repository: where the registry is, what it wants to see, and the one new token after a 401.

use super::challenge::Challenge;
use super::scopes::Scopes;
use super::{Credential, Denial, Lookup, RegistryClient, RegistryError, auth};
use crate::http::{HeaderValue, HttpError, Method, Request, Response, StatusCode, Url, header, is_loopback};
use crate::oci::reference::DOCKER_HUB;
use crate::oci::{Digest, Reference};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of a registry.
pub(super) struct Registry {
    pub(super) name: String,
    /// Scheme, host and port.
    pub(super) base: Url,
    pub(super) state: Mutex<State>,
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
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests to one repository of one registry.
#[derive(Clone)]
pub(super) struct Session<'a> {
    pub(super) client: &'a RegistryClient,
    pub(super) registry: Arc<Registry>,
    pub(super) repository: String,
    pub(super) scopes: Scopes,
}

impl RegistryClient {
    /// Opens the repository of `reference` for reading, or for writing too.
    pub(super) fn session(&self, reference: &Reference, write: bool) -> Result<Session<'_>, RegistryError> {
        let repository = reference.repository().to_string();
        let scopes = if write { Scopes::push(&repository) } else { Scopes::pull(&repository) };
        self.session_for(reference.registry(), &repository, scopes)
    }

    /// A session with `scopes`; an empty repository stands for the registry as a whole.
    pub(super) fn session_for(
        &self,
        registry: &str,
        repository: &str,
        scopes: Scopes,
    ) -> Result<Session<'_>, RegistryError> {
        // What is wrong with the sources of credentials comes out before the first request.
        self.lookup(registry, repository)?;
        Ok(Session { client: self, registry: self.registry(registry)?, repository: repository.to_string(), scopes })
    }

    /// Finds out once how `name` is spoken to.
    fn registry(&self, name: &str) -> Result<Arc<Registry>, RegistryError> {
        let mut known = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = known.get(name) {
            return Ok(registry.clone());
        }
        let result = self.http.settings().retry.run(|| self.ping(name));
        let (base, response) = result.map_err(|error| match error {
            RegistryError::Http(cause) => RegistryError::Unreachable { registry: name.into(), cause },
            other => other,
        })?;
        let challenge = Challenge::parse(challenges(&response));
        let state = Mutex::new(State { challenge, ..State::default() });
        let registry = Arc::new(Registry { name: name.to_string(), base, state });
        known.insert(name.to_string(), registry.clone());
        Ok(registry)
    }

    /// `GET /v2/` under each scheme that may be spoken. Any answer but a passing failure will do: some registries have
    /// nothing there, and what they want comes out with the first real request.
    fn ping(&self, name: &str) -> Result<(Url, Response), RegistryError> {
        let host = if name == DOCKER_HUB { "registry-1.docker.io" } else { name };
        let schemes: &[&str] = match self.http.settings().tls.is_insecure(host) {
            // On this machine plain http is the rule.
            true if is_loopback(host) => &["http", "https"],
            true => &["https", "http"],
            false => &["https"],
        };
        let mut first = None;
        for scheme in schemes {
            let base = Url::parse(&format!("{scheme}://{host}/")).map_err(|_| RegistryError::Name(name.into()))?;
            let url = base.join("v2/").map_err(|_| RegistryError::Name(name.into()))?;
            match self.http.send(&Request::new(Method::GET, url)) {
                // A TLS server answers 400 to plain http.
                Ok(response) if *scheme == "http" && response.status() == StatusCode::BAD_REQUEST => {
                    first.get_or_insert(response.into_error());
                }
                Ok(response) => {
                    let status = response.status();
                    if status.is_server_error() || matches!(status.as_u16(), 408 | 429 | 499) {
                        return Err(response.into_error().into());
                    }
                    return Ok((base, response));
                }
                Err(error) => _ = first.get_or_insert(error),
            }
        }
        Err(first.map_or_else(|| RegistryError::Name(name.into()), RegistryError::Http))
    }
}

/// The demands in an answer.
fn challenges(response: &Response) -> Vec<&str> {
    response.headers().get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect()
}

impl Session<'_> {
    /// `registry/repository`, for messages.
    pub(super) fn origin(&self) -> String {
        if self.repository.is_empty() {
            return self.registry.name.clone();
        }
        format!("{}/{}", self.registry.name, self.repository)
    }

    /// Whether the repository is known to have the blob.
    pub(super) fn knows_blob(&self, digest: &Digest) -> bool {
        self.registry.state().blobs.contains(&(self.repository.clone(), digest.clone()))
    }

    /// The repository has the blob.
    pub(super) fn note_blob(&self, digest: &Digest) {
        self.registry.state().blobs.insert((self.repository.clone(), digest.clone()));
    }

    /// What was known of the repository's blobs may be wrong.
    pub(super) fn forget_blobs(&self) {
        self.registry.state().blobs.retain(|(repository, _)| *repository != self.repository);
    }

    /// The credential that requests show now: what a cloud gave holds for an hour or so, and a push may take longer.
    pub(super) fn lookup(&self) -> Result<Lookup, RegistryError> {
        Ok(self.client.lookup(&self.registry.name, &self.repository)?)
    }

    /// Another credential than `refused`, where its source has a newer one by now.
    pub(super) fn renewed(&self, refused: &Credential) -> Result<Option<Credential>, RegistryError> {
        Ok(self.client.renew(&self.registry.name, &self.repository, refused)?)
    }

    /// Which credential requests show, or where none was found.
    pub(super) fn describe_credential(&self) -> String {
        self.lookup().map_or_else(|error| error.to_string(), |lookup| lookup.describe())
    }

    /// `/v2/REPOSITORY/rest`; `rest` is made of names that need no escaping.
    pub(super) fn url(&self, rest: &str) -> Result<Url, RegistryError> {
        let path = format!("v2/{}/{rest}", self.repository);
        self.registry.base.join(&path).map_err(|_| RegistryError::Name(self.origin()))
    }

    /// Sends once, with at most one new token. An answer that is neither 2xx nor in `accept` is an error.
    pub(super) fn send(&self, request: &Request<'_>, accept: &[u16]) -> Result<Response, RegistryError> {
        self.send_scoped(request, accept, &self.scopes)
    }

    /// As [`Session::send`], with other scopes than the session's own.
    pub(super) fn send_scoped(
        &self,
        request: &Request<'_>,
        accept: &[u16],
        scopes: &Scopes,
    ) -> Result<Response, RegistryError> {
        let mut request = request.clone();
        // An upload may continue on another host, which is told nothing.
        let own = request.url.origin() == self.registry.base.origin();
        if own {
            request.authorization = auth::authorization(self, scopes)?;
        }
        let mut response = self.client.http.send(&request)?;
        let refused = response.status() == StatusCode::UNAUTHORIZED && response.url().origin() == request.url.origin();
        if own
            && refused
            && let Some(again) = self.authorization_after(&response, request.authorization.as_ref(), scopes)?
        {
            request.authorization = Some(again);
            response = self.client.http.send(&request)?;
        }
        let status = response.status();
        if status.is_success() || accept.contains(&status.as_u16()) {
            return Ok(response);
        }
        Err(self.fail(response.into_error()))
    }

    /// What to show after a 401; `None` if another try would be the same.
    fn authorization_after(
        &self,
        response: &Response,
        shown: Option<&HeaderValue>,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let Some(challenge) = Challenge::parse(challenges(response)) else { return Ok(None) };
        let wanted = match &challenge {
            Challenge::Bearer { scopes: asked, .. } => asked.clone().union(scopes),
            Challenge::Basic => scopes.clone(),
        };
        {
            let mut state = self.registry.state();
            state.tokens.retain(|token| Some(&token.header) != shown);
            state.challenge = Some(challenge.clone());
        }
        let again = auth::authorization(self, &wanted)?;
        if challenge != Challenge::Basic || again.as_ref() != shown {
            return Ok(again);
        }
        // A password that was refused: it may have ended.
        match self.lookup()?.credential.map(|refused| self.renewed(&refused)).transpose()?.flatten() {
            Some(_) => auth::authorization(self, &wanted),
            None => Ok(None),
        }
    }

    /// A refusal names the credential that was shown.
    pub(super) fn fail(&self, error: HttpError) -> RegistryError {
        match error.status().map(|status| status.as_u16()) {
            Some(401 | 403) => RegistryError::Denied(Box::new(Denial {
                target: self.origin(),
                credential: self.describe_credential(),
                answer: error,
            })),
            _ => RegistryError::Http(error),
        }
    }

    /// [`Session::send`], tried again as the policy says. For requests that change nothing when they come twice.
    pub(super) fn send_retrying(&self, request: &Request<'_>, accept: &[u16]) -> Result<Response, RegistryError> {
        self.client.http.settings().retry.run(|| self.send(request, accept))
    }

    /// HEAD of `rest` with `headers`: the answer, or `None` for 404. What HEAD hides or a registry does not offer, GET shows.
    pub(super) fn head(&self, mut request: Request<'_>) -> Result<Option<Response>, RegistryError> {
        request.method = Method::HEAD;
        let mut result = self.send_retrying(&request, &[404]);
        if matches!(&result, Err(error) if matches!(error.status(), Some(401 | 403 | 405))) {
            request.method = Method::GET;
            result = self.send_retrying(&request, &[404]);
        }
        result.map(|response| Some(response).filter(|r| r.status() != StatusCode::NOT_FOUND))
    }
}

impl crate::http::AsHttp for RegistryError {
    fn as_http(&self) -> Option<&HttpError> {
        match self {
            RegistryError::Http(error) => Some(error),
            _ => None,
        }
    }
}
