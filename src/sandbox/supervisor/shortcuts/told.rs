//! What programs that take shortcuts are told while they run: that what can have no xattr (links, pipes, sockets) may have a
//! record, until when what the kernel says of those is right; and that files may have changed, so that what they remember
//! of which have no record is to be found out anew.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::library::Library;

/// What has been told, and who is to be told.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    has_records: bool,
    copies: Vec<Arc<Library>>,
}

impl Told {
    /// To be called before there is the first such record: who asks for the file afterwards is told of it.
    pub(crate) fn tell(&self) -> Result<(), Errno> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.has_records {
            state.copies.iter().try_for_each(|copy| copy.tell_of_records())?;
            state.has_records = true;
        }
        Ok(())
    }

    /// To be called when a call may have changed files, before it is answered.
    pub(super) fn forget(&self) -> Result<(), Errno> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A number that nobody has seen: what is remembered is marked with the one before.
        let generation = RandomState::new().build_hasher().finish();
        state.copies.iter().try_for_each(|copy| copy.forget(generation))
    }

    /// To be called before a program uses a copy.
    pub(super) fn add(&self, copy: &Arc<Library>) -> Result<(), Errno> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.has_records {
            copy.tell_of_records()?;
        }
        state.copies.push(copy.clone());
        Ok(())
    }
}
