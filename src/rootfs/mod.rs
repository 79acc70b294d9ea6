//! Trees, differences between them, and layers.

pub mod diff;
mod diff_walk;
pub mod gzip;
pub mod layer;
