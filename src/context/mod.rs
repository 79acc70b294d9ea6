//! Build contexts: where COPY and ADD read from.
//!
//! [`SourceTree`] is what they read; [`ContextDir`] is a directory of the user's as one, filtered by an ignore file
//! ([`ignore`]); [`EmptyTree`] is `scratch`.

mod chain;
mod dir;
pub mod ignore;
pub mod pattern;
mod stats;
mod xattrs;

pub use dir::ContextDir;
pub use stats::Stats;

use crate::oci::Digest;
use crate::oci::layer::{Kind, Metadata};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

/// A tree of files that COPY and ADD read: a context directory, the tree of a stage or an image.
///
/// Paths are relative to the tree's root, `/`-separated bytes, without a leading slash; the empty path is the root. No
/// method follows a symbolic link at the last component; whoever needs the target resolves it inside the tree.
pub trait SourceTree: Send + Sync {
    /// Metadata of `path`; `None` where there is nothing (a parent that is no directory included).
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>>;

    /// Names in the directory `path`, sorted by bytes.
    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>>;

    /// Content of the regular file `path`.
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>>;

    /// `path` with all that one look at it tells; `None` where there is nothing.
    fn look(&self, path: &[u8]) -> io::Result<Option<Found>> {
        let Some(meta) = self.metadata(path)? else { return Ok(None) };
        let identity = match meta.kind {
            Kind::File { .. } => self.link_identity(path)?,
            _ => None,
        };
        Ok(Some(Found { meta, identity, digest: None }))
    }

    /// What is in the directory `path`: names, sorted by bytes, each with what [`SourceTree::look`] says of it.
    fn entries(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, Found)>> {
        let mut out = Vec::new();
        for name in self.read_dir(path)? {
            let child = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            out.extend(self.look(&child)?.map(|found| (name, found)));
        }
        Ok(out)
    }

    /// Whether looking at a path takes a system call, so that two threads see more than one.
    fn asks_the_kernel(&self) -> bool {
        false
    }

    /// SHA-256 of the content of the regular file `path`, where the tree knows it or keeps what it learns by reading.
    fn content_digest(&self, _path: &[u8]) -> io::Result<Option<Digest>> {
        Ok(None)
    }

    /// [`SourceTree::content_digest`] of several files, in order.
    fn content_digests(&self, paths: &[&[u8]]) -> io::Result<Vec<Option<Digest>>> {
        paths.iter().map(|path| self.content_digest(path)).collect()
    }

    /// Two paths with the same identity are hard links of one file; `None` where the file has one name only.
    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>>;

    /// The nanoseconds of the modification time of `path`, which [`Metadata`] leaves out; `None` where the tree keeps none.
    fn mtime_nanos(&self, _path: &[u8]) -> io::Result<Option<u32>> {
        Ok(None)
    }

    /// Why `path`, which exists where the tree comes from, is left out of the tree; `None` where nothing is left out.
    fn excluded(&self, _path: &[u8]) -> io::Result<Option<Exclusion>> {
        Ok(None)
    }
}

/// What one look at a path tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its metadata.
    pub meta: Metadata,
    /// Of a regular file: [`SourceTree::link_identity`].
    pub identity: Option<(u64, u64)>,
    /// Of a regular file: SHA-256 of its content, where the tree knows it without reading.
    pub digest: Option<Digest>,
}

/// An ignore pattern that leaves a path out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// The pattern.
    pub pattern: String,
    /// The ignore file that holds it.
    pub file: PathBuf,
}

/// A tree with nothing in it: what `FROM scratch` starts with.
#[derive(Debug, Clone, Copy)]
pub struct EmptyTree;

impl SourceTree for EmptyTree {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        let root = Metadata { kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };
        Ok(path.is_empty().then_some(root))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        if path.is_empty() { Ok(Vec::new()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn open(&self, _path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn link_identity(&self, _path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        Ok(None)
    }
}
