//! The tree of a container: like an [`super::ActiveSnapshot`] it is a stack of layers that is written on top of, but it stays
//! in a directory of its own when the process that made it ends, and can be taken up by another.
//!
//! In that directory: `tree` is the overlay's upper directory, or the whole tree where overlays cannot be mounted; `owners`
//! what lies beside it (see [`crate::overrides`]); `work` and `empty` are the overlay's; `index` and `before/owners` say what a
//! whole tree was when it was made, so that one walk tells what has changed.

use super::diff::{LeftOut, diff};
use super::index::Index;
use super::layer::{LayerOptions, LayerWriter};
use super::private_tree::PrivateTree;
use super::snapshot::{Fetch, SnapshotError, Snapshotter, SnapshotterKind};
use super::view::LayerView;
use crate::oci::Layer;
use crate::overrides::Owners;
use crate::sandbox::Root;
use crate::store::Store;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A tree that stays.
#[derive(Debug)]
pub struct KeptTree {
    dir: PathBuf,
    kind: SnapshotterKind,
    /// Directories of the unpacked layers, top first.
    lowers: Vec<PathBuf>,
    store: Store,
}

impl KeptTree {
    /// Makes a tree of `stack` in the directory `dir`, which is there and on the store's file system. Fetches and unpacks
    /// what is missing.
    pub fn create(
        snapshots: &Snapshotter,
        dir: &Path,
        stack: &[Layer],
        fetch: &Fetch,
    ) -> Result<KeptTree, SnapshotError> {
        let tree = KeptTree::open(snapshots, dir, stack, fetch)?;
        let root = tree.changed();
        fs_err::create_dir(&root)?;
        fs_err::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        match tree.kind {
            SnapshotterKind::Overlay => {
                fs_err::create_dir(tree.work())?;
                fs_err::create_dir(dir.join("empty"))?;
            }
            SnapshotterKind::Copy => {
                let bottom_first: Vec<PathBuf> = tree.lowers.iter().rev().cloned().collect();
                let mut whole = PrivateTree::at(root.clone());
                whole.apply(&bottom_first)?;
                fs_err::create_dir(dir.join("before"))?;
                whole.owners().write(&tree.before())?;
                fs_err::write(dir.join("index"), whole.index().encode())?;
            }
        }
        Ok(tree)
    }

    /// The tree of `stack` that [`KeptTree::create`] made in `dir` with a snapshotter of the same kind.
    pub fn open(
        snapshots: &Snapshotter,
        dir: &Path,
        stack: &[Layer],
        fetch: &Fetch,
    ) -> Result<KeptTree, SnapshotError> {
        let lowers = snapshots.lowers(stack, fetch)?;
        Ok(KeptTree { dir: dir.to_path_buf(), kind: snapshots.kind(), lowers, store: snapshots.store().clone() })
    }

    fn changed(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    fn before(&self) -> PathBuf {
        self.dir.join("before/tree")
    }

    /// What the sandbox makes the command's root. Nobody else may use the tree meanwhile.
    pub fn root(&self) -> Result<Root, SnapshotError> {
        if self.kind == SnapshotterKind::Copy {
            return Ok(Root::Dir(self.changed()));
        }
        // A run that was killed leaves in it what forbids a second mount.
        crate::sys::remove_tree(&self.work())?;
        fs_err::create_dir(self.work())?;
        let mut lowers = self.lowers.clone();
        if lowers.is_empty() {
            // overlayfs wants at least one lower directory.
            lowers.push(self.dir.join("empty"));
        }
        Ok(Root::Overlay { lowers, upper: self.changed(), work: self.work() })
    }

    /// The tree, to be read.
    pub fn view(&self) -> io::Result<LayerView> {
        match self.kind {
            SnapshotterKind::Copy => LayerView::new(&[self.changed()]),
            SnapshotterKind::Overlay => {
                let layers: Vec<PathBuf> = std::iter::once(self.changed()).chain(self.lowers.iter().cloned()).collect();
                LayerView::new(&layers)
            }
        }
    }

    /// The tree as it was when it was made.
    pub fn parent(&self) -> io::Result<LayerView> {
        LayerView::new(&self.lowers)
    }

    /// Bytes of the files of its layers.
    pub fn parent_size(&self) -> Result<u64, SnapshotError> {
        self.lowers.iter().map(|layer| tree_size(layer)).sum()
    }

    /// Writes what changed since the tree was made as a layer into `blob`, and gives the writer to be finished, with what no
    /// layer can hold. Nothing at or below a path in `exclude` is listed.
    pub fn changes<W: Write>(
        &self,
        blob: W,
        options: LayerOptions,
        exclude: &[&[u8]],
    ) -> Result<(LayerWriter<W>, Vec<LeftOut>), SnapshotError> {
        let mut writer = LayerWriter::new(blob, options);
        let parent = self.parent()?;
        let left_out = match self.kind {
            SnapshotterKind::Overlay => diff(&self.changed(), &parent, exclude, &mut writer)?,
            SnapshotterKind::Copy => {
                let staged = self.store.stage_layer()?;
                let known = read_index(&self.dir)?;
                let mut tree = PrivateTree::known(self.changed(), known, Owners::read(&self.before())?);
                tree.export(staged.path())?;
                diff(staged.path(), &parent, exclude, &mut writer)?
            }
        };
        Ok((writer, left_out))
    }
}

/// What the whole tree in `dir` was when it was made.
fn read_index(dir: &Path) -> io::Result<Index> {
    let path = dir.join("index");
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()));
    Index::decode(&fs_err::read(&path)?).ok_or_else(damaged)
}

/// Bytes of the files that were changed in the tree of this kind that [`KeptTree::create`] made in `dir`.
pub fn changed_size(dir: &Path, kind: SnapshotterKind) -> Result<u64, SnapshotError> {
    let now = Index::take(&dir.join("tree"))?;
    Ok(match kind {
        SnapshotterKind::Overlay => now.size(),
        SnapshotterKind::Copy => read_index(dir)?.changed_size(&now),
    })
}

/// Bytes of all files of a tree.
pub fn tree_size(root: &Path) -> Result<u64, SnapshotError> {
    Ok(Index::take(root)?.size())
}
