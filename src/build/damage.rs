//! Blobs of the store that turn out damaged while a build reads them: the reader has removed them, so the stages begin
//! anew and make or fetch them again.

use super::Build;
use super::error::BuildError;
use super::schedule::Stopped;
use crate::progress::Event;
use crate::store::StoreError;
use std::error::Error;
use std::io;
use std::sync::atomic::Ordering;

/// So many blobs are made anew in one build; a disk that damages more is not to be worked on.
const MOST: usize = 16;

impl Build<'_> {
    /// How a stage ends: one that found a blob damaged, or what a cache said untrue, gives way to a new beginning.
    pub(super) fn or_begin_anew(&self, stopped: Stopped<BuildError>) -> Stopped<BuildError> {
        let Stopped::Error(error) = stopped else { return stopped };
        if self.starts_over.load(Ordering::SeqCst) {
            return Stopped::Cancelled;
        }
        let Some(what) = damaged(&error) else { return Stopped::Error(error) };
        if self.damaged.fetch_add(1, Ordering::SeqCst) >= MOST {
            return Stopped::Error(error);
        }
        let text = format!("a blob of the local store is damaged and is made or fetched again: {what}");
        self.services.progress.emit(Event::Warning { text });
        self.starts_over.store(true, Ordering::SeqCst);
        Stopped::Cancelled
    }
}

/// What is said of a blob that was damaged or has gone, if that is why `error` came about.
fn damaged(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error's source is that of what it holds, not that itself.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let held = held.and_then(|held| held.downcast_ref::<StoreError>());
        if let Some(found @ (StoreError::Mismatch { .. } | StoreError::Missing(_))) =
            held.or_else(|| error.downcast_ref::<StoreError>())
        {
            return Some(found.to_string());
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn it_is_found_wherever_it_is_wrapped() {
        let missing = || StoreError::Missing(Digest::sha256("x"));
        assert!(damaged(&missing()).is_some());
        assert!(damaged(&io::Error::other(missing())).is_some());
        assert!(damaged(&StoreError::Io(io::Error::other(io::Error::other(missing())))).is_some());
        assert_eq!(damaged(&io::Error::other("a disk")), None);
    }
}
