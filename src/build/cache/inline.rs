//! What an image carries with it.

use super::document::{Carrier, Document, FIELD, KnownLayer, KnownStep};
use super::import::BUILDKIT_FIELD;
use super::makings::Makings;
use crate::build::record::StepRecord;
use crate::build::stage::{MadeStep, StageResult};
use crate::oci::{Digest, ImageConfig};

/// The document's entry of a step; `None` for one whose layer another tool made.
pub fn known(key: &Digest, record: &StepRecord, makings: Option<&Makings>) -> Option<KnownStep> {
    let layer = match &record.layer {
        None => None,
        Some(layer) => Some(KnownLayer { diff_id: layer.diff_id.clone(), content: layer.content.clone()? }),
    };
    let (makings, saw) = (makings.cloned(), record.saw.clone());
    Some(KnownStep { key: key.clone(), created: record.created.clone(), layer, used: None, makings, saw })
}

/// The config of a stage's image with the records that go with it. What the base carried is not this image's.
pub fn with_records(stage: &StageResult) -> ImageConfig {
    let mut config = stage.config.clone();
    config.other.remove(BUILDKIT_FIELD);
    let mut document = Document::new(Carrier::Image);
    let steady = stage.steps.iter().filter(|step| !step.wanders);
    document.steps =
        steady.filter_map(|MadeStep { key, record, makings, .. }| known(key, record, makings.as_ref())).collect();
    document.selections.clone_from(&stage.selections);
    // What came out of other stages has no part in what the image is.
    document.selections.iter_mut().for_each(|selection| selection.steps.clear());
    match document.steps.is_empty() {
        false => config.other.insert(FIELD.to_string(), document.encode()),
        true => config.other.remove(FIELD),
    };
    config
}
