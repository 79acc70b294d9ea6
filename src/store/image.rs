//! Images as wholes: a manifest, a config and layers, read from their documents. No layer need be in the store.

use super::{Store, StoreError};
use crate::oci::digest::DigestError;
use crate::oci::manifest::{digest_of, is_index, is_manifest, platform_of};
use crate::oci::{Descriptor, Digest, ImageConfig, Index, Layer, Manifest, Platform, Reference};
use serde::de::DeserializeOwned;

/// No manifest, index or config is longer; registries refuse manifests over 4 MiB.
pub const DOCUMENT_MAX: u64 = 16 << 20;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest, an index or a config that is none.
    #[error("{digest} is no {what}")]
    Document {
        /// Its digest.
        digest: Digest,
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Something that is neither a manifest nor an index.
    #[error("{digest} is no image: its media type is '{media_type}'")]
    MediaType {
        /// Its digest.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// An index without an image for this platform.
    #[error("{digest} holds no image for {platform} (it has {available})")]
    Platform {
        /// Digest of the index.
        digest: Digest,
        /// What was asked for.
        platform: Box<Platform>,
        /// What there is.
        available: String,
    },
    /// A descriptor with a digest that cannot be read.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Manifest and config do not belong together.
    #[error("the manifest {digest} names {layers} layers, its config {diff_ids}")]
    LayerCount {
        /// Digest of the manifest.
        digest: Digest,
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
}

/// One image of one platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// What names the manifest.
    pub descriptor: Descriptor,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// Digest of the config: the image's ID.
    pub id: Digest,
    /// The config.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// Reads the image at `target`; where that is an index, its image for `platform`. All that is here of it counts as used:
    /// it stays while this process has the store open, whatever becomes of its name.
    pub fn load(store: &Store, target: &Descriptor, platform: &Platform) -> Result<Image, ImageError> {
        let image = Image::read_with(target, platform, &|digest| store.read_blob(digest, DOCUMENT_MAX))?;
        store.hold(image.layers.iter().map(|layer| &layer.digest))?;
        Ok(image)
    }

    /// [`Image::load`] for who only tells of it: nothing of it counts as used.
    pub fn peek(store: &Store, target: &Descriptor, platform: &Platform) -> Result<Image, ImageError> {
        Image::read_with(target, platform, &|digest| store.peek_blob(digest, DOCUMENT_MAX))
    }

    fn read_with(
        target: &Descriptor,
        platform: &Platform,
        read: &dyn Fn(&Digest) -> Result<Vec<u8>, StoreError>,
    ) -> Result<Image, ImageError> {
        let descriptor = match is_index(target.media_type().as_ref()) {
            true => {
                let digest = digest_of(target)?;
                choose(&parse(&read(&digest)?, &digest, "image index")?, target, platform)?
            }
            false => target.clone(),
        };
        let digest = digest_of(&descriptor)?;
        let media_type = descriptor.media_type().as_ref();
        if !is_manifest(media_type) {
            return Err(ImageError::MediaType { digest, media_type: media_type.to_string() });
        }
        let manifest = read(&digest)?;
        let parsed: Manifest = parse(&manifest, &digest, "image manifest")?;
        let config = read(&digest_of(parsed.config())?)?;
        Image::read(descriptor, &manifest, &config)
    }

    /// Reads an image from the bytes of its manifest and config.
    pub fn read(descriptor: Descriptor, manifest: &[u8], config: &[u8]) -> Result<Image, ImageError> {
        let digest = digest_of(&descriptor)?;
        let manifest: Manifest = parse(manifest, &digest, "image manifest")?;
        let id = digest_of(manifest.config())?;
        let config: ImageConfig = parse(config, &id, "image config")?;
        let diff_ids = &config.rootfs.diff_ids;
        if manifest.layers().len() != diff_ids.len() {
            let layers = manifest.layers().len();
            return Err(ImageError::LayerCount { digest, layers, diff_ids: diff_ids.len() });
        }
        let mut layers = Vec::with_capacity(diff_ids.len());
        for (layer, diff_id) in manifest.layers().iter().zip(diff_ids) {
            layers.push(Layer {
                digest: digest_of(layer)?,
                size: layer.size(),
                media_type: layer.media_type().to_string(),
                diff_id: diff_id.clone(),
                content: None,
            });
        }
        Ok(Image { descriptor, digest, manifest, id, config, layers })
    }

    /// Bytes of its manifest, config and layers, as they are stored and pushed.
    pub fn size(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(|layer| layer.size).sum();
        self.descriptor.size() + self.manifest.config().size() + layers
    }
}

impl Store {
    /// The image that `reference` names here for `platform`; `None` where the name is unknown, is for other platforms, or
    /// its documents are not all here.
    pub fn image(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, ImageError> {
        let Some(target) = self.resolve(reference)? else { return Ok(None) };
        match Image::load(self, &target, platform) {
            Ok(image) => Ok(platform.accepts(&image.config.platform()).then_some(image)),
            Err(ImageError::Platform { .. } | ImageError::Store(StoreError::Missing(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The entry of an index for `platform`.
fn choose(index: &Index, target: &Descriptor, platform: &Platform) -> Result<Descriptor, ImageError> {
    let fits = |entry: &&Descriptor| platform_of(entry).is_some_and(|image| platform.accepts(&image));
    if let Some(found) = index.manifests().iter().find(fits) {
        return Ok(found.clone());
    }
    let available: Vec<String> =
        index.manifests().iter().filter_map(|entry| platform_of(entry).map(|p| p.to_string())).collect();
    Err(ImageError::Platform {
        digest: digest_of(target)?,
        platform: Box::new(platform.clone()),
        available: available.join(", "),
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8], digest: &Digest, what: &'static str) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|source| ImageError::Document { digest: digest.clone(), what, source })
}
