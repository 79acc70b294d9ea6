//! Filling caches: layers on their way while the build goes on, the records of all of them when it is done.
//!
//! A cache is one image under one tag. Whoever writes it reads what is there, adds its own ([`super::merge`]) and puts the
//! result. So two that write at once could each lose the other's. Therefore all blobs go first; then a writer looks whether the
//! name still stands for what it added to, puts the manifest at once, and looks once more after a while ([`pause`]): if its
//! own is not there any more it merges again. A loss would need another writer that was held up between look and put for
//! longer than that.
//!
//! Nothing better can be had. The OCI distribution specification knows no condition for a PUT of a manifest, and a registry
//! that does not know `If-Match` ignores it, so a client cannot even learn whether it was minded. A tag for each writer
//! would need no condition, but each import would need a listing of tags, which has pages and which many tokens do not allow,
//! and somebody would have to clean up. The referrers API joins writers in those registries alone that have it; its fallback is a
//! tag with the same race.
//!
//! Whatever goes wrong is a warning: the image is built.

use super::directory::{self, DirectoryError};
use super::document::{Carrier, Document, DocumentError, FIELD, KnownList};
use super::envelope;
use super::import::{Imports, layers_of, with_causes};
use super::inline;
use super::merge::{Contents, Limits, holds, merge};
use super::mounts::Packed;
use super::options::{CacheSource, CacheTarget};
use super::pieces::PieceError;
use crate::build::Lookup;
use crate::build::stage::StageResult;
use crate::oci::json::to_canonical;
use crate::oci::manifest::{self, ImageFormat, digest_of};
use crate::oci::{Descriptor, DiffId, Digest, ImageConfig, Layer, Platform, Reference};
use crate::progress::Event;
use crate::registry::RegistryError;
use crate::rootfs::{SnapshotError, make_list};
use crate::store::StoreError;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long after its own write a writer looks whether another one undid it.
const SETTLE: Duration = Duration::from_millis(300);
/// Times that a writer merges again.
const TRIES: u32 = 50;

/// Why a cache could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer could not be listed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A cache mount could not be packed.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// A file could not be packed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Something that is no cache is there.
    #[error("{0} is an image, not a cache: it is left as it is")]
    NotACache(CacheSource),
    /// A cache of a later version is there.
    #[error("{0}; it is left as it is")]
    Newer(DocumentError),
    /// Others write it all the time.
    #[error("others write it all the time")]
    Busy,
}

/// What one cache is to be given.
#[derive(Debug, Clone)]
pub struct Gift {
    target: CacheTarget,
    contents: Contents,
    /// Stacks whose lists of files go with it.
    listed: Vec<Layer>,
}

/// What goes into each cache of `targets`: steps of the stages that the image is made of, or of all that were looked at.
pub fn gifts(
    targets: &[CacheTarget],
    results: &[Option<Arc<StageResult>>],
    image: &[&StageResult],
    mounts: &HashMap<Digest, Packed>,
    imports: &Imports,
) -> Vec<Gift> {
    let all: Vec<&StageResult> = results.iter().filter_map(Option::as_deref).collect();
    let gift = |target: &CacheTarget| {
        let stages = if target.all_stages { &all[..] } else { image };
        let mut contents = Contents { document: Document::new(Carrier::Cache), layers: HashMap::new() };
        let mut listed: BTreeMap<DiffId, Layer> = BTreeMap::new();
        for stage in stages {
            for made in &stage.steps {
                if let Some(step) = inline::known(&made.key, &made.record, made.makings.as_ref()) {
                    contents.document.steps.push(step);
                }
                if let Some(layer) = &made.record.layer {
                    contents.layers.insert(layer.diff_id.clone(), descriptor(layer));
                }
            }
            contents.document.selections.extend(stage.selections.iter().cloned());
            listed.extend(stage.layers.iter().map(|layer| (layer.diff_id.clone(), layer.clone())));
        }
        // Of all stages: that of the image seldom has any.
        let used: HashSet<&Digest> = all.iter().flat_map(|stage| &stage.mounts).collect();
        for key in used {
            let packed = mounts.get(key).cloned().or_else(|| imports.packed(&target.place, key));
            contents.layers.extend(packed.iter().flat_map(|packed| packed.layers.clone()));
            contents.document.mounts.extend(packed.map(|packed| packed.known));
        }
        let mut seen = HashSet::new();
        contents.document.steps.retain(|step| seen.insert(step.key.clone()));
        seen.clear();
        contents.document.selections.retain(|selection| seen.insert(selection.key.clone()));
        Gift { target: target.clone(), contents, listed: listed.into_values().collect() }
    };
    let limits = |target: &CacheTarget| Limits { now: now(), ttl: target.ttl, size: target.size };
    let wanted = |gift: &Gift| {
        !imports.contents_of(&gift.target.place).is_some_and(|old| {
            let lists: HashSet<&DiffId> = old.document.lists.iter().map(|list| &list.of).collect();
            holds(&old, &gift.contents.document, limits(&gift.target))
                && gift.listed.iter().all(|layer| lists.contains(&layer.diff_id))
        })
    };
    targets.iter().map(gift).filter(wanted).collect()
}

/// What names a layer in a manifest.
pub fn descriptor(layer: &Layer) -> Descriptor {
    manifest::descriptor(&layer.media_type, &layer.digest, layer.size)
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64)
}

/// Gives each cache what is for it; each that cannot be filled is named in a warning.
pub fn give(gifts: &[Gift], lookup: &Lookup<'_>) {
    for gift in gifts {
        if let Err(error) = give_one(gift, lookup) {
            let text = format!("--cache-to {}: {}", gift.target.place, with_causes(&error));
            lookup.progress.emit(Event::Warning { text });
        }
    }
}

fn give_one(gift: &Gift, lookup: &Lookup<'_>) -> Result<(), ExportError> {
    let mut new = gift.contents.clone();
    match &gift.target.place {
        CacheSource::Directory(dir) => {
            let old = match directory::read(dir) {
                Ok(found) => understood(&gift.target, &found.manifest, &found.config)?,
                Err(_) => None,
            };
            add_lists(&mut new, old.as_ref(), gift, lookup)?;
            let merged = merge(old, &new, gift.limits());
            directory::write(dir, lookup, &merged)
        }
        CacheSource::Registry(reference) => {
            for _ in 0..TRIES {
                let (old, digest) = current(&gift.target, reference, lookup)?;
                if old.as_ref().is_some_and(|old| holds(old, &new.document, gift.limits()))
                    && has_lists(old.as_ref(), gift)
                {
                    return Ok(());
                }
                add_lists(&mut new, old.as_ref(), gift, lookup)?;
                let merged = merge(old, &new, gift.limits());
                if put_merged(&merged, digest.as_ref(), reference, lookup)? {
                    return Ok(());
                }
            }
            Err(ExportError::Busy)
        }
    }
}

impl Gift {
    fn limits(&self) -> Limits {
        Limits { now: now(), ttl: self.target.ttl, size: self.target.size }
    }
}

/// Puts a cache in place of the one with the digest `over`; false where another writer was there meanwhile.
fn put_merged(
    merged: &Contents,
    over: Option<&Digest>,
    reference: &Reference,
    lookup: &Lookup<'_>,
) -> Result<bool, ExportError> {
    let Lookup { store, registry, progress, .. } = *lookup;
    let (what, config) = put_image(lookup, merged)?;
    let parts: Vec<Descriptor> = merged.layers.values().cloned().chain([config]).collect();
    registry.push_layers(store, &parts, reference, progress)?;
    // All but the name is there: between this look and the put is as little time as can be.
    let began = Instant::now();
    if registry.digest_at(reference)?.as_ref() != over || !registry.put_document(store, &what, reference)? {
        std::thread::sleep(pause(began));
        return Ok(false);
    }
    std::thread::sleep(pause(began));
    let there = registry.digest_at(reference)?;
    Ok(there.map(|there| there.to_string()) == Some(what.digest().to_string()))
}

/// Longer than another writer needs from its look to its put, which takes it about as long as it took here; not the same
/// for all.
fn pause(began: Instant) -> Duration {
    let jitter = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos() % 200);
    SETTLE.max(began.elapsed() * 8) + Duration::from_millis(jitter.into())
}

/// What is there now, and its digest; no contents where nothing is there, or nothing that is worth keeping.
fn current(
    target: &CacheTarget,
    reference: &Reference,
    lookup: &Lookup<'_>,
) -> Result<(Option<Contents>, Option<Digest>), ExportError> {
    let resolved = match lookup.registry.resolve(reference, &Platform::host(), lookup.progress) {
        Ok(resolved) => resolved,
        Err(RegistryError::NotFound { .. }) => return Ok((None, None)),
        // BuildKit's cache, or what nobody can read: it makes room.
        Err(RegistryError::MediaType { .. } | RegistryError::Manifest { .. }) => {
            return Ok((None, lookup.registry.digest_at(reference)?));
        }
        Err(RegistryError::Platform { .. }) => return Err(ExportError::NotACache(target.place.clone())),
        Err(error) => return Err(error.into()),
    };
    let mut config = Vec::new();
    lookup.registry.fetch_blob(&resolved.origin, resolved.manifest.config(), &mut config)?;
    lookup.registry.known_there(reference, &resolved.manifest)?;
    Ok((understood(target, &resolved.manifest, &config)?, Some(resolved.digest)))
}

/// The contents of a cache that was read; `None` for a damaged one.
fn understood(
    target: &CacheTarget,
    manifest: &manifest::Manifest,
    config: &[u8],
) -> Result<Option<Contents>, ExportError> {
    let not_a_cache = || ExportError::NotACache(target.place.clone());
    match (Document::decode(config), layers_of(manifest, config)) {
        (Ok(Some(document)), Ok(layers)) if document.carrier == Carrier::Cache => {
            Ok(Some(Contents { document, layers }))
        }
        (Ok(None), _) if manifest.config().media_type().to_string().contains("buildkit") => Ok(None),
        (Ok(_), _) => Err(not_a_cache()),
        (Err(error @ DocumentError::Newer(_)), _) => Err(ExportError::Newer(error)),
        (Err(_), _) => Ok(None),
    }
}

fn has_lists(old: Option<&Contents>, gift: &Gift) -> bool {
    let lists: HashSet<&DiffId> = old.iter().flat_map(|old| &old.document.lists).map(|list| &list.of).collect();
    gift.listed.iter().all(|layer| lists.contains(&layer.diff_id))
}

/// Adds the lists of layers' files that can be had here; of those that the cache has it is noted that they are of use.
fn add_lists(new: &mut Contents, old: Option<&Contents>, gift: &Gift, lookup: &Lookup<'_>) -> Result<(), ExportError> {
    let known: HashMap<&DiffId, &KnownList> =
        old.iter().flat_map(|old| &old.document.lists).map(|list| (&list.of, list)).collect();
    new.document.lists.clear();
    for layer in &gift.listed {
        if let Some(list) = known.get(&layer.diff_id) {
            new.document.lists.push(KnownList { used: None, ..(*list).clone() });
            continue;
        }
        let Some(list) = make_list(lookup.store, layer)? else { continue };
        let (holder, descriptor) = keep(lookup, &list_name(&layer.diff_id), &list)?;
        new.layers.insert(holder.clone(), descriptor);
        new.document.lists.push(KnownList { of: layer.diff_id.clone(), holder, used: None });
    }
    Ok(())
}

/// What the list of a layer's files is called in its envelope.
pub fn list_name(diff_id: &DiffId) -> String {
    format!("dockless/layer-files/{}", diff_id.digest().hex())
}

/// Puts a file as a layer of its own into the store.
pub fn keep(lookup: &Lookup<'_>, name: &str, bytes: &[u8]) -> Result<(DiffId, Descriptor), ExportError> {
    let archive = envelope::wrap(name, bytes)?;
    let digest = lookup.store.put_blob(&archive)?;
    let descriptor = manifest::descriptor(manifest::OCI_LAYER, &digest, archive.len() as u64);
    Ok((DiffId::new(digest), descriptor))
}

/// The config and manifest of a cache.
pub fn image_of(contents: &Contents) -> (Vec<u8>, Vec<u8>, Digest) {
    let layers: BTreeMap<&DiffId, &Descriptor> = contents.layers.iter().collect();
    let host = Platform::host();
    let mut config = ImageConfig { architecture: host.architecture, os: host.os, ..ImageConfig::default() };
    config.rootfs.diff_ids = layers.keys().map(|diff_id| (*diff_id).clone()).collect();
    config.other.insert(FIELD.to_string(), contents.document.encode());
    let config = to_canonical(&config).unwrap_or_default();
    let digest = Digest::sha256(&config);
    let format = ImageFormat::Oci;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": format.manifest(),
        "config": manifest::descriptor(format.config(), &digest, config.len() as u64),
        "layers": layers.values().collect::<Vec<_>>(),
    });
    (config, to_canonical(&manifest).unwrap_or_default(), digest)
}

/// Puts the image that a cache is into the store.
fn put_image(lookup: &Lookup<'_>, contents: &Contents) -> Result<(Descriptor, Descriptor), ExportError> {
    let (config, manifest, config_digest) = image_of(contents);
    lookup.store.put_blob(&config)?;
    let digest = lookup.store.put_blob(&manifest)?;
    let config = manifest::descriptor(ImageFormat::Oci.config(), &config_digest, config.len() as u64);
    Ok((manifest::descriptor(ImageFormat::Oci.manifest(), &digest, manifest.len() as u64), config))
}

/// Digests of the blobs of a cache.
pub fn blobs(contents: &Contents) -> Vec<Digest> {
    contents.layers.values().filter_map(|layer| digest_of(layer).ok()).collect()
}
