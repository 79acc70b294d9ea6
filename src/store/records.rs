//! Records: small values under a digest, such as what a cache key led to.

use super::temp::TempFile;
use super::{Store, StoreError};
use crate::oci::Digest;
use fs_err as fs;
use std::io;
use std::path::PathBuf;

impl Store {
    /// The record `key` in `bucket` (a plain name); `None` where there is none or a torn one.
    pub fn record(&self, bucket: &str, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.record_path(bucket, key);
        if self.inner.used(&path)?.is_none() {
            return Ok(None);
        }
        let mut bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let Some(line) = bytes.iter().position(|b| *b == b'\n') else { return Ok(None) };
        let value = bytes.split_off(line + 1);
        let whole = bytes[..line] == *Digest::sha256(&value).to_string().as_bytes();
        Ok(whole.then_some(value))
    }

    /// Writes the record `key` in `bucket`, over an older one. It may be lost when the machine loses power.
    pub fn put_record(&self, bucket: &str, key: &Digest, value: &[u8]) -> Result<(), StoreError> {
        let path = self.record_path(bucket, key);
        let mut bytes = format!("{}\n", Digest::sha256(value)).into_bytes();
        bytes.extend_from_slice(value);
        let temp = TempFile::create(self.inner.temp_path())?;
        temp.write_all(&bytes)?;
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let _together = self.inner.stay()?;
        temp.rename_to(&path)
    }

    /// Keys of all records in `bucket`, sorted.
    pub fn record_keys(&self, bucket: &str) -> Result<Vec<Digest>, StoreError> {
        let listed = match fs::read_dir(self.inner.root.join("records").join(bucket)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut keys = Vec::new();
        for entry in listed {
            // Whatever else lies there is none of ours.
            keys.extend(format!("sha256:{}", entry?.file_name().to_string_lossy()).parse::<Digest>());
        }
        keys.sort();
        Ok(keys)
    }

    fn record_path(&self, bucket: &str, key: &Digest) -> PathBuf {
        debug_assert!(bucket.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{bucket}");
        self.inner.root.join("records").join(bucket).join(key.hex())
    }
}
