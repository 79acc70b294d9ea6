//! The whole cache of the local store as a directory, for another machine.
//!
//! It has the form of every cache in a directory, so `--cache-from type=local` reads what was exported here, and what
//! `--cache-to type=local` writes can be imported. What is exported are the records of steps with their layers and the
//! lists of their files; names and digests alone, no value of an argument. What cache mounts hold and the layers of bases
//! stay.
//!
//! An import takes nothing on trust that can be looked at: each blob has the digest that it is called by, and is the
//! compressed form of the tar whose DiffID is in the record. A step whose layer is not so is left out and named.

use super::directory::{self, DirectoryError};
use super::document::{Carrier, Document, DocumentError, ENTRIES, KnownList};
use super::export::{ExportError, descriptor, keep, list_name};
use super::import::layers_of;
use super::inline;
use super::merge::Contents;
use crate::build::Lookup;
use crate::build::record::{self, StepRecord};
use crate::oci::manifest::digest_of;
use crate::oci::{Layer, digest::DigestError};
use crate::rootfs::{SnapshotError, make_list};
use crate::store::{Store, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Why a directory cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum PortableError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Writing it.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Its records.
    #[error("its records cannot be used: {0}")]
    Document(#[from] DocumentError),
    /// An image without records.
    #[error("it holds no records of dockless")]
    NoRecords,
}

/// What was moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// Steps.
    pub steps: usize,
    /// Their layers.
    pub layers: usize,
    /// What was left out, and why, one line each.
    pub left_out: Vec<String>,
}

/// Why one layer is left out.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("the records name no such layer")]
    Unknown,
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Writes the cache of the store into the directory `dir`; what else was there of a cache is removed.
pub fn export(lookup: &Lookup<'_>, dir: &Path) -> Result<Moved, PortableError> {
    let mut contents = Contents { document: Document::new(Carrier::Cache), layers: HashMap::new() };
    let mut layers = BTreeMap::new();
    let all = record::all(lookup.store)?;
    let left_out = match all.len().saturating_sub(ENTRIES) {
        0 => Vec::new(),
        n => vec![format!("{n} steps: a cache holds {ENTRIES} at most")],
    };
    for (key, record) in all.into_iter().take(ENTRIES) {
        contents.document.steps.extend(inline::known(&key, &record, None));
        layers.extend(record.layer.map(|layer| (layer.diff_id.clone(), layer)));
    }
    for (diff_id, layer) in &layers {
        contents.layers.insert(diff_id.clone(), descriptor(layer));
        if let Some(list) = make_list(lookup.store, layer).map_err(ExportError::from)? {
            let (holder, blob) = keep(lookup, &list_name(diff_id), &list)?;
            contents.layers.insert(holder.clone(), blob);
            contents.document.lists.push(KnownList { of: diff_id.clone(), holder, used: None });
        }
    }
    let moved = Moved { steps: contents.document.steps.len(), layers: layers.len(), left_out };
    directory::write(dir, lookup, &contents)?;
    Ok(moved)
}

/// Brings the cache in the directory `dir` into the store.
pub fn import(store: &Store, dir: &Path) -> Result<Moved, PortableError> {
    let found = directory::read(dir)?;
    let document = Document::decode(&found.config)?.ok_or(PortableError::NoRecords)?;
    let layers = layers_of(&found.manifest, &found.config)?;
    let mut moved = Moved::default();
    let mut brought = BTreeMap::new();
    for step in &document.steps {
        let Some(known) = &step.layer else {
            let record = StepRecord { created: step.created.clone(), layer: None, saw: None };
            record::save_by(store, &step.key, &record)?;
            moved.steps += 1;
            continue;
        };
        let usable = brought.entry(known.diff_id.clone()).or_insert_with(|| {
            let blob = layers.get(&known.diff_id).ok_or(Unusable::Unknown)?;
            let layer = Layer {
                digest: digest_of(blob)?,
                size: blob.size(),
                media_type: blob.media_type().to_string(),
                diff_id: known.diff_id.clone(),
                content: None,
            };
            directory::bring(dir, store, &layer.digest)?;
            // Reads the layer, and so proves its DiffID; what is known of it already was proved then.
            make_list(store, &layer)?;
            Ok::<_, Unusable>(layer)
        });
        match usable {
            Ok(layer) => {
                let layer = Layer { content: Some(known.content.clone()), ..layer.clone() };
                let (created, saw) = (step.created.clone(), step.saw.clone());
                let record = StepRecord { created, layer: Some(layer), saw };
                record::save_by(store, &step.key, &record)?;
                moved.steps += 1;
            }
            Err(why) => moved.left_out.push(format!("the step {}: layer {}: {why}", step.key, known.diff_id)),
        }
    }
    moved.layers = brought.values().filter(|layer| layer.is_ok()).count();
    Ok(moved)
}
