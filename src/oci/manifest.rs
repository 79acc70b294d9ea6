//! Manifests, indexes and descriptors: `oci-spec`'s types, with the conversions to ours.
//!
//! Spec: OCI image-spec manifest.md, image-index.md, descriptor.md. Docker's schema 2 has the same fields under other media
//! types, so one set of types serves both; [`ImageFormat`] says which media types are written.

use super::digest::Digest;
use super::platform::Platform;
use std::str::FromStr;

pub use oci_spec::image::{Descriptor, DescriptorBuilder, ImageIndex as Index, ImageManifest as Manifest, MediaType};

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, uncompressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Which media types an image is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// OCI's.
    #[default]
    Oci,
    /// Docker's schema 2.
    Docker,
}

impl ImageFormat {
    /// Media type of a manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            ImageFormat::Oci => OCI_MANIFEST,
            ImageFormat::Docker => DOCKER_MANIFEST,
        }
    }

    /// Media type of an index.
    pub fn index(self) -> &'static str {
        match self {
            ImageFormat::Oci => OCI_INDEX,
            ImageFormat::Docker => DOCKER_INDEX,
        }
    }

    /// Media type of a config.
    pub fn config(self) -> &'static str {
        match self {
            ImageFormat::Oci => OCI_CONFIG,
            ImageFormat::Docker => DOCKER_CONFIG,
        }
    }

    /// Media type of a gzip layer.
    pub fn layer_gzip(self) -> &'static str {
        match self {
            ImageFormat::Oci => OCI_LAYER_GZIP,
            ImageFormat::Docker => DOCKER_LAYER_GZIP,
        }
    }
}

/// A descriptor of `size` bytes with this media type and digest.
pub fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Descriptor {
    // A `Digest` of ours always is of the form `oci-spec` reads: registered algorithm, right length, lower-case hex.
    let digest = oci_spec::image::Digest::from_str(&digest.to_string()).expect("a digest is a digest");
    Descriptor::new(MediaType::from(media_type), size, digest)
}

/// A descriptor's digest, as our type. Fails for algorithms that we do not know.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest, super::digest::DigestError> {
    descriptor.digest().to_string().parse()
}

/// The platform a descriptor in an index names, if it does.
pub fn platform_of(descriptor: &Descriptor) -> Option<Platform> {
    descriptor.platform().as_ref().map(|p| Platform {
        os: p.os().to_string(),
        architecture: p.architecture().to_string(),
        variant: p.variant().clone(),
        os_version: p.os_version().clone(),
    })
}

/// Whether this media type is a manifest list or an index.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// Whether this media type is a single image's manifest.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}
