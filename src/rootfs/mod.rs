//! Trees, differences between them, and layers.

pub mod gzip;
pub mod layer;
