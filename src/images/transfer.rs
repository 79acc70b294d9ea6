//! Images from registries into the store, and back.

use super::{ImagesError, find};
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::progress::Progress;
use crate::registry::RegistryClient;
use crate::store::Store;

/// A pulled image.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Digest of what the reference names: of the index, where there is one.
    pub digest: Digest,
    /// The name stood for something else before, or for nothing.
    pub newer: bool,
}

/// Pulls `reference` into the store under its name: manifest and config, and the layers too with `all_layers`.
///
/// A name that stands for an index goes on standing for it, so that other platforms can follow; with `platform` it stands
/// for the image of that platform alone.
pub fn pull(
    store: &Store,
    registry: &RegistryClient,
    reference: &Reference,
    platform: Option<&Platform>,
    all_layers: bool,
    progress: &dyn Progress,
) -> Result<Pulled, ImagesError> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let (resolved, _) = registry.pull_image(store, reference, &wanted, progress)?;
    if all_layers {
        registry.ensure_blobs(store, &resolved.origin, resolved.manifest.layers(), progress)?;
    }
    let digest = resolved.pinned()?;
    let target = match (&resolved.index, platform) {
        (Some((index, _)), None) => index.clone(),
        _ => resolved.descriptor,
    };
    let before = store.resolve(reference)?;
    store.tag(reference, &target)?;
    Ok(Pulled { digest, newer: before.is_none_or(|before| before.digest() != target.digest()) })
}

/// Pushes what `reference` names in the store, or its image for `platform`; what the registry now has comes back.
pub fn push(
    store: &Store,
    registry: &RegistryClient,
    reference: &Reference,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Descriptor, ImagesError> {
    let mut target = find(store, &reference.to_string())?.target;
    if let Some(platform) = platform {
        target = crate::store::Image::load(store, &target, platform)?.descriptor;
    }
    // Its name may be taken away meanwhile.
    store.hold(store.blobs_of(vec![target.clone()])?.keys())?;
    Ok(registry.push_image(store, &target, reference, progress)?)
}

/// The names in the store that are tags of the repository of `reference`.
pub fn tags_of(store: &Store, reference: &Reference) -> Result<Vec<Reference>, ImagesError> {
    let same = |name: &Reference| {
        name.registry() == reference.registry() && name.repository() == reference.repository() && name.tag().is_some()
    };
    let found: Vec<_> = store.names()?.into_iter().map(|(name, _)| name).filter(same).collect();
    match found.is_empty() {
        true => Err(ImagesError::NotFound(reference.familiar_repository())),
        false => Ok(found),
    }
}
