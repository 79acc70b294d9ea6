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
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use rustix::io::Errno;

use super::path::ViewPath;

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
    /// What is in all tables; nothing as long as there is none.
    words: Vec<u64>,
    tables: Vec<Table>,
    /// Calls that change names which have begun, and how many of those are over.
    begun: u64,
    over: u64,
    /// Nothing is noted any more.
    ended: bool,
}

/// A table in a file that programs have mapped.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) file: OwnedFd,
    /// Where it begins: where a page does.
    pub(super) offset: u64,
}

impl Table {
    /// Whoever has it mapped sees that: nobody's own memory has another copy of it.
    fn write(&self, at: usize, words: &[u64]) -> Result<(), Errno> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        match rustix::io::pwrite(&self.file, &bytes, self.offset + 8 * at as u64)? {
            put if put == bytes.len() => Ok(()),
            _ => Err(Errno::IO),
        }
    }
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
        let room = if known.paths.len() >= MOST { known.forget_all() } else { Ok(()) };
        if room.and_then(|()| known.publish(path, finding)).is_err() {
            known.ended = true; // there is no room on disk, say
            return;
        }
        known.paths.insert(path.into(), finding);
    }

    /// To be called before a call changes names: what is known where it does so is then to be forgotten ([`Change::at`]).
    pub(super) fn change(&self) -> Change<'_> {
        self.lock().begun += 1;
        Change(self)
    }

    /// To be called where names are going to be changed by the kernel, at a time that is not known.
    pub(super) fn end(&self) -> Result<(), Errno> {
        let mut known = self.lock();
        known.ended = true;
        known.forget_all()
    }

    /// Nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).paths.is_empty()
    }

    /// Writes what is known into a table of [`TABLE`] zeros, and goes on with that.
    pub(super) fn add(&self, table: Table) -> Result<(), Errno> {
        let mut known = self.lock();
        if known.words.is_empty() {
            known.words = vec![0; TABLE];
            for (path, finding) in std::mem::take(&mut known.paths) {
                known.publish(&path, finding)?;
                known.paths.insert(path, finding);
            }
        }
        table.write(0, &known.words)?;
        known.tables.push(table);
        Ok(())
    }
}

impl Change<'_> {
    /// What is at `path`, and below it, is changed. With an error it may not be: programs would not know.
    pub(super) fn at(&self, path: &ViewPath) -> Result<(), Errno> {
        let (known, path) = (&mut *self.0.lock(), path.as_bytes());
        known.forget(path)?;
        let below = [path, b"/"].concat();
        let range = known.paths.range::<[u8], _>((Bound::Included(below.as_slice()), Bound::Unbounded));
        let below: Vec<_> = range.map(|(path, _)| path.clone()).take_while(|path| path.starts_with(&below)).collect();
        below.iter().try_for_each(|path| known.forget(path))
    }

    /// What is changed is not known; likewise.
    pub(super) fn anywhere(&self) -> Result<(), Errno> {
        self.0.lock().forget_all()
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.lock().over += 1;
    }
}

impl Known {
    fn forget(&mut self, path: &[u8]) -> Result<(), Errno> {
        let hash = hash(path);
        // Another path may have taken its place.
        if self.words.get(index(hash)).is_some_and(|word| (word ^ hash) & !FOUND == 0) {
            self.set(index(hash), 0)?;
        }
        self.paths.remove(path);
        Ok(())
    }

    fn forget_all(&mut self) -> Result<(), Errno> {
        if self.words.iter().any(|word| *word != 0) {
            let nothing = vec![0; TABLE];
            self.tables.iter().try_for_each(|table| table.write(0, &nothing))?;
            self.words = nothing;
        }
        self.paths.clear();
        Ok(())
    }

    fn publish(&mut self, path: &[u8], finding: Finding) -> Result<(), Errno> {
        let hash = hash(path);
        let at = index(hash);
        match self.words.get(at) {
            None => return Ok(()),
            Some(0) => {}
            // Who reads half of each would not know which of the two it is.
            Some(_) => self.set(at, 0)?,
        }
        self.set(at, hash & !FOUND | finding as u64)
    }

    /// What may have been written is known afterwards, and so is taken away again later.
    fn set(&mut self, at: usize, word: u64) -> Result<(), Errno> {
        if word != 0 {
            self.words[at] = word;
        }
        self.tables.iter().try_for_each(|table| table.write(at, &[word]))?;
        self.words[at] = word;
        Ok(())
    }
}

fn index(hash: u64) -> usize {
    (hash >> HASH_INDEX) as usize & (TABLE - 1)
}

#[cfg(test)]
mod tests {
    use rustix::fs::MemfdFlags;

    use super::*;

    fn at(path: &str) -> ViewPath {
        ViewPath::without_links(path.as_bytes())
    }

    fn note(findings: &Findings, path: &str, finding: Finding) {
        findings.note(path.as_bytes(), finding, findings.ask(path.as_bytes()).unwrap_err());
    }

    const OFFSET: u64 = 4096;

    /// A table for findings, and the file that it is in.
    fn table() -> (Table, OwnedFd) {
        let file = rustix::fs::memfd_create("table", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, OFFSET + 8 * TABLE as u64).unwrap();
        (Table { file: file.try_clone().unwrap(), offset: OFFSET }, file)
    }

    fn words(file: &OwnedFd) -> Vec<u64> {
        let mut bytes = vec![0; 8 * TABLE];
        assert_eq!(rustix::io::pread(file, &mut bytes, OFFSET).unwrap(), bytes.len());
        bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    fn said(file: &OwnedFd, path: &str) -> Option<u64> {
        let hash = hash(path.as_bytes());
        let word = words(file)[index(hash)];
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
        findings.add(table).unwrap();
        for path in ["/a/b", "/a/b/c", "/a/b/c/d", "/a/b-", "/a/b0", "/a/ba"] {
            note(&findings, path, Finding::Nothing);
        }
        assert_eq!((said(&seen, "/a"), said(&seen, "/a/b"), said(&seen, "/b")), (Some(1), Some(2), None));
        findings.change().at(&at("/a/b")).unwrap();
        for path in ["/a/b", "/a/b/c", "/a/b/c/d"] {
            assert!(findings.ask(path.as_bytes()).is_err() && said(&seen, path).is_none(), "{path}");
        }
        for path in ["/a/b-", "/a/b0", "/a/ba"] {
            assert_eq!((findings.ask(path.as_bytes()), said(&seen, path)), (Ok(Finding::Nothing), Some(2)), "{path}");
        }
        assert_eq!(findings.ask(b"/a"), Ok(Finding::NoLink));
        findings.change().anywhere().unwrap();
        assert!(findings.is_empty() && words(&seen).iter().all(|word| *word == 0));
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
        findings.end().unwrap();
        note(&findings, "/a", Finding::Nothing);
        assert!(findings.is_empty());
    }

    #[test]
    fn keeps_a_bounded_number() {
        let findings = Findings::default();
        let (table, seen) = table();
        findings.add(table).unwrap();
        for number in 0..=MOST {
            note(&findings, &format!("/{number}"), Finding::Nothing);
        }
        assert_eq!(findings.0.read().unwrap().paths.len(), 1);
        assert_eq!(words(&seen).iter().filter(|word| **word != 0).count(), 1);
    }

    #[test]
    fn changes_nothing_that_programs_would_not_be_told_of() {
        let findings = Findings::default();
        let (table, file) = table();
        let read_only = rustix::fs::open(
            format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)),
            rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        findings.add(table).unwrap();
        note(&findings, "/a", Finding::NoLink);
        findings.lock().tables[0].file = read_only;
        assert!(
            findings.change().at(&at("/a")).is_err()
                && findings.change().anywhere().is_err()
                && findings.end().is_err()
        );
        assert_eq!(said(&file, "/a"), Some(1));
        findings.lock().tables[0].file = file.try_clone().unwrap();
        findings.change().at(&at("/a")).unwrap();
        assert_eq!(said(&file, "/a"), None, "it is still known that it is there");
    }
}
