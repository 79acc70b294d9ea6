//! Snapshots: the tree of a stack of layers, ready to be read, or to be written on top of.
//!
//! Lower directories are unpacked layers, each kept once under its ChainId and shared by all builds. Nothing is unpacked
//! before somebody asks for a tree, and blobs that are missing come in parallel while earlier ones unpack. An
//! [`ActiveSnapshot`] is an empty upper directory over such a stack; committed, the upper directory itself becomes the new
//! layer's unpacked form, so that what a step wrote is never unpacked again.
//!
//! Where overlays cannot be mounted ([`SnapshotterKind::Copy`]) an active snapshot is a tree of its own. Once committed it is
//! the tree of the new stack, and is kept for the next step on top of that.

use super::diff::{DiffError, LeftOut, diff};
use super::layer::{LayerError, LayerOptions, LayerWriter};
use super::listing::{LayerList, ListedTree};
use super::private_tree::PrivateTree;
use super::unpack::{UnpackError, unpack};
use super::view::LayerView;
use crate::context::SourceTree;
use crate::oci::{ChainId, DiffId, Digest, Layer};
use crate::sandbox::Root;
use crate::store::{BlobWriter, StagedLayer, Store, StoreError, TempDir};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Bucket of the store that holds the lists of layers' files, by DiffID.
pub(super) const LISTS: &str = "layer-files";
/// Blobs fetched at once.
const FETCHES: usize = 4;

/// Brings a layer's blob into the store. Called from several threads at once, only for blobs that the store lacks.
pub type Fetch<'a> = dyn Fn(&Layer) -> Result<(), Box<dyn Error + Send + Sync>> + Sync + 'a;

/// Why a snapshot could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {layer}")]
    Unpack {
        /// The layer's DiffId.
        layer: DiffId,
        /// Why.
        source: UnpackError,
    },
    /// A blob could not be fetched.
    #[error(transparent)]
    Fetch(Box<dyn Error + Send + Sync>),
    /// The difference could not be taken.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The layer could not be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file of a tree.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How trees that are written to are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotterKind {
    /// An overlay, which the sandbox mounts.
    Overlay,
    /// A copy of everything.
    Copy,
}

/// Private trees that are kept for later steps; with more stages than that at work some are made anew.
const KEPT_TREES: usize = 8;

/// Trees at rest, each with the stack that it is the tree of.
type KeptTrees = Mutex<Vec<(Option<ChainId>, PrivateTree)>>;

/// Makes trees out of stacks of layers. Shared by all stages of a build.
#[derive(Debug)]
pub struct Snapshotter {
    store: Store,
    /// The store whose file system carries trees: most often the same.
    trees: Store,
    kind: SnapshotterKind,
    kept: Arc<KeptTrees>,
    /// One lock a blob and a chain, so that two stages with one base fetch and unpack it once.
    locks: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
}

impl Snapshotter {
    /// Keeps everything in `store`.
    pub fn new(store: Store, kind: SnapshotterKind) -> Self {
        Snapshotter { trees: store.clone(), store, kind, kept: Arc::default(), locks: Mutex::default() }
    }

    /// Keeps unpacked layers and trees in another store, whose file system can do what that of the first cannot.
    pub fn with_trees(self, trees: Store) -> Self {
        Snapshotter { trees, ..self }
    }

    /// An empty directory on the file system of the trees, removed when dropped.
    pub fn temp_dir(&self) -> Result<TempDir, StoreError> {
        self.trees.temp_dir()
    }

    /// How it makes trees that are written to.
    pub fn kind(&self) -> SnapshotterKind {
        self.kind
    }

    /// Where it keeps them.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The tree of `stack` (bottom first), to be read. Fetches and unpacks what is missing.
    pub fn view(&self, stack: &[Layer], fetch: &Fetch) -> Result<LayerView, SnapshotError> {
        Ok(top_first(&self.unpacked(stack, fetch)?)?)
    }

    /// The tree of `stack`, to be looked at. Where its layers are unpacked they are read; else only the lists of their files
    /// are made, and `unpack` gives the unpacked tree when somebody opens a file. Fetches a layer whose list is not known.
    pub fn look<'a>(
        &self,
        stack: &[Layer],
        fetch: &Fetch,
        unpack: impl Fn() -> Result<LayerView, SnapshotError> + Send + Sync + 'a,
    ) -> Result<Arc<dyn SourceTree + 'a>, SnapshotError> {
        let unpacked: Option<Vec<PathBuf>> = chains(stack).iter().map(|chain| self.trees.layer_dir(chain)).collect();
        if let Some(dirs) = unpacked {
            return Ok(Arc::new(top_first(&dirs)?));
        }
        let lists: Vec<Mutex<Option<Result<LayerList, SnapshotError>>>> =
            stack.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..FETCHES.min(stack.len()) {
                scope.spawn(|| {
                    while let Some(layer) = stack.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let at = stack.iter().position(|other| std::ptr::eq(other, layer)).unwrap_or_default();
                        *lists[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(self.list(layer, fetch));
                    }
                });
            }
        });
        let mut tree = ListedTree::new(Box::new(unpack));
        for (layer, list) in stack.iter().zip(lists) {
            let Some(list) = list.into_inner().unwrap_or_else(PoisonError::into_inner) else { continue };
            let broken = |source| SnapshotError::Unpack { layer: layer.diff_id.clone(), source };
            tree.push(list?).map_err(broken)?;
        }
        Ok(Arc::new(tree))
    }

    /// The files of one layer.
    fn list(&self, layer: &Layer, fetch: &Fetch) -> Result<LayerList, SnapshotError> {
        // Not the DiffId itself: of a layer that is not compressed that is the blob's digest, which is locked below.
        let lock = self.lock(&Digest::sha256(format!("list {}", layer.diff_id)));
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.store.record(LISTS, layer.diff_id.digest())?;
        if let Some(list) = known.and_then(|bytes| LayerList::decode(&bytes)) {
            return Ok(list);
        }
        self.ensure_blob(layer, fetch)?;
        let list = LayerList::read(self.store.open_blob(&layer.digest)?, &layer.diff_id)
            .map_err(|source| broken(&self.store, layer, source))?;
        self.store.put_record(LISTS, layer.diff_id.digest(), &list.encode()?)?;
        Ok(list)
    }

    /// Directories of the unpacked layers of `stack`, top first, to be mounted. Fetches and unpacks what is missing.
    pub fn lowers(&self, stack: &[Layer], fetch: &Fetch) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut dirs = self.unpacked(stack, fetch)?;
        dirs.reverse();
        Ok(dirs)
    }

    /// The tree of `stack`, to be written to. Fetches and unpacks what is missing.
    pub fn prepare(&self, stack: &[Layer], fetch: &Fetch) -> Result<ActiveSnapshot, SnapshotError> {
        let lowers = self.unpacked(stack, fetch)?;
        let chain = ChainId::of(stack.iter().map(|layer| &layer.diff_id));
        let place = match self.kind {
            SnapshotterKind::Overlay => {
                let work = self.trees.temp_dir()?;
                let empty = work.path().join("empty");
                for dir in [&empty, &work.path().join("work")] {
                    fs_err::create_dir(dir)?;
                }
                Place::Overlay { work, empty }
            }
            SnapshotterKind::Copy => Place::Tree { tree: self.private_tree(stack, &lowers)?, kept: self.kept.clone() },
        };
        Ok(ActiveSnapshot { lowers, chain, upper: self.trees.stage_layer()?, place })
    }

    /// A private tree of `stack`: one that is kept and has most of its layers, with the rest on top, else a new one.
    fn private_tree(&self, stack: &[Layer], lowers: &[PathBuf]) -> Result<PrivateTree, SnapshotError> {
        let chains = chains(stack);
        let found = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let height = |chain: &Option<ChainId>| match chain {
                Some(chain) => chains.iter().position(|known| known == chain).map(|at| at + 1),
                None => Some(0),
            };
            let best = (0..kept.len()).filter_map(|at| Some((height(&kept[at].0)?, at))).max();
            best.map(|(height, at)| (height, kept.remove(at).1))
        };
        let (height, mut tree) = match found {
            Some(found) => found,
            None => (0, PrivateTree::new(&self.trees)?),
        };
        tree.apply(&lowers[height..])?;
        Ok(tree)
    }

    /// Directories of the unpacked layers of `stack`, bottom first.
    fn unpacked(&self, stack: &[Layer], fetch: &Fetch) -> Result<Vec<PathBuf>, SnapshotError> {
        let chains = chains(stack);
        let missing: Vec<usize> = (0..stack.len()).filter(|i| self.trees.layer_dir(&chains[*i]).is_none()).collect();
        if missing.is_empty() {
            return Ok(chains.iter().filter_map(|chain| self.trees.layer_dir(chain)).collect());
        }
        let arrivals = Arrivals::default();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..FETCHES.min(missing.len()) {
                scope.spawn(|| {
                    while let Some(index) = missing.get(next.fetch_add(1, Ordering::SeqCst)) {
                        arrivals.put(*index, self.ensure_blob(&stack[*index], fetch));
                    }
                });
            }
            let result = self.unpack_in_order(stack, &chains, |index| match missing.contains(&index) {
                true => arrivals.wait(index),
                false => Ok(()),
            });
            // After a failure the fetchers have nothing left to do.
            next.store(missing.len(), Ordering::SeqCst);
            result
        })
    }

    /// Unpacks what is not unpacked, bottom first; `wait` returns when the blob of a layer has come.
    fn unpack_in_order(
        &self,
        stack: &[Layer],
        chains: &[ChainId],
        wait: impl Fn(usize) -> Result<(), SnapshotError>,
    ) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut dirs = Vec::with_capacity(stack.len());
        for (index, layer) in stack.iter().enumerate() {
            wait(index)?;
            dirs.push(self.unpack_layer(layer, &chains[index], &dirs)?);
        }
        Ok(dirs)
    }

    fn ensure_blob(&self, layer: &Layer, fetch: &Fetch) -> Result<(), SnapshotError> {
        let lock = self.lock(&layer.digest);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        match self.store.has_blob(&layer.digest)? {
            Some(_) => Ok(()),
            None => fetch(layer).map_err(SnapshotError::Fetch),
        }
    }

    fn lock(&self, digest: &Digest) -> Arc<Mutex<()>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(digest.clone()).or_default().clone()
    }

    fn unpack_layer(&self, layer: &Layer, chain: &ChainId, below: &[PathBuf]) -> Result<PathBuf, SnapshotError> {
        let lock = self.lock(chain.digest());
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = self.trees.layer_dir(chain) {
            return Ok(dir);
        }
        let staged = self.trees.stage_layer()?;
        let blob = self.store.open_blob(&layer.digest)?;
        unpack(blob, &top_first(below)?, staged.path(), Some(&layer.diff_id))
            .map_err(|source| broken(&self.store, layer, source))?;
        Ok(staged.commit(chain)?.path)
    }
}

/// Why `layer` cannot be read: its blob is not what it is called, or holds no layer. A damaged one is removed from the store.
pub(super) fn broken(store: &Store, layer: &Layer, source: UnpackError) -> SnapshotError {
    // What cannot be decoded ends the reading before the digest is known.
    let damaged = store.open_blob(&layer.digest).and_then(|mut blob| blob.verify_rest());
    match damaged {
        Err(error @ (StoreError::Mismatch { .. } | StoreError::Missing(_))) => error.into(),
        _ => SnapshotError::Unpack { layer: layer.diff_id.clone(), source },
    }
}

/// The view of layer directories that are given bottom first.
fn top_first(dirs: &[PathBuf]) -> io::Result<LayerView> {
    LayerView::new(&dirs.iter().rev().cloned().collect::<Vec<_>>())
}

pub(super) fn chains(stack: &[Layer]) -> Vec<ChainId> {
    let mut chains: Vec<ChainId> = Vec::with_capacity(stack.len());
    for layer in stack {
        let chain = match chains.last() {
            Some(below) => below.push(&layer.diff_id),
            None => ChainId::bottom(&layer.diff_id),
        };
        chains.push(chain);
    }
    chains
}

/// Blobs that have come, or why they have not.
#[derive(Default)]
struct Arrivals {
    done: Mutex<(HashSet<usize>, Option<SnapshotError>)>,
    changed: Condvar,
}

impl Arrivals {
    fn put(&self, index: usize, result: Result<(), SnapshotError>) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => _ = done.0.insert(index),
            Err(error) => _ = done.1.get_or_insert(error),
        }
        self.changed.notify_all();
    }

    fn wait(&self, index: usize) -> Result<(), SnapshotError> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |done: &mut (HashSet<usize>, Option<SnapshotError>)| done.1.is_none() && !done.0.contains(&index);
        let mut done = self.changed.wait_while(done, waiting).unwrap_or_else(PoisonError::into_inner);
        done.1.take().map_or(Ok(()), Err)
    }
}

/// A tree that is being written to.
#[derive(Debug)]
pub struct ActiveSnapshot {
    lowers: Vec<PathBuf>,
    chain: Option<ChainId>,
    upper: StagedLayer,
    place: Place,
}

/// Where the command's root is.
#[derive(Debug)]
enum Place {
    Overlay { work: TempDir, empty: PathBuf },
    Tree { tree: PrivateTree, kept: Arc<KeptTrees> },
}

impl ActiveSnapshot {
    /// What the sandbox makes the command's root.
    pub fn root(&self) -> Root {
        let (work, empty) = match &self.place {
            Place::Overlay { work, empty } => (work, empty),
            Place::Tree { tree, .. } => return Root::Dir(tree.root().to_path_buf()),
        };
        let mut lowers: Vec<PathBuf> = self.lowers.iter().rev().cloned().collect();
        if lowers.is_empty() {
            // overlayfs wants at least one lower directory.
            lowers.push(empty.clone());
        }
        Root::Overlay { lowers, upper: self.upper.path().to_path_buf(), work: work.path().join("work") }
    }

    /// Writes what changed as a layer into `blob`; the upper directory becomes its unpacked form. Also gives what no layer
    /// can hold.
    pub fn commit(
        mut self,
        blob: BlobWriter,
        options: LayerOptions,
        exclude: &[&[u8]],
    ) -> Result<(Layer, Vec<LeftOut>), SnapshotError> {
        if let Place::Tree { tree, .. } = &mut self.place {
            tree.export(self.upper.path())?;
        }
        let parent = top_first(&self.lowers)?;
        let mut writer = LayerWriter::new(blob, options);
        let left_out = diff(self.upper.path(), &parent, exclude, &mut writer)?;
        let layer = writer.finish()?;
        let chain = match &self.chain {
            Some(below) => below.push(&layer.diff_id),
            None => ChainId::bottom(&layer.diff_id),
        };
        if let Place::Tree { tree, .. } = &mut self.place {
            tree.settle(self.upper.path())?;
        }
        let committed = self.upper.commit(&chain)?;
        if let Place::Tree { mut tree, kept } = self.place {
            if committed.was_there {
                // What the tree is compared with from now on has other times, where the layer does not tell them.
                tree.apply(&[committed.path])?;
            }
            keep(&kept, chain, tree);
        }
        Ok((layer, left_out))
    }
}

impl ActiveSnapshot {
    /// Gives up a snapshot that was only read: its tree may serve a later step.
    pub fn release(self) {
        if let (Place::Tree { tree, kept }, Some(chain)) = (self.place, self.chain)
            && tree.is_unchanged()
        {
            keep(&kept, chain, tree);
        }
    }
}

/// Keeps a tree for the next step; the one that has waited longest makes room.
fn keep(kept: &KeptTrees, chain: ChainId, tree: PrivateTree) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push((Some(chain), tree));
    let oldest = (kept.len() > KEPT_TREES).then(|| kept.remove(0));
    drop(kept);
    // Removing it takes a while: not under the lock.
    drop(oldest);
}
