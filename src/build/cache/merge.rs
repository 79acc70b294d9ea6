//! What becomes of a cache when another build adds to it: the union, less what was of no use for long and what is too much.

use super::document::{Carrier, Document, ENTRIES, KnownList, KnownMount, KnownSelection, KnownStep};
use crate::oci::{Descriptor, DiffId, Digest};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

/// Times of use are written down when they are as many seconds off: a build that changes nothing writes nothing.
pub const GRAIN: i64 = 24 * 3600;

/// Steps of a cache of which more is kept than their results.
const DETAILED: usize = 1000;

/// A document and the blobs of the layers that it names.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The document.
    pub document: Document,
    /// Descriptors of its layers.
    pub layers: HashMap<DiffId, Descriptor>,
}

/// How much a cache keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Now, in seconds since 1970.
    pub now: i64,
    /// Seconds without use.
    pub ttl: u64,
    /// Bytes.
    pub size: u64,
}

/// Whether `old` holds all that `new` does, noted as used not long ago: there is nothing to write.
pub fn holds(old: &Contents, new: &Document, limits: Limits) -> bool {
    let fresh = |used: Option<i64>| used.is_some_and(|used| used + GRAIN > limits.now);
    let steps: HashSet<&Digest> = old.document.steps.iter().filter(|s| fresh(s.used)).map(|s| &s.key).collect();
    let chosen: HashMap<&Digest, &str> =
        old.document.selections.iter().filter(|s| fresh(s.used)).map(|s| (&s.key, s.selected.as_str())).collect();
    let lists: HashSet<&DiffId> = old.document.lists.iter().filter(|l| fresh(l.used)).map(|l| &l.of).collect();
    let mounts: HashMap<&Digest, &[DiffId]> =
        old.document.mounts.iter().filter(|m| fresh(m.used)).map(|m| (&m.key, &m.pieces[..])).collect();
    new.steps.iter().all(|step| steps.contains(&step.key))
        && new.selections.iter().all(|one| chosen.get(&one.key) == Some(&one.selected.as_str()))
        && new.lists.iter().all(|list| lists.contains(&list.of))
        && new.mounts.iter().all(|mount| mounts.get(&mount.key) == Some(&&mount.pieces[..]))
}

/// `new`, which was of use now, on top of `old`.
pub fn merge(old: Option<Contents>, new: &Contents, limits: Limits) -> Contents {
    let old = old.unwrap_or_else(|| Contents { document: Document::new(Carrier::Cache), layers: HashMap::new() });
    let mut layers = old.layers;
    layers.extend(new.layers.iter().map(|(diff_id, descriptor)| (diff_id.clone(), descriptor.clone())));
    let (was, is) = (old.document, &new.document);
    let kept_alive = kept_alive(&was, is);
    let mut document = Document::new(Carrier::Cache);
    document.steps = join(was.steps, &is.steps, |step| step.key.clone());
    for step in document.steps.iter_mut().filter(|step| kept_alive.contains(&step.key)) {
        step.used = Some(limits.now);
    }
    document.selections = join(was.selections, &is.selections, |selection| selection.key.clone());
    document.lists = join(was.lists, &is.lists, |list| list.of.clone());
    document.mounts = join(was.mounts, &is.mounts, |mount| mount.key.clone());
    // A time of use that is hardly another one is left as it was.
    document.note(limits.now);
    document.drop_where(|used| used + (limits.ttl as i64) < limits.now);
    document.drop_dangling(&layers);
    document.shrink(&layers, limits.size);
    document.forget_details();
    let named = document.layers();
    layers.retain(|diff_id, _| named.contains(diff_id));
    Contents { document, layers }
}

/// Steps of stages that were passed over because it was known what is selected in them.
fn kept_alive(old: &Document, new: &Document) -> HashSet<Digest> {
    let used: HashSet<&Digest> = new.selections.iter().map(|selection| &selection.key).collect();
    let of_use = old.selections.iter().filter(|selection| used.contains(&selection.key));
    of_use.flat_map(|selection| selection.steps.iter().cloned()).collect()
}

/// The entries of both, those of `new` in place of old ones with the same key, sorted by key.
fn join<T: Entry + Clone, K: Ord + Hash>(old: Vec<T>, new: &[T], key: impl Fn(&T) -> K) -> Vec<T> {
    let mut all: BTreeMap<K, T> = old.into_iter().map(|entry| (key(&entry), entry)).collect();
    for entry in new {
        let mut entry = entry.clone();
        if let Some(old) = all.get(&key(&entry)) {
            entry.inherit(old);
        }
        all.insert(key(&entry), entry);
    }
    all.into_values().collect()
}

/// What all entries have.
trait Entry {
    fn used(&mut self) -> &mut Option<i64>;

    /// Takes over from an entry with the same key what this one does not know better.
    fn inherit(&mut self, _old: &Self) {}
}

impl Entry for KnownStep {
    fn used(&mut self) -> &mut Option<i64> {
        &mut self.used
    }

    /// What was taken from the store is not known in detail.
    fn inherit(&mut self, old: &Self) {
        self.makings = self.makings.take().or_else(|| old.makings.clone());
        self.saw = self.saw.take().or_else(|| old.saw.clone());
    }
}

impl Entry for KnownSelection {
    fn used(&mut self) -> &mut Option<i64> {
        &mut self.used
    }

    /// A build that passed the stage over does not know its steps.
    fn inherit(&mut self, old: &Self) {
        if self.steps.is_empty() && self.selected == old.selected {
            self.steps.clone_from(&old.steps);
        }
    }
}

impl Entry for KnownList {
    fn used(&mut self) -> &mut Option<i64> {
        &mut self.used
    }
}

impl Entry for KnownMount {
    fn used(&mut self) -> &mut Option<i64> {
        &mut self.used
    }
}

impl Document {
    /// All entries without a time are of use now.
    fn note(&mut self, now: i64) {
        self.each(|used| _ = used.get_or_insert(now));
    }

    fn each(&mut self, mut change: impl FnMut(&mut Option<i64>)) {
        self.steps.iter_mut().for_each(|entry| change(entry.used()));
        self.selections.iter_mut().for_each(|entry| change(entry.used()));
        self.lists.iter_mut().for_each(|entry| change(entry.used()));
        self.mounts.iter_mut().for_each(|entry| change(entry.used()));
    }

    fn drop_where(&mut self, drop: impl Fn(i64) -> bool) {
        let keep = |used: Option<i64>| !used.is_some_and(&drop);
        self.steps.retain(|entry| keep(entry.used));
        self.selections.retain(|entry| keep(entry.used));
        self.lists.retain(|entry| keep(entry.used));
        self.mounts.retain(|entry| keep(entry.used));
        self.selections.iter_mut().for_each(|entry| entry.steps.truncate(ENTRIES / 10));
    }

    /// Keeps the details of those steps alone that were of use last.
    fn forget_details(&mut self) {
        let mut steps: Vec<&mut KnownStep> = self.steps.iter_mut().collect();
        steps.sort_by_key(|step| std::cmp::Reverse(step.used));
        for step in steps.into_iter().skip(DETAILED) {
            (step.makings, step.saw) = (None, None);
        }
    }

    /// Drops what names a layer that is not there.
    fn drop_dangling(&mut self, layers: &HashMap<DiffId, Descriptor>) {
        self.steps.retain(|step| step.layer.as_ref().is_none_or(|layer| layers.contains_key(&layer.diff_id)));
        self.lists.retain(|list| layers.contains_key(&list.holder));
        self.mounts.retain(|mount| mount.pieces.iter().all(|piece| layers.contains_key(piece)));
    }

    /// The layers that it names.
    pub fn layers(&self) -> HashSet<DiffId> {
        let steps = self.steps.iter().filter_map(|step| step.layer.as_ref()).map(|layer| &layer.diff_id);
        let lists = self.lists.iter().map(|list| &list.holder);
        let pieces = self.mounts.iter().flat_map(|mount| &mount.pieces);
        steps.chain(lists).chain(pieces).cloned().collect()
    }

    /// Drops what was of no use for longest until the rest has at most `limit` bytes and no more entries than one may have.
    fn shrink(&mut self, layers: &HashMap<DiffId, Descriptor>, limit: u64) {
        let size = |document: &Document| -> u64 {
            document.layers().iter().filter_map(|layer| layers.get(layer)).map(Descriptor::size).sum()
        };
        let longest =
            |document: &Document| document.steps.len().max(document.selections.len()).max(document.lists.len());
        while size(self) > limit || longest(self) > ENTRIES / 2 {
            let mut times = Vec::new();
            self.each(|used| times.extend(*used));
            times.sort_unstable();
            // An eighth at a time: each round reads all entries.
            let Some(oldest) = times.get(times.len() / 8).copied() else { return };
            let before = times.len();
            self.drop_where(|used| used <= oldest);
            let mut left = 0;
            self.each(|_| left += 1);
            if left == before {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::KnownLayer;
    use super::*;
    use crate::oci::{ContentDigest, manifest};

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 24 * 3600;

    fn diff_id(name: &str) -> DiffId {
        DiffId::new(Digest::sha256(name))
    }

    /// Steps by name, each with a layer of ten bytes.
    fn contents(steps: &[(&str, Option<i64>)]) -> Contents {
        let mut document = Document::new(Carrier::Cache);
        let mut layers = HashMap::new();
        for (name, used) in steps {
            let layer = KnownLayer { diff_id: diff_id(name), content: ContentDigest::new(Digest::sha256(name)) };
            let created = "2026-01-02T03:04:05Z".to_string();
            let key = Digest::sha256(format!("key {name}"));
            let (layer, used) = (Some(layer), *used);
            document.steps.push(KnownStep { key, created, layer, used, makings: None, saw: None });
            let blob = Digest::sha256(format!("blob {name}"));
            layers.insert(diff_id(name), manifest::descriptor(manifest::OCI_LAYER_GZIP, &blob, 10));
        }
        Contents { document, layers }
    }

    fn names(contents: &Contents, of: &[&str]) -> Vec<String> {
        let has = |name: &&&str| contents.document.steps.iter().any(|s| s.key == Digest::sha256(format!("key {name}")));
        of.iter().filter(has).map(ToString::to_string).collect()
    }

    const LIMITS: Limits = Limits { now: NOW, ttl: 14 * DAY as u64, size: 1000 };

    #[test]
    fn the_union_is_kept() {
        let old = contents(&[("a", Some(NOW - DAY)), ("b", Some(NOW - 13 * DAY))]);
        let new = contents(&[("b", None), ("c", None)]);
        assert!(!holds(&old, &new.document, LIMITS));
        let both = merge(Some(old), &new, LIMITS);
        assert_eq!(names(&both, &["a", "b", "c"]), ["a", "b", "c"]);
        assert_eq!(both.layers.len(), 3);
        assert!(holds(&both, &new.document, LIMITS));
        assert!(!holds(&both, &new.document, Limits { now: NOW + 2 * DAY, ..LIMITS }), "the times are to be written");
        assert_eq!(merge(Some(both.clone()), &contents(&[]), LIMITS).document, both.document);
    }

    #[test]
    fn what_is_of_no_use_goes() {
        let old = contents(&[("a", Some(NOW - 15 * DAY)), ("b", Some(NOW - 13 * DAY))]);
        let merged = merge(Some(old), &contents(&[("c", None)]), LIMITS);
        assert_eq!((names(&merged, &["a", "b", "c"]), merged.layers.len()), (vec!["b".into(), "c".into()], 2));
        // Ten bytes each: two have room.
        let steps: Vec<(String, Option<i64>)> = (0..9).map(|n| (format!("s{n}"), Some(NOW - n * 3600))).collect();
        let steps: Vec<(&str, Option<i64>)> = steps.iter().map(|(name, used)| (name.as_str(), *used)).collect();
        let merged = merge(Some(contents(&steps)), &contents(&[("c", None)]), Limits { size: 20, ..LIMITS });
        assert_eq!(names(&merged, &["c", "s0", "s1", "s2", "s8"]), ["c", "s0"]);
        assert_eq!(merged.layers.len(), 2);
    }

    #[test]
    fn stages_that_were_passed_over_stay() {
        let selection = |steps: Vec<Digest>| KnownSelection {
            key: Digest::sha256("selection"),
            selected: "x".into(),
            used: Some(NOW - 13 * DAY),
            steps,
        };
        let mut old = contents(&[("builder", Some(NOW - 13 * DAY)), ("other", Some(NOW - 13 * DAY))]);
        old.document.selections.push(selection(vec![Digest::sha256("key builder")]));
        let mut new = contents(&[]);
        new.document.selections.push(KnownSelection { used: None, ..selection(Vec::new()) });
        let later = Limits { now: NOW + 2 * DAY, ..LIMITS };
        let merged = merge(Some(merge(Some(old), &new, LIMITS)), &contents(&[]), later);
        assert_eq!(names(&merged, &["builder", "other"]), ["builder"]);
        assert_eq!(merged.document.selections[0].steps.len(), 1);
    }

    #[test]
    fn a_record_without_its_layer_goes() {
        let mut old = contents(&[("a", Some(NOW)), ("b", Some(NOW))]);
        old.layers.remove(&diff_id("a"));
        assert_eq!(names(&merge(Some(old), &contents(&[]), LIMITS), &["a", "b"]), ["b"]);
    }
}
