//! Tests of the context and of COPY and ADD.

use dockless::context::ignore::{Patterns, parse_file};
use serde_json::Value;
use std::path::Path;

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/conformance/dockerfile").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
}

#[test]
fn ignore_files_read_as_recorded() {
    for case in cases("ignore_file.jsonl") {
        let found = parse_file(case["input"]["content"].as_str().unwrap().as_bytes());
        let found: Vec<String> = found.into_iter().map(|p| String::from_utf8(p).unwrap()).collect();
        assert_eq!(found, texts(&case["expect"]["patterns"]), "{case}");
    }
}

#[test]
fn ignore_patterns_match_as_recorded() {
    let mut wrong = Vec::new();
    let all = cases("ignore_match.jsonl");
    for case in &all {
        let path = case["input"]["path"].as_str().unwrap();
        let found = Patterns::new(texts(&case["input"]["patterns"])).map(|p| p.matches(path.as_bytes()));
        let same = match (&found, case["expect"]["excluded"].as_bool()) {
            (Ok(found), Some(expected)) => *found == expected,
            (Err(_), None) => true,
            _ => false,
        };
        if !same {
            wrong.push(format!("{found:?}: {case}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}
