//! The formats of the OCI image specification and what Docker adds to them. Pure: values in, values out, no I/O.

pub mod config;
pub mod digest;
pub mod json;
pub mod layer;
pub mod manifest;
pub mod platform;
pub mod reference;

pub use config::{ContainerConfig, Empty, HealthConfig, History, ImageConfig};
pub use digest::{ChainId, ContentDigest, DiffId, Digest};
pub use layer::Layer;
pub use manifest::{Descriptor, ImageFormat, Index, Manifest, MediaType};
pub use platform::Platform;
pub use reference::Reference;
