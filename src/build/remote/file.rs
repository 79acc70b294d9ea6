//! One file as a tree.

use crate::context::SourceTree;
use crate::oci::Digest;
use crate::oci::layer::{Kind, Metadata};
use crate::store::TempDir;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Brings the bytes of a file to a path.
pub(super) type Fetch = Box<dyn FnOnce(&Path) -> io::Result<()> + Send>;

/// A tree whose root holds one regular file, of mode 0600 and `0:0`: what ADD sees of a download.
pub struct FileTree {
    /// Where the bytes are, or come when somebody reads them.
    pub path: PathBuf,
    /// What the tree calls the file.
    pub name: String,
    /// Its length.
    pub size: u64,
    /// Its time, in seconds since 1970.
    pub mtime: i64,
    /// SHA-256 of its bytes, where that is known.
    pub digest: Option<Digest>,
    /// What brings the bytes, where they are not there yet.
    pub fetch: Mutex<Option<Fetch>>,
    /// What `path` is in, where it is to vanish with the tree.
    pub keep: Option<TempDir>,
}

impl FileTree {
    fn is_it(&self, path: &[u8]) -> bool {
        path == self.name.as_bytes()
    }
}

impl SourceTree for FileTree {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        let (kind, mode) = match path {
            b"" => (Kind::Dir, 0o755),
            path if self.is_it(path) => (Kind::File { size: self.size }, 0o600),
            _ => return Ok(None),
        };
        Ok(Some(Metadata { kind, mode, uid: 0, gid: 0, mtime: self.mtime, xattrs: BTreeMap::new() }))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        if path.is_empty() { Ok(vec![self.name.clone().into_bytes()]) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        if !self.is_it(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut fetch = self.fetch.lock().unwrap_or_else(PoisonError::into_inner);
        fetch.take().map_or(Ok(()), |fetch| fetch(&self.path))?;
        Ok(Box::new(fs_err::File::open(&self.path)?))
    }

    fn content_digest(&self, path: &[u8]) -> io::Result<Option<Digest>> {
        Ok(self.digest.clone().filter(|_| self.is_it(path)))
    }

    fn link_identity(&self, _path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        Ok(None)
    }
}
