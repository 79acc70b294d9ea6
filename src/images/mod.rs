//! Images as wholes: pull, push, tag, save, list, remove.

mod archive;
mod history;
pub mod index;
mod inspect;
mod load;
mod local;
mod remove;
mod rootfs;
mod scratch;
mod sink;
mod transfer;

pub use archive::{Saved, save_docker, save_oci};
pub use history::{Step, history};
pub use inspect::{inspect, inspect_remote};
pub use load::{Loaded, load};
pub use local::{Found, find, remember, tag};
pub use remove::{Removed, remove};
pub use rootfs::{LeftOut, save_local, save_tar};
pub use scratch::scratch;
pub use sink::Target;
pub use transfer::{Pulled, pull, push, tags_of};

use crate::oci::digest::DigestError;
use crate::oci::manifest::digest_of;
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::registry::RegistryError;
use crate::rootfs::TreeError;
use crate::rootfs::layer::LayerError;
use crate::store::image::DOCUMENT_MAX;
use crate::store::{Image, ImageError, Store, StoreError};
use serde::de::DeserializeOwned;
use std::io;

/// Why an image could not be written out.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The image cannot be read from the store.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A descriptor with a digest that cannot be read.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A document that is none.
    #[error("{digest} is no {what}")]
    Document {
        /// Its digest.
        digest: Digest,
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
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

impl From<TreeError> for SaveError {
    fn from(error: TreeError) -> SaveError {
        SaveError::Tree { path: error.path, source: error.source }
    }
}

/// Why an archive could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read, or its files not be kept; the cause says which.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It holds neither `manifest.json` nor `index.json`.
    #[error("the archive holds no images: there is neither a manifest.json nor an index.json in it")]
    NoImages,
    /// A file that others name is missing.
    #[error("the archive does not hold '{0}', which it names")]
    NoMember(String),
    /// A document that is none.
    #[error("'{name}' of the archive cannot be understood")]
    Json {
        /// Its name.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// Why something could not be done with an image.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// No such name or ID.
    #[error("no such image: {0}")]
    NotFound(String),
    /// The beginning of several IDs.
    #[error("'{0}' is the beginning of several images' IDs")]
    Ambiguous(String),
    /// An ID that stands for names in several repositories.
    #[error("the image '{0}' has names in several repositories; --force takes all of them away")]
    SeveralNames(String),
    /// An archive.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An index of that name is there.
    #[error("{0} is there already; --amend adds to it")]
    Exists(String),
    /// The name stands for a single image.
    #[error("{0} is an image, not an index")]
    NotAnIndex(String),
    /// An image that an index does not have.
    #[error("{member} is not in {list}")]
    NoMember {
        /// The index.
        list: String,
        /// The image.
        member: String,
    },
    /// An entry of an index that cannot be written.
    #[error("the entry {digest} cannot be written")]
    Entry {
        /// Its digest.
        digest: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A document in the store.
    #[error(transparent)]
    Document(#[from] SaveError),
    /// The image cannot be read from the store.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A descriptor with a digest that cannot be read.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
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
pub fn list(store: &Store) -> Result<Vec<Listed>, StoreError> {
    let host = Platform::host();
    let names = store.names()?.into_iter();
    Ok(names
        .map(|(reference, target)| {
            let image = Image::peek(store, &target, &host);
            Listed { reference, target, image }
        })
        .collect())
}

/// Reads and parses the JSON document at `descriptor`.
fn document<T: DeserializeOwned>(store: &Store, descriptor: &Descriptor, what: &'static str) -> Result<T, SaveError> {
    let digest = digest_of(descriptor)?;
    let bytes = store.read_blob(&digest, DOCUMENT_MAX)?;
    serde_json::from_slice(&bytes).map_err(|source| SaveError::Document { digest, what, source })
}
