//! The registry client: resolve, pull, push, authenticate.
//!
//! Protocol: OCI distribution-spec 1.1 and Docker's registry API v2, on [`crate::http`]. Blocking throughout; transfers of
//! one operation run on a few threads of their own.
//!
//! # What holds
//!
//! * Bytes that come in are verified against their digest before anybody can read them; a wrong blob is never stored.
//! * The tag is the last thing a push writes, so a reader never sees half an image.
//! * What fails for a passing reason is tried again as [`crate::http::RetryPolicy`] says, in every state of an upload; a
//!   token that expires in the middle is renewed; a second refusal with a fresh token is final.
//! * Credentials go to the registry they are for and to the token server it names, nowhere else; errors say which source
//!   they came from and never what they are.
//! * A pull takes manifest and config. Layers come when something reads them ([`RegistryClient::ensure_blob`]); where they
//!   come from is remembered in the store, and lets a push mount them instead of moving them.
//! * Nothing goes twice: a name that stands for the image already sends nothing, a manifest that the repository has is only
//!   given the tag, a blob that it has is not sent, one that another repository has is mounted.
//! * A large layer is on its way while it is still being written ([`RegistryClient::upload_early`]); whether a push will be let in
//!   can be proved before the work ([`RegistryClient::preflight`]).
//!
//! `oci-client` and `docker_credential` do not serve here: no retries, cross-repository mount fails where tokens are used,
//! a relative `Location` panics; no `DOCKER_AUTH_CONFIG`, no credentials for parts of a registry, no time limit for helpers.

mod access;
mod auth;
mod blob;
mod challenge;
mod cloud;
mod early;
mod error;
mod keychain;
mod manifest;
mod push;
mod reach;
mod referrers;
mod routes;
mod scopes;
mod session;
mod sources;
mod supply;
mod transfer;
mod upload;

pub use cloud::{ObjectError, fetch_object};
pub use error::{Denial, RegistryError};
pub use keychain::{Credential, Environment, Identity, Kept, Keychain, KeychainError, Lookup, normalised};
pub use manifest::Resolved;
pub use routes::{Mirror, Route};

use crate::http::Http;
use reach::Registry;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

/// What the client can be told, beside what [`crate::http::Settings`] says of TLS, proxies and names.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Transfers at once.
    pub parallel: usize,
    /// Layers of fewer bytes are not sent before they are whole.
    pub early: u64,
    /// Where images are asked for before, or instead of, their own registry.
    pub routes: Vec<Route>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { parallel: 4, early: 8 << 20, routes: Vec::new() }
    }
}

/// A client for any number of registries. Share it by reference: connections, tokens and what was learnt of a registry
/// are kept in it.
pub struct RegistryClient {
    http: Arc<Http>,
    keychain: Keychain,
    settings: Settings,
    registries: Mutex<HashMap<String, Arc<Registry>>>,
    clouds: cloud::Clouds,
    transfers: AtomicU64,
    /// For blobs on their way out.
    slots: transfer::Slots,
}

impl RegistryClient {
    /// A client; nothing is sent and no credential is looked for before the first operation.
    pub fn new(http: Arc<Http>, keychain: Keychain, settings: Settings) -> Self {
        let (registries, transfers) = (Mutex::default(), AtomicU64::new(transfer::FIRST_ID));
        let (clouds, slots) = (cloud::Clouds::default(), transfer::Slots::new(settings.parallel));
        RegistryClient { http, keychain, settings, registries, clouds, transfers, slots }
    }

    /// The HTTP client underneath, for whatever else goes over the network with the same settings.
    pub fn http(&self) -> &Arc<Http> {
        &self.http
    }

    /// What it was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Which credential is shown to `repository` of `registry`: the keychain's, else the one of the registry's cloud.
    pub fn lookup(&self, registry: &str, repository: &str) -> Result<Lookup, KeychainError> {
        let mut lookup = self.keychain.lookup(registry, repository)?;
        if lookup.credential.is_none()
            && let Some((found, looked_at)) = self.clouds.lookup(&self.http, self.keychain.environment(), registry)
        {
            lookup.credential = found;
            lookup.looked_at.extend((!looked_at.is_empty()).then_some(looked_at));
        }
        Ok(lookup)
    }

    /// Another credential than `refused`, where one can be had: what a cloud or a helper gave may have ended meanwhile, and
    /// a file may have been written anew.
    fn renew(
        &self,
        registry: &str,
        repository: &str,
        refused: &Credential,
    ) -> Result<Option<Credential>, KeychainError> {
        let other = |lookup: Lookup| lookup.credential.filter(|credential| credential.identity != refused.identity);
        // Another transfer may have been here first.
        if let Some(renewed) = other(self.lookup(registry, repository)?) {
            return Ok(Some(renewed));
        }
        self.keychain.forget_answers();
        self.clouds.ask_again(registry);
        Ok(other(self.lookup(registry, repository)?))
    }
}
