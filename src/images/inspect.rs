//! What an image is, in Docker's words.

use super::{ImagesError, find};
use crate::oci::manifest::digest_of;
use crate::oci::{Descriptor, Digest, ImageConfig, Manifest, Platform, Reference};
use crate::progress::Progress;
use crate::registry::RegistryClient;
use crate::store::{Image, Store};
use serde_json::{Value, json};

/// Describes the image of the store that `text` names, for `platform`.
pub fn inspect(store: &Store, text: &str, platform: &Platform) -> Result<Value, ImagesError> {
    let target = find(store, text)?.target;
    let image = Image::peek(store, &target, platform)?;
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    for (name, other) in store.names()? {
        if other.digest() != target.digest() {
            continue;
        }
        let digest = format!("{}@{}", name.familiar_repository(), target.digest());
        if name.tag().is_some() {
            tags.push(name.familiar());
        }
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    Ok(describe(&Parts {
        tags,
        digests,
        target: &target,
        id: &image.id,
        manifest: &image.manifest,
        config: &image.config,
    }))
}

/// Describes the image that a registry has under `reference`; nothing is kept.
pub fn inspect_remote(
    registry: &RegistryClient,
    reference: &Reference,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<Value, ImagesError> {
    let resolved = registry.resolve(reference, platform, progress)?;
    let config = registry.fetch_config(&resolved)?;
    let target = resolved.index.as_ref().map_or(&resolved.descriptor, |(index, _)| index);
    let id = digest_of(resolved.manifest.config())?;
    Ok(describe(&Parts {
        tags: if reference.tag().is_some() { vec![reference.familiar()] } else { vec![] },
        digests: vec![format!("{}@{}", reference.familiar_repository(), target.digest())],
        target,
        id: &id,
        manifest: &resolved.manifest,
        config: &config,
    }))
}

struct Parts<'a> {
    tags: Vec<String>,
    digests: Vec<String>,
    target: &'a Descriptor,
    id: &'a Digest,
    manifest: &'a Manifest,
    config: &'a ImageConfig,
}

/// The object that `docker image inspect` prints, without what only a daemon knows.
fn describe(parts: &Parts<'_>) -> Value {
    let Parts { config, manifest, .. } = parts;
    let layers: u64 = manifest.layers().iter().map(Descriptor::size).sum();
    let comment = config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default();
    let mut value = json!({
        "Id": parts.id.to_string(),
        "RepoTags": parts.tags,
        "RepoDigests": parts.digests,
        "Parent": "",
        "Comment": comment,
        "Created": config.created.clone().unwrap_or_default(),
        "Author": config.author.clone().unwrap_or_default(),
        "Config": config.config,
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": layers + manifest.config().size(),
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "Descriptor": parts.target,
    });
    if let Some(variant) = &config.variant {
        value["Variant"] = variant.clone().into();
    }
    if let Some(version) = &config.os_version {
        value["OsVersion"] = version.clone().into();
    }
    value
}
