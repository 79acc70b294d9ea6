//! Kind `lint`: the whole list of warnings of a check, as `--check` gives it.

use super::{Case, difference, run};
use dockless::context::ignore::{Patterns, parse_file};
use dockless::dockerfile;
use dockless::oci::{Digest, ImageConfig, Platform};
use dockless::plan::{BaseImage, PlanOptions, Planner, lint_options};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[test]
fn lint() {
    run(&[("lint", warnings)]);
}

/// The image that stands for every base: one that has a PATH.
fn stand_in(platform: &Platform) -> BaseImage {
    let mut config =
        ImageConfig { os: platform.os.clone(), architecture: platform.architecture.clone(), ..ImageConfig::default() };
    config.config.env = Some(vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_string()]);
    BaseImage { digest: Digest::sha256(b"base"), config }
}

fn warnings(case: &Case) -> Result<(), String> {
    let text = case.input["dockerfile"].as_str().ok_or("no Dockerfile")?;
    let platform: Platform = "linux/amd64".parse().map_err(|error| format!("{error}"))?;
    let mut options = PlanOptions {
        target: None,
        build_args: Vec::new(),
        labels: Vec::new(),
        platform: platform.clone(),
        platform_is_explicit: false,
        build_platform: platform,
        source_date_epoch: None,
        named_contexts: BTreeMap::new(),
    };
    for (name, value) in case.input["opts"].as_object().into_iter().flatten() {
        let value = value.as_str().map(str::to_string);
        match name.split_once(':') {
            Some(("build-arg", name)) => options.build_args.push((name.to_string(), value)),
            None if name == "target" => options.target = value,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let ignore = case.input["dockerignore"].as_str().unwrap_or_default();
    let patterns = Patterns::new(parse_file(ignore.as_bytes())).map_err(|error| error.to_string())?;
    let file = dockerfile::parse(text).map_err(|error| error.to_string())?;
    let wanted = lint_options(&file, &options.build_args).map_err(|error| error.to_string())?;
    let mut planner = Planner::for_check(&file, &options).map_err(|error| error.to_string())?;
    for request in planner.wanted() {
        planner.supply(&request, stand_in(&request.platform)).map_err(|error| error.to_string())?;
    }
    let plan = planner.finish().map_err(|error| error.to_string())?;
    let found = plan.lints(&file, &wanted, |path| patterns.matches_for_good(path.as_bytes()));
    let found = found.iter().map(|warning| {
        json!({
            "rule": warning.rule, "line": warning.span.line,
            "detail": warning.detail, "description": warning.description,
        })
    });
    let mut found: Vec<Value> = found.collect();
    let mut expected = case.expect["warnings"].as_array().cloned().unwrap_or_default();
    // The order is the reader's.
    let order =
        |warning: &Value| (warning["line"].as_u64(), warning["rule"].to_string(), warning["detail"].to_string());
    found.sort_by_key(order);
    expected.sort_by_key(order);
    difference(&json!(expected), &json!(found), "warnings")
}
