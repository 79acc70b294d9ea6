//! The destination as it will be: a tree that is only read, and the changes on top of it.

use super::{Change, CopyError, Data, shown, source};
use crate::context::SourceTree;
use crate::oci::layer::{Kind, Metadata, OPAQUE_WHITEOUT, WHITEOUT_PREFIX};
use crate::rootfs::layer::order;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

/// A tree and what changes in it.
pub struct Target<'a> {
    tree: &'a dyn SourceTree,
    changes: BTreeMap<Vec<u8>, Change>,
    /// Paths of the tree whose directory was removed: nothing below them shows any more.
    hidden: BTreeSet<Vec<u8>>,
    /// Times of directories of the tree that changes below them, or a copy, set.
    times: BTreeMap<Vec<u8>, i64>,
    /// The directory whose time a change below it set last, while nothing else did.
    touched: Option<Vec<u8>>,
    now: i64,
}

impl<'a> Target<'a> {
    /// No changes in `tree` yet; `now` is the time of what is made without a source.
    pub fn new(tree: &'a dyn SourceTree, now: i64) -> Target<'a> {
        let (changes, hidden, times) = Default::default();
        Target { tree, changes, hidden, times, touched: None, now }
    }

    /// Metadata of a path as it will be.
    pub fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        match self.changes.get(path) {
            Some(Change::Entry { meta, .. }) => return Ok(Some(meta.clone())),
            Some(Change::Hardlink { to }) => return self.metadata(to),
            Some(Change::Whiteout | Change::Opaque) | None => {}
        }
        let Some(meta) = self.tree.metadata(path)? else { return Ok(None) };
        Ok(self.ancestors(path).all(|above| !self.is_covered(above)).then_some(meta))
    }

    fn ancestors<'p>(&self, path: &'p [u8]) -> impl Iterator<Item = &'p [u8]> + use<'p> {
        path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &path[..at]).chain([path])
    }

    /// Whether what the tree has at and below `path` is gone.
    fn is_covered(&self, path: &[u8]) -> bool {
        let is_dir = |change: &Change| matches!(change, Change::Entry { meta, .. } if meta.is_dir());
        self.hidden.contains(path) || self.changes.get(path).is_some_and(|change| !is_dir(change))
    }

    /// Follows all links of a path.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, CopyError> {
        source::resolve(&|path: &[u8]| self.metadata(path), path)
    }

    /// Makes `path` and what is missing above it, 0755 and as `finish` then makes of that; what exists stays.
    pub fn make_dirs(&mut self, path: &[u8], finish: &dyn Fn(Metadata) -> Metadata) -> Result<(), CopyError> {
        let all: Vec<&[u8]> = self.ancestors(path).filter(|path| !path.is_empty()).collect();
        for path in all {
            match self.metadata(path)? {
                Some(meta) if meta.is_dir() => {}
                Some(_) => return Err(CopyError::NotADirectory { path: shown(path) }),
                None => {
                    let (uid, gid, mtime, xattrs) = (0, 0, self.now, BTreeMap::new());
                    let meta = Metadata { kind: Kind::Dir, mode: 0o755, uid, gid, mtime, xattrs };
                    self.put(path, Change::Entry { meta: finish(meta), data: Data::None });
                }
            }
        }
        Ok(())
    }

    /// Puts anything but a directory at `path`, in place of anything but a directory.
    pub fn put_file(&mut self, path: &[u8], meta: Metadata, data: Data) -> Result<(), CopyError> {
        self.refuse_directory(path)?;
        self.put(path, Change::Entry { meta, data });
        Ok(())
    }

    /// Makes `path` another name of `to`, in place of anything but a directory.
    pub fn put_link(&mut self, path: &[u8], to: &[u8]) -> Result<(), CopyError> {
        self.refuse_directory(path)?;
        self.put(path, Change::Hardlink { to: to.to_vec() });
        Ok(())
    }

    fn refuse_directory(&self, path: &[u8]) -> Result<(), CopyError> {
        match self.metadata(path)? {
            Some(meta) if meta.is_dir() => Err(CopyError::IsADirectory { path: shown(path) }),
            _ => Ok(()),
        }
    }

    /// Puts `change` at `path` whatever is there; the directory above it must exist.
    fn put(&mut self, path: &[u8], change: Change) {
        if let Some(before) = self.changes.insert(path.to_vec(), change) {
            self.relink(path, before);
        }
        let above = source::split(path).0;
        // A copy puts one file after the other into a directory.
        if self.touched.as_deref() != Some(above) {
            self.set_time(above, self.now);
            self.touched = Some(above.to_vec());
        }
    }

    /// After the entry `before` at `path` went: the first of its other names takes over what it is.
    fn relink(&mut self, path: &[u8], before: Change) {
        let names = |change: &Change| matches!(change, Change::Hardlink { to } if to == path);
        let others: Vec<Vec<u8>> =
            self.changes.iter().filter(|(_, change)| names(change)).map(|(other, _)| other.clone()).collect();
        let Some(heir) = others.first().cloned() else { return };
        for other in &others[1..] {
            self.changes.insert(other.clone(), Change::Hardlink { to: heir.clone() });
        }
        self.changes.insert(heir, before);
    }

    /// Sets the time of a directory; what changes below it later sets it again.
    pub fn set_time(&mut self, path: &[u8], time: i64) {
        self.touched = None;
        match self.changes.get_mut(path) {
            Some(Change::Entry { meta, .. }) => meta.mtime = time,
            _ => drop(self.times.insert(path.to_vec(), time)),
        }
    }

    /// Sets all metadata of an existing directory.
    pub fn set_directory(&mut self, path: &[u8], meta: Metadata) {
        self.touched = None;
        self.changes.insert(path.to_vec(), Change::Entry { meta, data: Data::None });
    }

    /// Makes the directory `path` where nothing is.
    pub fn add_directory(&mut self, path: &[u8], meta: Metadata) {
        self.put(path, Change::Entry { meta, data: Data::None });
    }

    /// Puts `change` at `path` as unpacking does: whatever is there goes, a directory with all it holds.
    pub fn replace(&mut self, path: &[u8], change: Change) -> io::Result<()> {
        let below: Vec<Vec<u8>> = self.below(path).cloned().collect();
        for inner in below {
            if let Some(before) = self.changes.remove(&inner) {
                self.relink(&inner, before);
            }
        }
        if self.tree.metadata(path)?.is_some_and(|meta| meta.is_dir()) {
            self.hidden.insert(path.to_vec());
        }
        self.put(path, change);
        Ok(())
    }

    fn below<'s>(&'s self, path: &[u8]) -> impl Iterator<Item = &'s Vec<u8>> + use<'s> {
        let prefix = [path, b"/"].concat();
        self.changes.range(prefix.clone()..).map(|(path, _)| path).take_while(move |path| path.starts_with(&prefix))
    }

    /// The entry that `path` names, to change its metadata; a file of the tree becomes an entry by this.
    pub fn entry(&mut self, path: &[u8]) -> io::Result<Option<(Vec<u8>, &mut Metadata)>> {
        self.touched = None;
        let path = match self.changes.get(path) {
            Some(Change::Hardlink { to }) => to.clone(),
            _ => path.to_vec(),
        };
        if !self.changes.contains_key(&path) {
            let Some(meta) = self.metadata(&path)? else { return Ok(None) };
            let data = if matches!(meta.kind, Kind::File { .. }) { Data::Dest(path.clone()) } else { Data::None };
            self.changes.insert(path.clone(), Change::Entry { meta, data });
        }
        Ok(match self.changes.get_mut(&path) {
            Some(Change::Entry { meta, .. }) => Some((path, meta)),
            _ => None,
        })
    }

    /// The changes that are left when what the tree has already is dropped, with all directories above them.
    ///
    /// `same` compares the bytes of an entry with those of a path of the tree.
    pub fn finish(mut self, same: impl Fn(&Data, &[u8]) -> io::Result<bool>) -> io::Result<Vec<(Vec<u8>, Change)>> {
        self.order_links();
        let links = self.unchanged_links(&same)?;
        let (mut keep, mut unchanged) = (Vec::with_capacity(self.changes.len()), HashSet::new());
        for (path, change) in &self.changes {
            let is_unchanged = match links.get(link_target(change).unwrap_or(path)) {
                Some(unchanged) => *unchanged,
                None => !self.hidden.contains(path) && self.is_unchanged(path, change, &same)?,
            };
            // The root is no entry of a layer.
            keep.push(!is_unchanged && !path.is_empty());
            if is_unchanged {
                unchanged.insert(&path[..]);
            }
        }
        let needed = self.directories_above(&unchanged)?;
        let changes = std::mem::take(&mut self.changes).into_iter().zip(keep);
        let mut kept: Vec<_> = changes.filter_map(|(entry, keep)| keep.then_some(entry)).collect();
        kept.extend(needed);
        Ok(self.in_layer_order(kept))
    }

    /// The directories above what is not in `unchanged`, as they are, where they are no changes themselves.
    fn directories_above(&self, unchanged: &HashSet<&[u8]>) -> io::Result<BTreeMap<Vec<u8>, Change>> {
        let is_kept = |path: &[u8]| self.changes.contains_key(path) && !unchanged.contains(path);
        let (mut out, mut last) = (BTreeMap::new(), None);
        for path in self.changes.keys().filter(|path| !unchanged.contains(&path[..])) {
            let above = source::split(path).0;
            if last.replace(above) == Some(above) {
                continue;
            }
            for dir in self.ancestors(above).filter(|dir| !dir.is_empty()) {
                if is_kept(dir) || out.contains_key(dir) {
                    continue;
                }
                let Some(mut meta) = self.metadata(dir)? else { continue };
                meta.mtime = self.times.get(dir).copied().unwrap_or(meta.mtime);
                out.insert(dir.to_vec(), Change::Entry { meta, data: Data::None });
            }
        }
        Ok(out)
    }

    /// Files that are called like deletions become those, and all of it gets the order of a layer.
    fn in_layer_order(&self, mut kept: Vec<(Vec<u8>, Change)>) -> Vec<(Vec<u8>, Change)> {
        kept.sort_by(|(a, _), (b, _)| order(a, b));
        let find = |path: &[u8]| kept.binary_search_by(|(known, _)| order(known, path)).ok().map(|at| &kept[at].1);
        // A directory made anew where the tree had one must not show what that one held.
        let is_dir = |path: &&Vec<u8>| matches!(find(path), Some(Change::Entry { meta, .. }) if meta.is_dir());
        let mut opaque: BTreeSet<Vec<u8>> = self.hidden.iter().filter(is_dir).cloned().collect();
        let is_mark = |path: &[u8]| source::split(path).1.starts_with(WHITEOUT_PREFIX.as_bytes());
        let mut gone = Vec::new();
        for (path, _) in kept.iter().filter(|(path, _)| is_mark(path)) {
            let (dir, name) = source::split(path);
            if name == OPAQUE_WHITEOUT.as_bytes() {
                opaque.insert(dir.to_vec());
            } else {
                let path = source::join(dir, &name[WHITEOUT_PREFIX.len()..]);
                if find(&path).is_none() {
                    gone.push((path, Change::Whiteout));
                }
            }
        }
        kept.retain(|(path, _)| !is_mark(path));
        if !gone.is_empty() || !opaque.is_empty() {
            kept.extend(gone);
            kept.extend(opaque.into_iter().map(|dir| (dir, Change::Opaque)));
            // The sort is stable: a directory comes before its own mark.
            kept.sort_by(|(a, _), (b, _)| order(a, b));
        }
        kept
    }

    /// Of the names of one file the first is the entry.
    fn order_links(&mut self) {
        let mut names: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for (path, to) in self.changes.iter().filter_map(|(path, change)| Some((path, link_target(change)?))) {
            names.entry(to.clone()).or_default().push(path.clone());
        }
        for (entry, mut others) in names {
            others.sort_by(|a, b| order(a, b));
            let first = others.first().filter(|first| order(first, &entry).is_lt());
            let Some(first) = first.cloned() else { continue };
            let Some(change) = self.changes.remove(&entry) else { continue };
            self.changes.insert(first.clone(), change);
            others[0] = entry;
            for other in others {
                self.changes.insert(other, Change::Hardlink { to: first.clone() });
            }
        }
    }

    /// The entries that have further names, and whether the tree has all of that: the file, and one inode for its names.
    fn unchanged_links(
        &self,
        same: &impl Fn(&Data, &[u8]) -> io::Result<bool>,
    ) -> io::Result<BTreeMap<&Vec<u8>, bool>> {
        let mut groups: BTreeMap<&Vec<u8>, bool> = BTreeMap::new();
        for (path, change) in &self.changes {
            let Some(entry) = link_target(change) else { continue };
            let unchanged = match groups.get(entry) {
                Some(unchanged) => *unchanged,
                None => self.has_entry(entry, same)?,
            };
            groups.insert(entry, unchanged && self.is_linked(path, entry)?);
        }
        Ok(groups)
    }

    fn has_entry(&self, path: &[u8], same: &impl Fn(&Data, &[u8]) -> io::Result<bool>) -> io::Result<bool> {
        let Some(change) = self.changes.get(path) else { return Ok(false) };
        Ok(!self.hidden.contains(path) && self.is_unchanged(path, change, same)?)
    }

    /// Whether `path` is another name of `entry` in the tree, and nothing made here covers it.
    fn is_linked(&self, path: &[u8], entry: &[u8]) -> io::Result<bool> {
        let covered = self.ancestors(source::split(path).0).any(|above| self.is_covered(above));
        if covered || self.hidden.contains(path) || self.tree.metadata(path)?.is_none() {
            return Ok(false);
        }
        let identity = self.tree.link_identity(entry)?;
        Ok(identity.is_some() && self.tree.link_identity(path)? == identity)
    }

    fn is_unchanged(
        &self,
        path: &[u8],
        change: &Change,
        same: &impl Fn(&Data, &[u8]) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let Change::Entry { meta, data } = change else { return Ok(false) };
        let Some(mut before) = self.tree.metadata(path)? else { return Ok(false) };
        let above = source::split(path).0;
        if self.ancestors(above).any(|above| self.is_covered(above)) {
            return Ok(false);
        }
        if meta.is_dir() {
            before.mtime = meta.mtime;
        }
        Ok(before == *meta && (!matches!(meta.kind, Kind::File { .. }) || same(data, path)?))
    }
}

fn link_target(change: &Change) -> Option<&Vec<u8>> {
    match change {
        Change::Hardlink { to } => Some(to),
        Change::Entry { .. } | Change::Whiteout | Change::Opaque => None,
    }
}
