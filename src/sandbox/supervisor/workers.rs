//! How many workers receive calls.
//!
//! The kernel wakes every thread that waits for a notification, and all but one in vain. So as few wait as the step
//! needs: one more where a call was already waiting when a worker had finished another and looked, one fewer where that was
//! not so for a while. Workers that are left over are parked. A watch adds one where all are stuck in calls that take long (a slow
//! disk), so that others do not wait for those.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// More threads than these would only wait for one another.
const MOST: usize = 64;

/// After so many looks on end that found nobody waiting, a worker is one too many.
const QUIET: u32 = 4;

/// After so many looks on end that found somebody waiting, there is a worker too few. A call or two wait now and then where
/// a process and its child take turns.
const CROWDED: u32 = 3;

/// What one worker saw when it looked.
#[derive(Debug, Default)]
pub(super) struct Seen {
    quiet: u32,
    crowded: u32,
}

/// How long a call takes before it counts as stuck.
const STUCK: Duration = Duration::from_millis(2);

/// How long nobody looks at most while no calls come.
const QUIET_PAUSE: Duration = Duration::from_millis(80);

/// The workers of one supervisor, as numbers.
#[derive(Debug)]
pub(super) struct Workers {
    /// Those that receive calls or answer one.
    active: AtomicUsize,
    /// Those that answer one.
    busy: AtomicUsize,
    /// Calls answered so far.
    served: AtomicU64,
    /// As many as can run at once.
    processors: usize,
    parked: Mutex<Parked>,
    called: Condvar,
}

#[derive(Debug, Default)]
struct Parked {
    /// Workers that are parked.
    workers: usize,
    /// Of these, those that are to go on.
    called: usize,
}

/// What is to be done for one more worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    /// A thread is to be started, which is counted already.
    Start,
    /// Nothing.
    Nothing,
}

impl Workers {
    /// One worker, which is to be started.
    pub(super) fn new() -> Workers {
        Workers {
            active: AtomicUsize::new(1),
            busy: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            processors: std::thread::available_parallelism().map_or(2, usize::from),
            parked: Mutex::default(),
            called: Condvar::new(),
        }
    }

    /// A worker begins with a call.
    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    /// It has answered.
    pub(super) fn end(&self) {
        self.busy.fetch_sub(1, Ordering::AcqRel);
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether no call is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0
    }

    /// To be called by a worker that has just become free and looked whether a call waits all the same: it may be parked here
    /// for a while.
    pub(super) fn look(&self, waiting: bool, seen: &mut Seen) -> More {
        if !waiting {
            seen.crowded = 0;
            seen.quiet += 1;
            if seen.quiet >= QUIET {
                seen.quiet = 0;
                self.rest();
            }
            return More::Nothing;
        }
        seen.quiet = 0;
        seen.crowded += 1;
        if seen.crowded < CROWDED {
            return More::Nothing;
        }
        seen.crowded = 0;
        self.add(self.processors)
    }

    fn add(&self, limit: usize) -> More {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.active.load(Ordering::Acquire) >= limit.min(MOST) {
            return More::Nothing;
        }
        self.active.fetch_add(1, Ordering::AcqRel);
        if parked.workers > parked.called {
            parked.called += 1;
            self.called.notify_one();
            return More::Nothing;
        }
        More::Start
    }

    /// A thread that was to be started was not.
    pub(super) fn not_started(&self) {
        self.active.fetch_sub(1, Ordering::AcqRel);
    }

    fn rest(&self) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.active.load(Ordering::Acquire) <= 1 {
            return;
        }
        self.active.fetch_sub(1, Ordering::AcqRel);
        parked.workers += 1;
        while parked.called == 0 {
            parked = self.called.wait(parked).unwrap_or_else(PoisonError::into_inner);
        }
        parked.called -= 1;
        parked.workers -= 1;
    }

    /// Watches for ever: calls `start` for one more worker where all are stuck while `waiting` says that a call waits.
    pub(super) fn watch(&self, waiting: impl Fn() -> bool, start: impl Fn()) {
        let (mut before, mut pause) = (0, STUCK);
        loop {
            std::thread::sleep(pause);
            let served = self.served.load(Ordering::Relaxed);
            let (busy, active) = (self.busy.load(Ordering::Acquire), self.active.load(Ordering::Acquire));
            if served == before && busy >= active && waiting() && self.add(MOST) == More::Start {
                start();
            }
            pause = match (busy > 0, served == before) {
                (true, _) => STUCK,
                (false, false) => 5 * STUCK,
                // Each look takes a moment from a step that only computes.
                (false, true) => (2 * pause).min(QUIET_PAUSE),
            };
            before = served;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_to_the_processors_and_parks_what_is_too_much() {
        let workers = Workers { processors: 2, ..Workers::new() };
        let crowded = || {
            let mut seen = Seen::default();
            let looks: Vec<More> = (0..CROWDED).map(|_| workers.look(true, &mut seen)).collect();
            assert!(looks[..looks.len() - 1].iter().all(|more| *more == More::Nothing), "{looks:?}");
            looks[looks.len() - 1]
        };
        let quiet = || {
            let mut seen = Seen::default();
            (0..QUIET).for_each(|_| assert_eq!(workers.look(false, &mut seen), More::Nothing));
        };
        assert_eq!(crowded(), More::Start);
        assert_eq!(crowded(), More::Nothing, "no more than processors");
        std::thread::scope(|scope| {
            let parked = scope.spawn(quiet);
            while workers.active.load(Ordering::Acquire) == 2 {
                std::thread::yield_now();
            }
            quiet(); // the last one goes on
            assert_eq!(crowded(), More::Nothing, "the parked one is called");
            parked.join().unwrap();
        });
        assert_eq!(workers.active.load(Ordering::Acquire), 2);
    }
}
