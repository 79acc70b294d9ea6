//! What a running operation reports. The operations emit [`Event`]s; `ui` draws them; tests record them.

use std::time::Duration;

/// Receives events from any thread. Implemented by `ui`'s renderers and by the tests' recorder.
pub trait Progress: Send + Sync {
    /// Takes one event. Must not block for long: it is called from the threads that do the work.
    fn emit(&self, event: Event);
}

/// Identifies a step (or a transfer) from its start to its end, unique in one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u64);

/// Which stream of a RUN step a chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did its work.
    Done,
    /// Its result was known; nothing was run. Holds where it was found, such as `local`.
    Cached(String),
    /// It failed; the error itself travels by `Result`.
    Failed,
    /// It was ended because another one failed.
    Cancelled,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The plan is made: this many steps in all.
    Planned {
        /// Steps that will be shown.
        steps: usize,
    },
    /// A step or transfer begins.
    Started {
        /// Its id.
        id: StepId,
        /// What to show, such as `[build 2/5] RUN make`.
        name: String,
        /// The Dockerfile line, where there is one.
        line: Option<u32>,
    },
    /// Output of a RUN step, as it comes.
    Output {
        /// The step.
        id: StepId,
        /// Its stream.
        stream: Stream,
        /// Raw bytes, not necessarily whole lines or UTF-8.
        data: Vec<u8>,
    },
    /// A transfer moved on.
    Transferred {
        /// The step.
        id: StepId,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, if known.
        total: Option<u64>,
    },
    /// One line of explanation about a step: why the cache missed, which mirror served, and so on.
    Note {
        /// The step, or none for the whole operation.
        id: Option<StepId>,
        /// The line.
        text: String,
    },
    /// A part of a step is done.
    Part {
        /// The step.
        id: StepId,
        /// Which, such as `naming to docker.io/library/app:1`.
        text: String,
    },
    /// A step was not in the cache.
    Missed {
        /// The step.
        id: StepId,
        /// The first thing that differs from the closest step of earlier builds.
        why: String,
    },
    /// Something the user should know, shown again at the end.
    Warning {
        /// The line.
        text: String,
    },
    /// A step or transfer ended.
    Finished {
        /// Its id.
        id: StepId,
        /// How.
        outcome: Outcome,
        /// How long it took.
        elapsed: Duration,
    },
}
