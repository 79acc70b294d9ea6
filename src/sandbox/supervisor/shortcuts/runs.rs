//! Which programs are over so soon that shortcuts cannot pay: to give a program the copy of its library takes about as long as
//! ten calls that are handed over.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A program that is over within this time made so few calls that they are no matter.
const SHORT: Duration = Duration::from_millis(1);

/// After so many short runs more than four times as many long ones the next is taken for a short one.
const ENOUGH: u8 = 4;

/// No more are counted, so that a few long runs are enough to think otherwise.
const MOST: u8 = 12;

/// Programs that are kept at most.
const PROGRAMS: usize = 4096;

/// A program that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// A hash of the path that it was executed by: taken for another one it is only slower.
    program: u64,
    since: Instant,
}

impl Run {
    /// The one at `path` begins now.
    pub(in crate::sandbox::supervisor) fn of(path: &[u8]) -> Run {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        Run { program: hasher.finish(), since: Instant::now() }
    }
}

/// How programs of a step have run.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<HashMap<u64, u8>>);

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called when a run ends now.
    pub(super) fn ends(&self, run: &Run) {
        self.took(run.program, run.since.elapsed());
    }

    fn took(&self, program: u64, time: Duration) {
        let mut runs = self.lock();
        if runs.len() >= PROGRAMS && !runs.contains_key(&program) {
            runs.clear();
        }
        let count = runs.entry(program).or_default();
        *count = if time < SHORT { (*count + 1).min(MOST) } else { count.saturating_sub(4) };
    }

    /// Whether a run is likely to be short.
    pub(super) fn is_short(&self, run: &Run) -> bool {
        self.lock().get(&run.program).is_some_and(|count| *count >= ENOUGH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_short_programs() {
        let (runs, short, other) = (Runs::default(), Run::of(b"/bin/true"), Run::of(b"/bin/tar"));
        let took = |times: u32, time| (0..times).for_each(|_| runs.took(short.program, time));
        took(ENOUGH.into(), SHORT / 2);
        assert!(runs.is_short(&short) && !runs.is_short(&other));
        took(1, SHORT);
        assert!(!runs.is_short(&short));
        took(100, SHORT / 2);
        assert!(runs.is_short(&short));
        took(3, 2 * SHORT);
        assert!(!runs.is_short(&short));
        (0..=PROGRAMS as u64).for_each(|program| runs.took(program, SHORT));
        assert!(runs.lock().len() <= PROGRAMS);
        runs.ends(&other);
        assert!(!runs.is_short(&other));
    }
}
