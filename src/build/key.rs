//! Cache keys: what a step's result depends on.
//!
//! A key is SHA-256 over a versioned encoding in which every name and value is preceded by its length, every list by the
//! number of its values, and each of them by a byte that says which it is, so that two different inputs never encode
//! alike. What each key holds:
//!
//! | input | RUN | COPY, ADD | WORKDIR | other |
//! |---|---|---|---|---|
//! | the parent, by content ([`ParentId`]) | yes | yes | yes | yes |
//! | platform | yes | – | – | – |
//! | expanded arguments, shell, heredocs | yes | yes | yes | history text |
//! | environment, every ARG in scope included | yes | – | – | – |
//! | user and working directory | yes | in the destination | user | – |
//! | mounts (type, target, options), network, host name, limits | yes | – | – | – |
//! | what is selected: path, type, mode, owner, bytes, link target, xattrs | by bind mounts | yes | – | – |
//!
//! Knowingly left out: modification times, host paths, proxy variables, injected authorities, the values of secrets, agents, what caches hold and
//! how they are shared, entries of `--add-host`,
//! the tier that ran the step, progress settings, and what a RUN step reads from the network.

use crate::oci::digest::{Algorithm, Hasher};
use crate::oci::{ChainId, ContentDigest, Digest, Layer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Raised whenever the encoding or the meaning of a key changes, so that old records no longer match.
const VERSION: &str = "dockless step 5";
/// Stands before a name with one value.
const FIELD: u8 = 1;
/// Stands before a name with a list of values.
const LIST: u8 = 2;

/// Digest of a step's inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(Digest);

impl CacheKey {
    /// The bare digest.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A tree by its content: the base's ChainId, then each own layer's content digest. A step that ran again with the same
/// result leaves it as it was, although the layer's times, and so its DiffId, differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ParentId(Digest);

impl ParentId {
    /// The tree of a base image; `None` is the empty tree of `scratch`.
    pub fn base(chain: Option<&ChainId>) -> Self {
        let mut encoder = Encoder::new("base");
        encoder.field("chain", chain.map(ToString::to_string).unwrap_or_default());
        ParentId(encoder.finish().0)
    }

    /// The tree of a stack of layers: the base's, which have no content digest, and those that dockless made on top.
    pub fn of(layers: &[Layer]) -> Self {
        let own = layers.iter().position(|layer| layer.content.is_some()).unwrap_or(layers.len());
        let base = ParentId::base(ChainId::of(layers[..own].iter().map(|layer| &layer.diff_id)).as_ref());
        layers[own..].iter().filter_map(|layer| layer.content.as_ref()).fold(base, |tree, layer| tree.push(layer))
    }

    /// This tree with a layer of that content on top.
    pub fn push(&self, layer: &ContentDigest) -> Self {
        let mut encoder = Encoder::new("layer");
        encoder.field("below", self.0.to_string());
        encoder.field("content", layer.to_string());
        ParentId(encoder.finish().0)
    }
}

impl fmt::Display for ParentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What went into a key, for people: names and values, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts(Vec<(String, Vec<String>)>);

impl Parts {
    /// What kind of step it is of.
    pub fn kind(&self) -> String {
        self.value(VERSION).unwrap_or_default()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The values of a name.
    pub fn values(&self, name: &str) -> &[String] {
        self.0.iter().find(|(known, _)| known == name).map_or(&[], |(_, values)| values)
    }

    /// The values of a name, as one text.
    pub fn value(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, values)| values.join("\0"))
    }

    /// The values that `old` has of a name, and these, where they differ.
    pub fn change<'a>(&'a self, old: &'a Parts, name: &str) -> Option<(&'a [String], &'a [String])> {
        let (was, is) = (old.values(name), self.values(name));
        (was != is).then_some((was, is))
    }

    /// How many names have the values that they have in `other`.
    pub fn alike(&self, other: &Parts) -> usize {
        self.names().filter(|name| self.values(name) == other.values(name)).count()
    }
}

/// Encodes the inputs of one step.
#[derive(Debug)]
pub struct Encoder {
    hasher: Hasher,
    parts: Parts,
}

impl Encoder {
    /// Starts the key of a step of this kind.
    pub fn new(kind: &str) -> Self {
        let mut encoder = Encoder { hasher: Hasher::new(Algorithm::Sha256), parts: Parts::default() };
        encoder.field(VERSION, kind);
        encoder
    }

    /// Adds a named value.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.hasher.update(&[FIELD]);
        self.bytes(name.as_bytes());
        self.bytes(value.as_ref());
        self.note(name, [value.as_ref()]);
    }

    /// Adds a name and values that are no part of the key, but may explain why it is another.
    pub fn note<T: AsRef<[u8]>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        let text = |value: T| String::from_utf8_lossy(value.as_ref()).into_owned();
        self.parts.0.push((name.to_string(), values.into_iter().map(text).collect()));
    }

    /// Adds a named list: its length, then each value.
    pub fn list<T: AsRef<[u8]>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        let values: Vec<T> = values.into_iter().collect();
        self.hasher.update(&[LIST]);
        self.bytes(name.as_bytes());
        self.bytes(&(values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| self.bytes(value.as_ref()));
        self.note(name, values);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// The key.
    pub fn finish(self) -> CacheKey {
        self.finish_with_parts().0
    }

    /// The key, and what went into it.
    pub fn finish_with_parts(self) -> (CacheKey, Parts) {
        (CacheKey(self.hasher.finish()), self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: impl FnOnce(&mut Encoder)) -> CacheKey {
        let mut encoder = Encoder::new("run");
        fill(&mut encoder);
        encoder.finish()
    }

    #[test]
    fn where_a_value_ends_matters() {
        let keys = [
            key(|e| e.field("a", "bc")),
            key(|e| e.field("ab", "c")),
            key(|e| e.list("a", ["b", "c"])),
            key(|e| e.list("a", ["bc"])),
            key(|e| e.list("a", ["b c"])),
            key(|e| e.list::<&str>("a", [])),
            key(|e| e.list("a", [""])),
            key(|e| e.field("a", "")),
            // The number of values, as a length, and what follows it, as a value.
            key(|e| e.field("a", [2, 0, 0, 0, 0, 0, 0, 0])),
            key(|e| e.list("a", ["\u{1}\0\0\0\0\0\0\0b"])),
            key(|e| {
                e.field("a", "b");
                e.field("c", "d");
            }),
            key(|e| {
                e.field("c", "d");
                e.field("a", "b");
            }),
            key(|e| e.list("a", ["b", "c", "d"])),
            // A note is for people.
            key(|e| e.note("a", ["bc"])),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|other| other != one), "{i}");
        }
        assert_eq!(key(|e| e.note("a", ["bc"])), key(|_| ()));
    }

    #[test]
    fn a_parent_is_its_content_in_order() {
        let content = |text: &str| ContentDigest::new(Digest::sha256(text));
        let base = ParentId::base(None);
        let (a, b) = (content("a"), content("b"));
        assert_eq!(base.push(&a).push(&b), ParentId::base(None).push(&a).push(&b));
        assert_ne!(base.push(&a).push(&b), base.push(&b).push(&a));
        assert_ne!(base.push(&a), base);
    }
}
