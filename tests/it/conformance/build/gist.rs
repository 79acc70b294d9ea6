//! Whether an error says what the recorded one says, in other words.

use serde_json::Value;

/// Words of the recorded error's frame, which say nothing of the cause.
const FRAME: &[&str] = &["dockerfile", "parse", "error", "line", "failed", "process", "compute", "cache", "checksum"];

/// The whole text of an error event.
pub fn text(error: &Value) -> String {
    let mut lines = vec![error["message"].as_str().unwrap_or_default()];
    lines.extend(error["causes"].as_array().into_iter().flatten().filter_map(Value::as_str));
    lines.extend(error["hints"].as_array().into_iter().flatten().filter_map(Value::as_str));
    lines.join(": ")
}

/// Compares the error event of a build with the recorded text.
pub fn compare(expect: &Value, error: &Value) -> Result<(), String> {
    let want = expect["error"].as_str().unwrap_or_default();
    let got = text(error);
    if says(want, &got) { Ok(()) } else { Err(format!("expected the error '{want}', got '{got}'")) }
}

fn says(want: &str, got: &str) -> bool {
    let got_lower = got.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| got_lower.contains(word));
    if want.contains("checksum of ref ") {
        // Which of several missing sources is named depends on the order in which steps are looked at.
        return any(&["\": not found"]);
    }
    if want.starts_with("open ") {
        return any(&["not found", "no such", "nothing"]);
    }
    if let Some((_, code)) = want.split_once("exit code: ") {
        // Code 1 is also what a command gives that cannot be started at all.
        return got.contains(&format!("exit code {code}")) || code == "1" && any(&["not found", "no such file"]);
    }
    if want.starts_with("failed to parse platform") {
        return any(&["platform"]) && any(&["not a platform", "invalid", "cannot parse"]);
    }
    let words: Vec<String> = want
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| word.len() > 2 && !FRAME.contains(&word.to_lowercase().as_str()))
        .map(|word| word.to_lowercase().chars().take(6).collect())
        .collect();
    let found = words.iter().filter(|word| got_lower.contains(word.as_str())).count();
    found * 2 >= words.len()
}
