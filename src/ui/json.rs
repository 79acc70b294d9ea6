//! Progress as JSON, one object a line. The schema is documented in `docs/progress-json.md` and only ever grows.

use super::diagnostic::Diagnostic;
use super::steps::Change;
use crate::progress::{Outcome, Stream};
use serde_json::{Value, json};
use std::time::Duration;

/// The lines of `change`, which came `at` after the start of the operation.
pub(super) fn text(change: &Change, at: Duration) -> String {
    let objects = match change {
        Change::Nothing => vec![],
        Change::Planned(steps) => vec![json!({"event": "planned", "steps": steps})],
        Change::Started { number, name, line } => {
            vec![json!({"event": "started", "step": number, "name": name, "line": line})]
        }
        Change::Lines { number, stream, lines, .. } => {
            lines.iter().map(|text| output(*number, *stream, text)).collect()
        }
        Change::Moved { number, done, total, .. } => {
            vec![json!({"event": "transferred", "step": number, "done": done, "total": total})]
        }
        Change::Note { number, text } => vec![json!({"event": "note", "step": number, "text": text})],
        Change::Part { number, text } => vec![json!({"event": "part", "step": number, "text": text})],
        Change::Missed { number, why } => vec![json!({"event": "missed", "step": number, "why": why})],
        Change::Warning(text) => vec![json!({"event": "warning", "text": text})],
        Change::Ended { number, rest, outcome, elapsed, .. } => {
            let mut objects: Vec<Value> = rest.iter().map(|(stream, text)| output(*number, *stream, text)).collect();
            let (outcome, from) = match outcome {
                Outcome::Done => ("done", None),
                Outcome::Cached(place) => ("cached", Some(place)),
                Outcome::Failed => ("failed", None),
                Outcome::Cancelled => ("cancelled", None),
            };
            let seconds = elapsed.as_secs_f64();
            objects.push(json!({
                "event": "finished", "step": number, "outcome": outcome, "from": from, "seconds": seconds
            }));
            objects
        }
    };
    objects.into_iter().map(|object| line(object, at)).collect()
}

/// The line that ends a failed operation.
pub(super) fn failure(diagnostic: &Diagnostic, at: Duration) -> String {
    let place = diagnostic.source.as_ref().map(|source| {
        json!({
            "file": source.file, "line": source.span.line, "end_line": source.span.end_line,
            "column": source.span.column, "end_column": source.span.end_column
        })
    });
    let object = json!({
        "event": "error", "kind": diagnostic.kind.name(), "message": diagnostic.message,
        "causes": diagnostic.causes, "hints": diagnostic.hints, "source": place, "exit": diagnostic.exit
    });
    line(object, at)
}

/// The line that ends an operation that did its work.
pub(super) fn success(done: usize, cached: usize, at: Duration) -> String {
    line(json!({"event": "succeeded", "steps": done, "cached": cached}), at)
}

fn output(number: usize, stream: Stream, text: &str) -> Value {
    let stream = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    json!({"event": "output", "step": number, "stream": stream, "text": text})
}

fn line(mut object: Value, at: Duration) -> String {
    object["time"] = json!(at.as_secs_f64());
    format!("{object}\n")
}
