//! What an image carries with it.

use super::document::{Carrier, Document, FIELD, KnownLayer, KnownStep};
use super::import::BUILDKIT_FIELD;
use crate::build::record::StepRecord;
use crate::build::stage::{MadeStep, StageResult};
use crate::oci::{Digest, ImageConfig};

/// The document's entry of a step; `None` for one whose layer another tool made.
pub fn known(key: &Digest, record: &StepRecord) -> Option<KnownStep> {
    let layer = match &record.layer {
        None => None,
        Some(layer) => Some(KnownLayer { diff_id: layer.diff_id.clone(), content: layer.content.clone()? }),
    };
    Some(KnownStep { key: key.clone(), created: record.created.clone(), layer, used: None })
}

/// The config of a stage's image with the records that go with it. What the base carried is not this image's.
pub fn with_records(stage: &StageResult) -> ImageConfig {
    let mut config = stage.config.clone();
    config.other.remove(BUILDKIT_FIELD);
    let mut document = Document::new(Carrier::Image);
    let steady = stage.steps.iter().filter(|step| !step.wanders);
    document.steps = steady.filter_map(|MadeStep { key, record, .. }| known(key, record)).collect();
    document.selections.clone_from(&stage.selections);
    // What came out of other stages has no part in what the image is.
    document.selections.iter_mut().for_each(|selection| selection.steps.clear());
    // Digests, times and numbers: always JSON.
    match serde_json::to_value(&document) {
        Ok(value) if !document.steps.is_empty() => config.other.insert(FIELD.to_string(), value),
        _ => config.other.remove(FIELD),
    };
    config
}
