//! Runs the stages of a plan at the same time, each waiting only for the results it reads.

use crate::plan::StageIndex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Results of stages, as they come.
#[derive(Debug)]
pub struct Results<T> {
    slots: Mutex<Vec<Slot<T>>>,
    changed: Condvar,
    cancelled: AtomicBool,
}

#[derive(Debug)]
enum Slot<T> {
    Pending,
    Done(Arc<T>),
    Failed,
}

/// The stage was not finished because another one failed; that one's error is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl<T> Results<T> {
    fn new(stages: usize) -> Self {
        Results {
            slots: Mutex::new((0..stages).map(|_| Slot::Pending).collect()),
            changed: Condvar::new(),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Waits for a stage's result.
    pub fn wait(&self, stage: StageIndex) -> Result<Arc<T>, Cancelled> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = |slots: &mut Vec<Slot<T>>| matches!(slots[stage.0], Slot::Pending) && !self.is_cancelled();
        let slots = self.changed.wait_while(slots, pending).unwrap_or_else(PoisonError::into_inner);
        match &slots[stage.0] {
            Slot::Done(result) => Ok(result.clone()),
            Slot::Pending | Slot::Failed => Err(Cancelled),
        }
    }

    /// Whether a stage failed, so that nothing more need be done.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    fn put(&self, stage: usize, slot: Slot<T>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(slot, Slot::Failed) {
            self.cancelled.store(true, Ordering::SeqCst);
        }
        slots[stage] = slot;
        self.changed.notify_all();
    }
}

/// How a stage can end without a result.
#[derive(Debug)]
pub enum Stopped<E> {
    /// Its own error.
    Error(E),
    /// Another stage's.
    Cancelled,
}

impl<E> From<Cancelled> for Stopped<E> {
    fn from(_: Cancelled) -> Self {
        Stopped::Cancelled
    }
}

/// Puts a stage's slot when it goes out of scope: also when the stage panics, so that no other waits for ever.
struct Ending<'a, T> {
    results: &'a Results<T>,
    stage: usize,
    slot: Slot<T>,
}

impl<T> Drop for Ending<'_, T> {
    fn drop(&mut self) {
        self.results.put(self.stage, std::mem::replace(&mut self.slot, Slot::Failed));
    }
}

/// Runs `work` for each of `stages` stages at the same time and gives their results, or the first error; `stop` is called
/// when there is one, to end what the others do.
///
/// Stage N may wait for lower-numbered ones only, so there is always one that can go on.
pub fn run_stages<T, E, F>(stages: usize, work: F, stop: impl Fn() + Sync) -> Result<Vec<Arc<T>>, E>
where
    T: Send + Sync,
    E: Send,
    F: Fn(StageIndex, &Results<T>) -> Result<T, Stopped<E>> + Sync,
{
    let results = Results::new(stages);
    let first_error = Mutex::new(None);
    let run = |stage: usize| {
        let mut ending = Ending { results: &results, stage, slot: Slot::Failed };
        match work(StageIndex(stage), &results) {
            Ok(result) => ending.slot = Slot::Done(Arc::new(result)),
            Err(Stopped::Cancelled) => {}
            Err(Stopped::Error(error)) => {
                first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                stop();
            }
        }
    };
    std::thread::scope(|scope| {
        let run = &run;
        for stage in 1..stages {
            scope.spawn(move || run(stage));
        }
        run(0);
    });
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok((0..stages).filter_map(|stage| results.wait(StageIndex(stage)).ok()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_wait_for_what_they_read() {
        let results = run_stages::<usize, (), _>(
            4,
            |stage, results| {
                let below = match stage.0 {
                    0 => 0,
                    n => *results.wait(StageIndex(n - 1))?,
                };
                Ok(below + 1)
            },
            || {},
        );
        assert_eq!(results.unwrap().iter().map(|r| **r).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn independent_stages_run_at_the_same_time() {
        let barrier = std::sync::Barrier::new(3);
        let results = run_stages::<(), (), _>(
            3,
            |_, _| {
                barrier.wait();
                Ok(())
            },
            || {},
        );
        assert_eq!(results.unwrap().len(), 3);
    }

    #[test]
    fn the_first_error_ends_those_that_wait() {
        let stops = std::sync::atomic::AtomicUsize::new(0);
        let work = |stage: StageIndex, results: &Results<()>| match stage.0 {
            1 => Err(Stopped::Error("broken")),
            0 => Ok(()),
            _ => results.wait(StageIndex(1)).map(drop).map_err(Stopped::from),
        };
        let results = run_stages(3, work, || _ = stops.fetch_add(1, Ordering::SeqCst));
        assert_eq!(results.unwrap_err(), "broken");
        assert_eq!(stops.into_inner(), 1);
    }
}
