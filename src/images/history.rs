//! What `docker history` tells: the instructions that made an image, newest first, with the bytes that each added.

use super::{ImagesError, find};
use crate::oci::{Digest, Platform};
use crate::store::{Image, Store};

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The image's ID at the newest one; the others are known by none.
    pub id: Option<Digest>,
    /// RFC 3339, empty where it is not known.
    pub created: String,
    /// The instruction, in its builder's words.
    pub created_by: String,
    /// Bytes of its layer as stored.
    pub size: u64,
    /// What the builder remarked.
    pub comment: String,
}

/// The instructions of the image that `text` names, for `platform`, newest first.
pub fn history(store: &Store, text: &str, platform: &Platform) -> Result<Vec<Step>, ImagesError> {
    let image = Image::peek(store, &find(store, text)?.target, platform)?;
    let mut layers = image.layers.iter();
    let mut steps: Vec<Step> = Vec::new();
    for entry in &image.config.history {
        let size = if entry.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.size) };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        steps.push(Step {
            id: None,
            created: text(&entry.created),
            created_by: text(&entry.created_by),
            size,
            comment: text(&entry.comment),
        });
    }
    // Layers that no instruction tells of.
    steps.extend(layers.map(|layer| Step {
        id: None,
        created: String::new(),
        created_by: String::new(),
        size: layer.size,
        comment: String::new(),
    }));
    steps.reverse();
    if let Some(newest) = steps.first_mut() {
        newest.id = Some(image.id);
    }
    Ok(steps)
}
