//! `dockless images`: what the local store holds under a name.

use super::Outcome;
use crate::images::{self, Listed};
use crate::store::Store;
use crate::ui;
use clap::Args;
use std::path::Path;

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

impl ImagesArgs {
    /// What to print about the store at `state`, and a warning for each image that cannot be read. A store that is not
    /// there yet is empty, and is not made.
    pub fn text(&self, state: &Path) -> Outcome<(String, Vec<String>)> {
        let listed = if state.exists() { images::list(&Store::open(state)?)? } else { Vec::new() };
        let head = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"].map(String::from).to_vec();
        let (mut rows, mut ids, mut warnings) = (vec![head], Vec::new(), Vec::new());
        for Listed { reference, image, .. } in listed {
            let image = match image {
                Ok(image) => image,
                Err(error) => {
                    warnings.push(format!("{}: {error}", reference.familiar()));
                    continue;
                }
            };
            let id = image.id.to_string();
            let id = if self.no_trunc { id } else { image.id.hex().chars().take(12).collect() };
            ids.push(id.clone());
            let tag = reference.tag().unwrap_or("<none>").to_string();
            let size = ui::bytes(image.size());
            rows.push(vec![reference.familiar_repository(), tag, id, image.config.created.unwrap_or_default(), size]);
        }
        ids.dedup();
        let text = if self.quiet { ids.iter().map(|id| format!("{id}\n")).collect() } else { ui::table(&rows) };
        Ok((text, warnings))
    }
}
