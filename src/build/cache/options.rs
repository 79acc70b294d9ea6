//! Which caches a build asks, and which it fills.

use crate::oci::Reference;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Records of caches that were of no use for as long are dropped, in seconds: two weeks.
pub const TTL: u64 = 14 * 24 * 3600;
/// Bytes that a cache may have: beyond that what was of no use for longest is dropped.
pub const SIZE: u64 = 10 << 30;

/// `--cache-from` and `--cache-to`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caching {
    /// Asked in this order.
    pub from: Vec<CacheSource>,
    /// Filled.
    pub to: Vec<CacheTarget>,
    /// Sources that nobody named as such: that they are not there yet is no news.
    pub implied: Vec<CacheSource>,
}

/// A source of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheSource {
    /// An image that dockless built, or a cache.
    Registry(Reference),
    /// A cache in a directory, absolute.
    Directory(PathBuf),
}

impl fmt::Display for CacheSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheSource::Registry(reference) => reference.fmt(f),
            CacheSource::Directory(path) => path.display().fmt(f),
        }
    }
}

impl CacheSource {
    /// Whether it may be missing without a word.
    pub fn may_be_missing(&self, caching: &Caching) -> bool {
        caching.implied.contains(self)
    }
}

/// A cache to be filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheTarget {
    /// Where.
    pub place: CacheSource,
    /// Whether stages that the image does not have go into it too (`mode=max`).
    pub all_stages: bool,
    /// Seconds after which records of no use are dropped.
    pub ttl: u64,
    /// Bytes that it may have.
    pub size: u64,
}
