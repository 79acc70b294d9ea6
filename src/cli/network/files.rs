//! What other tools' configuration says of registries: `daemon.json` (docs.docker.com/reference/cli/dockerd) and
//! `registries.conf` (containers-registries.conf(5), version 2), with the files of its `registries.conf.d`.

use super::{Variables, bare};
use crate::oci::reference::DOCKER_HUB;
use crate::registry::{Mirror, Route, normalised};
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// Docker's file; GitLab's runners mount it into every job's container.
const DAEMON: &str = "/etc/docker/daemon.json";

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read; the cause names it.
    #[error("cannot read a configuration file")]
    Read(#[source] io::Error),
    /// It is no JSON, or has other types.
    #[error("{path} cannot be understood")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// It is no TOML, or has other types.
    #[error("{path} cannot be understood")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Box<toml::de::Error>,
    },
}

/// What the files say.
#[derive(Debug, Default)]
pub struct Found {
    /// Registries that may speak plain http or show any certificate.
    pub insecure: Vec<String>,
    /// Where else images are asked for.
    pub routes: Vec<Route>,
}

/// Reads the files that there are.
pub fn read(variables: &Variables) -> Result<Found, FileError> {
    let mut found = Found::default();
    if let Some(text) = content(Path::new(DAEMON))? {
        let cause = |cause| FileError::Json { path: DAEMON.into(), cause };
        found.daemon(serde_json::from_slice(&text).map_err(cause)?);
    }
    for path in registries_files(variables)? {
        let Some(text) = content(&path)? else { continue };
        let text = String::from_utf8_lossy(&text);
        let parsed: Containers =
            toml::from_str(&text).map_err(|cause| FileError::Toml { path: path.clone(), cause: Box::new(cause) })?;
        found.containers(parsed);
    }
    Ok(found)
}

/// A file's bytes; `None` where it is missing or not for us to read, which is no reason to fail.
fn content(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs_err::read(path) {
        Ok(text) if text.trim_ascii().is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(FileError::Read(error)),
        },
    }
}

/// `CONTAINERS_REGISTRIES_CONF` alone, which must be there; else the user's own or the system's, with the files beside it.
fn registries_files(variables: &Variables) -> Result<Vec<PathBuf>, FileError> {
    if let Some(chosen) = variables.path("CONTAINERS_REGISTRIES_CONF") {
        fs_err::metadata(&chosen).map_err(FileError::Read)?;
        return Ok(vec![chosen]);
    }
    let config = variables.path("XDG_CONFIG_HOME").or_else(|| variables.path("HOME").map(|home| home.join(".config")));
    let system = PathBuf::from("/etc/containers");
    let own = config.map(|config| config.join("containers"));
    let main = own.iter().chain([&system]).map(|dir| dir.join("registries.conf")).find(|path| path.is_file());
    let mut files: Vec<PathBuf> = main.into_iter().collect();
    for dir in [Some(&system), own.as_ref()].into_iter().flatten() {
        let entries = fs_err::read_dir(dir.join("registries.conf.d"));
        let mut more: Vec<PathBuf> =
            entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        more.sort();
        files.extend(more);
    }
    Ok(files)
}

/// The parts of `daemon.json` that are about registries.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Daemon {
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Containers {
    registry: Vec<Registry>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<RegistryMirror>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct RegistryMirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

impl Found {
    fn daemon(&mut self, daemon: Daemon) {
        self.insecure.extend(daemon.insecure_registries.iter().map(|host| bare(host).to_string()));
        if !daemon.registry_mirrors.is_empty() {
            let mirrors = daemon.registry_mirrors.iter().map(|url| Mirror::new(url)).collect();
            self.routes.push(Route { mirrors, ..Route::new(DOCKER_HUB) });
        }
    }

    fn containers(&mut self, containers: Containers) {
        let host = |location: &str| location.split('/').next().unwrap_or_default().to_string();
        for registry in containers.registry {
            let prefix = if registry.prefix.is_empty() { &registry.location } else { &registry.prefix };
            let mut route = Route { blocked: registry.blocked, ..Route::new(&normalised(prefix)) };
            let elsewhere = !registry.location.is_empty() && registry.location != *prefix;
            route.location = elsewhere.then(|| registry.location.clone());
            if registry.insecure {
                self.insecure.push(host(if elsewhere { &registry.location } else { prefix }));
            }
            for mirror in registry.mirror {
                if mirror.insecure {
                    self.insecure.push(host(&mirror.location));
                }
                let digests_only = registry.mirror_by_digest_only || mirror.pull_from_mirror == "digest-only";
                let tags_only = mirror.pull_from_mirror == "tag-only";
                let location = Mirror::new(&mirror.location);
                route.mirrors.push(Mirror { for_tags: !digests_only, for_digests: !tags_only, ..location });
            }
            // The last file that names a prefix counts.
            self.routes.retain(|known| known.prefix != route.prefix);
            self.routes.push(route);
        }
    }
}
