//! What is told to programs that take shortcuts while they run: that what can have no xattr (links, pipes, sockets) may have
//! a record. Until then what the kernel says of those is right.

use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::library::Library;

/// Whether that has been told, and who is to be told.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_so: bool,
    copies: Vec<Arc<Library>>,
}

impl Told {
    /// To be called before there is the first such record: who asks for the file afterwards is told of it.
    pub(crate) fn tell(&self) -> Result<(), Errno> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_so {
            state.copies.iter().try_for_each(|copy| copy.tell_of_records())?;
            state.is_so = true;
        }
        Ok(())
    }

    /// To be called before a program uses a copy.
    pub(super) fn add(&self, copy: &Arc<Library>) -> Result<(), Errno> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_so {
            return copy.tell_of_records();
        }
        state.copies.push(copy.clone());
        Ok(())
    }
}
