//! Trees, differences between them, and layers.

pub mod diff;
mod diff_walk;
pub mod gzip;
pub mod layer;
pub mod overrides;
pub mod snapshot;
pub mod view;
pub mod xattrs;

pub use diff::{DiffError, diff};
pub use layer::{LayerError, LayerOptions, LayerWriter};
pub use snapshot::{ActiveSnapshot, Fetch, SnapshotError, Snapshotter};
pub use view::LayerView;
