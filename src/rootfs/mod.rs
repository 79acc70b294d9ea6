//! Trees, differences between them, and layers.

pub mod overrides;
pub mod view;
pub mod xattrs;

pub use view::LayerView;
