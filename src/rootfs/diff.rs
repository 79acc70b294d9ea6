//! The difference between a tree and its parent, from an overlay upper directory, as a layer.
//!
//! The upper directory is a list of candidates only: overlayfs copies a file up when it is opened for writing, and every
//! directory above a change. What equals the parent in metadata and bytes is dropped, so the layer depends on the two trees
//! and not on how the second came about. The rules, as BuildKit has them:
//!
//! * Whatever differs in kind, mode, owner, attributes, size, modification time or bytes is listed. Layers hold whole seconds;
//!   here nanoseconds count, so that what was written again is listed whether or not a second has passed.
//! * A directory's own time does not count; its ancestors are listed with whatever is listed, the root never is.
//! * Deletions are explicit whiteouts, one for each name that the parent has there; an opaque directory becomes those, too.
//! * Names of one inode become hard links, and are listed together if any of them changed.
//! * Overrides (see [`crate::overrides`]) are honoured, the side file beside `upper` included; attributes that are the
//!   host's, overlayfs's or ours stay out.

use super::diff_walk::{Name, Node, Step, Walk, id, list, look, open_root};
use super::fill;
use super::layer::{LayerError, LayerWriter};
use crate::context::SourceTree;
use crate::oci::layer::Metadata;
use crate::oci::layer::{Kind, WHITEOUT_PREFIX};
use crate::overrides::Owners;
use rustix::fs::FileType;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Why a difference could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The upper directory cannot be opened.
    #[error("cannot open the changed tree {}", root.display())]
    Root {
        /// The directory.
        root: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Something in it cannot be read.
    #[error("cannot read '{}' of the changed tree", String::from_utf8_lossy(path))]
    Io {
        /// Path inside the tree.
        path: Vec<u8>,
        /// What happened.
        source: io::Error,
    },
    /// The parent cannot be read.
    #[error("cannot read '{}' of the layers below", String::from_utf8_lossy(path))]
    Parent {
        /// Path inside the tree.
        path: Vec<u8>,
        /// What happened.
        source: io::Error,
    },
    /// A directory moved while it was being read: something still writes to the tree.
    #[error("'{}' of the changed tree moved while it was read", String::from_utf8_lossy(.0))]
    Moved(Vec<u8>),
    /// The layer could not be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// Something that was changed and yet is not in the layer, because no layer can hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOut {
    /// A socket.
    Socket(Vec<u8>),
    /// A name that begins with `.wh.`, which would delete another one.
    Reserved(Vec<u8>),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, path) = match self {
            LeftOut::Socket(path) => ("a socket", path),
            LeftOut::Reserved(path) => ("a name that layers reserve for deletions", path),
        };
        write!(f, "/{} is not in the layer: {what}", String::from_utf8_lossy(path))
    }
}

/// Writes what `upper` changes in `parent` to `layer`, in canonical order; the caller finishes it. Nothing at or below a path
/// in `exclude` (mount points of the sandbox; relative, without slashes at the ends) is listed. `upper` must be at rest.
/// Returns what no layer can hold.
pub fn diff<W: Write>(
    upper: &Path,
    parent: &dyn SourceTree,
    exclude: &[&[u8]],
    layer: &mut LayerWriter<W>,
) -> Result<Vec<LeftOut>, DiffError> {
    let owners = Owners::read(upper).map_err(|source| DiffError::Root { root: upper.to_path_buf(), source })?;
    let mut diff = Differ {
        upper,
        parent,
        exclude,
        owners,
        layer,
        walk: Walk::new(),
        dirs: Vec::new(),
        links: HashMap::new(),
        groups: None,
        left_out: Vec::new(),
    };
    let root = open_root(upper)?;
    diff.enter(root, Directory { len: 0, below: true, hidden: false, unlisted: None })?;
    while let Some(step) = diff.walk.next()? {
        match step {
            Step::Entry(name) => diff.entry(&name)?,
            Step::Leave => drop(diff.dirs.pop()),
        }
    }
    Ok(diff.left_out)
}

/// All names of each inode.
type LinkGroups = HashMap<(u64, u64), Vec<Vec<u8>>>;

/// A directory that the walk is in.
struct Directory {
    /// Length of its path.
    len: usize,
    /// The parent has a directory here.
    below: bool,
    /// Nothing of that shows through: it, or a directory above, is opaque.
    hidden: bool,
    /// It is not listed yet, and will be as soon as something in it is.
    unlisted: Option<Metadata>,
}

struct Differ<'a, W: Write> {
    upper: &'a Path,
    parent: &'a dyn SourceTree,
    exclude: &'a [&'a [u8]],
    owners: Owners,
    layer: &'a mut LayerWriter<W>,
    walk: Walk,
    dirs: Vec<Directory>,
    /// First name written, of each inode with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// All names of inodes with several; made when first needed.
    groups: Option<LinkGroups>,
    left_out: Vec<LeftOut>,
}

impl<W: Write> Differ<'_, W> {
    fn entry(&mut self, name: &Name) -> Result<(), DiffError> {
        let path = self.walk.path().to_vec();
        if self.exclude.contains(&path.as_slice()) {
            return Ok(());
        }
        let below = self.dirs.last().is_some_and(|dir| dir.below);
        let old = if below { self.parent_metadata(&path)? } else { None };
        if name.whiteout {
            if old.is_some() {
                self.list_ancestors()?;
                self.layer.whiteout(&path)?;
            }
            return Ok(());
        }
        if name.name.starts_with(WHITEOUT_PREFIX.as_bytes()) {
            self.left_out.push(LeftOut::Reserved(path));
            return Ok(());
        }
        let node = look(&self.walk, &name.name, &self.owners)?;
        match node.meta.kind {
            Kind::Dir => self.directory(&path, node, old),
            Kind::Socket => {
                self.left_out.push(LeftOut::Socket(path));
                // The name is taken, so what the parent has there is gone.
                if old.is_some_and(|old| old.kind != Kind::Socket) {
                    self.list_ancestors()?;
                    return Ok(self.layer.whiteout(self.walk.path())?);
                }
                Ok(())
            }
            _ => self.leaf(&path, node, old),
        }
    }

    fn directory(&mut self, path: &[u8], node: Node, old: Option<Metadata>) -> Result<(), DiffError> {
        let hidden = node.opaque || self.dirs.last().is_some_and(|dir| dir.hidden);
        let below = old.as_ref().is_some_and(Metadata::is_dir);
        // Its time changes with whatever happens in it.
        let same = old.is_some_and(|old| Metadata { mtime: node.meta.mtime, ..old } == node.meta);
        if !same {
            self.list_ancestors()?;
            self.layer.append(path, &node.meta, None)?;
        }
        let unlisted = same.then_some(node.meta);
        let Some(file) = node.file else { return Err(DiffError::Moved(path.to_vec())) };
        self.enter(file.into(), Directory { len: path.len(), below, hidden, unlisted })
    }

    fn enter(&mut self, fd: OwnedFd, dir: Directory) -> Result<(), DiffError> {
        let mut names = list(&fd).map_err(|error| self.walk.error(error))?;
        for name in self.owners.hidden_in(self.walk.path()) {
            add_whiteout(&mut names, name.to_vec());
        }
        if dir.below && dir.hidden {
            self.add_hidden(&mut names)?;
        }
        self.walk.enter(fd, names)?;
        self.dirs.push(dir);
        Ok(())
    }

    /// Adds a whiteout for each name of the parent that `names` does not have.
    fn add_hidden(&self, names: &mut Vec<Name>) -> Result<(), DiffError> {
        let path = self.walk.path();
        let error = |source| DiffError::Parent { path: path.to_vec(), source };
        for name in self.parent.read_dir(path).map_err(error)? {
            add_whiteout(names, name);
        }
        Ok(())
    }

    /// Everything that is neither a directory nor a socket.
    fn leaf(&mut self, path: &[u8], mut node: Node, old: Option<Metadata>) -> Result<(), DiffError> {
        if let Some(first) = node.links.and_then(|inode| self.links.get(&inode)).cloned() {
            self.list_ancestors()?;
            return Ok(self.layer.hardlink(path, &first, &node.meta)?);
        }
        if old.is_some_and(|old| old == node.meta)
            && self.same_nanos(path, node.nanos)?
            && self.same_bytes(path, node.file.as_mut())?
            && self.same_names(path, node.links)?
        {
            return Ok(());
        }
        self.list_ancestors()?;
        self.layer.append(path, &node.meta, node.file.as_mut().map(|file| file as &mut dyn Read))?;
        if let Some(inode) = node.links {
            self.links.insert(inode, path.to_vec());
        }
        Ok(())
    }

    /// Lists the directories above the current path that are not listed yet.
    fn list_ancestors(&mut self) -> Result<(), DiffError> {
        for dir in &mut self.dirs {
            if let Some(meta) = dir.unlisted.take() {
                self.layer.append(&self.walk.path()[..dir.len], &meta, None)?;
            }
        }
        Ok(())
    }

    /// Whether `file` holds what the parent's file of the same size holds. Leaves it at its beginning.
    fn same_bytes(&self, path: &[u8], file: Option<&mut File>) -> Result<bool, DiffError> {
        let Some(file) = file else { return Ok(true) };
        let parent = |source| DiffError::Parent { path: path.to_vec(), source };
        let mut old = self.parent.open(path).map_err(parent)?;
        let (mut a, mut b) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let same = loop {
            let got = fill(file, &mut a).map_err(|error| self.walk.error(error))?;
            let had = fill(&mut old, &mut b).map_err(parent)?;
            if a[..got] != b[..had] {
                break false;
            }
            if got == 0 {
                break true;
            }
        };
        file.rewind().map_err(|error| self.walk.error(error))?;
        Ok(same)
    }

    /// Whether all names of the inode (one of them is `path`, which did not change) are names of one file in the parent, too.
    fn same_names(&mut self, path: &[u8], inode: Option<(u64, u64)>) -> Result<bool, DiffError> {
        let Some(inode) = inode else { return Ok(true) };
        let groups = match self.groups.take() {
            Some(groups) => groups,
            None => link_groups(self.upper)?,
        };
        let names = groups.get(&inode).map_or(&[][..], Vec::as_slice);
        let identity = self.identity(path)?;
        let mut same = true;
        for name in names.iter().filter(|name| name.as_slice() != path && !self.is_excluded(name)) {
            same =
                same && identity.is_some() && self.parent_metadata(name)?.is_some() && self.identity(name)? == identity;
        }
        self.groups = Some(groups);
        Ok(same)
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        self.exclude.iter().any(|at| path.strip_prefix(*at).is_some_and(|rest| rest.is_empty() || rest[0] == b'/'))
    }

    fn same_nanos(&self, path: &[u8], nanos: u32) -> Result<bool, DiffError> {
        let before = self.parent.mtime_nanos(path);
        Ok(before.map_err(|source| DiffError::Parent { path: path.to_vec(), source })?.is_none_or(|n| n == nanos))
    }

    fn identity(&self, path: &[u8]) -> Result<Option<(u64, u64)>, DiffError> {
        self.parent.link_identity(path).map_err(|source| DiffError::Parent { path: path.to_vec(), source })
    }

    fn parent_metadata(&self, path: &[u8]) -> Result<Option<Metadata>, DiffError> {
        self.parent.metadata(path).map_err(|source| DiffError::Parent { path: path.to_vec(), source })
    }
}

/// Adds a whiteout of `name` to sorted names, unless they have it.
fn add_whiteout(names: &mut Vec<Name>, name: Vec<u8>) {
    if let Err(at) = names.binary_search_by(|have| have.name.cmp(&name)) {
        names.insert(at, Name { name, whiteout: true });
    }
}

/// All names of all inodes that have several.
fn link_groups(upper: &Path) -> Result<LinkGroups, DiffError> {
    let mut groups = LinkGroups::new();
    let mut walk = Walk::new();
    let root = open_root(upper)?;
    let names = list(&root).map_err(|error| walk.error(error))?;
    walk.enter(root, names)?;
    while let Some(step) = walk.next()? {
        let Step::Entry(Name { name, whiteout: false }) = step else { continue };
        let stat = walk.stat(&name)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let fd = walk.open(&name)?;
            let names = list(&fd).map_err(|error| walk.error(error))?;
            walk.enter(fd, names)?;
        } else if stat.st_nlink > 1 {
            groups.entry(id(&stat)).or_default().push(walk.path().to_vec());
        }
    }
    Ok(groups)
}
