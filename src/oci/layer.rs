//! What a layer's tar holds about one path: the vocabulary that trees, diffs and copies share.
//!
//! Spec: OCI image-spec layer.md (change sets, file attributes, whiteouts).

use std::collections::BTreeMap;

/// Prefix of a whiteout's name.
pub const WHITEOUT_PREFIX: &str = ".wh.";
/// Name of the marker that makes a directory opaque.
pub const OPAQUE_WHITEOUT: &str = ".wh..wh..opq";

/// What kind of file a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of this many bytes.
    File {
        /// Length in bytes.
        size: u64,
    },
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Its text, not necessarily UTF-8.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A socket: it can be found in a tree, but a tar cannot hold it, so layers leave it out.
    Socket,
}

/// Metadata of one path, as a layer carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Its kind.
    pub kind: Kind,
    /// Permission, set-id and sticky bits (`0o7777`).
    pub mode: u32,
    /// Owner, as seen inside the image.
    pub uid: u32,
    /// Group, as seen inside the image.
    pub gid: u32,
    /// Modification time, whole seconds since 1970.
    pub mtime: i64,
    /// Extended attributes that belong to the image, `security.capability` included.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Bytes of a regular file; 0 of anything else.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            _ => 0,
        }
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }
}

/// A layer as an image names it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layer {
    /// Digest of the blob.
    pub digest: super::Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Media type of the blob, in OCI's words.
    pub media_type: String,
    /// Digest of the uncompressed tar.
    pub diff_id: super::DiffId,
    /// Digest of its content without times; only layers that dockless made have one.
    pub content: Option<super::ContentDigest>,
}
