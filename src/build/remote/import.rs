//! Images of an OCI layout on disk, brought into the store. Spec: OCI image-spec, image-layout.md.

use super::RemoteError;
use crate::oci::manifest::{digest_of, is_index, is_manifest};
use crate::oci::{Descriptor, Digest, Index, Manifest, Platform};
use crate::store::image::DOCUMENT_MAX;
use crate::store::{Image, Store, StoreError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Annotation that holds the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Brings the image `wanted` (a tag or a digest; the only one, or `latest`, where `None`) of the layout at `path` for
/// `platform` into the store, layers and all, each blob verified.
pub fn import_layout(
    store: &Store,
    path: &Path,
    wanted: Option<&str>,
    platform: &Platform,
) -> Result<Image, RemoteError> {
    let index = path.join("index.json");
    let parsed: Result<Index, _> = serde_json::from_slice(&fs_err::read(&index)?);
    let parsed = parsed.map_err(|source| RemoteError::Layout { path: index, source })?;
    let target = choose(path, &parsed, wanted)?;
    let layout = Layout { store, path };
    layout.documents(&target)?;
    let image = Image::load(store, &target, platform)?;
    for layer in image.manifest.layers() {
        layout.blob(layer)?;
    }
    Ok(image)
}

fn choose(path: &Path, index: &Index, wanted: Option<&str>) -> Result<Descriptor, RemoteError> {
    let tag = |entry: &Descriptor| entry.annotations().as_ref().and_then(|all| all.get(REF_NAME)).cloned();
    let found = match wanted {
        Some(digest) if digest.contains(':') => {
            let digest: Digest = digest.parse()?;
            index.manifests().iter().find(|entry| entry.digest().to_string() == digest.to_string())
        }
        Some(name) => index.manifests().iter().find(|entry| tag(entry).as_deref() == Some(name)),
        None => match index.manifests().as_slice() {
            [only] => Some(only),
            all => all.iter().find(|entry| tag(entry).as_deref() == Some("latest")),
        },
    };
    found.cloned().ok_or_else(|| {
        let names = index.manifests().iter().map(|entry| tag(entry).unwrap_or_else(|| entry.digest().to_string()));
        RemoteError::NoImage {
            path: path.to_path_buf(),
            image: wanted.unwrap_or("latest").to_string(),
            available: names.collect::<Vec<_>>().join(", "),
        }
    })
}

struct Layout<'a> {
    store: &'a Store,
    path: &'a Path,
}

impl Layout<'_> {
    /// Manifests and configs. Those of other platforms may be missing.
    fn documents(&self, target: &Descriptor) -> Result<(), RemoteError> {
        self.blob(target)?;
        let media_type = target.media_type().as_ref();
        let digest = digest_of(target)?;
        if is_index(media_type) {
            let bytes = self.store.read_blob(&digest, DOCUMENT_MAX)?;
            let index: Index = serde_json::from_slice(&bytes).map_err(|source| self.broken(&digest, source))?;
            for entry in index.manifests().iter().filter(|entry| is_manifest(entry.media_type().as_ref())) {
                if self.blob_path(&digest_of(entry)?).exists() {
                    self.documents(entry)?;
                }
            }
        } else if is_manifest(media_type) {
            let bytes = self.store.read_blob(&digest, DOCUMENT_MAX)?;
            let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|source| self.broken(&digest, source))?;
            self.blob(manifest.config())?;
        }
        Ok(())
    }

    fn broken(&self, digest: &Digest, source: serde_json::Error) -> RemoteError {
        RemoteError::Layout { path: self.blob_path(digest), source }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// Copies a blob into the store.
    fn blob(&self, descriptor: &Descriptor) -> Result<(), RemoteError> {
        let digest = digest_of(descriptor)?;
        if self.store.has_blob(&digest)?.is_some() {
            return Ok(());
        }
        let mut from = fs_err::File::open(self.blob_path(&digest))?;
        let mut writer = self.store.blob_writer()?;
        std::io::copy(&mut from, &mut writer).and_then(|_| writer.flush()).map_err(StoreError::from)?;
        writer.finish_as(&digest, Some(descriptor.size()))?;
        Ok(())
    }
}
