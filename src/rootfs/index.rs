//! What a tree looked like at one moment, so that one walk tells later what may have changed.
//!
//! Whatever is done to a file changes its ctime, which no program can set. Before Linux 6.13 ctime has the grain of the clock
//! tick, so something done in the tick of the walk itself may leave it as it is: what had changed within a tick before
//! the walk counts as changed at the next comparison.

use super::diff::DiffError;
use super::diff_walk::{Step, Walk, list, open_root};
use rustix::fs::{FileType, Stat};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest tick that Linux is built with (100 Hz).
const TICK: Duration = Duration::from_millis(10);

/// Everything in a tree, each directory before what is in it, names sorted.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    names: Vec<u8>,
    /// Whatever has changed since, has a ctime after this: seconds and nanoseconds.
    sure: (i64, i64),
}

#[derive(Debug)]
struct Entry {
    depth: u32,
    /// Where its name is in `names`.
    name: (usize, usize),
    stamp: Stamp,
}

/// What changes with any change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    ctime: (i64, i64),
    size: i64,
    mode: u32,
}

impl Stamp {
    fn of(stat: &Stat) -> Stamp {
        let ctime = (stat.st_ctime, stat.st_ctime_nsec as i64);
        Stamp { inode: stat.st_ino, ctime, size: stat.st_size, mode: stat.st_mode }
    }

    fn is_dir(self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }
}

/// A path that may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// There is something, and it may be new or different.
    There(Vec<u8>),
    /// There is nothing any more.
    Gone(Vec<u8>),
}

impl Candidate {
    fn there(self) -> Option<Vec<u8>> {
        match self {
            Candidate::There(path) => Some(path),
            Candidate::Gone(_) => None,
        }
    }
}

impl Index {
    /// Looks at the tree at `root`, which must be at rest.
    pub(super) fn take(root: &Path) -> Result<Index, DiffError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(TICK);
        let mut index = Index { sure: (now.as_secs() as i64, now.subsec_nanos().into()), ..Index::default() };
        let mut walk = Walk::new();
        let root = open_root(root)?;
        let names = list(&root).map_err(|error| walk.error(error))?;
        walk.enter(root, names)?;
        let mut depth = 0;
        while let Some(step) = walk.next()? {
            let Step::Entry(name) = step else {
                depth -= 1;
                continue;
            };
            let stamp = Stamp::of(&walk.stat(&name.name)?);
            let start = index.names.len();
            index.names.extend_from_slice(&name.name);
            index.entries.push(Entry { depth: depth as u32, name: (start, index.names.len()), stamp });
            if stamp.is_dir() {
                let dir = walk.open(&name.name)?;
                let names = list(&dir).map_err(|error| walk.error(error))?;
                walk.enter(dir, names)?;
                depth += 1;
            }
        }
        Ok(index)
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> u64 {
        self.entries.iter().filter(|entry| !entry.stamp.is_dir()).map(|entry| entry.stamp.size.max(0) as u64).sum()
    }

    /// Bytes of the files that changed between this and `after`. What was done in the tick of the walk and left the size as
    /// it was makes no difference to them.
    pub(super) fn changed_size(&self, after: &Index) -> u64 {
        let changed = self.compare(after, (i64::MAX, 0)).into_iter().filter_map(Candidate::there);
        let changed: HashSet<Vec<u8>> = changed.collect();
        let mut cursor = Cursor::new(after);
        let mut size = 0;
        while let Some(entry) = cursor.entry() {
            if !entry.stamp.is_dir() && changed.contains(cursor.path()) {
                size += entry.stamp.size.max(0) as u64;
            }
            cursor.advance();
        }
        size
    }

    /// The index as bytes, for this machine alone: each entry's numbers and its name behind its length.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.entries.len() * 52 + self.names.len());
        for number in [self.sure.0, self.sure.1] {
            bytes.extend(number.to_le_bytes());
        }
        for Entry { depth, name, stamp } in &self.entries {
            let numbers = [stamp.inode as i64, stamp.ctime.0, stamp.ctime.1, stamp.size];
            numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            [stamp.mode, *depth, (name.1 - name.0) as u32].iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            bytes.extend_from_slice(&self.names[name.0..name.1]);
        }
        bytes
    }

    /// What [`Index::encode`] wrote; `None` where it is cut.
    pub(super) fn decode(bytes: &[u8]) -> Option<Index> {
        let mut rest = bytes;
        let wide = |rest: &mut &[u8]| rest.split_off(..8).and_then(|b| Some(i64::from_le_bytes(b.try_into().ok()?)));
        let narrow = |rest: &mut &[u8]| rest.split_off(..4).and_then(|b| Some(u32::from_le_bytes(b.try_into().ok()?)));
        let mut index = Index { sure: (wide(&mut rest)?, wide(&mut rest)?), ..Index::default() };
        while !rest.is_empty() {
            let (inode, ctime) = (wide(&mut rest)? as u64, (wide(&mut rest)?, wide(&mut rest)?));
            let (size, mode) = (wide(&mut rest)?, narrow(&mut rest)?);
            let (depth, length) = (narrow(&mut rest)?, narrow(&mut rest)?);
            let start = index.names.len();
            index.names.extend_from_slice(rest.split_off(..length as usize)?);
            let stamp = Stamp { inode, ctime, size, mode };
            index.entries.push(Entry { depth, name: (start, index.names.len()), stamp });
        }
        Some(index)
    }

    /// What may have changed between this and `after`. Nothing is listed below what is gone.
    pub(super) fn candidates(&self, after: &Index) -> Vec<Candidate> {
        self.compare(after, self.sure)
    }

    /// The same; what has a ctime of `sure` or later counts as changed.
    fn compare(&self, after: &Index, sure: (i64, i64)) -> Vec<Candidate> {
        let (mut old, mut new) = (Cursor::new(self), Cursor::new(after));
        let mut found = Vec::new();
        loop {
            match (old.entry(), new.entry()) {
                (None, None) => return found,
                (Some(_), None) => gone(&mut old, &mut found),
                (None, Some(_)) => there(&mut new, &mut found),
                // Where one is deeper, the other has left the directory that both were in.
                (Some(was), Some(is)) => {
                    let order = is.depth.cmp(&was.depth).then_with(|| old.name().cmp(new.name()));
                    match order {
                        Ordering::Less => gone(&mut old, &mut found),
                        Ordering::Greater => there(&mut new, &mut found),
                        Ordering::Equal => {
                            let changed = was.stamp != is.stamp || was.stamp.ctime >= sure;
                            let descend = is.stamp.is_dir();
                            if changed {
                                found.push(Candidate::There(new.path().to_vec()));
                            }
                            if descend {
                                old.advance()
                            } else {
                                old.skip()
                            }
                            new.advance();
                        }
                    }
                }
            }
        }
    }
}

fn gone(old: &mut Cursor<'_>, found: &mut Vec<Candidate>) {
    found.push(Candidate::Gone(old.path().to_vec()));
    old.skip();
}

fn there(new: &mut Cursor<'_>, found: &mut Vec<Candidate>) {
    found.push(Candidate::There(new.path().to_vec()));
    new.advance();
}

/// A place in an index.
struct Cursor<'a> {
    index: &'a Index,
    at: usize,
    path: Vec<u8>,
    /// Length of the path of each directory above, less the name in it.
    above: Vec<usize>,
}

impl<'a> Cursor<'a> {
    fn new(index: &'a Index) -> Self {
        let mut cursor = Cursor { index, at: 0, path: Vec::new(), above: vec![0] };
        cursor.follow();
        cursor
    }

    fn entry(&self) -> Option<&'a Entry> {
        self.index.entries.get(self.at)
    }

    fn name(&self) -> &'a [u8] {
        self.entry().map_or(&[], |entry| &self.index.names[entry.name.0..entry.name.1])
    }

    fn path(&self) -> &[u8] {
        &self.path
    }

    fn advance(&mut self) {
        self.at += 1;
        self.follow();
    }

    /// Past the current entry and all below it.
    fn skip(&mut self) {
        let Some(depth) = self.entry().map(|entry| entry.depth) else { return };
        self.at += 1;
        while self.entry().is_some_and(|entry| entry.depth > depth) {
            self.at += 1;
        }
        self.follow();
    }

    /// Makes the path that of the current entry.
    fn follow(&mut self) {
        let Some(entry) = self.entry() else { return };
        let depth = entry.depth as usize;
        if depth + 1 > self.above.len() {
            // One step down from the entry before.
            self.above.push(self.path.len());
        }
        self.above.truncate(depth + 1);
        self.path.truncate(self.above[depth]);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(self.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    type Change = fn(&Path);

    #[test]
    fn survives_its_encoding() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/c"), "x").unwrap();
        let before = Index::take(dir.path()).unwrap();
        let bytes = before.encode();
        let mut again = Index::decode(&bytes).unwrap();
        assert_eq!(again.sure, before.sure);
        again.sure = (i64::MAX, 0);
        assert_eq!(again.candidates(&Index::take(dir.path()).unwrap()), []);
        fs::remove_file(dir.path().join("a/b/c")).unwrap();
        let seen = again.candidates(&Index::take(dir.path()).unwrap());
        assert!(seen.contains(&Candidate::Gone(b"a/b/c".to_vec())), "{seen:?}");
        assert!(Index::decode(&bytes[..bytes.len() - 1]).is_none());
    }

    /// What `change` does to a tree, as an index sees it: `-` for what is gone.
    fn seen(change: impl FnOnce(&Path)) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in ["a/b/c", "d/e", "f"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in ["a/b/c/1", "a/b/c/2", "a/x", "d/e/3", "d.file", "z"] {
            fs::write(root.join(path), path).unwrap();
        }
        let mut before = Index::take(root).unwrap();
        change(root);
        // The tree is younger than a tick; what that does is another test's.
        before.sure = (i64::MAX, 0);
        let after = Index::take(root).unwrap();
        before.candidates(&after).into_iter().map(shown).collect()
    }

    fn shown(candidate: Candidate) -> String {
        let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
        match candidate {
            Candidate::There(path) => text(path),
            Candidate::Gone(path) => format!("-{}", text(path)),
        }
    }

    /// Waits until a change is sure to be seen: only where the kernel's ctime has the grain of the tick.
    fn past_the_tick() {
        std::thread::sleep(TICK + TICK);
    }

    #[test]
    fn sees_what_changes() {
        let nothing: [&str; 0] = [];
        assert_eq!(seen(|_| {}), nothing);
        let cases: &[(Change, &[&str])] = &[
            (|root| fs::write(root.join("a/b/c/2"), "other").unwrap(), &["a/b/c/2"]),
            (|root| fs::write(root.join("a/b/c/3"), "new").unwrap(), &["a/b/c", "a/b/c/3"]),
            (|root| fs::remove_file(root.join("a/x")).unwrap(), &["a", "-a/x"]),
            (|root| fs::remove_dir_all(root.join("a")).unwrap(), &["-a"]),
            (|root| fs::remove_dir_all(root.join("d/e")).unwrap(), &["d", "-d/e"]),
            (|root| fs::rename(root.join("f"), root.join("g")).unwrap(), &["-f", "g"]),
            (|root| fs::set_permissions(root.join("z"), PermissionsExt::from_mode(0o600)).unwrap(), &["z"]),
            (
                |root| {
                    fs::remove_file(root.join("z")).unwrap();
                    fs::create_dir_all(root.join("z/y/x")).unwrap();
                },
                &["z", "z/y", "z/y/x"],
            ),
            (
                |root| {
                    fs::remove_dir_all(root.join("a")).unwrap();
                    symlink("b", root.join("a")).unwrap();
                },
                &["a"],
            ),
            (
                |root| {
                    fs::remove_dir_all(root.join("a")).unwrap();
                    fs::create_dir_all(root.join("a/b/c/4")).unwrap();
                },
                &["a", "a/b", "a/b/c", "-a/b/c/1", "-a/b/c/2", "a/b/c/4", "-a/x"],
            ),
        ];
        for (change, expected) in cases {
            let found = seen(|root| {
                past_the_tick();
                change(root);
            });
            assert_eq!(&found, expected);
        }
    }

    #[test]
    fn what_changed_in_the_tick_of_the_walk_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), "x").unwrap();
        past_the_tick();
        let found = || {
            fs::write(dir.path().join("new"), "x").unwrap();
            let before = Index::take(dir.path()).unwrap();
            let after = Index::take(dir.path()).unwrap();
            before.candidates(&after).into_iter().map(shown).collect::<Vec<_>>()
        };
        // The tick may end between the two; on a slow machine it mostly does.
        let found = (0..1000).map(|_| found()).find(|found| !found.is_empty());
        assert_eq!(found, Some(vec!["new".to_string()]));
    }
}
