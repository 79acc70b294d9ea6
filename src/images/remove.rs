//! Taking names away, and with the last one what nobody else needs of the image.

use super::{ImagesError, find};
use crate::oci::manifest::digest_of;
use crate::oci::{ChainId, Digest, Platform, Reference};
use crate::store::{Image, Store};

/// What was taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Names.
    pub names: Vec<Reference>,
    /// The image's ID, where it has no name any more.
    pub image: Option<Digest>,
    /// Layers that are gone, each by the stack up to it, the highest first.
    pub layers: Vec<ChainId>,
}

/// Takes the name `text` away; where it is an ID, the names that the image has: of several repositories only with `force`. To
/// be called where unpacked layers' files can be removed, whoever owns them.
pub fn remove(store: &Store, text: &str, force: bool) -> Result<Removed, ImagesError> {
    let found = find(store, text)?;
    let own = |(_, target): &&(Reference, _)| {
        let target: &crate::oci::Descriptor = target;
        target.digest() == found.target.digest()
    };
    let all = store.names()?;
    let known: Vec<Reference> = all.iter().filter(own).map(|(name, _)| name.clone()).collect();
    let names = match found.reference {
        Some(name) if known.contains(&name) => vec![name],
        // A digest stands for the names of its repository.
        Some(name) => {
            known.iter().filter(|known| known.familiar_repository() == name.familiar_repository()).cloned().collect()
        }
        None => known.clone(),
    };
    let repositories = |name: &Reference| name.familiar_repository();
    let several = names.windows(2).any(|pair| repositories(&pair[0]) != repositories(&pair[1]));
    if several && !force {
        return Err(ImagesError::SeveralNames(text.to_string()));
    }
    let id = match Image::peek(store, &found.target, &Platform::host()) {
        Ok(image) => image.id,
        // An index without an image for this machine.
        Err(_) => digest_of(&found.target)?,
    };
    for name in &names {
        store.untag(name)?;
    }
    let image = (known.len() == names.len()).then_some(id);
    let layers = if image.is_some() { store.forget(&found.target)? } else { Vec::new() };
    Ok(Removed { names, image, layers })
}
