//! Images on their way out: blobs in parallel, then the config, the manifest, and the tag last.

use super::manifest::{MANIFEST_LIMIT, accept};
use super::session::Session;
use super::sources::{self, digest_of};
use super::{RegistryClient, RegistryError};
use crate::http::{Body, HeaderValue, Method, Request, header};
use crate::oci::{Descriptor, Digest, Index, Manifest, Reference, manifest};
use crate::progress::Progress;
use crate::store::Store;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Times that a manifest is sent again because the registry says that it lacks a blob.
const MISSING_BLOBS: u32 = 3;

impl RegistryClient {
    /// Pushes the image or index `what` from the store to `reference`; the digest that the name now stands for comes back.
    ///
    /// Layers that are not in the store are mounted, or fetched from where they were found. If the name stands for this
    /// very image already, nothing is sent.
    pub fn push_image(
        &self,
        store: &Store,
        what: &Descriptor,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<Digest, RegistryError> {
        let session = self.session(reference, true)?;
        let digest = digest_of(what, reference)?;
        if session.stands_for(reference)? != Some(digest.clone()) {
            self.push_manifest(&session, store, what, &reference.identifier(), reference, progress)?;
        }
        Ok(digest)
    }

    fn push_manifest(
        &self,
        session: &Session<'_>,
        store: &Store,
        what: &Descriptor,
        identifier: &str,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let digest = digest_of(what, reference)?;
        let bytes = store.read_blob(&digest, MANIFEST_LIMIT)?;
        let media_type = what.media_type().to_string();
        let unreadable =
            |cause| RegistryError::Manifest { origin: reference.to_string(), digest: digest.clone(), cause };
        let mut tries = 0;
        loop {
            if manifest::is_index(&media_type) {
                let index: Index = serde_json::from_slice(&bytes).map_err(unreadable)?;
                for entry in index.manifests() {
                    let child = digest_of(entry, reference)?;
                    // Only the platforms that were pulled are in the store; the registry may have the others.
                    let there = reference.at_digest(child.clone());
                    if store.has_blob(&child)?.is_some() || session.stands_for(&there)? != Some(child.clone()) {
                        self.push_manifest(session, store, entry, &child.to_string(), reference, progress)?;
                    }
                }
            } else {
                let image: Manifest = serde_json::from_slice(&bytes).map_err(unreadable)?;
                self.push_blobs(session, store, &image, reference, progress)?;
            }
            match session.put_manifest(identifier, &media_type, &bytes) {
                Err(RegistryError::Http(error)) if error.has_code("MANIFEST_BLOB_UNKNOWN") && tries < MISSING_BLOBS => {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    fn push_blobs(
        &self,
        session: &Session<'_>,
        store: &Store,
        image: &Manifest,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let mut layers: Vec<Descriptor> = Vec::new();
        for layer in image.layers() {
            // Layers with URLs may not be distributed: whoever pulls gets them there.
            let elsewhere = layer.urls().as_ref().is_some_and(|urls| !urls.is_empty());
            if !elsewhere && layers.iter().all(|known| known.digest() != layer.digest()) {
                layers.push(layer.clone());
            }
        }
        let push = |descriptor: &Descriptor| {
            let digest = digest_of(descriptor, reference)?;
            self.push_blob(session, store, &digest, descriptor.size(), progress)
        };
        self.in_parallel(&layers, push)?;
        push(image.config())?;
        sources::remember(store, reference, layers.iter().chain([image.config()]))
    }

    /// Does `job` for each of `items` on a few threads. The first error ends it; no new job begins after it.
    pub(super) fn in_parallel<T: Sync>(
        &self,
        items: &[T],
        job: impl Fn(&T) -> Result<(), RegistryError> + Sync,
    ) -> Result<(), RegistryError> {
        let (next, stop, failed) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let work = || {
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = job(item) {
                    stop.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        let workers = self.settings.parallel.clamp(1, items.len().max(1));
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl Session<'_> {
    /// The digest that `reference` stands for in the registry, if it does and the registry tells.
    fn stands_for(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        let url = self.url(&format!("manifests/{}", reference.identifier()))?;
        let mut request = Request::new(Method::HEAD, url);
        request.headers.insert(header::ACCEPT, accept());
        let response = self.head(request)?;
        Ok(response.and_then(|response| response.header("docker-content-digest")?.parse().ok()))
    }

    fn put_manifest(&self, identifier: &str, media_type: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let mut request = Request::new(Method::PUT, self.url(&format!("manifests/{identifier}"))?);
        let kind = HeaderValue::from_str(media_type)
            .map_err(|_| RegistryError::MediaType { origin: self.origin(), media_type: media_type.to_string() })?;
        request.headers.insert(header::CONTENT_TYPE, kind);
        request.body = Body::Bytes(bytes.to_vec().into());
        self.send_retrying(&request, &[]).map(drop)
    }
}
