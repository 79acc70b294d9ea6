//! The tree of a container: like an [`super::ActiveSnapshot`] it is a stack of layers that is written on top of, but it stays
//! in a directory of its own when the process that made it ends, and can be taken up by another.
//!
//! Making a whole tree takes long, so one that came back as it was made is kept for the next who wants a tree of the same
//! layers ([`KeptTree::pass_on`]).
//!
//! In that directory: `tree` is the overlay's upper directory, or the whole tree where overlays cannot be mounted; `owners`
//! what lies beside it (see [`crate::overrides`]); `work` and `empty` are the overlay's; `index` and `before/owners` say what a
//! whole tree was when it was made, so that one walk tells what has changed.

use super::diff::{LeftOut, diff};
use super::fill;
use super::index::{Candidate, Index};
use super::layer::{LayerOptions, LayerWriter};
use super::private_tree::PrivateTree;
use super::snapshot::{Fetch, SnapshotError, Snapshotter, SnapshotterKind};
use super::view::LayerView;
use crate::context::SourceTree;
use crate::oci::layer::Kind;
use crate::oci::{ChainId, Layer};
use crate::overrides::Owners;
use crate::sandbox::Root;
use crate::store::Store;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes of files that are compared at once.
const PIECE: usize = 64 << 10;

/// A tree that stays.
#[derive(Debug)]
pub struct KeptTree {
    dir: PathBuf,
    kind: SnapshotterKind,
    /// Directories of the unpacked layers, top first.
    lowers: Vec<PathBuf>,
    /// The stack; none of an empty one.
    chain: Option<ChainId>,
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
        if let (SnapshotterKind::Copy, Some(chain)) = (tree.kind, &tree.chain)
            && tree.store.take_spare(chain, dir)?
        {
            return Ok(tree);
        }
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
        let chain = ChainId::of(stack.iter().map(|layer| &layer.diff_id));
        let (dir, store) = (dir.to_path_buf(), snapshots.store().clone());
        Ok(KeptTree { dir, kind: snapshots.kind(), lowers, chain, store })
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

    /// Keeps the tree for the next who wants one of the same layers, where it is what it was when it was made; whether it
    /// did. The directory that it was made in must be nobody's any more.
    pub fn pass_on(self) -> Result<bool, SnapshotError> {
        let Some(chain) = &self.chain else { return Ok(false) };
        if self.kind != SnapshotterKind::Copy || !self.is_as_made()? {
            return Ok(false);
        }
        for entry in fs_err::read_dir(&self.dir)? {
            let entry = entry?;
            let own = ["tree", "owners", "index", "before"].iter().any(|own| entry.file_name() == *own);
            if !own {
                fs_err::remove_file(entry.path())?;
            }
        }
        Ok(self.store.put_spare(chain, &self.dir)?)
    }

    /// Whether all in it is what it was, times of directories included; what was moved away and back is. Then the index
    /// says how it is now.
    fn is_as_made(&self) -> Result<bool, SnapshotError> {
        let now = Index::take(&self.changed())?;
        let mut candidates = read_index(&self.dir)?.candidates(&now);
        if Owners::read(&self.changed())? != Owners::read(&self.before())? {
            return Ok(false);
        }
        // The index does not hold the root.
        candidates.push(Candidate::There(Vec::new()));
        let (tree, parent) = (self.view()?, self.parent()?);
        for candidate in candidates {
            let Candidate::There(path) = candidate else { return Ok(false) };
            if !is_same(&tree, &parent, &path)? {
                return Ok(false);
            }
        }
        fs_err::write(self.dir.join("index"), now.encode())?;
        Ok(true)
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

/// Whether two trees have the same at `path`: the same bytes, too, in a file of one name.
fn is_same(a: &LayerView, b: &LayerView, path: &[u8]) -> Result<bool, SnapshotError> {
    let (meta, other) = (a.metadata(path)?, b.metadata(path)?);
    // Of a file with several names only some may have been changed, and which belong together is not compared.
    if meta != other || a.link_identity(path)?.is_some() {
        return Ok(false);
    }
    if !meta.is_some_and(|meta| matches!(meta.kind, Kind::File { .. })) {
        return Ok(true);
    }
    let (mut ours, mut theirs) = (a.open(path)?, b.open(path)?);
    let (mut one, mut two) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let (read, also) = (fill(&mut ours, &mut one)?, fill(&mut theirs, &mut two)?);
        if one[..read] != two[..also] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
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
