//! Blobs on their way in: verified on every byte, resumed where they broke off.

use super::session::Session;
use super::sources::{self, digest_of};
use super::transfer::Transfer;
use super::{RegistryClient, RegistryError};
use crate::http::{Backoff, HeaderValue, HttpError, Method, Request, StatusCode, header};
use crate::oci::digest::Hasher;
use crate::oci::{Descriptor, Digest, Reference};
use crate::progress::{Outcome, Progress};
use crate::store::{Store, StoreError};
use std::io::{self, Write};

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
        let mut hashing = Hashing { sink, hasher: Hasher::new(expected.algorithm()) };
        Download::new(&session, &expected, descriptor.size(), None).run(&mut hashing)?;
        let found = hashing.hasher.finish();
        match found == expected {
            true => Ok(()),
            false => Err(RegistryError::Digest { what: "blob", origin: session.origin(), expected, found }),
        }
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
        self.in_parallel(descriptors, |descriptor| self.ensure_blob(store, reference, descriptor, progress))
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
    Download::new(session, digest, descriptor.size(), Some(transfer)).run(&mut writer)?;
    match writer.finish_as(digest, Some(descriptor.size())) {
        Ok(_) => Ok(()),
        Err(StoreError::Mismatch { expected, found }) => {
            Err(RegistryError::Digest { what: "blob", origin: session.origin(), expected, found })
        }
        Err(error) => Err(error.into()),
    }
}

struct Hashing<'a> {
    sink: &'a mut dyn Write,
    hasher: Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.sink.write(buf)?;
        self.hasher.update(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// A GET that goes on where it broke off.
struct Download<'a> {
    session: &'a Session<'a>,
    digest: &'a Digest,
    size: u64,
    written: u64,
    /// The server knows no ranges, or not this one.
    whole: bool,
    transfer: Option<&'a Transfer<'a>>,
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
    fn new(session: &'a Session<'a>, digest: &'a Digest, size: u64, transfer: Option<&'a Transfer<'a>>) -> Self {
        Download { session, digest, size, written: 0, whole: false, transfer }
    }

    fn run(mut self, sink: &mut dyn Write) -> Result<(), RegistryError> {
        let policy = self.session.client.http().settings().retry.clone();
        let (mut backoff, mut mark) = (policy.start(), 0);
        loop {
            let again = |backoff: &mut Backoff<'_>, error: &RegistryError| match error {
                RegistryError::Http(error) => backoff.again(error),
                _ => false,
            };
            match self.once(sink) {
                Ok(()) => return Ok(()),
                Err(Break::Request(error)) if again(&mut backoff, &error) => {}
                Err(Break::Request(error)) => return Err(error),
                Err(Break::Range) if !self.whole => self.whole = true,
                Err(_) if backoff.again_after(None) => {}
                Err(_) => return Err(self.wrong_size(self.written)),
            }
            if self.written >= mark + HEADWAY {
                (backoff, mark) = (policy.start(), self.written);
            }
        }
    }

    fn once(&mut self, sink: &mut dyn Write) -> Result<(), Break> {
        let url = self.session.url(&format!("blobs/{}", self.digest)).map_err(Break::Request)?;
        let mut request = Request::new(Method::GET, url);
        let resumes = self.written > 0 && !self.whole;
        if resumes {
            let range = format!("bytes={}-", self.written);
            request.headers.insert(header::RANGE, HeaderValue::from_str(&range).expect("digits are ASCII"));
        }
        let response = self.session.send(&request, &[416]).map_err(Break::Request)?;
        // On 200 the blob comes from its beginning: what is there already is passed over.
        let mut skip = match response.status() {
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
        let mut body = response.into_reader();
        loop {
            let failed = |error: HttpError| Break::Request(RegistryError::Http(error));
            let Some(chunk) = body.read_chunk().map_err(failed)? else { break };
            let known = skip.min(chunk.len() as u64);
            skip -= known;
            let new = &chunk[known as usize..];
            if self.written + new.len() as u64 > self.size {
                return Err(Break::Request(self.wrong_size(self.written + new.len() as u64)));
            }
            sink.write_all(new).map_err(|error| Break::Request(RegistryError::Write(error)))?;
            self.written += new.len() as u64;
            if let Some(transfer) = self.transfer {
                transfer.moved(new.len() as u64);
            }
        }
        if self.written < self.size { Err(Break::Short) } else { Ok(()) }
    }

    fn wrong_size(&self, found: u64) -> RegistryError {
        RegistryError::Size { origin: self.session.origin(), digest: self.digest.clone(), expected: self.size, found }
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
