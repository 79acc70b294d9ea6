//! The state that the renderers share: which steps run, their last lines, what failed, what was warned of.
//!
//! [`Steps::take`] turns an [`Event`] into a [`Change`] whose text is clean and whose steps carry short numbers in the
//! order of their start; each renderer only draws changes.

use super::lines::{LineCutter, clean};
use crate::progress::{Event, Outcome, StepId, Stream};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// So many last lines of a failed step are shown again at the end.
const TAIL: usize = 20;

/// A transfer of a renderer that prints lines is reported at most this often.
const TRANSFER_EVERY: Duration = Duration::from_secs(5);

/// What an event changed, ready to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing to draw (a chunk that completes no line, an event of a step that never started).
    Nothing,
    /// The number of steps is known.
    Planned(usize),
    /// A step began.
    Started { number: usize, name: String, line: Option<u32> },
    /// A step wrote whole lines, `at` after its start.
    Lines { number: usize, stream: Stream, at: Duration, lines: Vec<String> },
    /// A transfer moved on; `due` where a renderer that prints lines should print one.
    Moved { number: usize, done: u64, total: Option<u64>, due: bool },
    /// An explanation.
    Note { number: Option<usize>, text: String },
    /// A step was not in the cache.
    Missed { number: usize, why: String },
    /// A warning.
    Warning(String),
    /// A step ended. `rest` are the last lines of each stream, which had no line end.
    Ended { number: usize, name: String, rest: Vec<(Stream, String)>, bytes: u64, outcome: Outcome, elapsed: Duration },
}

/// The last lines of a step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its number.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Its last lines.
    pub tail: Vec<String>,
}

/// All steps of an operation.
#[derive(Debug, Default)]
pub struct Steps {
    running: HashMap<StepId, Step>,
    started: usize,
    /// Steps that ended well, those from the cache included.
    pub done: usize,
    /// Steps whose result was found in the cache.
    pub cached: usize,
    /// Steps that failed, in the order of their end.
    pub failures: Vec<Failure>,
    /// Warnings, each once, in the order in which they came.
    pub warnings: Vec<String>,
}

#[derive(Debug)]
struct Step {
    number: usize,
    name: String,
    since: Instant,
    stdout: LineCutter,
    stderr: LineCutter,
    tail: VecDeque<String>,
    bytes: u64,
    reported: Instant,
}

impl Step {
    fn remember(&mut self, line: &str) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_string());
    }
}

impl Steps {
    /// Takes an event that came at `now`.
    pub fn take(&mut self, event: Event, now: Instant) -> Change {
        match event {
            Event::Planned { steps } => Change::Planned(steps),
            Event::Started { id, name, line } => self.start(id, &name, line, now),
            Event::Output { id, stream, data } => self.output(id, stream, &data, now),
            Event::Transferred { id, done, total } => {
                let Some(step) = self.running.get_mut(&id) else { return Change::Nothing };
                step.bytes = done;
                let due = now.saturating_duration_since(step.reported) >= TRANSFER_EVERY;
                if due {
                    step.reported = now;
                }
                Change::Moved { number: step.number, done, total, due }
            }
            Event::Missed { id, why } => match self.running.get(&id) {
                Some(step) => Change::Missed { number: step.number, why: clean(why.as_bytes()) },
                None => Change::Nothing,
            },
            Event::Note { id, text } => {
                let number = id.and_then(|id| self.running.get(&id)).map(|step| step.number);
                Change::Note { number, text: clean(text.as_bytes()) }
            }
            Event::Warning { text } => {
                let text = clean(text.as_bytes());
                if self.warnings.contains(&text) {
                    return Change::Nothing;
                }
                self.warnings.push(text.clone());
                Change::Warning(text)
            }
            Event::Finished { id, outcome, elapsed } => self.finish(id, outcome, elapsed),
        }
    }

    fn start(&mut self, id: StepId, name: &str, line: Option<u32>, now: Instant) -> Change {
        self.started += 1;
        let step = Step {
            number: self.started,
            name: clean(name.as_bytes()),
            since: now,
            stdout: LineCutter::default(),
            stderr: LineCutter::default(),
            tail: VecDeque::new(),
            bytes: 0,
            reported: now,
        };
        let change = Change::Started { number: step.number, name: step.name.clone(), line };
        self.running.insert(id, step);
        change
    }

    fn output(&mut self, id: StepId, stream: Stream, data: &[u8], now: Instant) -> Change {
        let Some(step) = self.running.get_mut(&id) else { return Change::Nothing };
        let cutter = match stream {
            Stream::Stdout => &mut step.stdout,
            Stream::Stderr => &mut step.stderr,
        };
        let lines = cutter.push(data);
        lines.iter().for_each(|line| step.remember(line));
        if lines.is_empty() {
            return Change::Nothing;
        }
        Change::Lines { number: step.number, stream, at: now.saturating_duration_since(step.since), lines }
    }

    fn finish(&mut self, id: StepId, outcome: Outcome, elapsed: Duration) -> Change {
        let Some(mut step) = self.running.remove(&id) else { return Change::Nothing };
        let mut rest = Vec::new();
        rest.extend(step.stdout.finish().map(|line| (Stream::Stdout, line)));
        rest.extend(step.stderr.finish().map(|line| (Stream::Stderr, line)));
        rest.iter().for_each(|(_, line)| step.remember(line));
        match &outcome {
            Outcome::Done => self.done += 1,
            Outcome::Cached(_) => {
                self.done += 1;
                self.cached += 1;
            }
            Outcome::Failed => {
                let tail = step.tail.into();
                self.failures.push(Failure { number: step.number, name: step.name.clone(), tail });
            }
            Outcome::Cancelled => {}
        }
        Change::Ended { number: step.number, name: step.name, rest, bytes: step.bytes, outcome, elapsed }
    }
}

/// A duration as people read it: `0.4s`, `75.0s`.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// A number of bytes as people read it, in powers of 1000: `812B`, `34.1MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let (mut value, mut unit) = (count as f64 / 1000.0, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1}{}", UNITS[unit])
}

/// A number of bytes as Docker's lists tell it: with so many digits at most (`133MB`, `16.43MB`).
pub fn bytes_in(count: u64, digits: usize) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (count as f64, 0);
    // What would be rounded to 1000 is 1 of the next.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let whole = (value.max(1.0).log10() as usize) + 1;
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0kB"),
            (999_949, "999.9kB"),
            (999_950, "1.0MB"),
            (34_100_000, "34.1MB"),
            (u64::MAX, "18446744.1TB"),
        ];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn bytes_are_dockers() {
        let cases = [
            (0, "0B", "0B"),
            (212, "212B", "212B"),
            (1000, "1kB", "1kB"),
            (16_434_000, "16.43MB", "16.4MB"),
            (133_260_000, "133.3MB", "133MB"),
            (7_000_000, "7MB", "7MB"),
            (999_900, "1MB", "1MB"),
            (2_999_999_999, "3GB", "3GB"),
        ];
        for (count, four, three) in cases {
            assert_eq!((bytes_in(count, 4), bytes_in(count, 3)), (four.to_string(), three.to_string()));
        }
    }

    #[test]
    fn events_of_unknown_steps_change_nothing() {
        let (mut steps, now) = (Steps::default(), Instant::now());
        let id = StepId(7);
        let output = Event::Output { id, stream: Stream::Stdout, data: b"x\n".to_vec() };
        assert_eq!(steps.take(output, now), Change::Nothing);
        let finished = Event::Finished { id, outcome: Outcome::Done, elapsed: Duration::ZERO };
        assert_eq!(steps.take(finished, now), Change::Nothing);
        assert_eq!(steps.done, 0);
    }

    #[test]
    fn a_failure_keeps_the_last_lines() {
        let (mut steps, now) = (Steps::default(), Instant::now());
        let id = StepId(0);
        steps.take(Event::Started { id, name: "RUN x".into(), line: Some(1) }, now);
        let text: String = (0..30).map(|n| format!("line {n}\n")).collect();
        steps.take(Event::Output { id, stream: Stream::Stdout, data: text.into_bytes() }, now);
        steps.take(Event::Output { id, stream: Stream::Stderr, data: b"the end".to_vec() }, now);
        steps.take(Event::Finished { id, outcome: Outcome::Failed, elapsed: Duration::ZERO }, now);
        let tail = &steps.failures[0].tail;
        assert_eq!(tail.len(), TAIL);
        assert_eq!((tail[0].as_str(), tail[TAIL - 1].as_str()), ("line 11", "the end"));
    }
}
