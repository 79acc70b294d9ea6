//! Trees, differences between them, and layers.

pub mod gzip;
pub mod layer;
pub mod overrides;
pub mod view;
pub mod xattrs;
