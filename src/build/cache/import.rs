//! Records from elsewhere: of images that dockless built, of caches in registries and directories.
//!
//! All are read before the first step, while the bases are looked for: a manifest and a config each, and nothing of a
//! layer. A layer that is a step's result stays where it is until somebody reads it. A source that is missing, that has no
//! records or whose records cannot be read is named in one warning, and the build goes on without it.

use super::directory::{self, DirectoryError};
use super::document::{BYTES, Carrier, Document, DocumentError, KnownMount};
use super::envelope;
use super::makings::Makings;
use super::merge::Contents;
use super::mounts::Packed;
use super::options::{CacheSource, Caching};
use super::pieces::PieceError;
use crate::build::error::StepError;
use crate::build::key::{CacheKey, ParentId};
use crate::build::record::{self, StepRecord};
use crate::build::{Build, Lookup};
use crate::oci::manifest::digest_of;
use crate::oci::{Descriptor, DiffId, Digest, ImageConfig, Layer, Manifest, Platform, Reference};
use crate::progress::Event;
use crate::registry::RegistryError;
use crate::rootfs::{Glimpse, take_list, unlisted};
use crate::store::ImageError;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Media type of the config of a cache that BuildKit wrote.
const BUILDKIT_CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Field of the config of an image with BuildKit's own records.
pub const BUILDKIT_FIELD: &str = "moby.buildkit.cache.v0";
/// Glimpses that are put together at most.
const GLIMPSES: usize = 200;
/// Lists fetched at once.
const FETCHES: usize = 8;

/// Why a source of records is not used.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image in the store.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What a cache mount held.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// The records.
    #[error("its records are not used: {0}")]
    Document(#[from] DocumentError),
    /// An image that another tool built.
    #[error("it holds no records of dockless: it was built by another tool, or by an earlier version")]
    NoRecords,
    /// An image or a cache of BuildKit's.
    #[error(
        "its records are BuildKit's, which are digests of BuildKit's own build graph and say nothing of what dockless \
         builds; build it once with dockless"
    )]
    BuildKit,
}

/// Where the layers of a source are.
#[derive(Debug, Clone)]
enum Place {
    /// In a repository.
    Registry(Reference),
    /// In a directory.
    Directory(PathBuf),
    /// Where the store knows.
    Store,
}

/// One source that was read.
struct Source {
    label: String,
    place: Place,
    layers: HashMap<DiffId, Descriptor>,
    document: Document,
}

/// What is known from elsewhere.
#[derive(Default)]
pub struct Imports {
    sources: Vec<Source>,
    steps: HashMap<Digest, (usize, usize)>,
    selections: HashMap<Digest, String>,
    lists: HashMap<DiffId, (usize, Descriptor)>,
    /// Steps that saw something of a tree.
    sights: HashMap<ParentId, Vec<(usize, usize)>>,
    /// A layer of theirs could not be had: no record of theirs is taken any more.
    disowned: AtomicBool,
}

/// Reads all sources, at the same time; those that cannot be used are named in warnings.
pub fn import(caching: &Caching, platforms: &[Platform], lookup: &Lookup<'_>) -> Imports {
    let host = [Platform::host()];
    let platforms = if platforms.is_empty() { &host[..] } else { platforms };
    let wanted: Vec<(&CacheSource, &Platform)> = caching
        .from
        .iter()
        .flat_map(|source| {
            let count = if matches!(source, CacheSource::Directory(_)) { 1 } else { platforms.len() };
            platforms.iter().take(count).map(move |platform| (source, platform))
        })
        .collect();
    let found: Vec<Result<Source, ImportError>> = std::thread::scope(|scope| {
        let read = |(source, platform)| scope.spawn(move || read(source, platform, lookup));
        let threads: Vec<_> = wanted.iter().copied().map(read).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut imports = Imports::default();
    for (found, (source, _)) in found.into_iter().zip(&wanted) {
        match found {
            Ok(found) => imports.add(found),
            Err(ImportError::Registry(RegistryError::NotFound { .. })) if source.may_be_missing(caching) => {}
            Err(error) => {
                let text = format!("--cache-from {source}: {}", with_causes(&error));
                lookup.progress.emit(Event::Warning { text });
            }
        }
    }
    imports
}

/// An error with all its causes, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

fn read(source: &CacheSource, platform: &Platform, lookup: &Lookup<'_>) -> Result<Source, ImportError> {
    let label = source.to_string();
    match source {
        CacheSource::Directory(dir) => {
            let found = directory::read(dir)?;
            Source::new(label, Place::Directory(dir.clone()), &found.manifest, &found.config)
        }
        CacheSource::Registry(reference) => {
            // An image that was pulled, or built here, need not be asked for.
            if let Some(image) = lookup.store.image(reference, platform)? {
                let config = lookup.store.read_blob(&image.id, BYTES as u64).map_err(ImageError::from)?;
                return Source::new(label, Place::Store, &image.manifest, &config);
            }
            let resolved = match lookup.registry.resolve(reference, platform, lookup.progress) {
                // Its index names what is neither an image nor for any platform.
                Err(error @ (RegistryError::MediaType { .. } | RegistryError::Platform { .. })) => {
                    let (_, _, bytes) = lookup.registry.locate(reference, lookup.progress)?;
                    let buildkit = String::from_utf8_lossy(&bytes).contains(BUILDKIT_CACHE);
                    return Err(if buildkit { ImportError::BuildKit } else { error.into() });
                }
                resolved => resolved?,
            };
            let descriptor = resolved.manifest.config();
            if descriptor.media_type().to_string() == BUILDKIT_CACHE {
                return Err(ImportError::BuildKit);
            }
            if descriptor.size() > BYTES as u64 {
                return Err(DocumentError::TooLong(descriptor.size() as usize).into());
            }
            let mut config = Vec::new();
            lookup.registry.fetch_blob(&resolved.origin, descriptor, &mut config)?;
            lookup.registry.known_there(&resolved.origin, &resolved.manifest)?;
            Source::new(label, Place::Registry(resolved.origin), &resolved.manifest, &config)
        }
    }
}

/// The layers of an image by their DiffIDs.
pub fn layers_of(manifest: &Manifest, config: &[u8]) -> Result<HashMap<DiffId, Descriptor>, DocumentError> {
    let config: ImageConfig = serde_json::from_slice(config)?;
    Ok(config.rootfs.diff_ids.into_iter().zip(manifest.layers().iter().cloned()).collect())
}

impl Source {
    fn new(label: String, place: Place, manifest: &Manifest, config: &[u8]) -> Result<Source, ImportError> {
        let Some(document) = Document::decode(config)? else {
            let buildkit = String::from_utf8_lossy(config).contains(BUILDKIT_FIELD);
            return Err(if buildkit { ImportError::BuildKit } else { ImportError::NoRecords });
        };
        Ok(Source { label, place, layers: layers_of(manifest, config)?, document })
    }

    /// The record of a step, where its layer is one of the source's.
    fn record(&self, index: usize) -> Option<StepRecord> {
        let step = self.document.steps.get(index)?;
        let layer = match &step.layer {
            None => None,
            Some(known) => {
                let descriptor = self.layers.get(&known.diff_id)?;
                Some(Layer {
                    digest: digest_of(descriptor).ok()?,
                    size: descriptor.size(),
                    media_type: descriptor.media_type().to_string(),
                    diff_id: known.diff_id.clone(),
                    content: Some(known.content.clone()),
                })
            }
        };
        Some(StepRecord { created: step.created.clone(), layer, saw: step.saw.clone() })
    }
}

impl Imports {
    fn add(&mut self, source: Source) {
        let at = self.sources.len();
        for (index, step) in source.document.steps.iter().enumerate() {
            self.steps.entry(step.key.clone()).or_insert((at, index));
            if let Some(sight) = &step.saw {
                self.sights.entry(sight.of.clone()).or_default().push((at, index));
            }
        }
        for selection in &source.document.selections {
            self.selections.entry(selection.key.clone()).or_insert_with(|| selection.selected.clone());
        }
        for list in &source.document.lists {
            if let Some(holder) = source.layers.get(&list.holder) {
                self.lists.entry(list.of.clone()).or_insert_with(|| (at, holder.clone()));
            }
        }
        self.sources.push(source);
    }

    /// What is remembered elsewhere of a selection.
    pub fn selection(&self, key: &Digest) -> Option<String> {
        self.selections.get(key).filter(|_| !self.is_disowned()).cloned()
    }

    /// What steps saw of `tree`, and then what those saw that were made on top of them: the order in which a
    /// [`crate::rootfs::GlimpsedTree`] takes them.
    pub fn glimpses(&self, tree: &ParentId) -> Vec<&Glimpse> {
        let (mut found, mut trees, mut next) = (Vec::new(), vec![tree.clone()], 0);
        while let Some(tree) = trees.get(next).filter(|_| !self.is_disowned() && found.len() < GLIMPSES).cloned() {
            next += 1;
            for (source, step) in self.sights.get(&tree).into_iter().flatten() {
                let step = &self.sources[*source].document.steps[*step];
                found.extend(step.saw.as_ref().map(|sight| &sight.glimpse));
                let above = step.layer.as_ref().map(|layer| tree.push(&layer.content));
                trees.extend(above.filter(|above| !trees.contains(above)));
            }
        }
        found
    }

    /// What the steps of these sources were made of.
    pub fn makings(&self) -> impl Iterator<Item = &Makings> {
        let steps = self.sources.iter().filter(|_| !self.is_disowned()).flat_map(|source| &source.document.steps);
        steps.filter_map(|step| step.makings.as_ref())
    }

    fn is_disowned(&self) -> bool {
        self.disowned.load(Ordering::SeqCst)
    }

    /// The layer `digest` cannot be had: whether it is of one of these sources, which are not used any more then.
    pub fn disown(&self, digest: &Digest) -> bool {
        let theirs =
            |source: &Source| source.layers.values().any(|layer| layer.digest().to_string() == digest.to_string());
        let found = !self.is_disowned() && self.sources.iter().any(theirs);
        if found {
            self.disowned.store(true, Ordering::SeqCst);
        }
        found
    }

    /// The directory that has the layer `digest`.
    pub fn directory_of(&self, digest: &Digest) -> Option<PathBuf> {
        let has = |source: &&Source| source.layers.values().any(|d| d.digest().to_string() == digest.to_string());
        self.sources.iter().filter(has).find_map(|source| match &source.place {
            Place::Directory(dir) => Some(dir.clone()),
            Place::Registry(_) | Place::Store => None,
        })
    }

    /// What the cache at `place` holds, as far as it was read.
    pub fn contents_of(&self, place: &CacheSource) -> Option<Contents> {
        let label = place.to_string();
        let source = self.sources.iter().find(|source| source.label == label && !self.is_disowned())?;
        let cache = source.document.carrier == Carrier::Cache;
        cache.then(|| Contents { document: source.document.clone(), layers: source.layers.clone() })
    }

    /// What the cache at `place` has of the mount `key`.
    pub fn packed(&self, place: &CacheSource, key: &Digest) -> Option<Packed> {
        let (at, known) = self.mount(key)?;
        let source = &self.sources[at];
        if source.label != place.to_string() {
            return None;
        }
        let layer = |piece: &DiffId| Some((piece.clone(), source.layers.get(piece)?.clone()));
        let layers = known.pieces.iter().map(layer).collect::<Option<_>>()?;
        Some(Packed { known: KnownMount { used: None, ..known.clone() }, layers })
    }

    /// What a source is called.
    pub fn label(&self, source: usize) -> &str {
        &self.sources[source].label
    }

    /// What a cache mount held, piece by piece, and the source that says so.
    pub fn mount(&self, key: &Digest) -> Option<(usize, &KnownMount)> {
        let known = |source: &'_ Source| source.document.mounts.iter().position(|mount| mount.key == *key);
        let (at, index) = self.sources.iter().enumerate().find_map(|(at, source)| Some((at, known(source)?)))?;
        Some((at, &self.sources[at].document.mounts[index]))
    }

    /// The layer of a source.
    pub fn layer(&self, source: usize, diff_id: &DiffId) -> Option<&Descriptor> {
        self.sources[source].layers.get(diff_id)
    }
}

impl Build<'_> {
    /// The record of `key` from elsewhere, and from where.
    pub(in crate::build) fn imported(&self, key: &CacheKey) -> Result<Option<(StepRecord, String)>, StepError> {
        if self.imports.is_disowned() {
            return Ok(None);
        }
        let Some((at, index)) = self.imports.steps.get(key.digest()) else { return Ok(None) };
        let source = &self.imports.sources[*at];
        let Some(record) = source.record(*index) else { return Ok(None) };
        let store = &self.services.store;
        if let (Some(layer), Place::Registry(origin)) = (&record.layer, &source.place)
            && let Some(descriptor) = source.layers.get(&layer.diff_id)
        {
            let remembered = self.services.registry.remember(store, origin, descriptor);
            remembered.map_err(|error| StepError::CacheSource(Box::new(error)))?;
        }
        record::save(store, key, &record)?;
        Ok(Some((record, format!("from {}", source.label))))
    }

    /// A blob that holds one file, of a source.
    fn envelope(&self, source: usize, holder: &Descriptor) -> Result<Option<Vec<u8>>, ImportError> {
        if matches!(self.imports.sources[source].place, Place::Store) {
            return Ok(None);
        }
        Ok(envelope::unwrap(&self.envelope_bytes(source, holder)?))
    }

    /// The same, as it is.
    pub(in crate::build) fn envelope_bytes(&self, source: usize, holder: &Descriptor) -> Result<Vec<u8>, ImportError> {
        if holder.size() > envelope::MAX {
            return Err(DocumentError::TooLong(holder.size() as usize).into());
        }
        Ok(match &self.imports.sources[source].place {
            Place::Directory(dir) => {
                let digest = digest_of(holder).map_err(ImageError::from)?;
                directory::blob(dir, &digest, envelope::MAX)?
            }
            Place::Registry(origin) => {
                let mut bytes = Vec::new();
                self.services.registry.fetch_blob(origin, holder, &mut bytes)?;
                bytes
            }
            // A pulled image carries no files of a cache.
            Place::Store => return Err(ImportError::NoRecords),
        })
    }

    /// Fetches the lists of these layers' files that are known elsewhere. Whatever goes wrong, the layer itself has it too.
    pub(in crate::build) fn bring_lists(&self, layers: &[Layer]) -> Result<(), StepError> {
        if self.imports.lists.is_empty() || self.imports.is_disowned() {
            return Ok(());
        }
        let store = &self.services.store;
        let missing = unlisted(store, layers)?;
        let wanted: Vec<_> =
            missing.iter().filter_map(|layer| Some((layer, self.imports.lists.get(&layer.diff_id)?))).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((layer, (source, holder))) = wanted.get(next.fetch_add(1, Ordering::SeqCst)) {
                let taken = self.envelope(*source, holder).map(|list| match list {
                    Some(list) => take_list(store, &layer.diff_id, &list).unwrap_or(false),
                    None => false,
                });
                if !matches!(taken, Ok(true)) {
                    let text = format!("the cache's list of the files of layer {} is not used", layer.diff_id);
                    self.services.progress.emit(Event::Note { id: None, text });
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..FETCHES.min(wanted.len()) {
                scope.spawn(work);
            }
            work();
        });
        Ok(())
    }
}
