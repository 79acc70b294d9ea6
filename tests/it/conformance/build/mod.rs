//! Recorded builds, run through the binary: the outcome, the image's config and history, and every file of its layers.

mod bench;
mod expected;
mod gist;
mod http;
mod layers;

use super::{Case, run};
use bench::Bench;
use serde_json::Value;

#[test]
fn builds() {
    let bench = Bench::new();
    run(&[("build-behaviour", |case: &Case| check(&bench, case))]);
}

/// What came out of one build.
struct Outcome {
    /// The error as JSON (`--progress=rawjson`), of a build that failed.
    error: Option<Value>,
    /// Texts of the warnings.
    warnings: Vec<String>,
    /// The images, one a platform, of a build that did not.
    images: Vec<layers::Image>,
    /// `HOST:PORT` that stood for `@HTTP@`.
    http: String,
}

fn check(bench: &Bench, case: &Case) -> Result<(), String> {
    let outcome = bench.build(case)?;
    let wanted = case.expect["ok"].as_bool().expect("recorded");
    match (&outcome.error, wanted) {
        (Some(error), true) => Err(format!("{}failed: {}", unsupported(error), gist::text(error))),
        (None, false) => Err(format!("succeeded, expected the error {}", case.expect["error"])),
        (Some(error), false) => gist::compare(&case.expect, error),
        (None, true) => expected::compare(case, &outcome),
    }
}

/// Marks failures that say of themselves what is missing.
fn unsupported(error: &Value) -> &'static str {
    if gist::text(error).contains("not supported") { "NOT SUPPORTED, " } else { "" }
}
