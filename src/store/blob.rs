//! Blobs: content-addressed files. Spec: OCI image-spec, image-layout.md and descriptor.md.

use super::tail::{Follower, Tail};
use super::temp::TempFile;
use super::{Inner, Store, StoreError};
use crate::oci::Digest;
use crate::oci::digest::{Algorithm, Hasher};
use fs_err as fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

impl Store {
    /// Length of a blob; `None` where it is not in the store. Does not read it.
    pub fn has_blob(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.inner.used(&self.inner.blob_path(digest))?.map(|metadata| metadata.len()))
    }

    /// Opens a blob for reading from its beginning.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let path = self.inner.blob_path(digest);
        if self.inner.used(&path)?.is_none() {
            return Err(StoreError::Missing(digest.clone()));
        }
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::Missing(digest.clone())),
            Err(e) => return Err(e.into()),
        };
        let size = file.metadata()?.len();
        let hasher = Some(Hasher::new(digest.algorithm()));
        Ok(BlobReader { inner: Arc::clone(&self.inner), file, size, digest: digest.clone(), hasher })
    }

    /// What is to be said of a blob that was found damaged, and removed, since this was last asked.
    pub fn take_damage(&self) -> Option<String> {
        self.inner.damage.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A whole blob of at most `limit` bytes, verified: for manifests and configs.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.open_blob(digest)?;
        let size = reader.size();
        if size > limit {
            return Err(StoreError::TooLong { digest: digest.clone(), size, limit });
        }
        let mut bytes = Vec::new();
        match reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(e) => Err(unwrap_store_error(e)),
        }
    }

    /// [`Store::read_blob`] without marking the blob as used.
    pub fn peek_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.inner.blob_path(digest);
        let file = match fs::File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::Missing(digest.clone())),
            other => other?,
        };
        let size = file.metadata()?.len();
        if size > limit {
            return Err(StoreError::TooLong { digest: digest.clone(), size, limit });
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        match hasher.finish() {
            found if found == *digest => Ok(bytes),
            found => Err(StoreError::Mismatch { expected: digest.clone(), found }),
        }
    }

    /// Marks those of the blobs as used that are here: they stay for as long as this process has the store open.
    pub fn hold<'a>(&self, digests: impl Iterator<Item = &'a Digest>) -> Result<(), StoreError> {
        for digest in digests {
            self.has_blob(digest)?;
        }
        Ok(())
    }

    /// Stores `bytes`; their SHA-256 comes back.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::sha256(bytes);
        // Documents are small: one that was damaged is seen here, and written anew.
        if self.has_blob(&digest)? == Some(bytes.len() as u64)
            && fs::read(self.inner.blob_path(&digest)).is_ok_and(|there| there == bytes)
        {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes)?;
        writer.finish()?;
        Ok(digest)
    }

    /// Starts a blob of unknown digest. Nothing can be seen of it before it is finished.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let temp = TempFile::create(self.inner.temp_path())?;
        let (hasher, tail) = (Hasher::new(Algorithm::Sha256), None);
        Ok(BlobWriter { store: self.clone(), temp, hasher, written: 0, tail })
    }

    /// Removes a blob that was found damaged, if the file at its path is still `bad`: it may have been written anew.
    fn remove_damaged(path: &std::path::Path, bad: &fs::File) {
        let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        if let (Ok(now), Ok(bad)) = (fs::metadata(path), bad.metadata())
            && same(&now, &bad)
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(%error, "cannot remove a damaged blob");
        }
    }
}

/// The [`StoreError`] that a [`BlobReader`] wrapped into an I/O error.
fn unwrap_store_error(error: io::Error) -> StoreError {
    error.downcast::<StoreError>().unwrap_or_else(StoreError::from)
}

/// Reads a blob and verifies it: at the end, bytes that do not match the digest are an error instead of an end of file
/// (kind `InvalidData`, holding a [`StoreError::Mismatch`]), and the blob is removed from the store.
#[derive(Debug)]
pub struct BlobReader {
    inner: Arc<Inner>,
    file: fs::File,
    size: u64,
    digest: Digest,
    /// Gone once verified.
    hasher: Option<Hasher>,
}

impl BlobReader {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads what is left; bytes that do not match the digest are an error, and the blob is removed.
    pub fn verify_rest(&mut self) -> Result<(), StoreError> {
        io::copy(self, &mut io::sink()).map(drop).map_err(unwrap_store_error)
    }

    /// The same bytes, unverified: for who hands them to somebody who verifies them.
    pub fn unverified(self) -> BlobReader {
        BlobReader { hasher: None, ..self }
    }

    fn verify(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let found = hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        Store::remove_damaged(self.file.path(), &self.file);
        let mismatch = StoreError::Mismatch { expected: self.digest.clone(), found };
        *self.inner.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(mismatch.to_string());
        Err(io::Error::new(io::ErrorKind::InvalidData, mismatch))
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        match &mut self.hasher {
            Some(hasher) if n > 0 => hasher.update(&buf[..n]),
            Some(_) if !buf.is_empty() => self.verify()?,
            _ => {}
        }
        Ok(n)
    }
}

/// A blob being written. Dropping it discards it; only finishing puts it in the store.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    temp: TempFile,
    hasher: Hasher,
    written: u64,
    tail: Option<Tail>,
}

impl BlobWriter {
    /// Somebody who reads along.
    pub fn follow(&mut self) -> Result<Follower, StoreError> {
        let tail = self.tail.get_or_insert_default();
        Ok(tail.follow(self.temp.file(), self.written)?)
    }

    /// Stores what was written: its SHA-256 and its length. When this returns, the bytes are on disk.
    pub fn finish(self) -> Result<(Digest, u64), StoreError> {
        let BlobWriter { store, temp, hasher, written, tail } = self;
        let digest = hasher.finish();
        put(&store, temp, &digest)?;
        if let Some(tail) = tail {
            tail.became(&digest);
        }
        Ok((digest, written))
    }

    /// Stores what was written as `expected`, and gives its length; stores nothing where digest or `size` differ.
    pub fn finish_as(self, expected: &Digest, size: Option<u64>) -> Result<u64, StoreError> {
        let BlobWriter { store, temp, hasher, written, tail } = self;
        if let Some(size) = size.filter(|size| *size != written) {
            return Err(StoreError::Size { digest: expected.clone(), expected: size, found: written });
        }
        let found = match expected.algorithm() {
            Algorithm::Sha256 => hasher.finish(),
            other => hash_file(temp.file(), other)?,
        };
        if found != *expected {
            return Err(StoreError::Mismatch { expected: expected.clone(), found });
        }
        put(&store, temp, expected)?;
        if let Some(tail) = tail {
            tail.became(expected);
        }
        Ok(written)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.temp.file().write(buf)?;
        self.hasher.update(&buf[..n]);
        self.written += n as u64;
        if let Some(tail) = &self.tail {
            tail.wrote(n as u64);
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(store: &Store, temp: TempFile, digest: &Digest) -> Result<(), StoreError> {
    temp.sync()?;
    let _together = store.inner.stay()?;
    store.inner.wrote.store(true, Ordering::SeqCst);
    temp.rename_to(&store.inner.blob_path(digest))
}

fn hash_file(mut file: &fs::File, algorithm: Algorithm) -> Result<Digest, StoreError> {
    file.rewind()?;
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
