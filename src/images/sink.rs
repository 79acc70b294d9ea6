//! Where the files of an archive go: a tar or a directory.

use super::SaveError;
use crate::oci::layer::{Kind, Metadata};
use crate::rootfs::layer::TarWriter;
use fs_err as fs;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where an output goes.
pub enum Target<'a> {
    /// A file. It appears whole or not at all; devices and pipes are written to as they are.
    File(&'a Path),
    /// A directory, made if there is none.
    Directory(&'a Path),
    /// Somewhere else, such as standard output.
    Stream(&'a mut dyn Write),
}

/// Takes the files of an archive, in canonical order.
pub(super) trait Sink {
    fn dir(&mut self, path: &str) -> Result<(), SaveError>;
    fn file(&mut self, path: &str, size: u64, data: &mut dyn Read) -> Result<(), SaveError>;
}

/// Metadata of an archive's own files: the same whoever writes it and when.
fn plain(kind: Kind, mode: u32) -> Metadata {
    Metadata { kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
}

impl<W: Write> Sink for TarWriter<W> {
    fn dir(&mut self, path: &str) -> Result<(), SaveError> {
        Ok(self.append(path.as_bytes(), &plain(Kind::Dir, 0o755), None)?)
    }

    fn file(&mut self, path: &str, size: u64, data: &mut dyn Read) -> Result<(), SaveError> {
        Ok(self.append(path.as_bytes(), &plain(Kind::File { size }, 0o644), Some(data))?)
    }
}

/// Writes into a directory, each file whole or not at all.
pub(super) struct DirectorySink(pub PathBuf);

impl Sink for DirectorySink {
    fn dir(&mut self, path: &str) -> Result<(), SaveError> {
        Ok(fs::create_dir_all(self.0.join(path))?)
    }

    fn file(&mut self, path: &str, _size: u64, data: &mut dyn Read) -> Result<(), SaveError> {
        let path = self.0.join(path);
        whole_file(&path, |out| io::copy(data, out).map(drop).map_err(|source| at(&path, source).into()))
    }
}

/// Makes the file `path` of what `fill` writes; it appears whole or not at all.
pub(super) fn whole_file(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), SaveError>,
) -> Result<(), SaveError> {
    // A symbolic link keeps being one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
        let mut out = BufWriter::new(fs::OpenOptions::new().write(true).open(&path)?);
        fill(&mut out)?;
        return out.flush().map_err(SaveError::from);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = std::fs::Permissions::from_mode(0o666);
    let temp = tempfile::Builder::new().prefix(".dockless-").permissions(mode).tempfile_in(parent);
    let mut out = BufWriter::with_capacity(1 << 17, temp.map_err(|source| at(parent, source))?);
    fill(&mut out)?;
    let temp = out.into_inner().map_err(|error| at(&path, error.into_error()))?;
    temp.persist(&path).map_err(|error| at(&path, error.error))?;
    Ok(())
}

/// An error that names the path.
pub(super) fn at(path: &Path, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), format!("cannot write {}: {source}", path.display()))
}
