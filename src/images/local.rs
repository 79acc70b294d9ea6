//! Names in the store: finding what one means, giving another.

use super::ImagesError;
use crate::oci::manifest::digest_of;
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::store::{Image, Store, StoreError};

/// An ID must have so many digits to be taken for one.
const SHORTEST_ID: usize = 4;

/// Bucket of the store that says which image an ID means, so that one without a name can be found.
const IDS: &str = "images";

/// Keeps in mind that `id` is the ID of the image at `target`.
pub fn remember(store: &Store, id: &Digest, target: &Descriptor) -> Result<(), StoreError> {
    // Strings and numbers: always JSON.
    store.put_record(IDS, id, &serde_json::to_vec(target).unwrap_or_default())
}

/// The image of a whole ID, named or not, if it is still there.
fn recall(store: &Store, hex: &str) -> Result<Option<Found>, ImagesError> {
    let Ok(id) = format!("sha256:{hex}").parse::<Digest>() else { return Ok(None) };
    let target = store.record(IDS, &id)?.and_then(|bytes| serde_json::from_slice::<Descriptor>(&bytes).ok());
    Ok(match target {
        Some(target) if store.has_blob(&digest_of(&target)?)?.is_some() => Some(Found { target, reference: None }),
        _ => None,
    })
}

/// What a name or an ID means.
#[derive(Debug, Clone)]
pub struct Found {
    /// What it names: an image or an index.
    pub target: Descriptor,
    /// The name, where it is one.
    pub reference: Option<Reference>,
}

/// Finds the image that `text` names: a reference, a repository with a digest, an ID or its beginning.
pub fn find(store: &Store, text: &str) -> Result<Found, ImagesError> {
    let names = store.names()?;
    if let Ok(reference) = text.parse::<Reference>() {
        if let Some((_, target)) = names.iter().find(|(name, _)| *name == reference) {
            return Ok(Found { target: target.clone(), reference: Some(reference) });
        }
        let pinned = |(name, target): &&(Reference, Descriptor)| {
            let same = name.registry() == reference.registry() && name.repository() == reference.repository();
            same && digest_of(target).is_ok_and(|digest| reference.digest() == Some(&digest))
        };
        if let Some((_, target)) = names.iter().find(pinned) {
            return Ok(Found { target: target.clone(), reference: Some(reference) });
        }
    }
    by_id(store, text, &names)?.ok_or_else(|| ImagesError::NotFound(text.to_string()))
}

fn by_id(store: &Store, text: &str, names: &[(Reference, Descriptor)]) -> Result<Option<Found>, ImagesError> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() < SHORTEST_ID || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let mut found: Option<Descriptor> = None;
    for (_, target) in names {
        let own = digest_of(target).is_ok_and(|digest| digest.hex().starts_with(hex));
        let image = Image::peek(store, target, &Platform::host());
        if !own && !image.is_ok_and(|image| image.id.hex().starts_with(hex)) {
            continue;
        }
        match &found {
            Some(known) if known.digest() != target.digest() => return Err(ImagesError::Ambiguous(text.to_string())),
            _ => found = Some(target.clone()),
        }
    }
    match found {
        Some(target) => Ok(Some(Found { target, reference: None })),
        None => recall(store, hex),
    }
}

/// Makes `name` a name of what `source` means.
pub fn tag(store: &Store, source: &str, name: &Reference) -> Result<(), ImagesError> {
    let found = find(store, source)?;
    // Its other name may be taken away just now.
    store.hold(store.blobs_of(vec![found.target.clone()])?.keys())?;
    Ok(store.tag(name, &found.target)?)
}
