//! Blobs of the store that turn out damaged while a build reads them: the reader has removed them, so the stages begin
//! anew and make or fetch them again.

use super::Build;
use super::error::BuildError;
use super::schedule::Stopped;
use crate::progress::Event;
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
        let Some(what) = self.services.store.take_damage() else { return Stopped::Error(error) };
        if self.damaged.fetch_add(1, Ordering::SeqCst) >= MOST {
            return Stopped::Error(error);
        }
        let text = format!("a blob of the local store is damaged and is made or fetched again: {what}");
        self.services.progress.emit(Event::Warning { text });
        self.starts_over.store(true, Ordering::SeqCst);
        Stopped::Cancelled
    }
}
