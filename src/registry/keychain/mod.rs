//! Where credentials come from.
//!
//! The first source that knows the registry answers, in this order:
//!
//! 1. what was given on the command line;
//! 2. `DOCKER_AUTH_CONFIG`;
//! 3. a file of dockless's own, where `login` found no other that it could write; `$DOCKER_CONFIG/config.json`;
//! 4. `/kaniko/.docker/config.json`;
//! 5. `REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json`
//!    (`~/.config` without it);
//! 6. `~/.docker/config.json`;
//! 7. the CI's own variables: `CI_REGISTRY*`, `CI_DEPENDENCY_PROXY_*`, `GITHUB_TOKEN` for ghcr.io,
//!    `KANIKO_<HOST>_USER` with `_PASSWORD`;
//! 8. the registry's cloud ([`super::RegistryClient::lookup`]);
//! 9. nobody: anonymous.
//!
//! Within one file, as Docker has it: `credHelpers`, then `credsStore`, then `auths`. Keys of `auths` may name a part of a
//! registry (`host/group`); the longest that fits counts (containers-auth.json(5)). A file that is missing or may not be
//! read is passed over and named when access is denied; one that is no JSON is an error.

mod ci;
mod file;
mod helper;
mod login;

use crate::http::Secret;
use crate::oci::reference::DOCKER_HUB;
use file::ConfigFile;
pub use file::normalised;
pub use login::Kept;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Credentials that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// Not the JSON that a `config.json` is. The parser's message is left out: it could quote a secret.
    #[error("{source_name} is not a valid config.json (line {line}, column {column})")]
    Syntax {
        /// The file or variable.
        source_name: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An `auth` that is not `base64(user:password)`.
    #[error("{source_name}: the entry for '{key}' is not base64 of 'user:password'")]
    Auth {
        /// The file or variable.
        source_name: String,
        /// The key in `auths`.
        key: String,
    },
    /// A login that could not be kept or forgotten.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A helper that could not be started or waited for.
    #[error("credential helper '{program}' (named in {source_name}) cannot be run")]
    HelperRun {
        /// The program.
        program: String,
        /// Who names it.
        source_name: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A helper that failed.
    #[error("credential helper '{program}' (named in {source_name}) failed for {server}: {message}")]
    HelperFailed {
        /// The program.
        program: String,
        /// Who names it.
        source_name: String,
        /// What it was asked for.
        server: String,
        /// Its own words.
        message: String,
    },
    /// A helper that did not end in time.
    #[error("credential helper '{program}' (named in {source_name}) gave no answer for {server} in {seconds} s")]
    HelperTimeout {
        /// The program.
        program: String,
        /// Who names it.
        source_name: String,
        /// What it was asked for.
        server: String,
        /// The limit.
        seconds: u64,
    },
}

/// The environment's variables, as the keychain and its helpers see them. `Debug` shows their names only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// From names and values.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Environment(variables.into_iter().collect())
    }

    /// Whether there is nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How one shows who one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// User and password.
    Password {
        /// User.
        user: String,
        /// Password, or a token that stands for one.
        password: Secret,
    },
    /// An OAuth 2 refresh token (`identitytoken`), to be turned into access tokens.
    RefreshToken(Secret),
    /// A bearer token, sent as it is (`registrytoken`).
    RegistryToken(Secret),
}

/// Who one is, and where that comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The identity.
    pub identity: Identity,
    /// The source, such as `DOCKER_AUTH_CONFIG` or a file's path.
    pub source: String,
}

/// What a search through the sources found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lookup {
    /// The first one found; without it requests are anonymous.
    pub credential: Option<Credential>,
    /// Sources that were looked at and have none for this registry.
    pub looked_at: Vec<String>,
}

impl Lookup {
    /// For messages: which credential, or where none was found.
    pub fn describe(&self) -> String {
        match &self.credential {
            Some(Credential { identity: Identity::Password { user, .. }, source }) => {
                format!("with the credentials of user '{user}' from {source}")
            }
            Some(Credential { source, .. }) => format!("with the token from {source}"),
            None if self.looked_at.is_empty() => "no credentials found".into(),
            None => format!("no credentials found (looked at {})", self.looked_at.join(", ")),
        }
    }
}

/// Finds credentials. Files are read, and helpers are run, when a registry is first asked for.
pub struct Keychain {
    environment: Environment,
    own_file: Option<PathBuf>,
    explicit: Vec<(String, Credential)>,
    files: Mutex<HashMap<PathBuf, Option<ConfigFile>>>,
    helped: Mutex<HashMap<(String, String), Option<Identity>>>,
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keychain").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl Keychain {
    /// A keychain that reads `environment` and nothing else.
    pub fn new(environment: Environment) -> Self {
        Keychain {
            environment,
            own_file: None,
            explicit: Vec::new(),
            files: Mutex::default(),
            helped: Mutex::default(),
        }
    }

    /// A keychain that knows nobody: every request is anonymous.
    pub fn anonymous() -> Self {
        Keychain::new(Environment::default())
    }

    /// Adds what was given on the command line for `registry`, by `source` (the flag).
    pub fn with(mut self, registry: &str, user: &str, password: Secret, source: &str) -> Self {
        let identity = Identity::Password { user: user.into(), password };
        self.explicit.push((file::normalised(registry), Credential { identity, source: source.into() }));
        self
    }

    /// Adds a file of dockless's own, where logins are that no other file takes; it is looked at before all files.
    pub fn with_file(mut self, path: PathBuf) -> Self {
        self.own_file = Some(path);
        self
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Searches the sources for `repository` (`library/alpine`) of `registry` (`docker.io`).
    pub fn lookup(&self, registry: &str, repository: &str) -> Result<Lookup, KeychainError> {
        let mut lookup = Lookup::default();
        let name = format!("{registry}/{repository}");
        let given = self.explicit.iter().filter(|(key, _)| file::fits(key, &name)).max_by_key(|(key, _)| key.len());
        if let Some((_, credential)) = given {
            lookup.credential = Some(credential.clone());
            return Ok(lookup);
        }
        if let Some(text) = self.environment.get("DOCKER_AUTH_CONFIG") {
            let config = ConfigFile::parse("DOCKER_AUTH_CONFIG", text.as_bytes())?;
            if self.ask(&config, registry, &name, "DOCKER_AUTH_CONFIG", &mut lookup)? {
                return Ok(lookup);
            }
        }
        for path in self.paths() {
            let source = path.display().to_string();
            let own = self.own_file.as_ref() == Some(&path);
            let Some(config) = self.file(path)? else {
                // Most have never had a login of their own.
                if own {
                    continue;
                }
                lookup.looked_at.push(format!("{source} (not there, or not readable)"));
                continue;
            };
            if self.ask(&config, registry, &name, &source, &mut lookup)? {
                return Ok(lookup);
            }
        }
        lookup.credential = ci::lookup(&self.environment, registry);
        if lookup.credential.is_none() {
            lookup.looked_at.push("the CI's variables".into());
        }
        Ok(lookup)
    }

    /// Whether `config` knows the registry; the result goes into `lookup`.
    fn ask(
        &self,
        config: &ConfigFile,
        registry: &str,
        name: &str,
        source: &str,
        lookup: &mut Lookup,
    ) -> Result<bool, KeychainError> {
        let found = match config.helper(registry) {
            Some(helper) => self.helper(helper, registry, source)?.map(|identity| Credential {
                identity,
                source: format!("docker-credential-{helper} (named in {source})"),
            }),
            None => None,
        };
        let found = match found {
            Some(found) => Some(found),
            None => {
                let identity = config.auth(name, source)?;
                identity.map(|identity| Credential { identity, source: source.to_string() })
            }
        };
        match found {
            Some(credential) => lookup.credential = Some(credential),
            None => lookup.looked_at.push(source.to_string()),
        }
        Ok(lookup.credential.is_some())
    }

    /// Has files read and helpers run again when they are asked next.
    pub(super) fn forget_answers(&self) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.helped.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn helper(&self, helper: &str, registry: &str, source: &str) -> Result<Option<Identity>, KeychainError> {
        let server = if registry == DOCKER_HUB { file::HUB_KEY } else { registry };
        let key = (helper.to_string(), server.to_string());
        let mut helped = self.helped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = helped.get(&key) {
            return Ok(known.clone());
        }
        let identity = helper::get(helper, server, source, &self.environment.0, helper::LIMIT)?;
        helped.insert(key, identity.clone());
        Ok(identity)
    }

    fn file(&self, path: PathBuf) -> Result<Option<ConfigFile>, KeychainError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = files.get(&path) {
            return Ok(known.clone());
        }
        let config = match fs_err::read(&path) {
            Ok(text) => Some(ConfigFile::parse(&path.display().to_string(), &text)?),
            Err(error) => {
                tracing::debug!(%error, "no credentials read");
                None
            }
        };
        files.insert(path, config.clone());
        Ok(config)
    }

    /// The files of the list above, in its order, each once.
    fn paths(&self) -> Vec<PathBuf> {
        let env = &self.environment;
        let home = env.path("HOME");
        let config_home = env.path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let candidates = [
            self.own_file.clone(),
            env.path("DOCKER_CONFIG").map(|dir| dir.join("config.json")),
            // Without any variable there is nobody to ask: this is what keeps a bare keychain bare.
            (!env.is_empty()).then(|| "/kaniko/.docker/config.json".into()),
            env.path("REGISTRY_AUTH_FILE"),
            env.path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            config_home.map(|dir| dir.join("containers/auth.json")),
            home.map(|home| home.join(".docker/config.json")),
        ];
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in candidates.into_iter().flatten() {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }
}

#[cfg(test)]
mod tests;
