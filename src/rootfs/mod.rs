//! Trees, differences between them, and layers.

pub mod diff;
mod diff_walk;
pub mod gzip;
pub mod layer;
pub mod overrides;
pub mod view;
pub mod xattrs;

pub use view::LayerView;
