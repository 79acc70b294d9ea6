//! Reading a blob while it is being written: whoever follows sees the bytes as they reach the file, and learns at the end
//! whether it became a blob.

use crate::oci::Digest;
use fs_err as fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What the writer and its followers share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    end: Option<End>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// It is in the store.
    Blob(Digest),
    /// It was given up.
    Nothing,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until `ready`.
    fn wait(&self, ready: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.state(), |state| !ready(state)).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's end. Dropped without an end, it says that there will be no blob.
#[derive(Debug, Default)]
pub(super) struct Tail(Arc<Shared>);

impl Tail {
    pub(super) fn wrote(&self, bytes: u64) {
        self.0.change(|state| state.written += bytes);
    }

    pub(super) fn became(&self, digest: &Digest) {
        self.0.change(|state| state.end = Some(End::Blob(digest.clone())));
    }

    /// One who reads along in `file`, of which `written` bytes are there.
    pub(super) fn follow(&self, file: &fs::File, written: u64) -> io::Result<Follower> {
        self.0.change(|state| state.written = written);
        Ok(Follower { file: file.try_clone()?, shared: Arc::clone(&self.0) })
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.0.change(|state| _ = state.end.get_or_insert(End::Nothing));
    }
}

/// Reads along with a [`super::BlobWriter`].
#[derive(Debug)]
pub struct Follower {
    file: fs::File,
    shared: Arc<Shared>,
}

impl Follower {
    /// Waits until there are `bytes` of it; false where it ended with fewer, or was given up.
    pub fn grows_to(&self, bytes: u64) -> bool {
        let state = self.shared.wait(|state| state.written >= bytes || state.end.is_some());
        state.written >= bytes && state.end != Some(End::Nothing)
    }

    /// Reads from the beginning: waits for what is still to come, and ends where the blob does. A blob that was given up
    /// is an error.
    pub fn reader(&self) -> impl Read + '_ {
        Reader { follower: self, at: 0 }
    }

    /// Waits for the end: digest and length of what is now in the store, or `None` where nothing is.
    pub fn finished(&self) -> Option<(Digest, u64)> {
        let state = self.shared.wait(|state| state.end.is_some());
        match &state.end {
            Some(End::Blob(digest)) => Some((digest.clone(), state.written)),
            _ => None,
        }
    }
}

struct Reader<'a> {
    follower: &'a Follower,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.follower.shared.wait(|state| state.written > self.at || state.end.is_some());
        let (written, end) = (state.written, state.end.clone());
        drop(state);
        match end {
            Some(End::Nothing) => Err(io::Error::other("the layer was given up")),
            _ if written > self.at => {
                let most = buf.len().min(usize::try_from(written - self.at).unwrap_or(usize::MAX));
                // By position: the writer has its own place in the file.
                let n = self.follower.file.file().read_at(&mut buf[..most], self.at)?;
                self.at += n as u64;
                Ok(n)
            }
            _ => Ok(0),
        }
    }
}
