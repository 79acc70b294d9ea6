//! Why a step was not in the cache: what went into its key, against what went into those of steps like it.
//!
//! What went into a key is kept in the local store when a step is made, in clear, under the step's place (stage and number)
//! and under its own words, so that it is found again when instructions were put before it or its words were changed.

use super::Build;
use super::cache::makings::{Makings, files_changed as first_file, pairs};
use super::copy::Files;
use super::error::StepError;
use super::key::Parts;
use super::stage::StageState;
use crate::dockerfile::lint::is_secret_key;
use crate::dockerfile::redact::redact;
use crate::oci::Digest;
use crate::store::Store;
use std::collections::BTreeMap;

/// Bucket of the store with what went into keys, newest first, by place and by words.
const PARTS: &str = "step-parts";
/// Bucket with the files that selections were made of, by the selection's digest.
const FILES: &str = "selections";
/// As many are kept for each place: branches that take turns on one machine.
const KEPT: usize = 6;
/// Longest value that is shown.
const SHOWN: usize = 60;

/// The files that a step selects.
#[derive(Clone, Copy)]
pub(super) struct Selection<'f> {
    /// By path.
    pub files: &'f Files,
    /// Whether whoever looks the step up knows them: not of trees that need not be there.
    pub steady: bool,
}

impl Build<'_> {
    /// What differs from the closest step that was made before, the first difference only.
    pub(super) fn why(
        &self,
        state: &StageState,
        parts: &Parts,
        files: Option<Selection<'_>>,
        makings: &Makings,
    ) -> Result<String, StepError> {
        if state.no_cache {
            return Ok("the cache was not asked (--no-cache)".to_string());
        }
        let store = &self.services.store;
        let mut closest: Option<(usize, Parts)> = None;
        for slot in slots(state, parts) {
            for old in known(store, &slot)? {
                let alike = old.alike(parts);
                if closest.as_ref().is_none_or(|(most, _)| alike > *most) {
                    closest = Some((alike, old));
                }
            }
        }
        match closest {
            None => Ok(self.why_elsewhere(parts, makings)),
            Some((_, old)) => {
                Ok(difference(store, &old, parts, files)?.unwrap_or_else(|| "its layer is gone".to_string()))
            }
        }
    }

    /// The same against what is known from elsewhere, where values are not.
    fn why_elsewhere(&self, parts: &Parts, makings: &Makings) -> String {
        let alike = self.imports.makings().filter_map(|old| Some((makings.alike(old)?, old)));
        match alike.max_by_key(|(alike, _)| *alike) {
            None => "nothing like it was made before".to_string(),
            Some((_, old)) => makings.difference(old, parts.value("base").as_deref()),
        }
    }

    /// Keeps what went into a key, and the files of its selection, for [`Build::why`] of later builds.
    pub(super) fn keep_parts(
        &self,
        state: &StageState,
        parts: &Parts,
        files: Option<Selection<'_>>,
    ) -> Result<(), StepError> {
        let store = &self.services.store;
        // Lists of texts: always JSON.
        if let (Some(Selection { files, .. }), Some(selection)) = (files, parts.value("selection")) {
            let bytes = serde_json::to_vec(&by_path(files)).unwrap_or_default();
            store.put_record(FILES, &Digest::sha256(selection), &bytes)?;
        }
        for slot in slots(state, parts) {
            let mut all = known(store, &slot)?;
            all.retain(|old| old != parts);
            all.insert(0, parts.clone());
            all.truncate(KEPT);
            store.put_record(PARTS, &slot, &serde_json::to_vec(&all).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// What leaves the machine of all this: the same whether a step is found or made.
pub(super) fn makings(state: &StageState, parts: &Parts, files: Option<Selection<'_>>) -> Makings {
    let steady = files.filter(|selection| selection.steady).map(|selection| selection.files);
    Makings::new(parts, (stage_name(state), state.done()), steady)
}

fn stage_name(state: &StageState) -> String {
    state.stage.name.clone().unwrap_or_else(|| state.stage.file_index.to_string())
}

/// Where steps like this one are kept: by stage and number, and by kind and words.
fn slots(state: &StageState, parts: &Parts) -> [Digest; 2] {
    let stage = stage_name(state);
    let words = ["args", "sources", "dest", "path"].map(|name| parts.value(name).unwrap_or_default());
    [
        format!("place\0{}\0{stage}\0{}", parts.kind(), state.done()),
        format!("words\0{}\0{}", parts.kind(), words.join("\0")),
    ]
    .map(Digest::sha256)
}

fn known(store: &Store, slot: &Digest) -> Result<Vec<Parts>, StepError> {
    let bytes = store.record(PARTS, slot)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

/// The first part that differs, in words.
fn difference(
    store: &Store,
    old: &Parts,
    new: &Parts,
    files: Option<Selection<'_>>,
) -> Result<Option<String>, StepError> {
    // A base that moved shows in the tree below, but says more.
    if let Some((was, is)) = new.change(old, "base").filter(|_| new.change(old, "parent").is_some()) {
        return Ok(Some(format!("the base moved from {} to {}", was.join(" "), is.join(" "))));
    }
    let changed = new
        .names()
        .filter(|name| *name != "base")
        .find_map(|name| new.change(old, name).map(|(was, is)| (name, was, is)));
    let Some((name, was, is)) = changed else { return Ok(None) };
    let one = |values: &[String]| shorten(&values.join(" "));
    Ok(Some(match name {
        "parent" => "what it is built on changed".to_string(),
        "selection" => files_changed(store, was, files)?,
        "env" | "declared" => variable(new, was, is),
        "args" => format!("the command changed from `{}` to `{}`", one(was), one(is)),
        "epoch" => format!("SOURCE_DATE_EPOCH: {} -> {}", one(was), one(is)),
        "script" | "heredocs" => "a here-document changed".to_string(),
        "selected" | "seed" => "the files of a mount changed".to_string(),
        name => format!("{name}: {} -> {}", one(was), one(is)),
    }))
}

fn shorten(text: &str) -> String {
    let text = redact(text);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The first variable that is not as it was; the values of those that look like secrets stay unsaid.
fn variable(new: &Parts, was: &[String], is: &[String]) -> String {
    let pairs = |values: &[String]| -> BTreeMap<String, Option<String>> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (text.clone(), None),
        };
        values.iter().map(pair).collect()
    };
    let (old, now) = (pairs(was), pairs(is));
    let declared = pairs(new.values("declared"));
    let changed = now.keys().chain(old.keys()).find(|name| old.get(*name) != now.get(*name));
    let Some(name) = changed else { return "the order of variables changed".to_string() };
    let word = if declared.contains_key(name) { "ARG" } else { "ENV" };
    let shown = |value: Option<&Option<String>>| match value {
        Some(Some(value)) => shorten(value),
        Some(None) => "without a value".to_string(),
        None => "not there".to_string(),
    };
    match is_secret_key(name) {
        true => format!("{word} {name} changed"),
        false => format!("{word} {name}: {} -> {}", shown(old.get(name)), shown(now.get(name))),
    }
}

fn by_path(files: &Files) -> BTreeMap<&str, &str> {
    pairs(files.iter().map(|(path, digest)| (path, digest)))
}

/// The first file that differs.
fn files_changed(store: &Store, was: &[String], new: Option<Selection<'_>>) -> Result<String, StepError> {
    let bytes = store.record(FILES, &Digest::sha256(was.join("\0")))?;
    let old: Option<BTreeMap<String, String>> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(match (old, new) {
        (Some(old), Some(new)) => first_file(pairs(&old), by_path(new.files)),
        _ => "the files changed".to_string(),
    })
}
