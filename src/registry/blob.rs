//! Blobs on their way in: verified on every byte, resumed where they broke off.

use super::session::Session;
use super::sources::{self, digest_of};
use super::transfer::Transfer;
use super::{RegistryClient, RegistryError};
use crate::http::{Backoff, BodyReader, HeaderValue, HttpError, Method, Request, StatusCode, header};
use crate::oci::digest::Hasher;
use crate::oci::{Descriptor, Digest, Reference};
use crate::progress::{Outcome, Progress};
use crate::store::{Store, StoreError};
use bytes::{Buf, Bytes};
use std::io::{self, Read, Write};

/// Bytes after which a connection that broke counts as a new beginning: a large blob over a bad line must not fail for
/// the sum of its interruptions.
const HEADWAY: u64 = 8 << 20;

impl RegistryClient {
    /// Writes a blob to `sink`. The digest is verified when the last byte has been written, so what `sink` holds counts
    /// only if this succeeds.
    pub fn fetch_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        sink: &mut dyn Write,
    ) -> Result<(), RegistryError> {
        let expected = digest_of(descriptor, reference)?;
        let session = self.session(reference, false)?;
        let mut download = Download::new(&session, &expected, descriptor.size());
        while let Some(chunk) = download.next()? {
            sink.write_all(&chunk).map_err(RegistryError::Write)?;
        }
        Ok(())
    }

    /// Sees to it that the store has a blob, fetching it from the repository of `reference` if need be. A blob that does
    /// not have its digest is fetched once more, and never stored.
    pub fn ensure_blob(
        &self,
        store: &Store,
        reference: &Reference,
        descriptor: &Descriptor,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let digest = digest_of(descriptor, reference)?;
        if store.has_blob(&digest)?.is_some() {
            return Ok(());
        }
        let session = self.session(reference, false)?;
        let transfer = self.transfer(progress, format!("pull {}", short(&digest)), descriptor.size());
        let mut result = store_blob(&session, store, descriptor, &digest, &transfer);
        if matches!(result, Err(RegistryError::Digest { .. })) {
            transfer.restart();
            result = store_blob(&session, store, descriptor, &digest, &transfer);
        }
        result.map(|()| transfer.finish(Outcome::Done))
    }

    /// As [`RegistryClient::ensure_blob`], from wherever the store remembers. [`StoreError::Missing`] if it does not.
    pub fn ensure_known(&self, store: &Store, digest: &Digest, progress: &dyn Progress) -> Result<(), RegistryError> {
        if store.has_blob(digest)?.is_some() {
            return Ok(());
        }
        let mut last = RegistryError::Store(StoreError::Missing(digest.clone()));
        let Some((descriptor, origins)) = sources::recall(store, digest)? else { return Err(last) };
        for origin in origins {
            match self.ensure_blob(store, &origin, &descriptor, progress) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Fetches several blobs at once into the store.
    pub fn ensure_blobs(
        &self,
        store: &Store,
        reference: &Reference,
        descriptors: &[Descriptor],
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        self.in_parallel(self.settings.parallel, descriptors, |descriptor| {
            self.ensure_blob(store, reference, descriptor, progress)
        })
    }
}

/// Enough of a digest for a person.
pub(super) fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm().as_str(), &digest.hex()[..12])
}

fn store_blob(
    session: &Session<'_>,
    store: &Store,
    descriptor: &Descriptor,
    digest: &Digest,
    transfer: &Transfer<'_>,
) -> Result<(), RegistryError> {
    let mut writer = store.blob_writer()?;
    // The writer hashes what it writes: once is enough.
    let mut download = Download { hasher: None, ..Download::new(session, digest, descriptor.size()) };
    while let Some(chunk) = download.next()? {
        writer.write_all(&chunk).map_err(RegistryError::Write)?;
        transfer.moved(chunk.len() as u64);
    }
    match writer.finish_as(digest, Some(descriptor.size())) {
        Ok(_) => Ok(()),
        Err(StoreError::Mismatch { expected, found }) => {
            Err(RegistryError::Digest { what: "blob", origin: session.origin(), expected, found })
        }
        Err(error) => Err(error.into()),
    }
}

/// A GET that goes on where it broke off, and is verified at its end.
pub(super) struct Download<'a> {
    session: &'a Session<'a>,
    digest: &'a Digest,
    size: u64,
    written: u64,
    hasher: Option<Hasher>,
    /// What comes now, with how much of it is known already.
    body: Option<(BodyReader, u64)>,
    ended: bool,
    /// The server knows no ranges, or not this one.
    whole: bool,
    backoff: Backoff<'a>,
    /// Bytes at which the tries began to be counted.
    mark: u64,
    rest: Bytes,
}

/// Why one request did not bring the whole rest.
enum Break {
    Request(RegistryError),
    /// The body ended early.
    Short,
    /// Ranges do not work here.
    Range,
}

impl<'a> Download<'a> {
    pub(super) fn new(session: &'a Session<'a>, digest: &'a Digest, size: u64) -> Self {
        let hasher = Some(Hasher::new(digest.algorithm()));
        let backoff = session.client.http.settings().retry.start();
        let (body, rest) = (None, Bytes::new());
        Download { session, digest, size, written: 0, hasher, body, ended: false, whole: false, backoff, mark: 0, rest }
    }

    /// The next piece; `None` at the end, when the digest is right.
    fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while !self.ended {
            match self.step() {
                Ok(Some(chunk)) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&chunk);
                    }
                    return Ok(Some(chunk));
                }
                Ok(None) => self.ended = true,
                Err(cause) => {
                    self.body = None;
                    self.recover(cause)?;
                }
            }
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != *self.digest => {
                let expected = self.digest.clone();
                Err(RegistryError::Digest { what: "blob", origin: self.session.origin(), expected, found })
            }
            _ => Ok(None),
        }
    }

    /// Waits before another try, or says why there is none.
    fn recover(&mut self, cause: Break) -> Result<(), RegistryError> {
        if self.written >= self.mark + HEADWAY {
            (self.backoff, self.mark) = (self.session.client.http.settings().retry.start(), self.written);
        }
        match cause {
            Break::Request(RegistryError::Http(error)) if self.backoff.again(&error) => Ok(()),
            Break::Request(error) => Err(error),
            Break::Range if !self.whole => {
                self.whole = true;
                Ok(())
            }
            _ if self.backoff.again_after(None) => Ok(()),
            _ => Err(self.wrong_size(self.written)),
        }
    }

    fn step(&mut self) -> Result<Option<Bytes>, Break> {
        if self.body.is_none() {
            self.body = Some(self.open()?);
        }
        let Some((body, skip)) = &mut self.body else { return Ok(None) };
        loop {
            let failed = |error: HttpError| Break::Request(RegistryError::Http(error));
            let Some(mut chunk) = body.read_chunk().map_err(failed)? else { break };
            let known = (*skip).min(chunk.len() as u64);
            *skip -= known;
            chunk.advance(known as usize);
            let now = self.written + chunk.len() as u64;
            if now > self.size {
                return Err(Break::Request(self.wrong_size(now)));
            }
            self.written = now;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        if self.written < self.size { Err(Break::Short) } else { Ok(None) }
    }

    /// Asks for what is still to come.
    fn open(&self) -> Result<(BodyReader, u64), Break> {
        let url = self.session.url(&format!("blobs/{}", self.digest)).map_err(Break::Request)?;
        let mut request = Request::new(Method::GET, url);
        let resumes = self.written > 0 && !self.whole;
        if resumes {
            let range = format!("bytes={}-", self.written);
            request.headers.insert(header::RANGE, HeaderValue::from_str(&range).expect("digits are ASCII"));
        }
        let response = self.session.send(&request, &[416]).map_err(Break::Request)?;
        // On 200 the blob comes from its beginning: what is there already is passed over.
        let skip = match response.status() {
            StatusCode::PARTIAL_CONTENT if resumes => {
                let from = response.header("content-range").and_then(range_start);
                if from != Some(self.written) {
                    return Err(Break::Range);
                }
                0
            }
            StatusCode::OK => self.written,
            StatusCode::RANGE_NOT_SATISFIABLE if resumes => return Err(Break::Range),
            _ => return Err(Break::Request(self.session.fail(response.into_error()))),
        };
        Ok((response.into_reader(), skip))
    }

    fn wrong_size(&self, found: u64) -> RegistryError {
        RegistryError::Size { origin: self.session.origin(), digest: self.digest.clone(), expected: self.size, found }
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest = self.next().map_err(io::Error::other)?.unwrap_or_default();
        }
        let n = self.rest.len().min(buf.len());
        self.rest.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

/// The first byte in `Content-Range: bytes 5-9/10`.
fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::range_start;

    #[test]
    fn content_ranges() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes */10"), None);
        assert_eq!(range_start("5-9"), None);
    }
}
