//! What a stack of layers holds, without unpacking it: the entries of each layer, and the tree that they make together.
//!
//! A list is made in one pass over a layer's blob and remembered in the store, under the DiffID; files are in it by the
//! SHA-256 of their bytes, `etc/passwd` and `etc/group` with their bytes. How entries go on top of what is below is as in
//! `rootfs/unpack_tree.rs`, and must stay so: both give one tree.
//!
//! The bytes of any other file are in an unpacked tree, which is made when somebody opens one.

use super::snapshot::SnapshotError;
use super::unpack::{UnpackError, stream};
use super::unpack_tar::{Entry, EntryKind, TarReader};
use super::unpack_tree::{AUFS_PREFIX, MAX_LINKS, clean, plain_dir, refuse, show};
use super::view::{LayerView, join, last, parent, split};
use super::xattrs;
use crate::context::SourceTree;
use crate::oci::digest::{Algorithm, Hasher};
use crate::oci::layer::{Kind, Metadata, OPAQUE_WHITEOUT, WHITEOUT_PREFIX};
use crate::oci::{DiffId, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// Files whose bytes are in a list: the names of `--chown` and WORKDIR are looked up in them.
const WHOLE: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];
/// As long as such a file may be.
const WHOLE_MAX: u64 = 1 << 20;
/// Bytes that a list may have: a million entries.
const LIST_MAX: u64 = 512 << 20;
/// The list compresses well at any level.
const LEVEL: i32 = 3;

/// The entries of one layer, in the order of its tar.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LayerList(Vec<Listed>);

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    #[serde(flatten)]
    pub(super) entry: Entry,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) size: u64,
    /// Of a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
    /// Of one of [`WHOLE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl LayerList {
    /// A list of these entries.
    pub(super) fn new(entries: Vec<Listed>) -> LayerList {
        LayerList(entries)
    }

    /// Lists `blob`; another DiffID than `expected` is an error.
    pub(super) fn read<R: Read + Send>(blob: R, expected: &DiffId) -> Result<LayerList, UnpackError> {
        let mut list = Vec::new();
        stream(blob, Some(expected), |reader| {
            while let Some(entry) = reader.next_entry()? {
                list.push(listed(entry, reader)?);
            }
            Ok(())
        })?;
        Ok(LayerList(list))
    }

    /// The list as it is remembered.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        zstd::encode_all(&serde_json::to_vec(self)?[..], LEVEL)
    }

    /// What [`LayerList::encode`] made; `None` where it is something else.
    pub(super) fn decode(bytes: &[u8]) -> Option<LayerList> {
        // It may have come from elsewhere, and say that it unpacks to more than any list.
        let mut unpacked = Vec::new();
        zstd::Decoder::new(bytes).ok()?.take(LIST_MAX).read_to_end(&mut unpacked).ok()?;
        serde_json::from_slice(&unpacked).ok()
    }
}

fn listed<R: BufRead>(entry: Entry, reader: &mut TarReader<R>) -> Result<Listed, UnpackError> {
    if entry.kind != EntryKind::File {
        return Ok(Listed { entry, size: 0, digest: None, content: None });
    }
    let size = reader.remaining();
    let whole = size <= WHOLE_MAX && clean(&entry.path).is_ok_and(|path| WHOLE.contains(&&path[..]));
    let (mut hasher, mut content) = (Hasher::new(Algorithm::Sha256), Vec::new());
    loop {
        let piece = reader.data()?;
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        if whole {
            content.extend_from_slice(piece);
        }
        let length = piece.len();
        reader.consume(length);
    }
    // What is no text names nobody.
    let content = whole.then(|| String::from_utf8(content).ok()).flatten();
    Ok(Listed { entry, size, digest: Some(hasher.finish()), content })
}

/// Makes the unpacked tree.
type Unpack<'a> = Box<dyn Fn() -> Result<LayerView, SnapshotError> + Send + Sync + 'a>;

/// The tree of a stack of layers, by their lists.
pub(super) struct ListedTree<'a> {
    nodes: BTreeMap<Vec<u8>, Node>,
    layer: usize,
    inodes: u64,
    unpack: Unpack<'a>,
    unpacked: Mutex<Option<Arc<LayerView>>>,
}

#[derive(Debug, Clone)]
struct Node {
    meta: Metadata,
    /// The layer that says so.
    layer: usize,
    /// Names of one file have one number; `linked` where there are several.
    inode: u64,
    linked: bool,
    digest: Option<Digest>,
    content: Option<Arc<str>>,
}

impl<'a> ListedTree<'a> {
    /// An empty tree; `unpack` makes the tree with the bytes when somebody wants some.
    pub(super) fn new(unpack: Unpack<'a>) -> Self {
        let mut tree = ListedTree { nodes: BTreeMap::new(), layer: 0, inodes: 0, unpack, unpacked: Mutex::default() };
        tree.directory(b"", plain_dir());
        tree
    }

    /// Puts a layer on top.
    pub(super) fn push(&mut self, layer: LayerList) -> Result<(), UnpackError> {
        self.layer += 1;
        if let Some(root) = self.nodes.get_mut(&b""[..]) {
            root.layer = self.layer;
        }
        layer.0.into_iter().try_for_each(|listed| self.add(listed))
    }

    fn add(&mut self, listed: Listed) -> Result<(), UnpackError> {
        let Listed { entry, size, digest, content } = listed;
        let called = clean(&entry.path).map_err(|why| refuse(&entry.path, why))?;
        if split(&called).any(|name| name.starts_with(AUFS_PREFIX) && name != OPAQUE_WHITEOUT.as_bytes()) {
            return Ok(());
        }
        if split(parent(&called)).any(|name| name.starts_with(WHITEOUT_PREFIX.as_bytes())) {
            return Err(refuse(&entry.path, "lies below a whiteout"));
        }
        if called.is_empty() && entry.kind != EntryKind::Dir {
            return Err(refuse(&entry.path, "puts something other than a directory at the root"));
        }
        let dir = self.enter(parent(&called))?;
        if let Some(hidden) = last(&called).strip_prefix(WHITEOUT_PREFIX.as_bytes()) {
            match hidden {
                _ if last(&called) == OPAQUE_WHITEOUT.as_bytes() => self.hide_below(&dir),
                b"" | b"." | b".." => return Err(refuse(&entry.path, "is a whiteout of no name")),
                _ => self.hide(&join(&dir, hidden)),
            }
            return Ok(());
        }
        let path = join(&dir, last(&called));
        let kind = match entry.kind {
            EntryKind::HardLink => return self.hard_link(&path, &entry),
            EntryKind::File => Kind::File { size },
            EntryKind::Dir => Kind::Dir,
            EntryKind::Symlink => Kind::Symlink { target: entry.link },
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Char(major, minor) => Kind::CharDevice { major, minor },
            EntryKind::Block(major, minor) => Kind::BlockDevice { major, minor },
        };
        // Linux keeps no mode for a symbolic link.
        let mode = if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { entry.mode };
        let (uid, gid, mtime) = (entry.uid, entry.gid, entry.mtime);
        let mut xattrs = entry.xattrs;
        xattrs.retain(|key, _| xattrs::is_images(key));
        let meta = Metadata { kind, mode, uid, gid, mtime, xattrs };
        if meta.is_dir() {
            self.directory(&path, meta);
        } else {
            self.inodes += 1;
            let (layer, inode, linked) = (self.layer, self.inodes, false);
            self.put(&path, Node { meta, layer, inode, linked, digest, content: content.map(Arc::from) });
        }
        Ok(())
    }

    /// Puts anything but a directory at `path`, in place of whatever is there.
    fn put(&mut self, path: &[u8], node: Node) {
        self.remove(path, |_| true);
        self.nodes.insert(path.to_vec(), node);
    }

    fn directory(&mut self, path: &[u8], meta: Metadata) {
        let node = Node { meta, layer: self.layer, inode: 0, linked: false, digest: None, content: None };
        self.nodes.insert(path.to_vec(), node);
    }

    /// Removes what is at and below `path`, as far as `which` says.
    fn remove(&mut self, path: &[u8], which: impl Fn(&Node) -> bool) {
        let inside = |other: &[u8]| other.starts_with(path) && matches!(other.get(path.len()), None | Some(b'/'));
        let paths = self.nodes.range(path.to_vec()..).take_while(|(other, _)| other.starts_with(path));
        let gone = paths.filter(|(other, node)| inside(other) && which(node)).map(|(other, _)| other.clone());
        for other in gone.collect::<Vec<_>>() {
            self.nodes.remove(&other);
        }
    }

    /// Hides what the layers below have at `path`.
    fn hide(&mut self, path: &[u8]) {
        let layer = self.layer;
        self.remove(path, |node| node.layer < layer);
    }

    /// Hides all that the layers below have in `dir`, which is this layer's.
    fn hide_below(&mut self, dir: &[u8]) {
        let layer = self.layer;
        let prefix = if dir.is_empty() { Vec::new() } else { [dir, b"/"].concat() };
        let paths = self.nodes.range(prefix.clone()..).take_while(|(other, _)| other.starts_with(&prefix));
        let gone =
            paths.filter(|(other, node)| !other.is_empty() && node.layer < layer).map(|(other, _)| other.clone());
        for other in gone.collect::<Vec<_>>() {
            self.nodes.remove(&other);
        }
    }

    /// A second name for what is at the entry's target.
    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let missing = || UnpackError::LinkTarget { path: show(&entry.path), target: show(&entry.link) };
        let called = clean(&entry.link).map_err(|_| missing())?;
        let target = join(&self.enter(parent(&called))?, last(&called));
        if target == *path {
            return Ok(());
        }
        let (layer, fresh) = (self.layer, self.inodes + 1);
        let node = self.nodes.get_mut(&target).filter(|node| !node.meta.is_dir()).ok_or_else(missing)?;
        if node.layer < layer {
            // It is copied into this layer, where its other names are not.
            (node.layer, node.inode) = (layer, fresh);
        }
        node.linked = true;
        let node = node.clone();
        self.inodes = fresh;
        self.put(path, node);
        Ok(())
    }

    /// The real path of the directory that entries call `called`, made where there is none.
    fn enter(&mut self, called: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let mut pending: Vec<Vec<u8>> = split(called).rev().map(<[u8]>::to_vec).collect();
        let (mut at, mut links) = (Vec::new(), 0);
        while let Some(name) = pending.pop() {
            if name == b".." {
                at.truncate(parent(&at).len());
                continue;
            }
            let next = join(&at, &name);
            let layer = self.layer;
            let target = match self.nodes.get_mut(&next) {
                Some(node) => match &node.meta.kind {
                    Kind::Symlink { target } => target.clone(),
                    Kind::Dir => {
                        node.layer = layer;
                        at = next;
                        continue;
                    }
                    _ => return Err(refuse(called, "lies below something that is no directory")),
                },
                None => {
                    self.directory(&next, plain_dir());
                    at = next;
                    continue;
                }
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(refuse(called, "leads through too many symbolic links"));
            }
            if target.starts_with(b"/") {
                at.clear();
            }
            pending.extend(split(&target).rev().map(<[u8]>::to_vec));
        }
        Ok(at)
    }

    /// The bytes of a file that is listed with them.
    pub(super) fn text(&self, path: &[u8]) -> Option<Arc<str>> {
        self.nodes.get(path).and_then(|node| node.content.clone())
    }

    /// The tree with the bytes.
    fn unpacked(&self) -> io::Result<Arc<LayerView>> {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = &*unpacked {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new((self.unpack)().map_err(io::Error::other)?);
        Ok(Arc::clone(unpacked.insert(view)))
    }
}

impl SourceTree for ListedTree<'_> {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        Ok(self.nodes.get(path).map(|node| node.meta.clone()))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        if !self.nodes.get(path).is_some_and(|node| node.meta.is_dir()) {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("/{} is no directory", show(path))));
        }
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let (mut names, mut from) = (Vec::new(), prefix.clone());
        while let Some((other, _)) = self.nodes.range(from..).next().filter(|(other, _)| other.starts_with(&prefix)) {
            let name = &other[prefix.len()..];
            from = match name.iter().position(|byte| *byte == b'/') {
                // What is below a name that was passed is stepped over: '0' comes after '/'.
                Some(end) => [&prefix, &name[..end], b"0"].concat(),
                None => [&other[..], b"\0"].concat(),
            };
            if !name.is_empty() && !name.contains(&b'/') {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        match self.text(path) {
            Some(content) => Ok(Box::new(Cursor::new(content.as_bytes().to_vec()))),
            None => self.unpacked()?.open(path),
        }
    }

    fn content_digest(&self, path: &[u8]) -> io::Result<Option<Digest>> {
        Ok(self.nodes.get(path).and_then(|node| node.digest.clone()))
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        let node = self.nodes.get(path).filter(|node| node.linked);
        Ok(node.map(|node| (node.layer as u64, node.inode)))
    }
}
