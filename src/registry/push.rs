//! Images on their way out: blobs in parallel, then the manifest, and the tag last.

use super::manifest::accept;
use super::session::{Begun, Session};
use super::sources::digest_of;
use super::supply::{FromRegistry, FromStore, Supply};
use super::upload::Mount;
use super::{RegistryClient, RegistryError};
use crate::http::{Body, HeaderValue, Method, Request, Response, header};
use crate::oci::{Descriptor, Digest, Index, Manifest, Platform, Reference, manifest};
use crate::progress::{Event, Progress};
use crate::store::Store;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Times that a manifest is sent again because the registry says that it lacks a blob.
const MISSING_BLOBS: u32 = 3;
/// Blobs that are asked about, or mounted, at once: no bytes move then.
const QUESTIONS: usize = 8;

impl RegistryClient {
    /// Pushes the image or index `what` from the store to `reference`; what the name now stands for comes back.
    ///
    /// Layers that are not in the store are mounted, or fetched from where they were found. If the name stands for this
    /// very image already, nothing is sent. Of an index whose platforms are neither in the store nor in this registry,
    /// the one platform that is there is pushed instead, with a warning.
    pub fn push_image(
        &self,
        store: &Store,
        what: &Descriptor,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<Descriptor, RegistryError> {
        let session = self.session(reference, true)?;
        let supply = FromStore::new(self, store, progress, reference.registry());
        Push { client: self, session: &session, supply: &supply, reference, progress }.tag(what)
    }

    /// Copies what `from` names to `to`: all platforms, or one. Between repositories of one registry no blob moves;
    /// between registries the bytes are handed on as they come.
    pub fn copy_image(
        &self,
        from: &Reference,
        to: &Reference,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Descriptor, RegistryError> {
        let find = || match platform {
            Some(platform) => {
                let resolved = self.resolve(from, platform, progress)?;
                Ok((resolved.origin, resolved.descriptor, resolved.bytes))
            }
            None => self.locate(from, progress),
        };
        let ask = || {
            let session = self.session(to, true)?;
            let there = session.stands_for(to)?;
            Ok::<_, RegistryError>((session, there))
        };
        // What the other name stands for is asked at the same time.
        let (found, asked) = match self.settings.parallel {
            1 => (find(), None),
            _ if from.registry() == to.registry() => {
                let session = self.session(to, true)?;
                let begun = session.begin(session.question(to)?, session.scopes.clone())?;
                let found = find()?;
                (Ok(found), Some(session.stands_for_begun(to, begun).map(|there| (session, there))))
            }
            _ => std::thread::scope(|scope| {
                let asked = scope.spawn(ask);
                (find(), asked.join().ok())
            }),
        };
        let (origin, what, bytes) = found?;
        let (session, there) = asked.unwrap_or_else(ask)?;
        let read = Mutex::new([(digest_of(&what, &origin)?, bytes)].into());
        let supply = FromRegistry { session: self.session(&origin, false)?, origin: &origin, read };
        Push { client: self, session: &session, supply: &supply, reference: to, progress }.tag_unless(&what, there)
    }

    /// Sees to it that the repository of `reference` has a layer, which is in the store or where it was found.
    pub fn push_layer(
        &self,
        store: &Store,
        layer: &Descriptor,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let session = self.session(reference, true)?;
        let supply = FromStore::new(self, store, progress, reference.registry());
        self.push_blob(&session, &supply, (&digest_of(layer, reference)?, layer.size()), None, progress)
    }

    /// [`RegistryClient::push_layer`] of several at once.
    pub fn push_layers(
        &self,
        store: &Store,
        layers: &[Descriptor],
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        self.in_parallel(self.settings.parallel, layers, |layer| self.push_layer(store, layer, reference, progress))
    }

    /// The digest of what `reference` stands for in the registry.
    pub fn digest_at(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        self.session(reference, false)?.stands_for(reference)
    }

    /// Makes `reference` stand for the manifest `what` of the store, whose parts are there; false where the registry says that
    /// they are not.
    pub fn put_document(&self, store: &Store, what: &Descriptor, reference: &Reference) -> Result<bool, RegistryError> {
        let session = self.session(reference, true)?;
        let bytes = store.read_blob(&digest_of(what, reference)?, super::manifest::MANIFEST_LIMIT)?;
        match session.put_manifest(&reference.identifier(), what.media_type().as_ref(), &bytes) {
            Ok(_) => Ok(true),
            Err(RegistryError::Http(error)) if error.has_code("MANIFEST_BLOB_UNKNOWN") => {
                session.forget_blobs();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The repository of `reference` gave us the manifest of `image`, so it has all that this names: no push asks for it.
    pub fn known_there(&self, reference: &Reference, image: &Manifest) -> Result<(), RegistryError> {
        let session = self.session(reference, false)?;
        for descriptor in image.layers().iter().chain([image.config()]) {
            session.note_blob(&digest_of(descriptor, reference)?);
        }
        Ok(())
    }

    /// Does `job` for each of `items` on as many threads. The first error ends it; no new job begins after it.
    pub(super) fn in_parallel<T: Sync>(
        &self,
        workers: usize,
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
        std::thread::scope(|scope| {
            for _ in 1..workers.min(items.len()) {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// One push.
struct Push<'a> {
    client: &'a RegistryClient,
    session: &'a Session<'a>,
    supply: &'a dyn Supply,
    reference: &'a Reference,
    progress: &'a dyn Progress,
}

impl Push<'_> {
    /// Makes the reference stand for `what`, or for the part of it that there is; what that is comes back.
    fn tag(&self, what: &Descriptor) -> Result<Descriptor, RegistryError> {
        self.tag_unless(what, self.session.stands_for(self.reference)?)
    }

    /// As [`Push::tag`], unless it is `there` already.
    fn tag_unless(&self, what: &Descriptor, there: Option<Digest>) -> Result<Descriptor, RegistryError> {
        let digest = digest_of(what, self.reference)?;
        if there.as_ref() == Some(&digest) {
            return Ok(what.clone());
        }
        let whole = self.has_whole(&digest)?;
        let what = if whole { what.clone() } else { self.complete(what)? };
        self.manifest(&what, &self.reference.identifier(), whole)?;
        Ok(what)
    }

    /// `what`, or the one image of an index that can be pushed.
    fn complete(&self, what: &Descriptor) -> Result<Descriptor, RegistryError> {
        if !manifest::is_index(what.media_type().as_ref()) || self.supply.document(what)?.is_none() {
            return Ok(what.clone());
        }
        let index = self.index(what)?;
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for entry in index.manifests() {
            let at_hand = self.supply.document(entry)?.is_some() || self.is_there(entry)?;
            if at_hand { &mut there } else { &mut missing }.push(entry.clone());
        }
        let names = |entries: &[Descriptor]| {
            let names = entries.iter().map(|e| manifest::platform_of(e).map_or("one more".into(), |p| p.to_string()));
            names.collect::<Vec<_>>().join(", ")
        };
        match &there[..] {
            _ if missing.is_empty() => Ok(what.clone()),
            [one] => {
                let (one_name, others) = (names(&there), names(&missing));
                let text = format!(
                    "{}: only {one_name} is pushed; {others} were not pulled ('dockless copy' takes all)",
                    self.reference
                );
                self.progress.emit(Event::Warning { text });
                Ok(one.clone())
            }
            _ => Err(RegistryError::Incomplete { reference: self.reference.to_string(), missing: names(&missing) }),
        }
    }

    fn is_there(&self, entry: &Descriptor) -> Result<bool, RegistryError> {
        let digest = digest_of(entry, self.reference)?;
        Ok(self.session.stands_for(&self.reference.at_digest(digest.clone()))? == Some(digest))
    }

    fn index(&self, what: &Descriptor) -> Result<Index, RegistryError> {
        self.parse(what, &self.bytes(what)?)
    }

    fn bytes(&self, what: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let digest = digest_of(what, self.reference)?;
        self.supply.document(what)?.ok_or(RegistryError::Store(crate::store::StoreError::Missing(digest)))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, what: &Descriptor, bytes: &[u8]) -> Result<T, RegistryError> {
        let digest = digest_of(what, self.reference)?;
        serde_json::from_slice(bytes).map_err(|cause| RegistryError::Manifest {
            origin: self.reference.to_string(),
            digest,
            cause,
        })
    }

    /// Whether this repository gave us `digest` and still has it, so that it has all its parts.
    fn has_whole(&self, digest: &Digest) -> Result<bool, RegistryError> {
        if !self.session.is_among(&self.supply.origins(digest)?) {
            return Ok(false);
        }
        if self.supply.was_just_read(digest) {
            return Ok(true);
        }
        Ok(self.session.stands_for(&self.reference.at_digest(digest.clone()))? == Some(digest.clone()))
    }

    /// Puts a manifest, and before it what it names; `whole` says that all of that is there.
    fn manifest(&self, what: &Descriptor, identifier: &str, mut whole: bool) -> Result<(), RegistryError> {
        let bytes = self.bytes(what)?;
        let media_type = what.media_type().to_string();
        let mut tries = 0;
        loop {
            if whole {
                whole = false;
            } else if manifest::is_index(&media_type) {
                let index: Index = self.parse(what, &bytes)?;
                for entry in index.manifests() {
                    let child = digest_of(entry, self.reference)?;
                    // Only the platforms that were pulled are in the store; the registry may have the others.
                    if self.supply.document(entry)?.is_some() || !self.is_there(entry)? {
                        self.manifest(entry, &child.to_string(), self.has_whole(&child)?)?;
                    }
                }
            } else {
                self.blobs(&self.parse(what, &bytes)?)?;
            }
            match self.session.put_manifest(identifier, &media_type, &bytes) {
                Err(RegistryError::Http(error)) if error.has_code("MANIFEST_BLOB_UNKNOWN") && tries < MISSING_BLOBS => {
                    tries += 1;
                    self.session.forget_blobs();
                }
                Err(error) => return Err(error),
                Ok(response) => {
                    self.supply.pushed(self.reference, &[what])?;
                    return self.client.refer(self.session, self.reference, what, &bytes, &response);
                }
            }
        }
    }

    fn blobs(&self, image: &Manifest) -> Result<(), RegistryError> {
        let mut blobs: Vec<Descriptor> = Vec::new();
        for layer in image.layers() {
            // Layers with URLs may not be distributed: whoever pulls gets them there.
            let elsewhere = layer.urls().as_ref().is_some_and(|urls| !urls.is_empty());
            if !elsewhere && blobs.iter().all(|known| known.digest() != layer.digest()) {
                blobs.push(layer.clone());
            }
        }
        blobs.push(image.config().clone());
        let workers = match self.client.settings.parallel {
            1 => 1,
            parallel => parallel.max(QUESTIONS),
        };
        let digests = blobs.iter().map(|blob| digest_of(blob, self.reference)).collect::<Result<Vec<_>, _>>()?;
        let mut asked = self.client.mount_blobs(self.session, self.supply, &digests, workers)?;
        let jobs = digests.iter().zip(&blobs).map(|(digest, blob)| (digest, blob.size(), asked.remove(digest)));
        let (done, left): (Vec<_>, Vec<_>) = jobs.partition(|(.., asked)| matches!(asked, Some(Mount::Done(_))));
        let push = |(digest, size, asked): &(&Digest, u64, Option<Mount>)| {
            self.client.push_blob(self.session, self.supply, (digest, *size), asked.clone(), self.progress)
        };
        done.iter().try_for_each(push)?;
        self.client.in_parallel(workers, &left, push)?;
        self.supply.pushed(self.reference, &blobs.iter().collect::<Vec<_>>())
    }
}

/// The digest of which an answer tells.
fn told(answer: Option<Response>) -> Option<Digest> {
    answer?.header("docker-content-digest")?.parse().ok()
}

impl Session<'_> {
    /// The digest that `reference` stands for in the registry, if it does and the registry tells.
    pub(super) fn stands_for(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        Ok(told(self.head(self.question(reference)?, None)?))
    }

    /// As [`Session::stands_for`], where [`Session::question`] is on its way already.
    fn stands_for_begun(&self, reference: &Reference, begun: Begun) -> Result<Option<Digest>, RegistryError> {
        Ok(told(self.head(self.question(reference)?, Some(begun))?))
    }

    /// What asks for the digest that `reference` stands for.
    fn question(&self, reference: &Reference) -> Result<Request<'static>, RegistryError> {
        let url = self.url(&format!("manifests/{}", reference.identifier()))?;
        let mut request = Request::new(Method::HEAD, url);
        request.headers.insert(header::ACCEPT, accept());
        Ok(request)
    }

    pub(super) fn put_manifest(
        &self,
        identifier: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Response, RegistryError> {
        let mut request = Request::new(Method::PUT, self.url(&format!("manifests/{identifier}"))?);
        let kind = HeaderValue::from_str(media_type)
            .map_err(|_| RegistryError::MediaType { origin: self.origin(), media_type: media_type.to_string() })?;
        request.headers.insert(header::CONTENT_TYPE, kind);
        request.body = Body::Bytes(bytes.to_vec().into());
        self.send_retrying(&request, &[])
    }
}
