//! `dockless images`: what the local store holds under a name.

use super::Outcome;
use crate::oci::manifest::{digest_of, is_index};
use crate::oci::{Descriptor, Digest, ImageConfig, Manifest};
use crate::store::Store;
use crate::ui::{self, Diagnostic, Kind};
use clap::Args;
use std::path::Path;

/// A manifest or config is a document of this size at most, as registries have it.
const DOCUMENT: u64 = 4 << 20;

/// List the images of the local store
#[derive(Args, Debug)]
pub struct ImagesArgs {
    /// Print only the IDs
    #[arg(short, long)]
    quiet: bool,
    /// Print the whole IDs
    #[arg(long)]
    no_trunc: bool,
}

/// What is shown of an image.
struct Summary {
    /// Digest of its config.
    id: Digest,
    created: String,
    /// Bytes of its layers as stored.
    size: u64,
}

impl ImagesArgs {
    /// What to print about the store at `state`; a store that is not there yet is empty, and is not made.
    pub fn text(&self, state: &Path) -> Outcome<String> {
        let head = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"].map(String::from).to_vec();
        let (mut rows, mut ids) = (vec![head], Vec::new());
        if state.exists() {
            let store = Store::open(state)?;
            for (reference, descriptor) in store.names()? {
                let (id, created, size) = match summary(&store, &descriptor)? {
                    Some(summary) => (self.id(&summary.id), summary.created, ui::bytes(summary.size)),
                    None => (self.id(&digest(&descriptor)?), String::new(), String::new()),
                };
                ids.push(id.clone());
                let tag = reference.tag().unwrap_or("<none>").to_string();
                rows.push(vec![reference.familiar_repository(), tag, id, created, size]);
            }
        }
        if !self.quiet {
            return Ok(ui::table(&rows));
        }
        ids.dedup();
        Ok(ids.iter().map(|id| format!("{id}\n")).collect())
    }

    fn id(&self, digest: &Digest) -> String {
        if self.no_trunc { digest.to_string() } else { digest.hex().chars().take(12).collect() }
    }
}

/// Nothing for an index, which is several images.
fn summary(store: &Store, descriptor: &Descriptor) -> Outcome<Option<Summary>> {
    if is_index(descriptor.media_type().as_ref()) {
        return Ok(None);
    }
    let manifest: Manifest = document(store, &digest(descriptor)?)?;
    let id = digest(manifest.config())?;
    let config: ImageConfig = document(store, &id)?;
    let size = manifest.layers().iter().map(Descriptor::size).sum();
    Ok(Some(Summary { id, created: config.created.unwrap_or_default(), size }))
}

fn document<T: serde::de::DeserializeOwned>(store: &Store, digest: &Digest) -> Outcome<T> {
    let bytes = store.read_blob(digest, DOCUMENT)?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(digest, &error))
}

fn digest(descriptor: &Descriptor) -> Outcome<Digest> {
    digest_of(descriptor).map_err(|error| damaged(&descriptor.digest(), &error))
}

fn damaged(what: &dyn std::fmt::Display, error: &(dyn std::error::Error + 'static)) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::new(Kind::Environment, format!("the store's document {what} cannot be read"));
    diagnostic.causes.push(error.to_string());
    Box::new(diagnostic)
}
