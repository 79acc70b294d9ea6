//! Bind mounts of trees: stages, images, contexts.

use super::{Held, context_name, select, tree};
use crate::build::Build;
use crate::build::error::StepError;
use crate::build::schedule::Results;
use crate::build::stage::StageResult;
use crate::plan::TreeSource;
use crate::rootfs::{ActiveSnapshot, SnapshotterKind};
use crate::sandbox::{MountSource, Root, Writes};
use crate::store::TempDir;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

/// A tree that a mount shows.
#[derive(Debug)]
pub(super) struct Lent {
    snapshot: Option<ActiveSnapshot>,
    writable: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        // What could be written to is of no use to anybody else.
        if let Some(snapshot) = self.snapshot.take().filter(|_| !self.writable) {
            snapshot.release();
        }
    }
}

impl Build<'_> {
    /// What a bind mount shows.
    pub(super) fn bind(
        &self,
        from: &TreeSource,
        source: &str,
        writable: bool,
        results: &Results<StageResult>,
        held: &mut Vec<Held>,
    ) -> Result<MountSource, StepError> {
        let mut path = PathBuf::from(source);
        if self.snapshots.kind() == SnapshotterKind::Copy {
            return self.bind_copy(from, source, writable, results, held);
        }
        let fetch = |layer: &_| self.fetch(layer);
        let lowers = match from {
            TreeSource::Scratch => Vec::new(),
            TreeSource::Image(image) => self.snapshots.lowers(&self.image(image).layers, &fetch)?,
            TreeSource::Stage(stage) => self.snapshots.lowers(&self.stage_result(*stage, results)?.layers, &fetch)?,
            TreeSource::Context | TreeSource::NamedContext(_) => {
                let (copy, copied) = self.context_copy(from, source, results)?;
                let lowers = vec![copy.path().to_path_buf()];
                held.push(Held::Copy(copy));
                path = copied;
                lowers
            }
        };
        let mut writes = None;
        if writable {
            let temp = self.snapshots.temp_dir()?;
            let of = |name| temp.path().join(name);
            let made = Writes { upper: of("upper"), work: of("work") };
            for dir in [&made.upper, &made.work] {
                fs_err::create_dir(dir)?;
                fs_err::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
            }
            writes = Some(made);
            held.push(Held::Directory(temp));
        }
        Ok(MountSource::Overlay { lowers, writes, path })
    }

    /// A bind mount where overlays cannot be mounted: of a whole tree that is the mount's own while it lasts.
    fn bind_copy(
        &self,
        from: &TreeSource,
        source: &str,
        writable: bool,
        results: &Results<StageResult>,
        held: &mut Vec<Held>,
    ) -> Result<MountSource, StepError> {
        let layers = match from {
            TreeSource::Scratch => Vec::new(),
            TreeSource::Image(image) => self.image(image).layers.clone(),
            TreeSource::Stage(stage) => self.stage_result(*stage, results)?.layers.clone(),
            TreeSource::Context | TreeSource::NamedContext(_) => {
                let (copy, path) = if writable {
                    let (copy, path) = self.new_copy(from, source, results)?;
                    (Arc::new(copy), path)
                } else {
                    self.context_copy(from, source, results)?
                };
                let dir = copy.path().to_path_buf();
                held.push(Held::Copy(copy));
                return Ok(MountSource::Below { dir, path });
            }
        };
        let snapshot = self.snapshots.prepare(&layers, &|layer| self.fetch(layer))?;
        let dir = match snapshot.root() {
            Root::Dir(dir) => dir,
            Root::Overlay { upper, .. } => upper, // a snapshotter of this kind makes none
        };
        held.push(Held::Tree(Box::new(Lent { snapshot: Some(snapshot), writable })));
        Ok(MountSource::Below { dir, path: source.into() })
    }

    /// A copy of what `source` selects in a context, and the path of that in the copy; made once for the build.
    pub(super) fn context_copy(
        &self,
        from: &TreeSource,
        source: &str,
        results: &Results<StageResult>,
    ) -> Result<(Arc<TempDir>, PathBuf), StepError> {
        let (path, _) = select(&*self.tree(from, Some(results))?, source)?;
        let name = (context_name(from).unwrap_or_default(), path);
        let mut copies = self.parts.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = copies.get(&name) {
            return Ok((copy.clone(), PathBuf::from(std::ffi::OsString::from_vec(name.1))));
        }
        let (temp, shown) = self.new_copy(from, source, results)?;
        let temp = Arc::new(temp);
        copies.insert(name, temp.clone());
        Ok((temp, shown))
    }

    /// The same, made for this use.
    fn new_copy(
        &self,
        from: &TreeSource,
        source: &str,
        results: &Results<StageResult>,
    ) -> Result<(TempDir, PathBuf), StepError> {
        let tree = self.tree(from, Some(results))?;
        let (path, _) = select(&*tree, source)?;
        let temp = self.snapshots.temp_dir()?;
        tree::copy_tree(&*tree, &path, temp.path())?;
        Ok((temp, PathBuf::from(std::ffi::OsString::from_vec(path))))
    }
}
