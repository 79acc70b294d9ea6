//! Why a repository could not be had.

use super::Oid;
use crate::dockerfile::redact::redact;
use crate::http::HttpError;
use std::io;

/// Why a repository could not be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// A protocol that dockless does not speak.
    #[error("'{}': git over {scheme} is not supported: use https, http, ssh or git", redact(remote))]
    Scheme {
        /// The repository.
        remote: String,
        /// Such as `ftp`.
        scheme: String,
    },
    /// There is no ssh.
    #[error("cannot start ssh, which a repository at an ssh address needs: {source}; install it, or use https")]
    SshProgram {
        /// Why.
        source: io::Error,
    },
    /// ssh failed.
    #[error("'{}': ssh says: {said}", redact(remote))]
    Ssh {
        /// The repository.
        remote: String,
        /// Its words.
        said: String,
    },
    /// A text that is no URL.
    #[error("'{}' is no URL of a repository", redact(remote))]
    Url {
        /// The text.
        remote: String,
    },
    /// The request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The other side refused.
    #[error("the git server says: {0}")]
    Refused(String),
    /// The other side does not speak git's protocol as it should.
    #[error("the answer of the git server makes no sense: {0}")]
    Protocol(&'static str),
    /// A repository whose objects are not named by SHA-1.
    #[error("the repository names its objects by {0}; only sha1 is supported")]
    ObjectFormat(String),
    /// No branch, tag or ref of that name.
    #[error("{} has no branch, tag or ref '{reference}'", redact(remote))]
    NoReference {
        /// The repository.
        remote: String,
        /// What was looked for.
        reference: String,
    },
    /// An abbreviated commit.
    #[error("{} has no branch, tag or ref '{reference}'; a commit is named by all of its 40 digits", redact(remote))]
    Abbreviated {
        /// The repository.
        remote: String,
        /// What was looked for.
        reference: String,
    },
    /// The commit is not the one that was expected.
    #[error("{} is at commit {found}, expected {expected}", redact(remote))]
    Checksum {
        /// The repository.
        remote: String,
        /// What it is at.
        found: Oid,
        /// What was asked for.
        expected: String,
    },
    /// A pack or an object in it that is not what it should be.
    #[error("damaged repository: {0}")]
    Damaged(&'static str),
    /// An object that must be there is not.
    #[error("the repository lacks the object {0}")]
    Missing(Oid),
    /// An object that is larger than anything sensible.
    #[error("the repository holds an object of {0} bytes, which is too large")]
    TooLarge(u64),
    /// A name that must not be in a tree.
    #[error("the repository holds a file called '{0}', which is refused")]
    Name(String),
    /// No such directory.
    #[error("{} has no directory '{subdir}'", redact(remote))]
    NoSubdir {
        /// The repository.
        remote: String,
        /// What was looked for.
        subdir: String,
    },
    /// A submodule without an address.
    #[error("the submodule at '{0}' has no url in .gitmodules")]
    NoSubmodule(String),
    /// Submodules in submodules, without an end.
    #[error("submodules are nested more than {0} deep")]
    Depth(usize),
    /// A submodule cannot be had.
    #[error("cannot fetch the submodule '{path}'")]
    Submodule {
        /// Where it belongs.
        path: String,
        /// Why.
        #[source]
        source: Box<GitError>,
    },
    /// A file, or the connection.
    #[error(transparent)]
    Io(#[from] io::Error),
}
