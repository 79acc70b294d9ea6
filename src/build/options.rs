//! What a build is asked to do: plain values that `cli` fills and that travel by pipe into the build role.

use crate::oci::{ImageFormat, Platform, Reference};
use crate::sandbox::Limit;
use crate::secret::SecretBytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A build, as asked for. Credentials travel beside it; the secrets of steps are of a type that does not show them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildOptions {
    /// The context directory, absolute.
    pub context: PathBuf,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// `-t`: names of the result in the local store.
    pub tags: Vec<Reference>,
    /// `--target`
    pub target: Option<String>,
    /// `--build-arg`, in order; a value of `None` (asked for by name, not in the environment) sets nothing.
    pub build_args: Vec<(String, Option<String>)>,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// `--platform`; the host's where absent.
    pub platform: Option<Platform>,
    /// `--build-context name=DIR`, in order.
    pub build_contexts: Vec<(String, PathBuf)>,
    /// `--no-cache`: look nothing up (what is built is still recorded).
    pub no_cache: bool,
    /// `--no-cache-filter`: the same for the stages of these names.
    pub no_cache_stages: Vec<String>,
    /// `--pull`: ask the registry even for bases that the local store names.
    pub pull: bool,
    /// `--network` for RUN steps that do not say.
    pub network: Option<String>,
    /// `--add-host name:ip`, in order.
    pub add_hosts: Vec<(String, String)>,
    /// What RUN steps are given.
    pub steps: StepOptions,
    /// `--annotation` of the manifest, in order.
    pub annotations: Vec<(String, String)>,
    /// `--format`
    pub format: ImageFormat,
    /// `SOURCE_DATE_EPOCH`: seconds since 1970 for every time that the builder makes.
    pub source_date_epoch: Option<i64>,
    /// `--rewrite-timestamp`: clamp the times in layers to `source_date_epoch` too.
    pub rewrite_timestamp: bool,
}

/// What RUN steps are given beyond what the Dockerfile says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepOptions {
    /// `--shm-size` in bytes; 64 MiB where absent.
    pub shm_size: Option<u64>,
    /// `--ulimit`
    pub limits: Vec<Limit>,
    /// `--allow`
    pub allowed: Vec<Entitlement>,
    /// `--secret`: by id.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// `--ssh`: sockets of agents, absolute, by id.
    pub ssh: BTreeMap<String, PathBuf>,
}

/// What a step may do only when the build allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entitlement {
    /// `network.host`: `RUN --network=host`.
    NetworkHost,
    /// `security.insecure`: `RUN --security=insecure`.
    SecurityInsecure,
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DockerfileSource {
    /// A file, absolute. `name` is how the user wrote it, for messages.
    File {
        /// The path to open.
        path: PathBuf,
        /// The path as written.
        name: String,
    },
    /// Its text (from standard input).
    Text(Vec<u8>),
}

impl DockerfileSource {
    /// Where the file is; `None` for text.
    pub fn path(&self) -> Option<&Path> {
        match self {
            DockerfileSource::File { path, .. } => Some(path),
            DockerfileSource::Text(_) => None,
        }
    }
}
