//! Build contexts: where COPY and ADD read from.

use crate::oci::layer::Metadata;
use std::io::{self, Read};

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

    /// Two paths with the same identity are hard links of one file; `None` where the file has one name only.
    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>>;
}
