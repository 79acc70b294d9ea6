//! What comes from elsewhere: downloads, archives and standard input, as trees that COPY and ADD read.
//!
//! Nothing of an archive is believed: its members are first worked out as changes of an empty tree, where names are clamped
//! and links followed as text, and only the result, which has one plain entry a path, is written to a directory of ours.

mod download;
mod file;
mod git;
mod import;
mod unpack;

pub use download::{Download, download, file_name, file_tree};
pub use file::FileTree;
pub use git::{checkout, git_tree};
pub use import::import_layout;
pub use unpack::unpack;

/// When a download was made: what its server says, else the newest file of the archive that it is, else nothing.
pub fn time_of(found: &Download, file: &FileTree) -> Result<Option<i64>, RemoteError> {
    match found.modified {
        Some(time) => Ok(Some(time)),
        None => Ok(copy::newest_member(file, file.name.as_bytes())?),
    }
}

use super::copy::{self, CopyError};
use crate::dockerfile::git_ref::GitRefError;
use crate::dockerfile::redact::redact;
use crate::git::GitError;
use crate::http::{AsHttp, HttpError};
use crate::oci::digest::DigestError;
use crate::store::{ImageError, StoreError};
use std::io;
use std::path::PathBuf;

/// Why something could not be had from elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A text that is no URL of the kind that is wanted.
    #[error("'{}' is no URL that can be fetched: {reason}", redact(url))]
    Url {
        /// As written.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The request failed, or was answered with an error.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The bytes are not those that `--checksum` names.
    #[error("digest mismatch {found}: {expected} (of {})", redact(url))]
    Checksum {
        /// Where they come from.
        url: String,
        /// What `--checksum` says.
        expected: String,
        /// What they have.
        found: String,
    },
    /// An address that names a repository wrongly.
    #[error("'{}': {reason}", redact(url))]
    GitUrl {
        /// As written.
        url: String,
        /// What is wrong.
        reason: GitRefError,
    },
    /// Git.
    #[error(transparent)]
    Git(#[from] GitError),
    /// An archive cannot be read.
    #[error("cannot unpack the archive from {from}")]
    Archive {
        /// What it is called.
        from: String,
        /// Why.
        #[source]
        source: Box<CopyError>,
    },
    /// An archive holds what a context cannot.
    #[error("the archive from {from} holds {what}, '{path}': a build context cannot")]
    Member {
        /// What the archive is called.
        from: String,
        /// The member's path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// An OCI layout without the image that was asked for.
    #[error("the OCI layout {path} holds no image '{image}' (it has {available})", path = path.display())]
    NoImage {
        /// The layout.
        path: PathBuf,
        /// A tag or digest.
        image: String,
        /// What there is.
        available: String,
    },
    /// A document of an OCI layout that is none.
    #[error("{path} is no OCI index", path = path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A descriptor with a digest that cannot be read.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The documents of an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AsHttp for RemoteError {
    fn as_http(&self) -> Option<&HttpError> {
        match self {
            RemoteError::Http(error) => Some(error),
            _ => None,
        }
    }
}
