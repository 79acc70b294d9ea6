//! One blob on its way, as a person sees it.

use super::RegistryClient;
use crate::progress::{Event, Outcome, Progress, StepId};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Ids of transfers start here, so that they differ from those of a build's steps.
pub(super) const FIRST_ID: u64 = 1 << 32;
/// An event at least every so many bytes.
const STRIDE: u64 = 1 << 20;

/// Reports one transfer: started when made, failed when dropped without a word.
pub(super) struct Transfer<'a> {
    progress: &'a dyn Progress,
    id: StepId,
    total: u64,
    done: AtomicU64,
    shown: AtomicU64,
    began: Instant,
    outcome: Outcome,
}

impl RegistryClient {
    /// Announces a transfer of `total` bytes.
    pub(super) fn transfer<'a>(&self, progress: &'a dyn Progress, name: String, total: u64) -> Transfer<'a> {
        let id = StepId(self.transfers.fetch_add(1, Ordering::Relaxed));
        progress.emit(Event::Started { id, name, line: None });
        let (done, shown) = (AtomicU64::new(0), AtomicU64::new(0));
        Transfer { progress, id, total, done, shown, began: Instant::now(), outcome: Outcome::Failed }
    }
}

impl<'a> Transfer<'a> {
    /// `bytes` more went over.
    pub(super) fn moved(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if done >= self.shown.load(Ordering::Relaxed) + STRIDE || done >= self.total {
            self.shown.store(done, Ordering::Relaxed);
            self.progress.emit(Event::Transferred { id: self.id, done: done.min(self.total), total: Some(self.total) });
        }
    }

    /// The transfer starts again.
    pub(super) fn restart(&self) {
        self.done.store(0, Ordering::Relaxed);
        self.shown.store(0, Ordering::Relaxed);
    }

    /// It ended well.
    pub(super) fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Counts what is read through `inner`.
    pub(super) fn counting<'r, R: Read + 'r>(&'r self, inner: R) -> impl Read + 'r {
        Counting { inner, transfer: self }
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Outcome::Failed);
        self.progress.emit(Event::Finished { id: self.id, outcome, elapsed: self.began.elapsed() });
    }
}

/// Bounds how many transfers run at once.
pub(super) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

/// The right to transfer, given back when dropped.
pub(super) struct Slot<'a>(&'a Slots);

impl Slots {
    pub(super) fn new(count: usize) -> Slots {
        Slots { free: Mutex::new(count.max(1)), freed: Condvar::new() }
    }

    /// Waits until one is free.
    pub(super) fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

struct Counting<'a, R> {
    inner: R,
    transfer: &'a Transfer<'a>,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.transfer.moved(n as u64);
        Ok(n)
    }
}
