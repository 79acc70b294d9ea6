//! Git repositories, fetched: one commit and its tree, no history, no git program (but ssh's, where an address needs it).
//!
//! # What it does
//!
//! Speaks git's protocol version 2, and 0 with servers that know no other, over http(s), `git://` and ssh; asks for one commit
//! at depth 1; indexes the pack that comes ([`pack`]), hashing every object; writes the commit's files into an empty
//! directory, submodules included, and on request a `.git` directory that git can read.
//!
//! `gix` would bring more than a hundred crates and a second HTTP stack for this; what is needed here is small.
//!
//! # What holds
//!
//! * Every object has the name that it was asked for, by SHA-1 with detection of known collision attacks.
//! * A tree cannot write outside its directory: names are single components other than `.`, `..` and `.git`, and nothing
//!   that exists is written over or entered.
//! * Memory does not grow with the repository, but for one object and the deltas that lead to it.
//!
//! Not done: repositories with SHA-256 names, abbreviated commits, LFS (its pointers come as they are).
//!
//! Spec: git's gitprotocol-v2, gitprotocol-http, gitprotocol-pack, gitformat-pack, gitformat-index.

mod checkout;
mod dotgit;
mod error;
mod object;
mod pack;
mod pkt;
mod remote;
mod ssh;
mod submodule;

pub use checkout::{Checkout, Wanted, checkout};
pub use error::GitError;
pub use object::Oid;
pub use ssh::Ssh;

use crate::http::Http;

/// What servers are reached with.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    /// http and https.
    pub http: &'a Http,
    /// ssh.
    pub ssh: &'a Ssh,
}
