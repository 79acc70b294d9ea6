//! Git repositories as contexts and as sources of ADD.

use super::RemoteError;
use crate::build::Lookup;
use crate::context::{ContextDir, Found, SourceTree};
use crate::dockerfile::git_ref::{self, GitRef, Mtime};
use crate::git::{self, Reach, Wanted};
use crate::oci::Digest;
use crate::oci::layer::Metadata;
use crate::plan::AddOptions;
use crate::store::TempDir;
use std::io::{self, Read};

/// A checkout as a tree; its files vanish with it.
pub struct GitTree {
    tree: ContextDir,
    _keep: TempDir,
}

/// Fetches what ADD names.
pub fn git_tree(lookup: &Lookup<'_>, url: &str, add: &AddOptions) -> Result<GitTree, RemoteError> {
    let parsed = git_ref::parse(url).map_err(|reason| RemoteError::GitUrl { url: url.to_string(), reason })?;
    let (keep, _) = checkout(lookup, &parsed, add.keep_git_dir, add.checksum.as_deref())?;
    Ok(GitTree { tree: ContextDir::open(keep.path(), None)?, _keep: keep })
}

/// Fetches a repository into a new directory; what the options say wins over the address. Also gives the time of the
/// commit, in seconds since 1970.
pub fn checkout(
    lookup: &Lookup<'_>,
    from: &GitRef,
    keep_git_dir: Option<bool>,
    checksum: Option<&str>,
) -> Result<(TempDir, i64), RemoteError> {
    let (into, spool) = (lookup.store.temp_dir()?, lookup.store.temp_dir()?);
    let remote = match from.indistinguishable_from_local {
        true => format!("https://{}", from.remote),
        false => from.remote.clone(),
    };
    let wanted = Wanted {
        remote: &remote,
        reference: from.reference.as_deref(),
        checksum: checksum.or(from.checksum.as_deref()),
        fetch_by_commit: from.fetch_by_commit,
        subdir: from.subdir.as_deref(),
        keep_git_dir: keep_git_dir.or(from.keep_git_dir).unwrap_or(false),
        submodules: from.submodules.unwrap_or(true),
        commit_time: from.mtime == Some(Mtime::Commit),
    };
    let reach = Reach { http: lookup.registry.http(), ssh: lookup.ssh };
    let found = git::checkout(reach, &wanted, into.path(), spool.path())?;
    Ok((into, found.time))
}

impl SourceTree for GitTree {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        self.tree.metadata(path)
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.tree.read_dir(path)
    }

    fn look(&self, path: &[u8]) -> io::Result<Option<Found>> {
        self.tree.look(path)
    }

    fn entries(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, Found)>> {
        self.tree.entries(path)
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        self.tree.open(path)
    }

    fn content_digests(&self, paths: &[&[u8]]) -> io::Result<Vec<Option<Digest>>> {
        self.tree.content_digests(paths)
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        self.tree.link_identity(path)
    }
}
