//! Cache mounts that outlive the machine: what steps left in them goes into caches in [`super::pieces`], and is what they
//! begin with where there is nothing yet.
//!
//! A mount goes out when a step that used it has ended, while the build goes on; once more where a later step used it
//! too, and then only the pieces that differ. One that another build holds for itself, or that is larger than may be, stays.

use super::document::KnownMount;
use super::export::{ExportError, keep};
use super::import::{ImportError, with_causes};
use super::options::CacheTarget;
use super::pieces::{self, PieceError};
use crate::build::error::StepError;
use crate::build::{Build, Lookup};
use crate::oci::{Descriptor, DiffId, Digest};
use crate::progress::{Event, StepId};
use crate::store::TempDir;
use fs_err as fs;
use std::collections::HashMap;
use std::path::Path;

/// A mount's pieces and where they are.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The document's entry.
    pub known: KnownMount,
    /// Descriptors of its pieces.
    pub layers: HashMap<DiffId, Descriptor>,
}

/// Bytes that a mount may have to travel: half of what the smallest of the caches may.
pub fn limit(targets: &[CacheTarget]) -> u64 {
    targets.iter().map(|target| target.size / 2).min().unwrap_or(0)
}

/// Packs the mount `key` into the store's blobs; `sent` is called with each. `None` where it stays, with the reason said.
pub fn pack(
    lookup: &Lookup<'_>,
    key: &Digest,
    limit: u64,
    mut sent: impl FnMut(&Descriptor) -> Result<(), ExportError>,
) -> Result<Option<Packed>, ExportError> {
    let stays = |why: &str| {
        let text = format!("a cache mount is not exported: {why}");
        lookup.progress.emit(Event::Note { id: None, text });
    };
    let Some(dir) = lookup.store.idle_cache_dir(key)? else {
        stays("another step holds it");
        return Ok(None);
    };
    let mut packed =
        Packed { known: KnownMount { key: key.clone(), pieces: Vec::new(), used: None }, layers: HashMap::new() };
    let whole = pieces::pack(dir.path(), limit, |piece| {
        let (diff_id, descriptor) = keep(lookup, pieces::NAME, &piece)?;
        sent(&descriptor)?;
        packed.known.pieces.push(diff_id.clone());
        packed.layers.insert(diff_id, descriptor);
        Ok(())
    })?;
    if !whole {
        stays(&format!("it has more than {limit} bytes, half of what the cache may have (size=)"));
    }
    Ok(whole.then_some(packed))
}

impl Build<'_> {
    /// Fills `dir` with what the mount `key` held when it was exported; false where nothing is known of it, or nothing that
    /// can be had.
    pub(in crate::build) fn restore_mount(&self, key: &Digest, dir: &Path, id: StepId) -> Result<bool, StepError> {
        let Some((source, known)) = self.imports.mount(key) else { return Ok(false) };
        let temp = self.services.store.temp_dir()?;
        match self.try_restore(source, known, &temp) {
            Ok(()) => {}
            Err(error) => {
                let text = format!("what a cache mount held is not used: {}", with_causes(&error));
                self.services.progress.emit(Event::Warning { text });
                return Ok(false);
            }
        }
        for entry in fs::read_dir(temp.path())? {
            let entry = entry?;
            fs::rename(entry.path(), dir.join(entry.file_name()))?;
        }
        let text = format!("a cache mount begins with what {} has of it", self.imports.label(source));
        self.services.progress.emit(Event::Note { id: Some(id), text });
        Ok(true)
    }

    fn try_restore(&self, source: usize, known: &KnownMount, temp: &TempDir) -> Result<(), ImportError> {
        let layers = known.pieces.iter().map(|piece| self.imports.layer(source, piece));
        let layers: Vec<&Descriptor> = layers.collect::<Option<_>>().ok_or(PieceError::Damaged)?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(2);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // So many at once, in order; ends when nobody takes them any more.
                for some in layers.chunks(8) {
                    let fetched: Vec<_> = std::thread::scope(|scope| {
                        let fetch = |layer: &&Descriptor| {
                            let layer = (*layer).clone();
                            scope.spawn(move || self.envelope_bytes(source, &layer))
                        };
                        let threads: Vec<_> = some.iter().map(fetch).collect();
                        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
                    });
                    for piece in fetched {
                        if sender.send(piece).is_err() {
                            return;
                        }
                    }
                }
            });
            pieces::unpack_all(temp.path(), receiver.into_iter())
        })
    }
}
