//! Layers on their way out while they are still being written: compressed, hashed, stored and sent in one pass.
//!
//! The digest is known at the end only, so a layer goes out as one streamed PATCH without a length, closed by a PUT with the
//! digest. Whatever goes wrong here is no failure: the push finds the blob missing and sends it in its own way, with all
//! its retries. Small layers are left to it from the start: they are sent in no time, and often are there already.

use super::session::Session;
use super::upload::closing;
use super::{RegistryClient, RegistryError};
use crate::http::{Body, Method};
use crate::oci::Reference;
use crate::progress::{Outcome, Progress};
use crate::store::Follower;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

impl RegistryClient {
    /// Does `work`, and meanwhile uploads to the repository of `reference` the layers that it shows. Returns when those are
    /// up, or, where `keep` says that the result is of no use, when they are given up.
    pub fn upload_early<T>(
        &self,
        reference: &Reference,
        progress: &dyn Progress,
        keep: impl FnOnce(&T) -> bool,
        work: impl FnOnce(&(dyn Fn(Follower) + Sync)) -> T,
    ) -> T {
        let (running, cancelled) = (AtomicUsize::new(0), AtomicBool::new(false));
        let early = Early { client: self, reference, progress, cancelled: &cancelled };
        std::thread::scope(|scope| {
            let (early, running) = (&early, &running);
            let watch = move |follower: Follower| {
                scope.spawn(move || {
                    if !follower.grows_to(early.client.settings.early) {
                        return;
                    }
                    // Beyond the usual number at once the push takes them.
                    if running.fetch_add(1, Ordering::SeqCst) < early.client.settings.parallel {
                        early.send(&follower);
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            };
            let result = work(&watch);
            cancelled.store(!keep(&result), Ordering::SeqCst);
            result
        })
    }
}

struct Early<'a> {
    client: &'a RegistryClient,
    reference: &'a Reference,
    progress: &'a dyn Progress,
    cancelled: &'a AtomicBool,
}

impl Early<'_> {
    fn send(&self, follower: &Follower) {
        let sent = self.client.session(self.reference, true).and_then(|session| self.try_send(&session, follower));
        if let Err(error) = sent {
            tracing::debug!(%error, "a layer is left to the push");
        }
    }

    fn try_send(&self, session: &Session<'_>, follower: &Follower) -> Result<(), RegistryError> {
        let place = session.start_upload()?;
        let open = || -> io::Result<Box<dyn Read + '_>> {
            Ok(Box::new(Until { inner: follower.reader(), cancelled: self.cancelled }))
        };
        let response = session.send_part(Method::PATCH, place.clone(), Body::Stream { length: None, open: &open })?;
        let place = response.location()?.unwrap_or(place);
        let Some((digest, size)) = follower.finished() else { return Ok(()) };
        session.send_part(Method::PUT, closing(place, &digest), Body::Bytes(bytes::Bytes::new()))?;
        session.note_blob(&digest);
        let name = format!("push {}", super::blob::short(&digest));
        let transfer = self.client.transfer(self.progress, name, size);
        transfer.finish(Outcome::Cached("uploaded while it was written".into()));
        Ok(())
    }
}

/// Ends with an error when the upload is no longer wanted.
struct Until<'a, R> {
    inner: R,
    cancelled: &'a AtomicBool,
}

impl<R: Read> Read for Until<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.cancelled.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the upload is no longer wanted")),
            false => self.inner.read(buf),
        }
    }
}
