//! One file as a tree.

use crate::context::SourceTree;
use crate::oci::layer::{Kind, Metadata};
use crate::store::TempDir;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

/// A tree whose root holds one regular file, of mode 0600 and `0:0`: what ADD sees of a download.
#[derive(Debug)]
pub struct FileTree {
    /// Where the bytes are.
    pub path: PathBuf,
    /// What the tree calls the file.
    pub name: String,
    /// Its length.
    pub size: u64,
    /// Its time, in seconds since 1970.
    pub mtime: i64,
    /// What `path` is in, where it is to vanish with the tree.
    pub keep: Option<TempDir>,
}

impl SourceTree for FileTree {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        let (kind, mode) = match path {
            b"" => (Kind::Dir, 0o755),
            path if path == self.name.as_bytes() => (Kind::File { size: self.size }, 0o600),
            _ => return Ok(None),
        };
        Ok(Some(Metadata { kind, mode, uid: 0, gid: 0, mtime: self.mtime, xattrs: BTreeMap::new() }))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        if path.is_empty() { Ok(vec![self.name.clone().into_bytes()]) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        if path == self.name.as_bytes() {
            Ok(Box::new(fs_err::File::open(&self.path)?))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn link_identity(&self, _path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        Ok(None)
    }
}
