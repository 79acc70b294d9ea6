//! Looking at a large tree from both ends: half of what a COPY of many files costs is the kernel's, one look at each.
//!
//! A walk goes through the directories in their order. Meanwhile a second thread looks at them in the opposite order, until it
//! comes to where the walk is, and the walk finds what that thread saw. What fails there is left to the walk, which reports it.

use super::source::join;
use crate::context::{Found, SourceTree};
use std::collections::HashMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is in a directory.
type Entries = Vec<(Vec<u8>, Found)>;

/// The directories of a tree, as they are looked at.
pub struct Ahead<'a> {
    source: &'a dyn SourceTree,
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    directories: HashMap<Vec<u8>, State>,
    /// The walk has ended.
    over: bool,
}

enum State {
    /// The walk was there, and found these directories in it; `None` while it looks.
    Walked(Option<Vec<Vec<u8>>>),
    /// This is in it.
    Ready(Entries),
}

impl<'a> Ahead<'a> {
    /// Nothing of `source` was looked at.
    pub fn new(source: &'a dyn SourceTree) -> Ahead<'a> {
        Ahead { source, seen: Mutex::default(), changed: Condvar::new() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in the directory `path`: for the walk.
    pub fn entries(&self, path: &[u8]) -> io::Result<Entries> {
        let before = self.seen().directories.insert(path.to_vec(), State::Walked(None));
        if let Some(State::Ready(entries)) = before {
            return Ok(entries);
        }
        let entries = self.source.entries(path)?;
        self.seen().directories.insert(path.to_vec(), State::Walked(Some(directories(&entries))));
        self.changed.notify_all();
        Ok(entries)
    }

    /// Does `walk`, which goes on in the directory `path` with the directories `names` in it, with help where that is of use.
    pub fn during<T>(&self, path: &[u8], names: &[Vec<u8>], walk: impl FnOnce() -> T) -> T {
        if names.is_empty() || !self.source.asks_the_kernel() {
            return walk();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| self.look_back(path, names));
            let _over = Over(self);
            walk()
        })
    }

    /// Looks at what is below the directories `names` of `path`, the last one first; false where it met the walk.
    fn look_back(&self, path: &[u8], names: &[Vec<u8>]) -> bool {
        for name in names.iter().rev() {
            let path = join(path, name);
            let (walked, inner) = match self.walked(&path) {
                Some(inner) => (true, inner),
                None => {
                    let Ok(entries) = self.source.entries(&path) else { return false };
                    let inner = directories(&entries);
                    // Where the walk has come here meanwhile, it has looked itself.
                    self.seen().directories.entry(path.clone()).or_insert(State::Ready(entries));
                    (false, inner)
                }
            };
            // What comes before a directory where the walk was, is behind it.
            if !self.look_back(&path, &inner) || walked || self.seen().over {
                return false;
            }
        }
        true
    }

    /// The directories in `path`, where the walk was there.
    fn walked(&self, path: &[u8]) -> Option<Vec<Vec<u8>>> {
        let looks = |seen: &mut Seen| !seen.over && matches!(seen.directories.get(path), Some(State::Walked(None)));
        let seen = self.changed.wait_while(self.seen(), looks).unwrap_or_else(PoisonError::into_inner);
        match seen.directories.get(path) {
            Some(State::Walked(inner)) => Some(inner.clone().unwrap_or_default()),
            _ => None,
        }
    }
}

/// Ends what goes on beside a walk, also where that panics.
struct Over<'o, 'a>(&'o Ahead<'a>);

impl Drop for Over<'_, '_> {
    fn drop(&mut self) {
        self.0.seen().over = true;
        self.0.changed.notify_all();
    }
}

/// The names of the directories among `entries`.
pub fn directories(entries: &[(Vec<u8>, Found)]) -> Vec<Vec<u8>> {
    entries.iter().filter(|(_, found)| found.meta.is_dir()).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ContextDir;
    use std::fs;
    use std::path::Path;

    /// Every path, as a walk meets it.
    fn walk(ahead: &Ahead<'_>, path: &[u8], out: &mut Vec<Vec<u8>>) -> io::Result<()> {
        for (name, found) in ahead.entries(path)? {
            let path = join(path, &name);
            out.push(path.clone());
            if found.meta.is_dir() {
                walk(ahead, &path, out)?;
            }
        }
        Ok(())
    }

    fn helped(source: &dyn SourceTree) -> io::Result<Vec<Vec<u8>>> {
        let (ahead, mut out) = (Ahead::new(source), Vec::new());
        let names = directories(&ahead.entries(b"")?);
        ahead.seen().directories.clear();
        ahead.during(b"", &names, || walk(&ahead, b"", &mut out)).map(|()| out)
    }

    #[test]
    fn a_walk_with_help_sees_what_it_sees_alone() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..60 {
            // One directory that holds almost all, one that is deep, and some beside them.
            let place = dir
                .path()
                .join(["m/a", "m/b/c", "m/b/d", "z", "m/e/f/g/h"][number % 5])
                .join(format!("{}", number % 7));
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join(format!("file{number}")), "x").unwrap();
        }
        let context = ContextDir::open(dir.path(), None).unwrap();
        let (ahead, mut alone) = (Ahead::new(&context), Vec::new());
        walk(&ahead, b"", &mut alone).unwrap();
        assert!(alone.len() > 100);
        for _ in 0..100 {
            assert_eq!(helped(&context).unwrap(), alone);
        }
    }

    /// Fails at one directory.
    struct Broken(ContextDir);

    impl SourceTree for Broken {
        fn metadata(&self, path: &[u8]) -> io::Result<Option<crate::oci::layer::Metadata>> {
            self.0.metadata(path)
        }
        fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
            if path == b"m" { Err(io::ErrorKind::PermissionDenied.into()) } else { self.0.read_dir(path) }
        }
        fn asks_the_kernel(&self) -> bool {
            true
        }
        fn open(&self, path: &[u8]) -> io::Result<Box<dyn io::Read + Send>> {
            self.0.open(path)
        }
        fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
            self.0.link_identity(path)
        }
    }

    #[test]
    fn what_fails_is_reported_and_ends_both() {
        let dir = tempfile::tempdir().unwrap();
        ["a/b", "m/n", "z/y"].iter().for_each(|path| fs::create_dir_all(dir.path().join(path)).unwrap());
        let broken = Broken(ContextDir::open(Path::new(dir.path()), None).unwrap());
        for _ in 0..50 {
            assert_eq!(helped(&broken).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
    }
}
