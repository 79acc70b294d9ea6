//! Indexes (Docker's manifest lists), made of images that are in the store or in a registry.

use super::{ImagesError, document, find};
use crate::oci::json::to_canonical;
use crate::oci::manifest::{self, DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX};
use crate::oci::{Descriptor, Index, Platform, Reference};
use crate::progress::Progress;
use crate::registry::RegistryClient;
use crate::store::{Image, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is changed of an entry, or of the index itself.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// `os`
    pub os: Option<String>,
    /// `architecture`
    pub architecture: Option<String>,
    /// `variant`
    pub variant: Option<String>,
    /// `os.version`
    pub os_version: Option<String>,
    /// `os.features`
    pub os_features: Vec<String>,
    /// Annotations.
    pub annotations: Vec<(String, String)>,
}

/// Makes `list` an index of `members`, put after those that it has with `amend`; indexes among them are taken apart. The
/// images' manifests and configs come into the store, their layers stay where they are.
pub fn create(
    store: &Store,
    registry: &RegistryClient,
    list: &Reference,
    members: &[Reference],
    amend: bool,
    progress: &dyn Progress,
) -> Result<Descriptor, ImagesError> {
    let mut entries = match store.resolve(list)? {
        Some(_) if !amend => return Err(ImagesError::Exists(list.familiar())),
        Some(known) => entries(store, &known)?,
        None => Vec::new(),
    };
    gather(store, registry, members, &mut entries, progress)?;
    write(store, list, &entries, &BTreeMap::new())
}

/// An index of what the registries have under the names of `members`, put into the store without a name; with its bytes.
pub fn assemble(
    store: &Store,
    registry: &RegistryClient,
    members: &[Reference],
    annotations: &[(String, String)],
    progress: &dyn Progress,
) -> Result<(Descriptor, Vec<u8>), ImagesError> {
    let mut entries = Vec::new();
    for member in members {
        let target = registry.pull_document(store, member, progress)?;
        add(store, &target, &mut entries)?;
    }
    let bytes = bytes_of(&entries, &annotations.iter().cloned().collect(), "the index")?;
    Ok((put(store, &bytes)?, bytes.1))
}

fn gather(
    store: &Store,
    registry: &RegistryClient,
    members: &[Reference],
    entries: &mut Vec<Descriptor>,
    progress: &dyn Progress,
) -> Result<(), ImagesError> {
    for member in members {
        let target = obtain(store, registry, member, progress)?;
        add(store, &target, entries)?;
    }
    Ok(())
}

/// Puts what `target` gives behind the other entries, and none twice.
fn add(store: &Store, target: &Descriptor, entries: &mut Vec<Descriptor>) -> Result<(), ImagesError> {
    for entry in entries_of(store, target)? {
        entries.retain(|known| known.digest() != entry.digest());
        entries.push(entry);
    }
    Ok(())
}

/// Changes what `list` says of `member`, or of itself.
pub fn annotate(
    store: &Store,
    registry: &RegistryClient,
    list: &Reference,
    member: Option<&Reference>,
    changes: &Changes,
    progress: &dyn Progress,
) -> Result<Descriptor, ImagesError> {
    let target = find(store, &list.to_string())?.target;
    let index: Index = index(store, &target)?;
    let mut entries = index.manifests().clone();
    let mut own: BTreeMap<String, String> = index.annotations().clone().unwrap_or_default().into_iter().collect();
    match member {
        None => own.extend(changes.annotations.iter().cloned()),
        Some(member) => {
            let wanted = obtain(store, registry, member, progress)?;
            let entry = entries.iter_mut().find(|entry| entry.digest() == wanted.digest());
            let missing = || ImagesError::NoMember { list: list.familiar(), member: member.familiar() };
            change(entry.ok_or_else(missing)?, changes)?;
        }
    }
    write(store, list, &entries, &own)
}

/// The document of an index in the store.
pub fn index(store: &Store, target: &Descriptor) -> Result<Index, ImagesError> {
    if !manifest::is_index(target.media_type().as_ref()) {
        return Err(ImagesError::NotAnIndex(target.digest().to_string()));
    }
    Ok(document(store, target, "image index")?)
}

/// What `reference` names: in the store, else in its registry.
fn obtain(
    store: &Store,
    registry: &RegistryClient,
    reference: &Reference,
    progress: &dyn Progress,
) -> Result<Descriptor, ImagesError> {
    match find(store, &reference.to_string()) {
        Ok(found) => Ok(found.target),
        Err(ImagesError::NotFound(_)) => Ok(registry.pull_document(store, reference, progress)?),
        Err(error) => Err(error),
    }
}

fn entries(store: &Store, target: &Descriptor) -> Result<Vec<Descriptor>, ImagesError> {
    Ok(index(store, target)?.manifests().clone())
}

/// The entries that an image or an index gives.
fn entries_of(store: &Store, target: &Descriptor) -> Result<Vec<Descriptor>, ImagesError> {
    if manifest::is_index(target.media_type().as_ref()) {
        return entries(store, target);
    }
    let image = Image::load(store, target, &Platform::host())?;
    let size = store.has_blob(&image.digest)?.unwrap_or_default();
    let mut entry = manifest::descriptor(target.media_type().as_ref(), &image.digest, size);
    let changes = Changes {
        os: Some(image.config.os.clone()),
        architecture: Some(image.config.architecture.clone()),
        variant: image.config.variant.clone(),
        os_version: image.config.os_version.clone(),
        os_features: image.config.os_features.clone().unwrap_or_default(),
        annotations: Vec::new(),
    };
    change(&mut entry, &changes)?;
    Ok(vec![entry])
}

/// Goes by the JSON, where every field has the spec's own name.
fn change(entry: &mut Descriptor, changes: &Changes) -> Result<(), ImagesError> {
    let wrong = |source| ImagesError::Entry { digest: entry.digest().to_string(), source };
    let mut value = serde_json::to_value(&*entry).map_err(wrong)?;
    let mut put = |name: &str, text: &Option<String>| {
        if let Some(text) = text {
            value["platform"][name] = Value::from(text.clone());
        }
    };
    put("os", &changes.os);
    put("architecture", &changes.architecture);
    put("variant", &changes.variant);
    put("os.version", &changes.os_version);
    if !changes.os_features.is_empty() {
        value["platform"]["os.features"] = changes.os_features.clone().into();
    }
    for (name, text) in &changes.annotations {
        value["annotations"][name] = text.clone().into();
    }
    *entry = serde_json::from_value(value).map_err(wrong)?;
    Ok(())
}

/// Writes the index and names it.
fn write(
    store: &Store,
    list: &Reference,
    entries: &[Descriptor],
    annotations: &BTreeMap<String, String>,
) -> Result<Descriptor, ImagesError> {
    let target = put(store, &bytes_of(entries, annotations, &list.familiar())?)?;
    store.tag(list, &target)?;
    Ok(target)
}

fn put(store: &Store, (media_type, bytes): &(&str, Vec<u8>)) -> Result<Descriptor, ImagesError> {
    Ok(manifest::descriptor(media_type, &store.put_blob(bytes)?, bytes.len() as u64))
}

/// The media type and the document of an index. Of Docker's images alone it is a manifest list, else an OCI index.
fn bytes_of(
    entries: &[Descriptor],
    annotations: &BTreeMap<String, String>,
    name: &str,
) -> Result<(&'static str, Vec<u8>), ImagesError> {
    let docker = annotations.is_empty()
        && entries.iter().all(|entry| entry.media_type().as_ref() == DOCKER_MANIFEST && entry.annotations().is_none());
    let media_type = if docker && !entries.is_empty() { DOCKER_INDEX } else { OCI_INDEX };
    let mut value = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries });
    if !annotations.is_empty() {
        value["annotations"] = json!(annotations);
    }
    let wrong = |source| ImagesError::Entry { digest: name.to_string(), source };
    Ok((media_type, to_canonical(&value).map_err(wrong)?))
}
