//! What is to be run, and where.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::limits::Limit;
use crate::secret::SecretBytes;

/// The root file system of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// An overlay, mounted `volatile`: nothing of it is safe on disk before the caller has synced what it keeps.
    Overlay {
        /// Unpacked layers, the top one first; may be empty.
        #[serde(with = "paths")]
        lowers: Vec<PathBuf>,
        /// Where changes go. Its mode and owner are those of the root directory.
        #[serde(with = "path")]
        upper: PathBuf,
        /// An empty directory on the file system of `upper`; empty again afterwards, unless the run was killed
        /// ([`crate::sys::remove_tree`] removes what is left then).
        #[serde(with = "path")]
        work: PathBuf,
    },
    /// A directory, changed in place. In the tiers without mounts it is as little on disk.
    Dir(#[serde(with = "path")] PathBuf),
}

/// What to do with standard input, output and error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Input is `/dev/null`; output and error go to the callback.
    Capture,
    /// Each command of a container has its own, see [`super::Sandbox::start`].
    Served,
}

/// The network of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The caller's.
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// A further mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where, in the root; links on the way are followed inside the root. Made if it is not there, for the run only.
    #[serde(with = "path")]
    pub target: PathBuf,
    /// Whether it can be written to.
    pub readonly: bool,
}

impl Mount {
    /// Whether what is written there is there for others as well, or afterwards.
    pub(super) fn outlives_the_step(&self) -> bool {
        match self.source {
            MountSource::Bind(_) | MountSource::Below { .. } => !self.readonly,
            MountSource::Overlay { .. } | MountSource::Tmpfs(_) | MountSource::Secret { .. } => false,
        }
    }
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory outside, with what is mounted below it.
    Bind(#[serde(with = "path")] PathBuf),
    /// A file or directory below a directory outside. Links on the way are followed inside that directory.
    Below {
        /// The directory, which may hold anything.
        #[serde(with = "path")]
        dir: PathBuf,
        /// Path below it.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// A file or directory of a tree of layers.
    Overlay {
        /// Unpacked layers, the top one first; may be empty.
        #[serde(with = "paths")]
        lowers: Vec<PathBuf>,
        /// Where writes go; without it there can be none.
        writes: Option<Writes>,
        /// Path below the tree's root; links on the way are followed inside the tree.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// An empty tmpfs, of at most so many bytes if given.
    Tmpfs(Option<u64>),
    /// A file in memory.
    Secret {
        /// What it holds.
        content: SecretBytes,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its mode.
        mode: u32,
    },
}

/// The writable part of a mounted overlay; both directories on one file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// Where changes go.
    #[serde(with = "path")]
    pub upper: PathBuf,
    /// An empty directory.
    #[serde(with = "path")]
    pub work: PathBuf,
}

/// A command and all it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Its root.
    pub root: Root,
    /// The program and its arguments. A program without a slash is searched in the PATH of `env`.
    pub args: Vec<OsString>,
    /// Its whole environment, but for PATH (Docker's default) and HOME (the user's), which are set where missing.
    pub env: Vec<(OsString, OsString)>,
    /// Variables whose values are secrets, after those of `env`.
    pub secret_env: Vec<(String, SecretBytes)>,
    /// Its working directory; made if it is not there.
    #[serde(with = "path")]
    pub cwd: PathBuf,
    /// USER as the image says it, see [`super::users::lookup`]; empty for root.
    pub user: String,
    /// The host name; that of the machine if `None`.
    pub hostname: Option<String>,
    /// Further lines for `/etc/hosts`: name, address.
    pub hosts: Vec<(String, String)>,
    /// Whether the root cannot be written to; further mounts, /dev and /tmp's like are not concerned. Not in the chroot tier.
    pub readonly_root: bool,
    /// Further mounts, made in order.
    pub mounts: Vec<Mount>,
    /// Size of `/dev/shm` in bytes; 64 MiB if `None`.
    pub shm_size: Option<u64>,
    /// Resource limits; those that are not named are the caller's.
    pub limits: Vec<Limit>,
    /// Its network.
    pub network: Network,
    /// Its standard input, output and error.
    pub stdio: Stdio,
}

impl RunSpec {
    /// `args` in `root` as root in `/`, captured, with the host's network and nothing further.
    pub fn new(root: Root, args: impl IntoIterator<Item = impl Into<OsString>>) -> RunSpec {
        RunSpec {
            root,
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            secret_env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: String::new(),
            hostname: None,
            hosts: Vec::new(),
            readonly_root: false,
            mounts: Vec::new(),
            shm_size: None,
            limits: Vec::new(),
            network: Network::Host,
            stdio: Stdio::Capture,
        }
    }
}

/// Paths as bytes: serde refuses those that are not UTF-8.
pub(super) mod path {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(in crate::sandbox) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().serialize(to)
    }

    pub(in crate::sandbox) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(from).map(PathBuf::from)
    }
}

/// Lists of paths as bytes.
mod paths {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| path.as_os_str()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<OsString>::deserialize(from)?.into_iter().map(PathBuf::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn crosses_the_pipe_with_any_bytes() {
        let odd = || OsString::from_vec(b"/a\xff\n".to_vec());
        let root = Root::Overlay { lowers: vec![odd().into()], upper: odd().into(), work: "/w".into() };
        let mut spec = RunSpec::new(root, [odd()]);
        spec.env.push((odd(), odd()));
        spec.mounts.push(Mount { source: MountSource::Bind(odd().into()), target: odd().into(), readonly: true });
        let bytes = serde_json::to_vec(&spec).unwrap();
        assert_eq!(serde_json::from_slice::<RunSpec>(&bytes).unwrap(), spec);
    }
}
