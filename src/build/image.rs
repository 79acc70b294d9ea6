//! The image that stages end as: configs and manifests, and an index where there are several platforms, written to the
//! store.

use super::cache::inline;
use super::options::{AnnotatedPlace, Annotation, BuildOptions};
use super::stage::StageResult;
use crate::oci::json::to_canonical;
use crate::oci::manifest::{self, ImageFormat};
use crate::oci::{Descriptor, Digest, Layer, Platform};
use crate::store::{Store, StoreError};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Build argument that makes an index of one image too.
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// A built image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Descriptor of its manifest, or of its index.
    pub descriptor: Descriptor,
    /// Digest of its config, the image's ID; of the index where there is one.
    pub id: Digest,
    /// The image of each platform, in the order asked for.
    pub platforms: Vec<PlatformImage>,
}

/// The image of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformImage {
    /// Its platform.
    pub platform: Platform,
    /// Descriptor of its manifest.
    pub manifest: Descriptor,
    /// Digest of its config.
    pub config: Digest,
}

impl BuiltImage {
    /// Whether it is an index.
    pub fn is_index(&self) -> bool {
        manifest::is_index(self.descriptor.media_type().as_ref())
    }
}

/// Writes the image of each of `stages`, and an index of them where there are several, or where the build argument says
/// so; the layers are in the store or stay where the base has them.
pub fn write_all(store: &Store, stages: &[&StageResult], options: &BuildOptions) -> Result<BuiltImage, StoreError> {
    let written = stages.iter().map(|stage| write(store, stage, options));
    let platforms = written.collect::<Result<Vec<_>, _>>()?;
    let given = options.build_args.iter().rev().find(|(name, _)| name == MULTI_PLATFORM);
    let wanted = given.and_then(|(_, value)| value.as_deref()).and_then(crate::dockerfile::value::boolean);
    if let ([only], false) = (platforms.as_slice(), wanted.unwrap_or(false)) {
        return Ok(BuiltImage { descriptor: only.manifest.clone(), id: only.config.clone(), platforms });
    }
    let entries: Vec<Value> = platforms.iter().map(|image| entry(image, options)).collect();
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": options.format.index(),
        "manifests": entries,
    });
    annotate(&mut document, options, AnnotatedPlace::Index, None);
    let (descriptor, id) = put(store, options.format.index(), &document)?;
    Ok(BuiltImage { descriptor, id, platforms })
}

/// An image's entry in the index.
fn entry(image: &PlatformImage, options: &BuildOptions) -> Value {
    let mut entry = json!(image.manifest);
    entry["platform"] = json!(image.platform);
    annotate(&mut entry, options, AnnotatedPlace::ManifestDescriptor, Some(&image.platform));
    entry
}

/// Writes the config and manifest of `stage`.
fn write(store: &Store, stage: &StageResult, options: &BuildOptions) -> Result<PlatformImage, StoreError> {
    let (format, platform) = (options.format, stage.config.platform());
    let (config, id) = put(store, format.config(), &inline::with_records(stage))?;
    let layers: Vec<_> = stage.layers.iter().map(|layer| layer_descriptor(layer, format)).collect();
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": format.manifest(),
        "config": config,
        "layers": layers,
    });
    annotate(&mut document, options, AnnotatedPlace::Manifest, Some(&platform));
    let (manifest, _) = put(store, format.manifest(), &document)?;
    Ok(PlatformImage { platform, manifest, config: id })
}

/// Puts the annotations of `place` on its document; the last of each name stands.
fn annotate(document: &mut Value, options: &BuildOptions, place: AnnotatedPlace, platform: Option<&Platform>) {
    let concerns = |one: &&Annotation| {
        let fits = one.platform.as_ref().is_none_or(|wanted| platform.is_some_and(|own| wanted.accepts(own)));
        one.place == place && fits
    };
    let wanted = options.annotations.iter().filter(concerns);
    let all: BTreeMap<&str, &str> = wanted.map(|one| (one.name.as_str(), one.value.as_str())).collect();
    if !all.is_empty() {
        document["annotations"] = json!(all);
    }
}

fn put(store: &Store, media_type: &str, document: &impl serde::Serialize) -> Result<(Descriptor, Digest), StoreError> {
    // Configs, manifests and indexes are made of strings, numbers and string-keyed maps: always JSON.
    let bytes = to_canonical(document).unwrap_or_default();
    let digest = store.put_blob(&bytes)?;
    Ok((manifest::descriptor(media_type, &digest, bytes.len() as u64), digest))
}

fn layer_descriptor(layer: &Layer, format: ImageFormat) -> Descriptor {
    let media_type = match (format, layer.media_type.as_str()) {
        (ImageFormat::Docker, manifest::OCI_LAYER_GZIP) => manifest::DOCKER_LAYER_GZIP,
        (ImageFormat::Oci, manifest::DOCKER_LAYER_GZIP) => manifest::OCI_LAYER_GZIP,
        (_, other) => other,
    };
    manifest::descriptor(media_type, &layer.digest, layer.size)
}
