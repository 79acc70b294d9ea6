//! Images as wholes: a digest, a config and layers, read from their documents. No layer need be there.

use crate::oci::manifest::{digest_of, is_index, platform_of};
use crate::oci::{Digest, ImageConfig, Index, Layer, Manifest, Platform, Reference};
use super::{Store, StoreError};

/// An image whose manifest and config are known.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredImage {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
    /// Where blobs that the store lacks are fetched from.
    pub source: Reference,
}

/// An image that is there but cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a document of the kind its media type says.
    #[error("the {what} of {image} cannot be read: {source}")]
    Malformed {
        /// `manifest`, `index` or `config`.
        what: &'static str,
        /// The image.
        image: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A digest that cannot be read.
    #[error("the manifest of {image} cannot be used: {source}")]
    Digest {
        /// The image.
        image: String,
        /// What is wrong.
        source: crate::oci::digest::DigestError,
    },
    /// Manifest and config do not belong together.
    #[error("the manifest of {image} names {layers} layers and its config {diff_ids}")]
    LayerCount {
        /// The image.
        image: String,
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// An index without an image for the platform.
    #[error("{image} has no image for {platform} (it has {available})")]
    Platform {
        /// The image.
        image: String,
        /// Asked for.
        platform: Platform,
        /// In the index.
        available: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Largest manifest, index or config that is read into memory: registries allow 4 MiB.
const DOCUMENT_LIMIT: u64 = 8 << 20;

/// Reads an image from its manifest and config.
pub fn image(
    source: &Reference,
    digest: Digest,
    manifest: &[u8],
    config: &[u8],
) -> Result<StoredImage, ImageError> {
    let name = || source.to_string();
    let malformed = |what| move |error| ImageError::Malformed { what, image: source.to_string(), source: error };
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(malformed("manifest"))?;
    let config: ImageConfig = serde_json::from_slice(config).map_err(malformed("config"))?;
    let (layers, diff_ids) = (manifest.layers(), &config.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        return Err(ImageError::LayerCount { image: name(), layers: layers.len(), diff_ids: diff_ids.len() });
    }
    let layer = |(descriptor, diff_id): (&crate::oci::Descriptor, &crate::oci::DiffId)| {
        let digest = digest_of(descriptor).map_err(|source| ImageError::Digest { image: name(), source })?;
        let media_type = descriptor.media_type().to_string();
        Ok(Layer { digest, size: descriptor.size(), media_type, diff_id: diff_id.clone(), content: None })
    };
    let layers = layers.iter().zip(diff_ids).map(layer).collect::<Result<_, ImageError>>()?;
    Ok(StoredImage { digest, config, layers, source: source.clone() })
}

/// The image that the store has under `reference` for `platform`, if its documents are all there.
pub fn local(store: &Store, reference: &Reference, platform: &Platform) -> Result<Option<StoredImage>, ImageError> {
    let Some(descriptor) = store.resolve(reference)? else { return Ok(None) };
    let image_name = reference.to_string();
    let bad_digest = |source| ImageError::Digest { image: reference.to_string(), source };
    let mut digest = digest_of(&descriptor).map_err(bad_digest)?;
    let mut bytes = store.read_blob(&digest, DOCUMENT_LIMIT)?;
    if is_index(&descriptor.media_type().to_string()) {
        let malformed = |source| ImageError::Malformed { what: "index", image: image_name.clone(), source };
        let index: Index = serde_json::from_slice(&bytes).map_err(malformed)?;
        let fits = |d: &&crate::oci::Descriptor| platform_of(d).is_some_and(|have| platform.accepts(&have));
        let Some(chosen) = index.manifests().iter().find(fits) else { return Ok(None) };
        digest = digest_of(chosen).map_err(bad_digest)?;
        if store.has_blob(&digest)?.is_none() {
            return Ok(None);
        }
        bytes = store.read_blob(&digest, DOCUMENT_LIMIT)?;
    }
    let malformed = |source| ImageError::Malformed { what: "manifest", image: image_name.clone(), source };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(malformed)?;
    let config_digest = digest_of(manifest.config()).map_err(bad_digest)?;
    if store.has_blob(&config_digest)?.is_none() {
        return Ok(None);
    }
    let config = store.read_blob(&config_digest, DOCUMENT_LIMIT)?;
    let found = image(reference, digest, &bytes, &config)?;
    Ok(platform.accepts(&found.config.platform()).then_some(found))
}
