//! `config.json` and `auth.json`. Spec: docker/cli, docs/reference/commandline/docker.md; containers-auth.json(5).

use super::{Identity, KeychainError};
use crate::http::Secret;
use crate::oci::reference::DOCKER_HUB;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What Docker calls its own registry in `auths` and towards helpers.
pub(super) const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The parts of the file that are about credentials.
#[derive(Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ConfigFile {
    auths: BTreeMap<String, Entry>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Secret,
    username: String,
    password: Secret,
    identitytoken: Secret,
    registrytoken: Secret,
}

impl ConfigFile {
    pub(super) fn parse(source_name: &str, text: &[u8]) -> Result<Self, KeychainError> {
        if text.trim_ascii().is_empty() {
            return Ok(ConfigFile::default());
        }
        serde_json::from_slice(text).map_err(|error| KeychainError::Syntax {
            source_name: source_name.to_string(),
            line: error.line(),
            column: error.column(),
        })
    }

    /// The helper to ask about `registry`, without its prefix `docker-credential-`.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.cred_helpers.iter().find(|(key, _)| normalised(key) == registry).map(|(_, helper)| helper);
        own.or(Some(&self.creds_store)).map(String::as_str).filter(|helper| !helper.is_empty())
    }

    /// The entry of `auths` with the longest key that fits `name` (`registry/repository`).
    pub(super) fn auth(&self, name: &str, source_name: &str) -> Result<Option<Identity>, KeychainError> {
        let entries = self.auths.iter().map(|(key, entry)| (normalised(key), key, entry));
        let mut fitting: Vec<_> = entries.filter(|(short, ..)| fits(short, name)).collect();
        fitting.sort_by_key(|(short, ..)| std::cmp::Reverse(short.len()));
        for (_, key, entry) in fitting {
            let identity = entry
                .identity()
                .ok_or_else(|| KeychainError::Auth { source_name: source_name.to_string(), key: key.clone() })?;
            // An empty entry says that a store has it, which was asked already.
            if identity.is_some() {
                return Ok(identity);
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// `None` if `auth` is no base64 of `user:password`; `Some(None)` if there is nothing here.
    fn identity(&self) -> Option<Option<Identity>> {
        if !self.identitytoken.is_empty() {
            return Some(Some(Identity::RefreshToken(self.identitytoken.clone())));
        }
        if !self.registrytoken.is_empty() {
            return Some(Some(Identity::RegistryToken(self.registrytoken.clone())));
        }
        if self.auth.is_empty() {
            let Entry { username, password, .. } = self;
            let given = !username.is_empty() && !password.is_empty();
            return Some(given.then(|| Identity::Password { user: username.clone(), password: password.clone() }));
        }
        let text = self.auth.expose().trim();
        let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        // Old versions of Docker pad with NUL.
        let password = Secret::new(password.trim_matches('\0'));
        Some(Some(Identity::Password { user: user.to_string(), password }))
    }
}

/// A key as `registry[/path]`: without scheme, without `/v1/` or `/v2/`, and Docker's registry under its one name.
pub fn normalised(key: &str) -> String {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    let (host, path) = bare.split_once('/').map_or((bare, None), |(host, path)| (host, Some(path)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB,
        other => other,
    };
    path.map_or_else(|| host.to_string(), |path| format!("{host}/{path}"))
}

/// Whether the normalised `key` is `name` or a part of the way to it.
pub(super) fn fits(key: &str, name: &str) -> bool {
    name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
