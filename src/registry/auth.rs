//! `Authorization`: a password, or a token from the server that the registry names.
//!
//! Spec: distribution, docs/spec/auth/{token,oauth}.md. Tokens are kept until shortly before they end, one for each set of
//! scopes, and a token that allows more serves for less.

use super::challenge::Challenge;
use super::cloud::form;
use super::scopes::Scopes;
use super::session::Session;
use super::{Credential, Denial, Identity, RegistryError};
use crate::http::{HeaderValue, HttpError, Method, Request, Secret, Url};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::{Duration, Instant};

/// Bytes of a token server's answer that are read; GitLab's and AWS's tokens have some kilobytes.
const ANSWER_LIMIT: u64 = 1 << 20;

/// A bearer token, ready to be sent.
pub(super) struct Token {
    scopes: Scopes,
    pub(super) header: HeaderValue,
    /// When it is no longer used: somewhat before it ends.
    until: Instant,
}

/// What to send with a request that needs `scopes`; `None` where the registry wants nothing or we have nothing.
pub(super) fn authorization(session: &Session<'_>, scopes: &Scopes) -> Result<Option<HeaderValue>, RegistryError> {
    // The lock is held while a token is fetched: the other transfers need the same one.
    let mut state = session.registry.state();
    match &state.challenge {
        None => Ok(None),
        Some(Challenge::Basic) => Ok(session.lookup()?.credential.as_ref().and_then(basic)),
        Some(Challenge::Bearer { realm, service, .. }) => {
            let now = Instant::now();
            if let Some(token) = state.tokens.iter().find(|t| t.until > now && t.scopes.cover(scopes)) {
                return Ok(Some(token.header.clone()));
            }
            let credential = session.lookup()?.credential;
            if let Some(Credential { identity: Identity::RegistryToken(token), .. }) = &credential {
                return Ok(bearer(token.expose()));
            }
            let token = fetch(session, credential, realm, service.as_deref(), scopes)?;
            let header = token.header.clone();
            state.tokens.retain(|token| token.until > now);
            state.tokens.push(token);
            Ok(Some(header))
        }
    }
}

fn basic(credential: &Credential) -> Option<HeaderValue> {
    let Identity::Password { user, password } = &credential.identity else { return None };
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))
}

fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A token server's answer. Some call the token `access_token`; without `expires_in` it lives a minute.
#[derive(serde::Deserialize)]
struct Answer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<u64>,
}

fn fetch(
    session: &Session<'_>,
    credential: Option<Credential>,
    realm: &str,
    service: Option<&str>,
    scopes: &Scopes,
) -> Result<Token, RegistryError> {
    let registry = &session.registry;
    let protocol = |what| RegistryError::Protocol { registry: registry.name.clone(), what };
    let url = registry.base().join(realm).map_err(|_| protocol("the token server's address is not a URL"))?;
    let insecure = session.client.http.settings().tls.is_insecure(&crate::http::authority(&url));
    if url.scheme() != "https" && !(url.scheme() == "http" && (insecure || registry.base().scheme() == "http")) {
        return Err(protocol("the token server is not reached by https"));
    }
    let asked = Instant::now();
    let ask = |credential: Option<&Credential>| {
        let request = token_request(url.clone(), credential, service, scopes);
        session.client.http.settings().retry.run(|| {
            let response = session.client.http.send_ok(&request, &[])?;
            response.into_bytes(ANSWER_LIMIT)
        })
    };
    let mut result = ask(credential.as_ref());
    // What was shown may have ended since it was found.
    if let (Err(error), Some(shown)) = (&result, &credential)
        && matches!(error.status().map(|status| status.as_u16()), Some(400 | 401 | 403))
        && let Some(renewed) = session.renewed(shown)?
    {
        result = ask(Some(&renewed));
    }
    let bytes = result.map_err(|error| refused(session, credential.is_some(), error))?;
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|_| protocol("the token server's answer is not JSON"))?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let token = token.ok_or_else(|| protocol("the token server gave no token"))?;
    let header = bearer(token.expose()).ok_or_else(|| protocol("the token cannot be sent in a header"))?;
    let lives = Duration::from_secs(answer.expires_in.filter(|s| *s > 0).unwrap_or(60));
    let until = asked + lives - (lives / 4).min(Duration::from_secs(15));
    Ok(Token { scopes: scopes.clone(), header, until })
}

/// A refusal by the token server is the registry's; anything else says that the token server failed.
fn refused(session: &Session<'_>, shown: bool, error: HttpError) -> RegistryError {
    match error.status().map(|status| status.as_u16()) {
        // Some token servers say 400 for a wrong refresh token.
        Some(400 | 404) if shown => RegistryError::Denied(Box::new(Denial {
            target: session.origin(),
            credential: session.describe_credential(),
            answer: error,
        })),
        _ => session.fail(error),
    }
}

/// GET with a password or nothing; POST with an identity token.
fn token_request(
    mut url: Url,
    credential: Option<&Credential>,
    service: Option<&str>,
    scopes: &Scopes,
) -> Request<'static> {
    if let Some(Credential { identity: Identity::RefreshToken(token), .. }) = credential {
        let scope = scopes.texts().join(" ");
        let mut pairs =
            vec![("grant_type", "refresh_token"), ("client_id", "dockless"), ("refresh_token", token.expose())];
        pairs.extend(service.map(|service| ("service", service)));
        pairs.extend((!scope.is_empty()).then_some(("scope", scope.as_str())));
        return form(url, &pairs);
    }
    let mut pairs = url.query_pairs_mut();
    if let Some(service) = service {
        pairs.append_pair("service", service);
    }
    for scope in scopes.texts() {
        pairs.append_pair("scope", &scope);
    }
    drop(pairs);
    let mut request = Request::new(Method::GET, url);
    request.authorization = credential.and_then(basic);
    request
}
