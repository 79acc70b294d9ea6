//! Trees, differences between them, and layers.

pub mod diff;
mod diff_walk;
mod extract;
pub mod glimpse;
pub mod gzip;
mod index;
mod kept_tree;
pub mod layer;
mod list_store;
mod listing;
mod node_copy;
mod open_dirs;
mod private_tree;
pub mod snapshot;
mod tree_tar;
pub mod unpack;
mod unpack_node;
mod unpack_tar;
mod unpack_tree;
pub mod view;
pub mod xattrs;

pub use diff::{DiffError, LeftOut, diff};
pub use extract::{Ownership, extract, is_empty, open_inside};
pub use glimpse::{Glimpse, GlimpsedTree, Ground, Watched};
pub use gzip::Compression;
pub use kept_tree::{KeptTree, changed_size, tree_size};
pub use layer::{LayerError, LayerOptions, LayerWriter};
pub use list_store::{known_list, make_list, take_list, unlisted};
pub use snapshot::{ActiveSnapshot, Fetch, SnapshotError, Snapshotter, SnapshotterKind};
pub use tree_tar::{TreeError, TreeStep, append_tree, walk};
pub use unpack::{UnpackError, unpack};
pub use view::LayerView;

use std::io::{self, Read};

/// Reads until `buffer` is full or the stream ends; the number of bytes comes back.
pub fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
