//! Caches in directories: OCI image layouts, whose files have the names of their content. So a job's cache of files
//! (`cache:` of GitLab, `actions/cache`) moves them as they are, and a build writes only those that are new.
//!
//! Spec: OCI image-spec, image-layout.md. Nothing is locked: whoever writes writes aside and renames, `index.json` last.

use super::document::BYTES;
use super::export::{ExportError, blobs, image_of};
use super::merge::Contents;
use crate::build::Lookup;
use crate::oci::json::to_canonical;
use crate::oci::manifest::{self, digest_of};
use crate::oci::{Descriptor, Digest, Index, Manifest};
use crate::store::{Store, StoreError};
use fs_err as fs;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes that an index or a manifest may have.
const DOCUMENT: u64 = 16 << 20;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that does not hold what its name says.
    #[error("{} does not hold what its name says", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file longer than its kind may be.
    #[error("{} is too long", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A document that is none.
    #[error("{} cannot be read: {source}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A layout without an image.
    #[error("{} holds no cache", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
}

/// A manifest in a directory, and the config that it names.
pub struct Found {
    /// The manifest.
    pub manifest: Manifest,
    /// Bytes of the config.
    pub config: Vec<u8>,
}

/// Where a blob is.
pub fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
}

/// The cache in `dir`: what its index names first.
pub fn read(dir: &Path) -> Result<Found, DirectoryError> {
    let index = dir.join("index.json");
    let parsed: Index = parse(&index, &bounded(&index, DOCUMENT)?)?;
    let is_manifest = |entry: &&Descriptor| manifest::is_manifest(entry.media_type().as_ref());
    let empty = || DirectoryError::Empty { path: dir.to_path_buf() };
    let entry = parsed.manifests().iter().find(is_manifest).ok_or_else(empty)?;
    let digest = digest_of(entry).map_err(|_| empty())?;
    let manifest: Manifest = parse(&blob_path(dir, &digest), &blob(dir, &digest, DOCUMENT)?)?;
    let config = digest_of(manifest.config()).map_err(|_| empty())?;
    Ok(Found { config: blob(dir, &config, BYTES as u64)?, manifest })
}

/// A blob of at most `limit` bytes, verified.
pub fn blob(dir: &Path, digest: &Digest, limit: u64) -> Result<Vec<u8>, DirectoryError> {
    let path = blob_path(dir, digest);
    let bytes = bounded(&path, limit)?;
    match Digest::sha256(&bytes) == *digest {
        true => Ok(bytes),
        false => Err(DirectoryError::Damaged { path }),
    }
}

/// Copies a blob into the store, verified.
pub fn bring(dir: &Path, store: &Store, digest: &Digest) -> Result<(), DirectoryError> {
    if store.has_blob(digest)?.is_some() {
        return Ok(());
    }
    let mut from = fs::File::open(blob_path(dir, digest))?;
    let mut writer = store.blob_writer()?;
    io::copy(&mut from, &mut writer)?;
    writer.finish_as(digest, None)?;
    Ok(())
}

/// Puts `bytes` at `path` in one piece.
pub fn put(path: &Path, from: &mut dyn Read) -> Result<(), DirectoryError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let mut temp = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
    io::copy(from, &mut temp)?;
    temp.flush()?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temp.as_file().set_permissions(readable)?;
    temp.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Makes `dir` the cache `contents`: what is new is written, what is no longer named is removed.
pub fn write(dir: &Path, lookup: &Lookup<'_>, contents: &Contents) -> Result<(), ExportError> {
    let (config, manifest, config_digest) = image_of(contents);
    let manifest_digest = Digest::sha256(&manifest);
    for digest in blobs(contents) {
        let path = blob_path(dir, &digest);
        if path.exists() {
            continue;
        }
        lookup.registry.ensure_known(lookup.store, &digest, lookup.progress)?;
        put(&path, &mut lookup.store.open_blob(&digest)?)?;
    }
    put(&blob_path(dir, &config_digest), &mut &config[..])?;
    put(&blob_path(dir, &manifest_digest), &mut &manifest[..])?;
    put(&dir.join("oci-layout"), &mut &br#"{"imageLayoutVersion":"1.0.0"}"#[..])?;
    let entry = manifest::descriptor(manifest::OCI_MANIFEST, &manifest_digest, manifest.len() as u64);
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": [entry]});
    let index = to_canonical(&index).unwrap_or_default();
    put(&dir.join("index.json"), &mut &index[..])?;
    let mut named: HashSet<PathBuf> = blobs(contents).iter().map(|digest| blob_path(dir, digest)).collect();
    named.extend([blob_path(dir, &config_digest), blob_path(dir, &manifest_digest)]);
    for entry in fs::read_dir(dir.join("blobs/sha256"))? {
        let path = entry?.path();
        if !named.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn bounded(path: &Path, limit: u64) -> Result<Vec<u8>, DirectoryError> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(DirectoryError::TooLong { path: path.to_path_buf() }),
        false => Ok(bytes),
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, DirectoryError> {
    serde_json::from_slice(bytes).map_err(|source| DirectoryError::Form { path: path.to_path_buf(), source })
}
