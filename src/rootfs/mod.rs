//! Trees, differences between them, and layers.

pub mod diff;
mod diff_walk;
pub mod gzip;
pub mod layer;
pub mod overrides;
pub mod unpack;
mod unpack_node;
mod unpack_tar;
mod unpack_tree;
pub mod view;
pub mod xattrs;

pub use unpack::{UnpackError, unpack};
pub use view::LayerView;
