//! Which files are known to have no record, so that not each look at one of thousands asks for its xattr.
//!
//! Whoever gives a file a record says so before, and then nothing is ever remembered of that one again. A file that has got
//! the inode of one that is gone has none until it is given one, too. So what is known stays right for as long as all
//! records of a file are given through here: not of files in a mount, which another step may have as well.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// Files that are kept at most.
const MOST: usize = 64 << 10;

/// A file: device and inode.
pub(super) type FileId = (u64, u64);

/// The files of one step.
#[derive(Debug, Default)]
pub(super) struct Unrecorded(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    without: HashSet<FileId>,
    /// Those that have been given a record, whether they still have it or not.
    given: HashSet<FileId>,
}

impl Unrecorded {
    /// Whether that file has no record; false where it is not known.
    pub(super) fn has(&self, file: FileId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).without.contains(&file)
    }

    /// A look has shown that it has none.
    pub(super) fn note(&self, file: FileId) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // It may have got one since that look.
        if known.given.contains(&file) {
            return;
        }
        if known.without.len() >= MOST {
            known.without.clear();
        }
        known.without.insert(file);
    }

    /// It is about to be given one.
    pub(super) fn gives(&self, file: FileId) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.without.remove(&file);
        known.given.insert(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_was_noted_and_never_what_was_given_a_record() {
        let files = Unrecorded::default();
        assert!(!files.has((1, 2)));
        files.note((1, 2));
        assert!(files.has((1, 2)) && !files.has((2, 2)) && !files.has((1, 1)));
        files.gives((1, 2));
        assert!(!files.has((1, 2)));
        files.note((1, 2));
        assert!(!files.has((1, 2)), "the look may have been before");
        for inode in 0..=MOST as u64 {
            files.note((3, inode));
        }
        assert!(files.0.read().unwrap().without.len() <= MOST);
    }
}
