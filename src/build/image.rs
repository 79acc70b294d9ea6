//! The image a stage ends as: its config and manifest, written to the store.

use super::stage::StageResult;
use crate::oci::json::to_canonical;
use crate::oci::manifest::{self, ImageFormat};
use crate::oci::{Descriptor, Digest, Layer};
use crate::store::{Store, StoreError};
use serde_json::json;
use std::collections::BTreeMap;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Descriptor of its manifest.
    pub manifest: Descriptor,
    /// Digest of its config: the image's ID.
    pub id: Digest,
    /// Bytes of the manifest, as digested.
    pub bytes: Vec<u8>,
}

/// Writes the config and manifest of `stage`, with these annotations (the last of each name); the layers are in the store or stay where the base has them.
pub fn write(
    store: &Store,
    stage: &StageResult,
    format: ImageFormat,
    annotations: &[(String, String)],
) -> Result<BuiltImage, StoreError> {
    // Configs and manifests are made of strings, numbers and string-keyed maps: always JSON.
    let config = to_canonical(&stage.config).unwrap_or_default();
    let id = store.put_blob(&config)?;
    let layers: Vec<_> = stage.layers.iter().map(|layer| layer_descriptor(layer, format)).collect();
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": format.manifest(),
        "config": manifest::descriptor(format.config(), &id, config.len() as u64),
        "layers": layers,
    });
    if !annotations.is_empty() {
        document["annotations"] = annotations.iter().cloned().collect::<BTreeMap<_, _>>().into_iter().collect();
    }
    let bytes = to_canonical(&document).unwrap_or_default();
    let digest = store.put_blob(&bytes)?;
    let manifest = manifest::descriptor(format.manifest(), &digest, bytes.len() as u64);
    Ok(BuiltImage { manifest, id, bytes })
}

fn layer_descriptor(layer: &Layer, format: ImageFormat) -> Descriptor {
    let media_type = match (format, layer.media_type.as_str()) {
        (ImageFormat::Docker, manifest::OCI_LAYER_GZIP) => manifest::DOCKER_LAYER_GZIP,
        (ImageFormat::Oci, manifest::DOCKER_LAYER_GZIP) => manifest::OCI_LAYER_GZIP,
        (_, other) => other,
    };
    manifest::descriptor(media_type, &layer.digest, layer.size)
}
