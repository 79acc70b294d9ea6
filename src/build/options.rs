//! What a build is asked to do: plain values that `cli` fills and that travel by pipe into the build role.

use super::cache::Caching;
use crate::dockerfile::redact::redact;
use crate::git::Ssh;
use crate::oci::{ImageFormat, Platform, Reference};
use crate::sandbox::Limit;
use crate::secret::SecretBytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A build, as asked for. Credentials travel beside it; the secrets of steps and URLs that may hold a password are of types
/// that do not show them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildOptions {
    /// What COPY and ADD read.
    pub context: ContextSource,
    /// The part of the context that is meant, of one that is unpacked.
    pub context_subdir: Option<String>,
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
    /// `--platform`, in order, none twice; the host's where there is none.
    pub platforms: Vec<Platform>,
    /// `--build-context name=…`, in order.
    pub build_contexts: Vec<(String, NamedSource)>,
    /// `--no-cache`: look nothing up (what is built is still recorded).
    pub no_cache: bool,
    /// `--no-cache-filter`: the same for the stages of these names.
    pub no_cache_stages: Vec<String>,
    /// `--cache-from` and `--cache-to`.
    pub caching: Caching,
    /// `--pull`: ask the registry even for bases that the local store names.
    pub pull: bool,
    /// `--network` for RUN steps that do not say.
    pub network: Option<String>,
    /// `--add-host name:ip`, in order.
    pub add_hosts: Vec<(String, String)>,
    /// What repositories at ssh addresses are reached with.
    pub ssh: Ssh,
    /// What RUN steps are given.
    pub steps: StepOptions,
    /// `--annotation`, in order.
    pub annotations: Vec<Annotation>,
    /// `--format`
    pub format: ImageFormat,
    /// `SOURCE_DATE_EPOCH`: seconds since 1970 for every time that the builder makes.
    pub source_date_epoch: Option<i64>,
    /// `--rewrite-timestamp`: clamp the times in layers to `SOURCE_DATE_EPOCH` too.
    pub rewrite_timestamp: bool,
    /// `source-date-epoch=` of an output.
    pub export_epoch: ExportEpoch,
}

/// One `--annotation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// What is annotated.
    pub place: AnnotatedPlace,
    /// Only of this platform; of all where there is none.
    pub platform: Option<Platform>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What an annotation is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnnotatedPlace {
    /// An image's manifest.
    Manifest,
    /// The index of several images.
    Index,
    /// An image's entry in the index.
    ManifestDescriptor,
}

/// What `source-date-epoch=` of an output says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportEpoch {
    /// Nothing: the build's own time holds.
    #[default]
    AsBuilt,
    /// No time: none is set back in layers. What the Dockerfile says of the config's times stays.
    None,
    /// This one, in seconds since 1970.
    Seconds(i64),
}

impl ExportEpoch {
    /// The time that later ones in layers are set back to, where the build's own is `epoch`.
    pub fn or(self, epoch: Option<i64>) -> Option<i64> {
        match self {
            ExportEpoch::AsBuilt => epoch,
            ExportEpoch::None => None,
            ExportEpoch::Seconds(seconds) => Some(seconds),
        }
    }
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
    /// `--inject-ca`: certificates of authorities, PEM; steps see them as a file, and variables name it.
    pub authorities: Option<Vec<u8>>,
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

/// A URL as given, which may hold credentials: `Display` and `Debug` show it without them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemoteUrl(String);

impl RemoteUrl {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Self {
        RemoteUrl(text.into())
    }

    /// The whole text, for the request that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redact(&self.0), f)
    }
}

/// Where a tree of files comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContextSource {
    /// A directory, absolute.
    Directory(PathBuf),
    /// Standard input: a tar, compressed or not, or else a Dockerfile, which has an empty context.
    Stdin,
    /// A download: a tar, compressed or not, or else a Dockerfile.
    Url(RemoteUrl),
    /// A git repository, with what of it is meant.
    Git(RemoteUrl),
}

/// What `--build-context` gives a name to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamedSource {
    /// A tree of files.
    Tree(ContextSource),
    /// `docker-image://`: the reference as written.
    Image(String),
    /// `oci-layout://`
    Layout {
        /// The layout's directory, absolute.
        path: PathBuf,
        /// `TAG` or `sha256:…`; the only image, or `latest`, where absent.
        image: Option<String>,
    },
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
    /// This path in a context that has to be fetched first, or one of the usual names.
    InContext(Option<String>),
}
