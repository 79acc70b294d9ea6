//! What a step was made of, as far as that leaves the machine: enough to say which component differs, and no more.
//!
//! Of each component of a key there is one byte of a digest. It tells two values apart in 255 cases of 256, which is what
//! an explanation needs; it does not give a value away. A longer digest would: the values of build arguments are often
//! short, and whoever has a digest of one can try all candidates. A byte leaves the 256th part of them, however many
//! records with the value are put together, for it depends on nothing but the name and the value. Of variables that are
//! called like secrets there is nothing but the name: that one of those changed is said where nothing else did. (The key's
//! own digest does confirm a guess to those who know all the rest of the input. Build arguments are no place for secrets,
//! and those of the final stage are in the image's history in clear.)
//!
//! Names of variables and of files are in clear. Each file has two bytes of its digest; of a step with more than
//! [`FILES`] of them only the number is kept.

use crate::build::copy::Files;
use crate::build::key::Parts;
use crate::dockerfile::lint::is_secret_key;
use crate::oci::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Files of one step that are told apart.
pub const FILES: usize = 400;
/// Characters of a file's digest.
const FILE: usize = 4;
/// Components that are variables, each with its own trace.
const VARIABLES: [&str; 2] = ["env", "declared"];
/// Components that are the words of an instruction.
const WORDS: [&str; 4] = ["args", "sources", "dest", "path"];

/// What a step was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Makings {
    kind: String,
    /// The stage by name or number, and how many steps came before this one.
    place: (String, usize),
    parts: Vec<(String, Trace)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<Traced>,
}

/// What is left of a component's values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Trace {
    One(String),
    /// By variable; empty for those that are called like secrets.
    Each(BTreeMap<String, String>),
}

/// What is left of the files of a selection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Traced {
    Count(usize),
    Each(BTreeMap<String, String>),
}

fn byte(name: &str, values: &[String]) -> String {
    let lengths: Vec<usize> = values.iter().map(String::len).collect();
    Digest::sha256(format!("dockless trace\0{name}\0{lengths:?}\0{}", values.concat())).hex()[..2].to_string()
}

fn trace(name: &str, values: &[String]) -> Trace {
    if !VARIABLES.contains(&name) {
        return Trace::One(byte(name, values));
    }
    let each = values.iter().map(|text| {
        let variable = text.split_once('=').map_or(text.as_str(), |(variable, _)| variable);
        let trace = if is_secret_key(variable) { String::new() } else { byte(name, std::slice::from_ref(text)) };
        (variable.to_string(), trace)
    });
    Trace::Each(each.collect())
}

impl Makings {
    /// Of the step with these `parts` in its key, at this place, that selects these `files`.
    pub fn new(parts: &Parts, place: (String, usize), files: Option<&Files>) -> Makings {
        let kind = parts.kind();
        let traced = parts.names().skip(1).map(|name| (name.to_string(), trace(name, parts.values(name))));
        let files = files.map(|files| match files.len() {
            many if many > FILES => Traced::Count(many),
            _ => Traced::Each(
                files.iter().map(|(path, digest)| (path.clone(), digest.chars().take(FILE).collect())).collect(),
            ),
        });
        Makings { kind, place, parts: traced.collect(), files }
    }

    /// The same with the number of files alone.
    pub fn without_names(&mut self) {
        if let Some(Traced::Each(files)) = &self.files {
            self.files = Some(Traced::Count(files.len()));
        }
    }

    fn part(&self, name: &str) -> Option<&Trace> {
        self.parts.iter().find(|(known, _)| known == name).map(|(_, trace)| trace)
    }

    /// How like this one `other` is; `None` where it is a step of another kind, at another place and in other words.
    pub fn alike(&self, other: &Makings) -> Option<usize> {
        let words = || WORDS.iter().all(|name| self.part(name) == other.part(name));
        let of_interest = self.kind == other.kind && (self.place == other.place || words());
        of_interest.then(|| self.parts.iter().filter(|(name, trace)| other.part(name) == Some(trace)).count())
    }

    /// The first component that is not as in `old`, in words; `base` is what this one is built on in the end.
    pub fn difference(&self, old: &Makings, base: Option<&str>) -> String {
        let changed = |name: &str| self.part(name) != old.part(name);
        if let Some(base) = base.filter(|_| changed("base") && changed("parent")) {
            return format!("the base moved, it is {base} now");
        }
        let mut names = self.parts.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "base");
        match names.find(|name| changed(name)) {
            Some("parent") => "what it is built on changed".to_string(),
            Some("selection") => self.files_changed(old),
            Some(name) if VARIABLES.contains(&name) => self.variable(old, name),
            Some("args") => "the command changed".to_string(),
            Some("epoch") => "SOURCE_DATE_EPOCH changed".to_string(),
            Some("script" | "heredocs") => "a here-document changed".to_string(),
            Some("selected" | "seed") => "the files of a mount changed".to_string(),
            Some(name) => format!("{name} changed"),
            None => self.untold(),
        }
    }

    /// Nothing of which a trace is kept differs.
    fn untold(&self) -> String {
        let traces = self.parts.iter().filter_map(|(_, trace)| match trace {
            Trace::Each(each) => Some(each),
            Trace::One(_) => None,
        });
        let secret = traces.flatten().filter(|(_, trace)| trace.is_empty()).map(|(name, _)| name.as_str());
        let mut secret: Vec<&str> = secret.collect();
        secret.dedup();
        match secret.as_slice() {
            [] => "something changed that the cache's records do not tell".to_string(),
            names => format!("{} changed, of which the cache keeps nothing, or something else", names.join(" or ")),
        }
    }

    fn variable(&self, old: &Makings, part: &str) -> String {
        let each = |makings: &'_ Makings, name: &str| match makings.part(name) {
            Some(Trace::Each(each)) => each.clone(),
            _ => BTreeMap::new(),
        };
        let (was, is) = (each(old, part), each(self, part));
        let declared = each(self, "declared");
        let Some(name) = is.keys().chain(was.keys()).find(|name| was.get(*name) != is.get(*name)) else {
            return "the order of variables changed".to_string();
        };
        let word = if declared.contains_key(name) || part == "declared" { "ARG" } else { "ENV" };
        match (was.get(name), is.get(name)) {
            (None, _) => format!("{word} {name} is new"),
            (_, None) => format!("{word} {name} is gone"),
            _ => format!("{word} {name} changed"),
        }
    }

    fn files_changed(&self, old: &Makings) -> String {
        let count = |files: &Traced| match files {
            Traced::Count(count) => *count,
            Traced::Each(files) => files.len(),
        };
        match (&old.files, &self.files) {
            (Some(Traced::Each(old)), Some(Traced::Each(new))) => files_changed(pairs(old), pairs(new)),
            (Some(old), Some(new)) if count(old) != count(new) => {
                format!("the files changed: there were {}, and are {}", count(old), count(new))
            }
            (_, Some(new)) => format!("some of the {} files changed", count(new)),
            _ => "the files changed".to_string(),
        }
    }
}

/// The names and digests of files.
pub fn pairs<'f>(files: impl IntoIterator<Item = (&'f String, &'f String)>) -> BTreeMap<&'f str, &'f str> {
    files.into_iter().map(|(path, digest)| (path.as_str(), digest.as_str())).collect()
}

/// The first file that differs, and how many more do.
pub fn files_changed(old: BTreeMap<&str, &str>, new: BTreeMap<&str, &str>) -> String {
    let mut changes = Vec::new();
    for path in new.keys().chain(old.keys().filter(|path| !new.contains_key(*path))) {
        match (old.get(path), new.get(path)) {
            (None, _) => changes.push(format!("file {path} is new")),
            (_, None) => changes.push(format!("file {path} is gone")),
            (was, is) if was != is => changes.push(format!("file {path} changed")),
            _ => {}
        }
    }
    let more = changes.len().saturating_sub(1);
    let first = changes.into_iter().next().unwrap_or_else(|| "the files changed".to_string());
    if more > 0 { format!("{first}, and {more} more") } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::key::Encoder;

    fn makings(variables: &[&str], command: &str, number: usize, files: &[(&str, &str)]) -> Makings {
        let mut key = Encoder::new("run");
        key.field("parent", "p");
        key.note("base", ["b"]);
        key.field("selection", format!("{files:?}"));
        key.list("args", [command]);
        key.list("declared", variables);
        let files: Files = files.iter().map(|(path, digest)| (path.to_string(), digest.repeat(16))).collect();
        Makings::new(&key.finish_with_parts().1, ("s".into(), number), Some(&files))
    }

    #[test]
    fn the_first_component_that_differs_is_named() {
        let old = makings(&["V=1", "TOKEN=abc"], "make", 1, &[("a", "1"), ("b", "2")]);
        let cases = [
            (makings(&["V=2", "TOKEN=abc"], "make", 1, &[("a", "1"), ("b", "2")]), "ARG V changed"),
            (makings(&["TOKEN=abc"], "make", 1, &[("a", "1"), ("b", "2")]), "ARG V is gone"),
            (makings(&["V=1", "TOKEN=xyz"], "make", 1, &[("a", "1"), ("b", "2")]), "TOKEN changed, of which the cache"),
            (makings(&["V=1", "TOKEN=abc"], "make all", 1, &[("a", "1"), ("b", "2")]), "the command changed"),
            (makings(&["V=1", "TOKEN=abc"], "make", 1, &[("a", "1"), ("b", "3")]), "file b changed"),
            (makings(&["V=1", "TOKEN=abc"], "make", 1, &[("c", "1")]), "file c is new, and 2 more"),
            (makings(&["V=9"], "make", 1, &[("c", "1")]), "file c is new, and 2 more"),
        ];
        for (new, expected) in cases {
            let said = new.difference(&old, None);
            assert!(said.starts_with(expected), "{said}, not {expected}");
        }
    }

    #[test]
    fn what_is_of_interest() {
        let old = makings(&["V=1"], "make", 1, &[]);
        assert!(makings(&["V=2"], "make", 5, &[]).alike(&old).is_some(), "the same words elsewhere");
        assert!(makings(&["V=2"], "other", 1, &[]).alike(&old).is_some(), "other words there");
        assert_eq!(makings(&["V=1"], "other", 5, &[]).alike(&old), None);
        assert!(makings(&["V=1"], "make", 1, &[]).alike(&old) > makings(&["V=2"], "make", 1, &[]).alike(&old));
    }

    #[test]
    fn nothing_of_a_value_is_in_it_but_a_byte() {
        let text = |value: &str| serde_json::to_string(&makings(&[value], "make", 1, &[])).unwrap();
        assert!(!text("PIN=7351").contains("7351"));
        let traces: std::collections::BTreeSet<String> = (0..9999).map(|pin| text(&format!("PIN={pin}"))).collect();
        assert_eq!(traces.len(), 256);
        assert_eq!(text("API_TOKEN=a"), text("API_TOKEN=b"));
    }

    #[test]
    fn many_files_are_a_number() {
        let names: Vec<String> = (0..=FILES).map(|n| format!("f{n}")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let (all, less) = (makings(&[], "m", 1, &files), makings(&[], "m", 1, &files[..FILES]));
        assert_eq!(all.difference(&less, None), "the files changed: there were 400, and are 401");
        assert!(serde_json::to_string(&all).unwrap().len() < 400);
    }
}
