//! The empty image: what `FROM scratch` means, for who needs an image all the same.

use super::{ImagesError, remember};
use crate::oci::json::to_canonical;
use crate::oci::manifest::{OCI_CONFIG, OCI_MANIFEST, descriptor};
use crate::oci::{Digest, Platform};
use crate::store::Store;
use serde_json::json;

/// Writes an image without layers into the store, and gives its ID. It has no name.
pub fn scratch(store: &Store, platform: &Platform) -> Result<Digest, ImagesError> {
    let mut config = json!(platform);
    config["config"] = json!({});
    config["rootfs"] = json!({ "type": "layers", "diff_ids": [] });
    // Strings and lists: always JSON.
    let config = to_canonical(&config).unwrap_or_default();
    let id = store.put_blob(&config)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": descriptor(OCI_CONFIG, &id, config.len() as u64),
    });
    let manifest = to_canonical(&manifest).unwrap_or_default();
    let digest = store.put_blob(&manifest)?;
    remember(store, &id, &descriptor(OCI_MANIFEST, &digest, manifest.len() as u64))?;
    Ok(id)
}
