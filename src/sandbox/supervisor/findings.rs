//! What has been found at paths of a tree in which nothing comes to be at a name, nor goes from one, but by a call that the
//! supervisor makes itself (`emulated`): at which there is nothing, and at which there is something that is no link. Most
//! of what a compiler asks for is one of the two, a few hundred paths again and again.
//!
//! Only paths without links are kept, as they are written when nothing in them is superfluous. So what is known of one
//! can only be changed by a call that makes, moves or takes away the name that the path ends with, or one on the way: before
//! such a call is made, what it may change is forgotten, and until it has been made nothing new is noted, nor what was looked
//! up meanwhile. (The kernel itself makes files, too: dumps of programs that crashed.)
//!
//! What is known is written into tables as well, which programs of the step read without asking (`shortcuts`).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use super::path::ViewPath;
use crate::sys::SharedWords;

/// Paths that are kept at most, and bytes of one.
const MOST: usize = 8 << 10;
const LONGEST: usize = 255;

/// Words of a table. Each is what is known of the one path whose hash leads there, or 0.
pub(super) const TABLE: usize = 8 << 10;

/// A word is the path's hash but for its last bits, which tell what has been found.
const FOUND: u64 = 3;

/// FNV-1a of 64 bits: the beginning, and what is multiplied by for each byte. Which word of a table it leads to is in the
/// bits from this one on.
pub(super) const HASH_BEGIN: u64 = 0xcbf2_9ce4_8422_2325;
pub(super) const HASH_TIMES: u64 = 0x0000_0100_0000_01b3;
pub(super) const HASH_INDEX: u32 = 32;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Something that is no link: readlink(2) fails with `EINVAL`.
    NoLink = 1,
    /// Nothing, or the way there ends before: `ENOENT`.
    Nothing = 2,
}

/// When a look began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun(u64);

/// What has been found in the tree of one step.
#[derive(Debug, Default)]
pub(super) struct Findings(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    paths: BTreeMap<Box<[u8]>, Finding>,
    tables: Vec<SharedWords>,
    /// Calls that change names which have begun, and how many of those are over.
    begun: u64,
    over: u64,
    /// Nothing is noted any more.
    ended: bool,
}

/// A call that changes names, for as long as it is under way.
#[derive(Debug)]
pub(super) struct Change<'a>(&'a Findings);

/// Whether a path is one of those that can be kept.
pub(super) fn is_plain(path: &[u8]) -> bool {
    let Some(names) = path.strip_prefix(b"/") else { return false };
    path.len() <= LONGEST && names.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}

fn hash(path: &[u8]) -> u64 {
    path.iter().fold(HASH_BEGIN, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(HASH_TIMES))
}

impl Findings {
    fn lock(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of `path`; else whoever looks now begins with what is given.
    pub(super) fn ask(&self, path: &[u8]) -> Result<Finding, Begun> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.paths.get(path).copied().ok_or(Begun(known.over))
    }

    /// A look has shown it of `path`, a plain one in which no link is.
    pub(super) fn note(&self, path: &[u8], finding: Finding, begun: Begun) {
        let mut known = self.lock();
        if known.ended || known.over != begun.0 || known.over != known.begun {
            return;
        }
        if known.paths.len() >= MOST {
            known.forget_all();
        }
        known.tables.iter().for_each(|table| publish(table, path, finding));
        known.paths.insert(path.into(), finding);
    }

    /// To be called before a call changes names: what is known where it does so is then to be forgotten ([`Change::at`]).
    pub(super) fn change(&self) -> Change<'_> {
        self.lock().begun += 1;
        Change(self)
    }

    /// To be called where names are going to be changed by the kernel, at a time that is not known.
    pub(super) fn end(&self) {
        let mut known = self.lock();
        known.ended = true;
        known.forget_all();
    }

    /// Nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).paths.is_empty()
    }

    /// Writes what is known into a table of [`TABLE`] zeros from now on.
    pub(super) fn publish(&self, table: SharedWords) {
        let mut known = self.lock();
        known.paths.iter().for_each(|(path, finding)| publish(&table, path, *finding));
        known.tables.push(table);
    }
}

impl Change<'_> {
    /// What is at `path`, and below it, is changed.
    pub(super) fn at(&self, path: &ViewPath) {
        let (known, path) = (&mut *self.0.lock(), path.as_bytes());
        known.forget(path);
        let below = [path, b"/"].concat();
        let range =
            known.paths.range::<[u8], _>((std::ops::Bound::Included(below.as_slice()), std::ops::Bound::Unbounded));
        let below: Vec<_> = range.map(|(path, _)| path.clone()).take_while(|path| path.starts_with(&below)).collect();
        below.iter().for_each(|path| known.forget(path));
    }

    /// What is changed is not known.
    pub(super) fn anywhere(&self) {
        self.0.lock().forget_all();
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.lock().over += 1;
    }
}

impl Known {
    fn forget(&mut self, path: &[u8]) {
        if self.paths.remove(path).is_some() {
            self.tables.iter().for_each(|table| withdraw(table, path));
        }
    }

    fn forget_all(&mut self) {
        let (paths, tables) = (std::mem::take(&mut self.paths), &self.tables);
        paths.keys().for_each(|path| tables.iter().for_each(|table| withdraw(table, path)));
    }
}

fn index(hash: u64) -> usize {
    (hash >> HASH_INDEX) as usize & (TABLE - 1)
}

fn publish(table: &SharedWords, path: &[u8], finding: Finding) {
    let hash = hash(path);
    table[index(hash)].store(hash & !FOUND | finding as u64, Ordering::Release);
}

/// Takes what is said of `path` out of a table, where another path has not taken its place.
fn withdraw(table: &SharedWords, path: &[u8]) {
    let hash = hash(path);
    let word = &table[index(hash)];
    if (word.load(Ordering::Relaxed) ^ hash) & !FOUND == 0 {
        word.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::MemfdFlags;

    use super::*;

    fn at(path: &str) -> ViewPath {
        ViewPath::without_links(path.as_bytes())
    }

    fn note(findings: &Findings, path: &str, finding: Finding) {
        findings.note(path.as_bytes(), finding, findings.ask(path.as_bytes()).unwrap_err());
    }

    fn table() -> (SharedWords, SharedWords) {
        let file = rustix::fs::memfd_create("table", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&file, 8 * TABLE as u64).unwrap();
        let map = || SharedWords::map(file.as_fd(), 0, TABLE).unwrap();
        (map(), map())
    }

    fn said(table: &SharedWords, path: &str) -> Option<u64> {
        let hash = hash(path.as_bytes());
        let word = table[index(hash)].load(Ordering::Acquire);
        ((word ^ hash) & !FOUND == 0).then_some(word & FOUND)
    }

    #[test]
    fn keeps_paths_with_nothing_superfluous() {
        for path in ["/a", "/a/b.c/..d", "/.a", "/..."] {
            assert!(is_plain(path.as_bytes()), "{path}");
        }
        let long = format!("/{}", "x".repeat(LONGEST));
        for path in ["", "a", "/", "//a", "/a/", "/a//b", "/a/.", "/./a", "/a/..", "/../a", &long] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn forgets_what_a_change_is_about_and_what_is_below() {
        let findings = Findings::default();
        let (table, seen) = table();
        note(&findings, "/a", Finding::NoLink);
        findings.publish(table);
        for path in ["/a/b", "/a/b/c", "/a/b/c/d", "/a/b-", "/a/b0", "/a/ba"] {
            note(&findings, path, Finding::Nothing);
        }
        assert_eq!((said(&seen, "/a"), said(&seen, "/a/b"), said(&seen, "/b")), (Some(1), Some(2), None));
        findings.change().at(&at("/a/b"));
        for path in ["/a/b", "/a/b/c", "/a/b/c/d"] {
            assert!(findings.ask(path.as_bytes()).is_err() && said(&seen, path).is_none(), "{path}");
        }
        for path in ["/a/b-", "/a/b0", "/a/ba"] {
            assert_eq!((findings.ask(path.as_bytes()), said(&seen, path)), (Ok(Finding::Nothing), Some(2)), "{path}");
        }
        assert_eq!(findings.ask(b"/a"), Ok(Finding::NoLink));
        findings.change().anywhere();
        assert!(findings.is_empty() && seen.iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn notes_nothing_that_was_looked_up_during_a_change() {
        let findings = Findings::default();
        let before = findings.ask(b"/a").unwrap_err();
        let change = findings.change();
        let during = findings.ask(b"/a").unwrap_err();
        findings.note(b"/a", Finding::Nothing, before);
        findings.note(b"/a", Finding::Nothing, during);
        assert!(findings.is_empty());
        let other = findings.change();
        drop(change);
        let still = findings.ask(b"/a").unwrap_err();
        findings.note(b"/a", Finding::Nothing, still);
        assert!(findings.is_empty(), "the other one is under way");
        drop(other);
        for begun in [before, during, still] {
            findings.note(b"/a", Finding::Nothing, begun);
        }
        assert!(findings.is_empty());
        note(&findings, "/a", Finding::Nothing);
        assert_eq!(findings.ask(b"/a"), Ok(Finding::Nothing));
        findings.end();
        note(&findings, "/a", Finding::Nothing);
        assert!(findings.is_empty());
    }

    #[test]
    fn keeps_a_bounded_number() {
        let findings = Findings::default();
        let (table, seen) = table();
        findings.publish(table);
        for number in 0..=MOST {
            note(&findings, &format!("/{number}"), Finding::Nothing);
        }
        assert_eq!(findings.0.read().unwrap().paths.len(), 1);
        assert_eq!(seen.iter().filter(|word| word.load(Ordering::Relaxed) != 0).count(), 1);
    }
}
