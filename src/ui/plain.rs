//! Progress as lines of text, for CI logs and files.
//!
//! Every line begins with `#N`, the step's number in the order of start, so that the lines of stages that run at the
//! same time can be told apart and `grep '^#7 '` gives one step's story:
//!
//! ```text
//! #7 [build 2/5] RUN make
//! #7 0.512 cc -c main.c
//! #7 DONE 1.3s
//! ```
//!
//! A step that was not in the cache says why: `#7 MISS file src/main.c changed`. What BuildKit's logs say of an image stands in
//! the same words here, because scripts look for it: `#8 naming to docker.io/library/app:1 done`.
//!
//! The number before an output line is the time since the step's start, in seconds. The last line of a step is
//! `DONE`, `CACHED` or `ERROR`. A line is always written whole.

use super::steps::{Change, bytes, seconds};
use crate::progress::Outcome;
use std::fmt::Write as _;
use std::time::Duration;

/// The lines of `change`, each with its line end; empty where there is nothing to say.
pub(super) fn text(change: &Change) -> String {
    let mut out = String::new();
    match change {
        Change::Nothing | Change::Planned(_) => {}
        Change::Started { number, name, .. } => line(&mut out, &format!("#{number} {name}")),
        Change::Lines { number, at, lines, .. } => lines.iter().for_each(|text| output(&mut out, *number, *at, text)),
        Change::Moved { number, done, total, due: true } => {
            let total = total.map(|total| format!(" / {}", bytes(total))).unwrap_or_default();
            line(&mut out, &format!("#{number} {}{total}", bytes(*done)));
        }
        Change::Moved { due: false, .. } => {}
        Change::Note { number: Some(number), text } => line(&mut out, &format!("#{number} note: {text}")),
        Change::Part { number, text } => line(&mut out, &format!("#{number} {text} done")),
        Change::Missed { number, why } => line(&mut out, &format!("#{number} MISS {why}")),
        Change::Note { number: None, text } => line(&mut out, &format!("note: {text}")),
        Change::Warning(text) => line(&mut out, &format!("warning: {text}")),
        Change::Ended { number, rest, bytes: moved, outcome, elapsed, .. } => {
            rest.iter().for_each(|(_, text)| output(&mut out, *number, *elapsed, text));
            let time = seconds(*elapsed);
            let size = if *moved > 0 { format!(" {}", bytes(*moved)) } else { String::new() };
            match outcome {
                Outcome::Done => line(&mut out, &format!("#{number} DONE {time}{size}")),
                Outcome::Cached(place) => line(&mut out, &format!("#{number} CACHED {time} {place}")),
                Outcome::Failed => line(&mut out, &format!("#{number} ERROR {time}")),
                Outcome::Cancelled => line(&mut out, &format!("#{number} CANCELLED {time}")),
            }
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn output(out: &mut String, number: usize, at: Duration, text: &str) {
    let _ = write!(out, "#{number} {:.3} ", at.as_secs_f64());
    line(out, text);
}
