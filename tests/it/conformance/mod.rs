//! Runs a directory of recorded cases: `testdata/conformance`, or the one that `DOCKLESS_CONFORMANCE` names.
//!
//! A case is an input and what BuildKit made of it. Each kind of case has a check; a group of kinds is one test. One line
//! is printed per failure (case and what differed), and one per kind: `kind: N passed, M failed`. To add kinds, write a
//! module with checks and a test that calls [`run`].
//!
//! The builds are made in the tier that `DOCKLESS_ISOLATION` names, else in the best one. In the tier emulated they are to be run as
//! an ordinary user, who can read this directory, with a `TMPDIR` of that user's:
//! `setpriv --reuid 61234 --regid 61234 --clear-groups env TMPDIR=… DOCKLESS_ISOLATION=emulated target/debug/deps/it-… conformance::build`.

mod build;
mod lint;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use serde_json::Value;

/// Exceptions that the whole project may have.
const MAX_EXCEPTIONS: usize = 10;

/// One recorded case.
pub struct Case {
    /// Unique name.
    pub id: String,
    /// Which check reads it.
    pub kind: String,
    /// What BuildKit was given.
    pub input: Value,
    /// What it made of it.
    pub expect: Value,
}

/// Says what differs.
pub type Check = fn(&Case) -> Result<(), String>;

/// The directory, and whether it is the repository's own.
fn directory() -> (PathBuf, bool) {
    match std::env::var_os("DOCKLESS_CONFORMANCE") {
        Some(dir) => (dir.into(), false),
        None => (Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/conformance"), true),
    }
}

/// All cases below a directory: one per line in `.jsonl`, one per file in `.json`.
fn read(dir: &Path, cases: &mut Vec<Case>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            read(&path, cases);
            continue;
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("json" | "jsonl")) || path.file_name().is_some_and(|name| name == "index.json") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let whole = extension == Some("json");
        let records = if whole { vec![text.as_str()] } else { text.lines().collect() };
        for record in records.into_iter().filter(|record| !record.trim().is_empty()) {
            let mut value: Value =
                serde_json::from_str(record).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
            cases.push(Case {
                id: text(&value["id"]),
                kind: text(&value["kind"]),
                input: value["input"].take(),
                expect: value["expect"].take(),
            });
        }
    }
}

impl Case {
    /// Its kind and id: cases of two kinds that were made of one file share an id.
    fn name(&self) -> String {
        format!("{} {}", self.kind, self.id)
    }
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut cases = Vec::new();
    read(&directory().0, &mut cases);
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    cases
});

/// Cases held to be wrong, which are not run: the lines of the repository's `EXCEPTIONS.md` that start with "- `kind id`".
fn exceptions() -> Vec<String> {
    listed("- `")
}

/// Cases that cannot be as recorded in the tier that `DOCKLESS_ISOLATION` names: lines that start with "- tier `kind id`".
fn exceptions_of_tier() -> Vec<String> {
    std::env::var("DOCKLESS_ISOLATION").map_or_else(|_| Vec::new(), |tier| listed(&format!("- {tier} `")))
}

fn listed(start: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/conformance/EXCEPTIONS.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let id = |line: &str| line.strip_prefix(start)?.split_once('`').map(|(id, _)| id.to_string());
    text.lines().filter_map(id).collect()
}

/// Checks every case of these kinds, in parallel; panics if one fails, or if the repository's data has no such case.
pub fn run<C: Fn(&Case) -> Result<(), String> + Sync>(kinds: &[(&str, C)]) {
    let (_, own) = directory();
    let exceptions = [exceptions(), exceptions_of_tier()].concat();
    let wanted: Vec<(&Case, &C)> = CASES
        .iter()
        .filter(|case| !exceptions.contains(&case.name()))
        .filter_map(|case| kinds.iter().find(|(kind, _)| *kind == case.kind).map(|(_, check)| (case, check)))
        .collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((case, check)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome =
                        catch_unwind(AssertUnwindSafe(|| check(case))).unwrap_or_else(|_| Err("panicked".into()));
                    if let Err(difference) = outcome {
                        failures.lock().expect("not poisoned").push((case, difference));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("not poisoned");
    failures.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    let mut counts: BTreeMap<&str, (usize, usize)> = kinds.iter().map(|(kind, _)| (*kind, (0, 0))).collect();
    for (case, _) in &wanted {
        counts.entry(&case.kind).or_default().0 += 1;
    }
    // Past the test runner's capture: the figures are the point.
    let mut out = std::io::stdout().lock();
    for (case, difference) in &failures {
        counts.entry(&case.kind).or_default().1 += 1;
        writeln!(out, "{}: {difference}", case.id).expect("stdout");
    }
    for (kind, (all, failed)) in &counts {
        writeln!(out, "{kind}: {} passed, {failed} failed", all - failed).expect("stdout");
        assert!(!own || *all > 0, "no case of kind {kind}");
    }
    drop(out);
    assert!(failures.is_empty(), "{} of {} cases failed", failures.len(), wanted.len());
}

/// The first place where `actual` is not what was expected.
pub fn difference(expected: &Value, actual: &Value, at: &str) -> Result<(), String> {
    match (expected, actual) {
        (Value::Object(want), Value::Object(got)) => {
            for key in want.keys().chain(got.keys().filter(|key| !want.contains_key(*key))) {
                let null = Value::Null;
                difference(want.get(key).unwrap_or(&null), got.get(key).unwrap_or(&null), &format!("{at}.{key}"))?;
            }
            Ok(())
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            want.iter().zip(got).enumerate().try_for_each(|(i, (w, g))| difference(w, g, &format!("{at}[{i}]")))
        }
        _ if expected == actual => Ok(()),
        _ => Err(format!("{at}: expected {expected}, got {actual}")),
    }
}

#[test]
fn exceptions_are_few_and_real() {
    let exceptions = exceptions();
    assert!(exceptions.len() <= MAX_EXCEPTIONS, "{} exceptions", exceptions.len());
    let (_, own) = directory();
    let of_tiers = dockless::sandbox::Tier::ALL.map(|tier| listed(&format!("- {tier} `"))).concat();
    for id in exceptions.iter().chain(&of_tiers).filter(|_| own) {
        assert!(CASES.iter().any(|case| case.name() == *id), "no case {id}");
    }
}
