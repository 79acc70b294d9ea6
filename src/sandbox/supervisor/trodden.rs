//! What is known of paths of the tree, so that the same few hundred that a compiler asks for a thousand times are not each
//! looked at each time: which cross the border of no place, and at which a directory stands.
//!
//! What is known stays right until a symbolic link comes to be at a name, or a directory goes from one: by symlink(2),
//! link(2), rename(2) and rmdir(2). Those calls are all made by the supervisor itself, which forgets all paths after it; a
//! look that began before that is not remembered. Whatever else is made or removed on the way changes neither.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// Paths of each kind that are kept at most.
const MOST: usize = 16 << 10;

/// What can be known of an absolute path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    /// No link in it, nor one at its end, leads to a place, nor does it lead through one.
    Stays,
    /// A directory stands there, and no link is on the way.
    IsDirectory,
}

/// When a look began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun(u64);

/// The paths of one step.
#[derive(Debug, Default)]
pub(super) struct Trodden(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    stay: HashSet<Box<[u8]>>,
    directories: HashSet<Box<[u8]>>,
    /// How often all was forgotten.
    changes: u64,
}

impl Trodden {
    /// Whether that is known of `path`; else whoever looks now begins with it.
    pub(super) fn ask(&self, path: &[u8], fact: Fact) -> Result<(), Begun> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let paths = match fact {
            Fact::Stays => &known.stay,
            Fact::IsDirectory => &known.directories,
        };
        if paths.contains(path) { Ok(()) } else { Err(Begun(known.changes)) }
    }

    /// A look has shown it.
    pub(super) fn note(&self, path: &[u8], fact: Fact, begun: Begun) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.changes != begun.0 {
            return;
        }
        let paths = match fact {
            Fact::Stays => &mut known.stay,
            Fact::IsDirectory => &mut known.directories,
        };
        if paths.len() >= MOST {
            paths.clear();
        }
        paths.insert(path.into());
    }

    /// To be called after links have been made, or directories moved or removed.
    pub(super) fn forget(&self) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.changes += 1;
        known.stay.clear();
        known.directories.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_was_noted() {
        let trodden = Trodden::default();
        let begun = trodden.ask(b"/a", Fact::Stays).unwrap_err();
        trodden.note(b"/a", Fact::Stays, begun);
        assert_eq!(trodden.ask(b"/a", Fact::Stays), Ok(()));
        for (path, fact) in [("/a", Fact::IsDirectory), ("/a/b", Fact::Stays), ("/", Fact::Stays)] {
            assert!(trodden.ask(path.as_bytes(), fact).is_err(), "{path} {fact:?}");
        }
    }

    #[test]
    fn forgets() {
        let trodden = Trodden::default();
        for fact in [Fact::Stays, Fact::IsDirectory] {
            let begun = trodden.ask(b"/a", fact).unwrap_err();
            trodden.note(b"/a", fact, begun);
            trodden.forget();
            assert!(trodden.ask(b"/a", fact).is_err());
            trodden.note(b"/a", fact, begun);
            assert!(trodden.ask(b"/a", fact).is_err(), "the look began before");
            for at in 0..=MOST {
                let path = at.to_string();
                trodden.note(path.as_bytes(), fact, trodden.ask(path.as_bytes(), fact).unwrap_err());
            }
        }
        assert!(trodden.0.read().unwrap().stay.len() <= MOST);
    }
}
