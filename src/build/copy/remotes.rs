//! Remote sources of ADD, each a tree of its own, beside the context.
//!
//! The tree number N is reached below the root's entry NUL N: no path of a file system or of a Dockerfile can hold a NUL, so
//! nothing else can lead there, and no listing shows it.

use crate::context::{Exclusion, Found, SourceTree};
use crate::oci::Digest;
use crate::oci::layer::Metadata;
use std::io::{self, Read};
use std::sync::Arc;

/// The path of `name` (empty: all) in the remote tree number `index`, as a source of a copy.
pub fn remote_path(index: usize, name: &str) -> String {
    if name.is_empty() { format!("\0{index}") } else { format!("\0{index}/{name}") }
}

/// Whether `path` leads into a remote tree.
pub(super) fn is_remote(path: &[u8]) -> bool {
    path.starts_with(b"\0")
}

/// A tree with remote ones beside it.
pub struct WithRemotes<'a> {
    /// What plain paths lead into.
    pub main: Arc<dyn SourceTree + 'a>,
    /// What [`remote_path`] leads into, by number.
    pub remotes: Vec<Arc<dyn SourceTree>>,
}

impl WithRemotes<'_> {
    /// The tree that `path` is of, and the path in it; `None` for a number that there is not.
    fn find<'p>(&self, path: &'p [u8]) -> Option<(&dyn SourceTree, &'p [u8])> {
        let Some(rest) = path.strip_prefix(b"\0") else { return Some((&*self.main, path)) };
        let (number, inner) = match rest.iter().position(|byte| *byte == b'/') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &b""[..]),
        };
        let number: usize = std::str::from_utf8(number).ok()?.parse().ok()?;
        Some((&**self.remotes.get(number)?, inner))
    }
}

impl SourceTree for WithRemotes<'_> {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        self.find(path).map_or(Ok(None), |(tree, path)| tree.metadata(path))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.find(path).map_or(Err(io::ErrorKind::NotFound.into()), |(tree, path)| tree.read_dir(path))
    }

    fn look(&self, path: &[u8]) -> io::Result<Option<Found>> {
        self.find(path).map_or(Ok(None), |(tree, path)| tree.look(path))
    }

    fn entries(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, Found)>> {
        self.find(path).map_or(Err(io::ErrorKind::NotFound.into()), |(tree, path)| tree.entries(path))
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        self.find(path).map_or(Err(io::ErrorKind::NotFound.into()), |(tree, path)| tree.open(path))
    }

    fn content_digest(&self, path: &[u8]) -> io::Result<Option<Digest>> {
        self.find(path).map_or(Ok(None), |(tree, path)| tree.content_digest(path))
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        self.find(path).map_or(Ok(None), |(tree, path)| tree.link_identity(path))
    }

    fn excluded(&self, path: &[u8]) -> io::Result<Option<Exclusion>> {
        self.find(path).map_or(Ok(None), |(tree, path)| tree.excluded(path))
    }
}
