//! Images as wholes: pull, push, tag, save, list, remove.

mod archive;
mod rootfs;
mod sink;

pub use archive::{save_docker, save_oci};
pub use rootfs::{LeftOut, save_local, save_tar};
pub use sink::Target;

use crate::oci::digest::DigestError;
use crate::oci::manifest::{digest_of, is_index, is_manifest, platform_of};
use crate::oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use crate::rootfs::layer::LayerError;
use crate::store::{Store, StoreError};
use serde::de::DeserializeOwned;
use std::io;

/// No manifest, index or config is longer; registries refuse manifests over 4 MiB.
const DOCUMENT_MAX: u64 = 16 << 20;

/// Why an image could not be read from the store, or not written out.
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
    #[error("{digest} holds no image for {platform}")]
    Platform {
        /// Digest of the index.
        digest: Digest,
        /// What was asked for.
        platform: Box<Platform>,
    },
    /// A descriptor with a digest that cannot be read.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The output could not be written; the message names the path.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The archive could not be written.
    #[error(transparent)]
    Archive(#[from] LayerError),
    /// A tree could not be read.
    #[error("cannot read '{}' of the image", String::from_utf8_lossy(path))]
    Tree {
        /// Path inside the image.
        path: Vec<u8>,
        /// What happened.
        source: io::Error,
    },
}

/// One image of one platform, as the store has it.
#[derive(Debug, Clone)]
pub struct Image {
    /// What names the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// Digest of the config: the image's ID.
    pub id: Digest,
    /// The config.
    pub config: ImageConfig,
}

impl Image {
    /// Reads the image at `target`; where that is an index, its image for `platform`.
    pub fn load(store: &Store, target: &Descriptor, platform: &Platform) -> Result<Image, ImageError> {
        let mut descriptor = target.clone();
        if is_index(descriptor.media_type().as_ref()) {
            let index: Index = document(store, &descriptor, "image index")?;
            let fits = |entry: &&Descriptor| platform_of(entry).is_some_and(|image| platform.accepts(&image));
            let Some(found) = index.manifests().iter().find(fits) else {
                return Err(ImageError::Platform {
                    digest: digest_of(&descriptor)?,
                    platform: Box::new(platform.clone()),
                });
            };
            descriptor = found.clone();
        }
        check_manifest(&descriptor)?;
        let manifest: Manifest = document(store, &descriptor, "image manifest")?;
        let config = document(store, manifest.config(), "image config")?;
        Ok(Image { id: digest_of(manifest.config())?, descriptor, manifest, config })
    }

    /// Bytes of its manifest, config and layers, as they are stored and pushed.
    pub fn size(&self) -> u64 {
        let layers: u64 = self.manifest.layers().iter().map(Descriptor::size).sum();
        self.descriptor.size() + self.manifest.config().size() + layers
    }
}

/// One line of `dockless images`.
#[derive(Debug)]
pub struct Listed {
    /// The name.
    pub reference: Reference,
    /// What it names.
    pub target: Descriptor,
    /// The image for this machine's platform, or why it cannot be read: one broken image does not hide the others.
    pub image: Result<Image, ImageError>,
}

/// All names in the store, sorted, with their images.
pub fn list(store: &Store) -> Result<Vec<Listed>, ImageError> {
    let host = Platform::host();
    let names = store.names()?.into_iter();
    Ok(names
        .map(|(reference, target)| {
            let image = Image::load(store, &target, &host);
            Listed { reference, target, image }
        })
        .collect())
}

fn check_manifest(descriptor: &Descriptor) -> Result<(), ImageError> {
    let media_type = descriptor.media_type().as_ref();
    match is_manifest(media_type) {
        true => Ok(()),
        false => Err(ImageError::MediaType { digest: digest_of(descriptor)?, media_type: media_type.to_string() }),
    }
}

/// Reads and parses the JSON document at `descriptor`.
fn document<T: DeserializeOwned>(store: &Store, descriptor: &Descriptor, what: &'static str) -> Result<T, ImageError> {
    let digest = digest_of(descriptor)?;
    let bytes = store.read_blob(&digest, DOCUMENT_MAX)?;
    serde_json::from_slice(&bytes).map_err(|source| ImageError::Document { digest, what, source })
}
