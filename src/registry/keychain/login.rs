//! Keeping and forgetting a login: in the helper that the configuration names for the registry, else in `config.json`, else,
//! where that cannot be written, in a file of dockless's own.

use super::file::{self, ConfigFile, HUB_KEY};
use super::{Keychain, KeychainError, helper};
use crate::http::Secret;
use crate::oci::reference::DOCKER_HUB;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where a login is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The file or the helper.
    pub place: String,
    /// It is there as text that who can read the file can read.
    pub clear: bool,
    /// Why it is not in the file where Docker would keep it.
    pub instead_of: Option<String>,
}

impl Keychain {
    /// Keeps `user` and `password` for `registry`.
    pub fn keep(&self, registry: &str, user: &str, password: &Secret) -> Result<Kept, KeychainError> {
        let main = self.login_file();
        if let Some(path) = &main
            && let Some(config) = self.file(path.clone())?
            && let Some(name) = config.helper(registry)
        {
            let source = path.display().to_string();
            let words = json!({ "ServerURL": server(registry), "Username": user, "Secret": password.expose() });
            helper::tell(name, "store", &words.to_string(), &source, &self.environment.0)?;
            let place = format!("docker-credential-{name} (named in {source})");
            return Ok(Kept { place, clear: false, instead_of: None });
        }
        let entry = json!({ "auth": STANDARD.encode(format!("{user}:{}", password.expose())) });
        let put = |auths: &mut Map<String, Value>| {
            auths.retain(|key, _| file::normalised(key) != registry);
            auths.insert(server(registry).to_string(), entry.clone());
            true
        };
        let kept = |path: &Path, instead_of| Kept { place: path.display().to_string(), clear: true, instead_of };
        let why = match &main {
            Some(path) => match edit(path, put) {
                Ok(_) => return Ok(kept(path, None)),
                Err(KeychainError::Write { cause, .. }) => cause.to_string(),
                Err(error) => return Err(error),
            },
            None => "there is no home directory for a config.json".to_string(),
        };
        let Some(own) = &self.own_file else {
            return Err(KeychainError::Write { path: main.unwrap_or_default(), cause: io::Error::other(why) });
        };
        edit(own, put)?;
        Ok(kept(own, Some(why)))
    }

    /// Forgets what is kept for `registry`; the places where something was.
    pub fn forget(&self, registry: &str) -> Result<Vec<String>, KeychainError> {
        let mut places = Vec::new();
        let main = self.login_file();
        if let Some(path) = &main
            && let Some(config) = self.file(path.clone())?
            && let Some(name) = config.helper(registry)
        {
            let source = path.display().to_string();
            if self.helper(name, registry, &source)?.is_some() {
                helper::tell(name, "erase", server(registry), &source, &self.environment.0)?;
                places.push(format!("docker-credential-{name} (named in {source})"));
            }
        }
        for path in main.iter().chain(&self.own_file) {
            let remove = |auths: &mut Map<String, Value>| {
                let before = auths.len();
                auths.retain(|key, _| file::normalised(key) != registry);
                auths.len() != before
            };
            if path.exists() && edit(path, remove)? {
                places.push(path.display().to_string());
            }
        }
        Ok(places)
    }

    /// Docker's own file.
    fn login_file(&self) -> Option<PathBuf> {
        let env = &self.environment;
        let home = || env.path("HOME").filter(|home| home != Path::new("/")).map(|home| home.join(".docker"));
        env.path("DOCKER_CONFIG").or_else(home).map(|dir| dir.join("config.json"))
    }
}

/// What Docker calls `registry` in `auths` and towards helpers.
fn server(registry: &str) -> &str {
    if registry == DOCKER_HUB { HUB_KEY } else { registry }
}

/// Changes `auths` in the file at `path`, made if there is none; everything else in it stays. Whether `change` did anything.
fn edit(path: &Path, change: impl Fn(&mut Map<String, Value>) -> bool) -> Result<bool, KeychainError> {
    let failed = |cause: io::Error| KeychainError::Write { path: path.to_path_buf(), cause };
    let text = match fs_err::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    // Said as a reader would say it, if it is not what it should be.
    ConfigFile::parse(&path.display().to_string(), &text)?;
    let mut document = serde_json::from_slice(&text).unwrap_or_else(|_| json!({}));
    if !document["auths"].is_object() {
        document["auths"] = json!({});
    }
    let changed = document["auths"].as_object_mut().is_some_and(change);
    if changed {
        let text = serde_json::to_string_pretty(&document).map_err(|error| failed(error.into()))?;
        write(path, text.as_bytes()).map_err(failed)?;
    }
    Ok(changed)
}

/// Puts `text` at `path` in one piece, for its owner alone; where only the file itself can be written (it is a mount of its
/// own), into the file.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    // A symbolic link keeps being one.
    let path = &fs_err::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let dir = path.parent().unwrap_or(Path::new("/"));
    // Not fs_err's builder: it has no mode.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let replaced = tempfile::Builder::new().prefix(".login-").tempfile_in(dir).and_then(|mut temp| {
        temp.write_all(text)?;
        temp.as_file().sync_all()?;
        temp.persist(path).map(drop).map_err(|error| error.error)
    });
    match replaced {
        Ok(()) => Ok(()),
        Err(_) if path.exists() => fs_err::write(path, text),
        Err(error) => Err(error),
    }
}
