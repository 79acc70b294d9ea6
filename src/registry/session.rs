//! Requests to one repository: what the registry wants to see, and the one new token after a 401.

use super::challenge::Challenge;
use super::reach::Registry;
use super::scopes::Scopes;
use super::{Credential, Denial, Lookup, RegistryClient, RegistryError, auth};
use crate::http::{HeaderValue, HttpError, Method, Pending, Request, Response, StatusCode, Url, header};
use crate::oci::{Digest, Reference};
use std::sync::Arc;

/// A request that is on its way.
pub(super) struct Begun {
    request: Request<'static>,
    pending: Pending,
    scopes: Scopes,
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
        let lookup = self.lookup(registry, repository)?;
        let registry = self.registry(registry, lookup.credential.is_some())?;
        Ok(Session { client: self, registry, repository: repository.to_string(), scopes })
    }
}

/// The demands in an answer.
pub(super) fn challenges(response: &Response) -> Vec<&str> {
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
        self.registry.base().join(&path).map_err(|_| RegistryError::Name(self.origin()))
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
        let mut request = self.signed(request, scopes)?;
        let response = self.client.send_to(&self.registry, &mut request)?;
        self.answered(request, response, accept, scopes)
    }

    /// `request` as it goes out: an upload may continue on another host, which is told nothing.
    fn signed<'r>(&self, request: &Request<'r>, scopes: &Scopes) -> Result<Request<'r>, RegistryError> {
        let mut request = request.clone();
        request.url = self.registry.moved(request.url);
        if self.registry.is_at(&request.url) {
            request.authorization = auth::authorization(self, scopes)?;
        }
        Ok(request)
    }

    /// Sends `request`, which has no body to be read, and does not wait: [`Session::end`] does.
    pub(super) fn begin(&self, request: Request<'static>, scopes: Scopes) -> Result<Begun, RegistryError> {
        let request = self.signed(&request, &scopes)?;
        let pending = self.client.http.begin(&request)?;
        Ok(Begun { request, pending, scopes })
    }

    /// The answer to what was begun, as [`Session::send`] gives it.
    pub(super) fn end(&self, begun: Begun, accept: &[u16]) -> Result<Response, RegistryError> {
        let Begun { mut request, pending, scopes } = begun;
        let answer = self.client.http.end(&request, pending);
        let response = self.client.sent_to(&self.registry, &mut request, answer)?;
        self.answered(request, response, accept, &scopes)
    }

    /// Sees to a 401 with at most one new token, and makes an error of what is neither 2xx nor in `accept`.
    fn answered(
        &self,
        mut request: Request<'_>,
        mut response: Response,
        accept: &[u16],
        scopes: &Scopes,
    ) -> Result<Response, RegistryError> {
        let refused = response.status() == StatusCode::UNAUTHORIZED && response.url().origin() == request.url.origin();
        if refused
            && self.registry.is_at(&request.url)
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

    /// HEAD: the answer, or `None` for 404. What HEAD hides or a registry does not offer, GET shows. `begun` is the same
    /// request where it is on its way already.
    pub(super) fn head(
        &self,
        mut request: Request<'_>,
        mut begun: Option<Begun>,
    ) -> Result<Option<Response>, RegistryError> {
        request.method = Method::HEAD;
        let mut result = self.client.http.settings().retry.run(|| match begun.take() {
            Some(begun) => self.end(begun, &[404]),
            None => self.send(&request, &[404]),
        });
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
