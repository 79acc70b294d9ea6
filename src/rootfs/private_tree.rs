//! A whole tree of files of its own, for where overlayfs cannot be mounted.
//!
//! It is made by putting the unpacked layers of a stack on one another. What a command changed in it comes out as the upper
//! directory that overlayfs would have left: one walk against the index of before gives the candidates, each of which is
//! copied there (or becomes a whiteout), and the difference is then taken as from any upper directory. So both ways give the
//! same layer.
//!
//! Hard links of a layer become files of their own ([`Links::Split`]): overlayfs gives a name that is written to a copy of
//! its own, and the other names keep what they had.

use super::diff_walk::{Step, Walk, id, list, open_root};
use super::index::{Candidate, Index};
use super::node_copy::{Links, NodeCopy, splits};
use super::snapshot::SnapshotError;
use super::view::{join, parent};
use super::xattrs;
use crate::overrides::Owners;
use crate::store::{Store, TempDir};
use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

type Result<T> = std::result::Result<T, SnapshotError>;

/// Files that are copied at one go, by several threads.
const LEAVES: usize = 16 << 10;
/// Files that a thread takes at once: most of a directory.
const CHUNK: usize = 32;
/// Threads that copy. More only wait for the disk.
const COPIERS: usize = 4;

/// A tree.
#[derive(Debug)]
pub(super) struct PrivateTree {
    /// What it is removed with; none where it stays.
    _temp: Option<TempDir>,
    root: PathBuf,
    index: Index,
    owners: Owners,
    /// The last export holds hard links.
    linked: bool,
}

impl PrivateTree {
    /// An empty one, removed when dropped.
    pub(super) fn new(store: &Store) -> Result<Self> {
        let temp = store.temp_dir()?;
        let root = temp.path().join("tree");
        fs_err::create_dir(&root)?;
        fs_err::set_permissions(&root, std::fs::Permissions::from_mode(0o755))?;
        Ok(PrivateTree { _temp: Some(temp), ..PrivateTree::at(root) })
    }

    /// The one in the empty directory `root`, which stays.
    pub(super) fn at(root: PathBuf) -> Self {
        PrivateTree::known(root, Index::default(), Owners::default())
    }

    /// The one at `root`, which was once as `index` and `owners` say.
    pub(super) fn known(root: PathBuf, index: Index, owners: Owners) -> Self {
        PrivateTree { _temp: None, root, index, owners, linked: false }
    }

    /// What it was when it was made or settled.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// The records of what cannot have xattrs, of the same time.
    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Where it is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Puts unpacked layers on top of it, the lowest first.
    pub(super) fn apply(&mut self, layers: &[PathBuf]) -> Result<()> {
        if layers.is_empty() {
            return Ok(());
        }
        for layer in layers {
            self.put_on_top(layer)?;
        }
        self.owners.write(&self.root)?;
        self.index = Index::take(&self.root)?;
        Ok(())
    }

    fn put_on_top(&mut self, layer: &Path) -> Result<()> {
        let told = Owners::read(layer)?;
        let mut copy = NodeCopy::new(layer, &self.root, Links::Split)?;
        let mut leaves = Vec::new();
        let mut walk = Walk::new();
        let root = open_root(layer)?;
        self.enter(&mut walk, root, &told, &mut copy)?;
        while let Some(step) = walk.next()? {
            let Step::Entry(name) = step else { continue };
            let path = walk.path().to_vec();
            if name.whiteout {
                self.owners.remove(&path);
                copy.remove(&path)?;
                continue;
            }
            let stat = walk.stat(&name.name)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let dir = walk.open(&name.name)?;
                // What is told of it was told of something else in its place: directories have xattrs.
                self.owners.forget(&path);
                if xattrs::is_opaque(&dir, b".")? {
                    self.owners.remove(&path);
                    copy.clear(&path)?;
                }
                self.enter(&mut walk, dir, &told, &mut copy)?;
                continue;
            }
            self.owners.remove(&path);
            if let Some(told) = told.get(&path) {
                self.owners.insert(path.clone(), *told);
            }
            match stat.st_nlink {
                1 => leaves.push(path),
                // Which names belong together is known here alone.
                _ => copy.leaf(&path)?,
            }
            if leaves.len() >= LEAVES {
                copy_leaves(layer, &self.root, &leaves)?;
                leaves.clear();
            }
        }
        copy_leaves(layer, &self.root, &leaves)?;
        // When all is in them: that changes their times.
        copy.finish()?;
        Ok(())
    }

    /// Goes into the directory that `walk` stands at, and takes away what the side file says is gone from it.
    fn enter(&mut self, walk: &mut Walk, dir: OwnedFd, told: &Owners, copy: &mut NodeCopy) -> Result<()> {
        let path = walk.path().to_vec();
        copy.directory(&path)?;
        for name in told.hidden_in(&path) {
            let gone = join(&path, name);
            copy.remove(&gone)?;
            self.owners.remove(&gone);
        }
        let names = list(&dir).map_err(|errno| walk.error(errno))?;
        Ok(walk.enter(dir, names)?)
    }

    /// Whether nothing has been done to it, for certain.
    pub(super) fn is_unchanged(&self) -> bool {
        Index::take(&self.root).is_ok_and(|now| self.index.candidates(&now).is_empty())
    }

    /// Fills the empty directory `upper` with what has changed since the tree was made, or settled.
    pub(super) fn export(&mut self, upper: &Path) -> Result<()> {
        let now = Index::take(&self.root)?;
        // The records of what cannot have xattrs are written to the side file while a command runs.
        let told = Owners::read(&self.root)?;
        let mut copy = NodeCopy::new(&self.root, upper, Links::Keep)?;
        let mut owners = Owners::default();
        copy.directory(b"")?;
        let mut there = BTreeSet::new();
        for candidate in self.index.candidates(&now) {
            match candidate {
                Candidate::There(path) => drop(there.insert(path)),
                Candidate::Gone(path) => {
                    if !copy.whiteout(&path)? {
                        owners.hide(&path);
                    }
                }
            }
        }
        there.extend(told.iter().filter(|(path, told)| self.owners.get(path) != Some(*told)).map(|(p, _)| p.to_vec()));
        for path in there {
            if !copy.node(&path)? {
                continue;
            }
            if let Some(told) = told.get(&path) {
                owners.insert(path, *told);
            }
        }
        self.linked = copy.finish()?;
        owners.write(upper)?;
        (self.index, self.owners) = (now, told);
        Ok(())
    }

    /// Makes the tree, whose changes are in `upper` now, what the next command finds: new hard links become files of their own.
    pub(super) fn settle(&mut self, upper: &Path) -> Result<()> {
        if !self.linked {
            return Ok(());
        }
        let mut copy = NodeCopy::new(upper, &self.root, Links::Split)?;
        let mut walk = Walk::new();
        let mut seen = HashSet::new();
        let root = open_root(upper)?;
        let names = list(&root).map_err(|errno| walk.error(errno))?;
        walk.enter(root, names)?;
        while let Some(step) = walk.next()? {
            let Step::Entry(name) = step else { continue };
            let stat = walk.stat(&name.name)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let dir = walk.open(&name.name)?;
                let names = list(&dir).map_err(|errno| walk.error(errno))?;
                walk.enter(dir, names)?;
            } else if !name.whiteout && splits(&stat) && !seen.insert(id(&stat)) {
                copy.directory(parent(walk.path()))?;
                copy.leaf(walk.path())?;
            }
        }
        copy.finish()?;
        self.index = Index::take(&self.root)?;
        Ok(())
    }
}

/// Copies what is no directory; the directories are there.
fn copy_leaves(from: &Path, to: &Path, leaves: &[Vec<u8>]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<()> {
        let mut copy = NodeCopy::new(from, to, Links::Split)?;
        while let Some(chunk) = leaves.chunks(CHUNK).nth(next.fetch_add(1, Ordering::Relaxed)) {
            chunk.iter().try_for_each(|path| copy.leaf(path))?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(COPIERS).min(leaves.len().div_ceil(CHUNK));
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        // A thread that panicked panics here as well.
        others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .fold(own, io::Result::and)
    })?;
    Ok(())
}
