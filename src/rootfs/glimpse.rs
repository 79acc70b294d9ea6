//! What a step saw of the tree that it was made on, so that a step like it can be made where that tree is not.
//!
//! COPY, ADD and WORKDIR look at a few paths of their parent: whether a directory is there, where a link leads, whether a
//! file is the one that would be written. A [`Watched`] tree notes what is asked; the [`Glimpse`] that comes of it holds
//! the directories in which something was looked for, with all that lies directly in them, or, of a directory with more
//! than [`MANY`] entries, what was asked for alone. So another file copied to the same place finds its answer too.
//!
//! A [`GlimpsedTree`] answers from glimpses what they know, and from the whole tree, which may have to be fetched for it,
//! anything else. It never guesses: of a path in a directory that no glimpse holds nothing is known.
//!
//! Glimpses of several steps go together. Let one step be made on a tree, and the next one on what came of it. A path
//! that the first did not look at is one that it did not write, so what the second saw there was in the first's tree as
//! well: of each path the earliest glimpse that knows it counts.

use super::listing::{LayerList, Listed, ListedTree};
use super::unpack::UnpackError;
use super::unpack_tar::{Entry, EntryKind, bytes};
use super::view::{join, last, parent};
use crate::context::SourceTree;
use crate::oci::Digest;
use crate::oci::layer::{Kind, Metadata};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Entries of a directory that are noted all together.
const MANY: usize = 500;
/// Entries that a glimpse may have; of a step that saw more nothing is kept.
const MOST: usize = 4000;
/// Bytes of a file that are noted where a step reads it: `etc/passwd`, for `--chown`.
const TEXT: u64 = 64 << 10;

/// What was seen of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glimpse {
    /// Directories of which all is in `entries` that lies directly in them.
    whole: Vec<Path>,
    /// Paths that are in none of those, and where nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    absent: Vec<Path>,
    entries: Vec<Listed>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Path(#[serde(with = "bytes")] Vec<u8>);

impl Glimpse {
    /// How many paths it says something of.
    pub fn len(&self) -> usize {
        self.whole.len() + self.absent.len() + self.entries.len()
    }

    /// The same with no time after `latest`, as layers are written that are seen so.
    pub fn clamped(mut self, latest: i64) -> Self {
        self.entries.iter_mut().for_each(|listed| listed.entry.mtime = listed.entry.mtime.min(latest));
        self
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tree that a step is made on.
pub enum Ground<'a> {
    /// All of it is here, or comes when it is asked for.
    Whole(Arc<dyn SourceTree + 'a>),
    /// Of which glimpses are here.
    Glimpsed(GlimpsedTree<'a>),
}

impl Ground<'_> {
    /// The tree.
    pub fn tree(&self) -> &dyn SourceTree {
        match self {
            Ground::Whole(tree) => &**tree,
            Ground::Glimpsed(tree) => tree,
        }
    }

    /// Names in the directory `path`; `None` where nobody knows without fetching something.
    fn names(&self, path: &[u8]) -> io::Result<Option<Vec<Vec<u8>>>> {
        match self {
            Ground::Whole(tree) => tree.read_dir(path).map(Some),
            Ground::Glimpsed(tree) => tree.names(path),
        }
    }
}

/// A tree that notes what is asked of it.
pub struct Watched<'w, 'g> {
    ground: &'w Ground<'g>,
    asked: Mutex<BTreeMap<Vec<u8>, Asked>>,
}

#[derive(Default)]
struct Asked {
    digest: Option<Digest>,
    text: Option<String>,
}

impl<'w, 'g> Watched<'w, 'g> {
    /// The tree of `ground`, of which nothing was asked yet.
    pub fn new(ground: &'w Ground<'g>) -> Self {
        Watched { ground, asked: Mutex::default() }
    }

    fn note(&self, path: &[u8], more: impl FnOnce(&mut Asked)) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        more(asked.entry(path.to_vec()).or_default());
    }

    /// What was seen; `None` where that is too much.
    pub fn glimpse(self) -> io::Result<Option<Glimpse>> {
        let mut asked = self.asked.into_inner().unwrap_or_else(PoisonError::into_inner);
        let dirs: BTreeSet<Vec<u8>> =
            asked.keys().filter(|path| !path.is_empty()).map(|path| parent(path).to_vec()).collect();
        asked.retain(|path, _| last(path) != b".");
        let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut out = Glimpse::default();
        for dir in dirs {
            if !self.ground.tree().metadata(&dir)?.is_some_and(|meta| meta.is_dir()) {
                continue;
            }
            match self.ground.names(&dir)?.filter(|names| names.len() <= MANY) {
                Some(names) => {
                    seen.extend(names.iter().map(|name| join(&dir, name)));
                    out.whole.push(Path(dir));
                }
                None => seen.extend(asked.keys().filter(|path| !path.is_empty() && parent(path) == dir).cloned()),
            }
            if seen.len() > MOST {
                return Ok(None);
            }
        }
        for path in seen {
            let Some(meta) = self.ground.tree().metadata(&path)? else {
                out.absent.push(Path(path));
                continue;
            };
            let known = asked.remove(&path).unwrap_or_default();
            out.entries.extend(listed(path, meta, known));
        }
        Ok(Some(out))
    }
}

/// As a layer's list has it; a socket is in no layer.
fn listed(path: Vec<u8>, meta: Metadata, known: Asked) -> Option<Listed> {
    let Metadata { kind, mode, uid, gid, mtime, xattrs } = meta;
    let (mut link, mut size) = (Vec::new(), 0);
    let kind = match kind {
        Kind::Dir => EntryKind::Dir,
        Kind::File { size: bytes } => {
            size = bytes;
            EntryKind::File
        }
        Kind::Symlink { target } => {
            link = target;
            EntryKind::Symlink
        }
        Kind::Fifo => EntryKind::Fifo,
        Kind::CharDevice { major, minor } => EntryKind::Char(major, minor),
        Kind::BlockDevice { major, minor } => EntryKind::Block(major, minor),
        Kind::Socket => return None,
    };
    let entry = Entry { path, link, kind, mode, uid, gid, mtime, xattrs };
    Some(Listed { entry, size, digest: known.digest, content: known.text })
}

impl SourceTree for Watched<'_, '_> {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        self.note(path, |_| ());
        self.ground.tree().metadata(path)
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        // Any path in it: all of it is noted.
        self.note(&join(path, b"."), |_| ());
        self.ground.tree().read_dir(path)
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        let mut bytes = Vec::new();
        let mut file = self.ground.tree().open(path)?;
        (&mut file).take(TEXT).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < TEXT
            && let Ok(text) = std::str::from_utf8(&bytes)
        {
            self.note(path, |asked| asked.text = Some(text.to_string()));
        }
        Ok(Box::new(Cursor::new(bytes).chain(file)))
    }

    /// Asked for where a file may be the one that would be written in its place.
    fn content_digest(&self, path: &[u8]) -> io::Result<Option<Digest>> {
        let digest = match self.ground.tree().content_digest(path)? {
            Some(digest) => digest,
            None => Digest::read(&mut *self.ground.tree().open(path)?)?,
        };
        self.note(path, |asked| asked.digest = Some(digest.clone()));
        Ok(Some(digest))
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        self.ground.tree().link_identity(path)
    }
}

/// What gives the whole tree.
type Whole<'a> = Box<dyn Fn() -> io::Result<Arc<dyn SourceTree + 'a>> + Send + Sync + 'a>;

/// A tree of which glimpses are known, and layers on top of it.
pub struct GlimpsedTree<'a> {
    below: Known,
    tree: ListedTree<'a>,
    whole: Whole<'a>,
    asked: OnceLock<Arc<dyn SourceTree + 'a>>,
}

/// What glimpses say of a tree, that of the first where several know a path.
#[derive(Default)]
struct Known {
    paths: BTreeMap<Vec<u8>, Option<Listed>>,
    whole: BTreeSet<Vec<u8>>,
}

impl Known {
    fn add(&mut self, glimpse: &Glimpse) {
        let before = self.whole.clone();
        let entries = glimpse.entries.iter().map(|listed| (&listed.entry.path, Some(listed)));
        for (path, listed) in entries.chain(glimpse.absent.iter().map(|path| (&path.0, None))) {
            if !before.contains(parent(path)) && !self.paths.contains_key(path) {
                self.paths.insert(path.clone(), listed.cloned());
            }
        }
        self.whole.extend(glimpse.whole.iter().map(|path| path.0.clone()));
    }

    /// Whether it is known what is at `path`.
    fn has(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        for prefix in ends.map(|end| &path[..end]).filter(|prefix| !prefix.is_empty()) {
            match self.paths.get(prefix) {
                Some(Some(listed)) if listed.entry.kind == EntryKind::Dir => {}
                Some(_) => return true,
                None => return self.whole.contains(parent(prefix)),
            }
        }
        true
    }

    /// Whether all names in the directory `path` are known.
    fn has_all(&self, path: &[u8]) -> bool {
        let is_dir =
            |listed: &Option<Listed>| listed.as_ref().is_some_and(|listed| listed.entry.kind == EntryKind::Dir);
        let below = path.is_empty() || self.paths.get(path).is_some_and(is_dir);
        self.whole.contains(path) || (!below && self.has(path))
    }
}

impl<'a> GlimpsedTree<'a> {
    /// The tree that `glimpses` are of, the earliest first, with the layers of these `lists` on top; `whole` is asked for
    /// what they do not say. `None` where a list is none.
    pub fn new(
        glimpses: &[&Glimpse],
        lists: &[Vec<u8>],
        whole: impl Fn() -> io::Result<Arc<dyn SourceTree + 'a>> + Send + Sync + 'a,
    ) -> Result<Option<Self>, UnpackError> {
        let mut below = Known::default();
        glimpses.iter().for_each(|glimpse| below.add(glimpse));
        // The bytes of files are not here: whoever wants those asks the whole tree.
        let mut tree = ListedTree::new(Box::new(|| Err(io::Error::from(io::ErrorKind::Unsupported).into())));
        tree.push(LayerList::new(below.paths.values().flatten().cloned().collect()))?;
        for list in lists {
            let Some(list) = LayerList::decode(list) else { return Ok(None) };
            tree.push(list)?;
        }
        Ok(Some(GlimpsedTree { below, tree, whole: Box::new(whole), asked: OnceLock::new() }))
    }

    fn names(&self, path: &[u8]) -> io::Result<Option<Vec<Vec<u8>>>> {
        match self.asked.get() {
            _ if self.below.has_all(path) => self.tree.read_dir(path).map(Some),
            Some(whole) => whole.read_dir(path).map(Some),
            None => Ok(None),
        }
    }

    fn whole(&self) -> io::Result<&Arc<dyn SourceTree + 'a>> {
        if let Some(whole) = self.asked.get() {
            return Ok(whole);
        }
        let whole = (self.whole)()?;
        Ok(self.asked.get_or_init(|| whole))
    }
}

impl SourceTree for GlimpsedTree<'_> {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        if self.below.has(path) { self.tree.metadata(path) } else { self.whole()?.metadata(path) }
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        if self.below.has_all(path) { self.tree.read_dir(path) } else { self.whole()?.read_dir(path) }
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        match self.tree.text(path).filter(|_| self.below.has(path)) {
            Some(text) => Ok(Box::new(Cursor::new(text.as_bytes().to_vec()))),
            None => self.whole()?.open(path),
        }
    }

    fn content_digest(&self, path: &[u8]) -> io::Result<Option<Digest>> {
        match self.tree.content_digest(path)?.filter(|_| self.below.has(path)) {
            Some(digest) => Ok(Some(digest)),
            None => self.whole()?.content_digest(path),
        }
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        self.whole()?.link_identity(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::EmptyTree;

    fn listed(path: &str, kind: EntryKind, mtime: i64) -> Listed {
        let (path, link, xattrs) = (path.as_bytes().to_vec(), Vec::new(), BTreeMap::new());
        let entry = Entry { path, link, kind, mode: 0o755, uid: 0, gid: 0, mtime, xattrs };
        Listed { entry, size: 0, digest: None, content: None }
    }

    fn tree(entries: Vec<Listed>) -> Arc<dyn SourceTree> {
        let mut tree = ListedTree::new(Box::new(|| Err(io::Error::from(io::ErrorKind::Unsupported).into())));
        tree.push(LayerList::new(entries)).unwrap();
        Arc::new(tree)
    }

    /// What comes of asking for these paths.
    fn glimpse(tree: Arc<dyn SourceTree>, paths: &[&str]) -> Glimpse {
        let ground = Ground::Whole(tree);
        let watched = Watched::new(&ground);
        paths.iter().for_each(|path| drop(watched.metadata(path.as_bytes()).unwrap()));
        watched.glimpse().unwrap().unwrap()
    }

    /// What a tree of glimpses says; `None` where it had to ask the whole one.
    fn says(glimpses: &[&Glimpse], path: &str) -> Option<Option<i64>> {
        let whole = || -> io::Result<Arc<dyn SourceTree>> { Err(io::ErrorKind::NotConnected.into()) };
        let tree = GlimpsedTree::new(glimpses, &[], whole).unwrap().unwrap();
        tree.metadata(path.as_bytes()).ok().map(|meta| meta.map(|meta| meta.mtime))
    }

    #[test]
    fn what_was_seen_is_known_and_no_more() {
        use EntryKind::{Dir, File};
        let tree =
            tree(vec![listed("app", Dir, 1), listed("app/old", File, 2), listed("etc", Dir, 3), listed("f", File, 4)]);
        let seen = glimpse(tree, &["app", "app/new"]);
        let says = |path: &str| says(&[&seen], path);
        assert_eq!(["app", "app/old", "etc", "f"].map(says), [1, 2, 3, 4].map(|time| Some(Some(time))));
        // There is nothing, and so nothing below it.
        assert_eq!(["app/other", "app/none/deep", "srv", "f/x"].map(says), [Some(None); 4]);
        assert_eq!(says("etc/passwd"), None, "nobody looked into it");
    }

    #[test]
    fn of_a_large_directory_only_what_was_asked_for_is_kept() {
        let many = (0..=MANY).map(|n| listed(&format!("d/f{n}"), EntryKind::File, 1));
        let tree = tree([listed("d", EntryKind::Dir, 1)].into_iter().chain(many).collect());
        let seen = glimpse(tree.clone(), &["d", "d/f7", "d/none"]);
        assert!(seen.len() < 10, "{seen:?}");
        let ground = Ground::Whole(tree);
        let watched = Watched::new(&ground);
        assert_eq!(watched.read_dir(b"d").unwrap().len(), MANY + 1);
        assert!(watched.glimpse().unwrap().unwrap().is_empty(), "no name in it was asked for");
        let says = |path: &str| says(&[&seen], path);
        assert_eq!([says("d/f7"), says("d/none"), says("d/f8")], [Some(Some(1)), Some(None), None]);
    }

    /// The first step wrote `a/one`, the second one was made on that and looked into `b`.
    #[test]
    fn the_earliest_glimpse_counts() {
        use EntryKind::Dir;
        let first = glimpse(tree(vec![listed("a", Dir, 1), listed("b", Dir, 2)]), &["a", "a/one"]);
        let after =
            tree(vec![listed("a", Dir, 9), listed("a/one", Dir, 9), listed("b", Dir, 2), listed("b/x", Dir, 5)]);
        let second = glimpse(after, &["a", "a/one", "b", "b/two"]);
        let says = |path: &str| says(&[&first, &second], path);
        assert_eq!([says("a"), says("a/one"), says("b/x")], [Some(Some(1)), Some(None), Some(Some(5))]);
    }

    #[test]
    fn a_tree_of_glimpses_is_seen_as_the_whole_one_is() {
        use EntryKind::{Dir, File};
        let whole = tree(vec![listed("a", Dir, 1), listed("a/f", File, 2), listed("c", Dir, 1)]);
        let seen = glimpse(whole.clone(), &["a", "a/one"]);
        let glimpsed = GlimpsedTree::new(&[&seen], &[], || Ok(Arc::new(EmptyTree) as Arc<dyn SourceTree>));
        let ground = Ground::Glimpsed(glimpsed.unwrap().unwrap());
        let watched = Watched::new(&ground);
        ["a", "a/two"].iter().for_each(|path| drop(watched.metadata(path.as_bytes()).unwrap()));
        assert_eq!(watched.glimpse().unwrap().unwrap(), glimpse(whole, &["a", "a/two"]));
    }
}
