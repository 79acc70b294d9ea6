//! Runs the stages of a plan at the same time, each waiting only for the results it reads.
//!
//! A stage begins when its result is wanted: the targets' at once, another's when a step that is not in the cache is about
//! to read it. One that nobody asks for until all targets are done is never looked at.

use crate::plan::StageIndex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Results of stages, as they come.
#[derive(Debug)]
pub struct Results<T> {
    slots: Mutex<Vec<Slot<T>>>,
    changed: Condvar,
    cancelled: AtomicBool,
    targets: Vec<StageIndex>,
}

#[derive(Debug)]
enum Slot<T> {
    /// Nobody has asked for it yet.
    Idle,
    /// It is being made, or is about to be.
    Wanted,
    Done(Arc<T>),
    Failed,
}

/// The stage was not finished because another one failed; that one's error is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl<T> Results<T> {
    fn new(stages: usize, targets: &[StageIndex]) -> Self {
        let results = Results {
            slots: Mutex::new((0..stages).map(|_| Slot::Idle).collect()),
            changed: Condvar::new(),
            cancelled: AtomicBool::new(false),
            targets: targets.to_vec(),
        };
        targets.iter().for_each(|target| results.want(*target));
        results
    }

    /// Lets a stage begin, whose result will be waited for.
    pub fn want(&self, stage: StageIndex) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(slots[stage.0], Slot::Idle) {
            slots[stage.0] = Slot::Wanted;
            self.changed.notify_all();
        }
    }

    /// Waits for a stage's result.
    pub fn wait(&self, stage: StageIndex) -> Result<Arc<T>, Cancelled> {
        self.want(stage);
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = |slots: &mut Vec<Slot<T>>| matches!(slots[stage.0], Slot::Wanted) && !self.is_cancelled();
        let slots = self.changed.wait_while(slots, pending).unwrap_or_else(PoisonError::into_inner);
        match &slots[stage.0] {
            Slot::Done(result) => Ok(result.clone()),
            Slot::Idle | Slot::Wanted | Slot::Failed => Err(Cancelled),
        }
    }

    /// A stage's result, where it is there.
    pub fn get(&self, stage: StageIndex) -> Option<Arc<T>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match &slots[stage.0] {
            Slot::Done(result) => Some(result.clone()),
            Slot::Idle | Slot::Wanted | Slot::Failed => None,
        }
    }

    /// Waits until somebody wants the stage; false where nobody will.
    fn is_wanted(&self, stage: usize) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |slots: &[Slot<T>]| self.targets.iter().all(|target| matches!(slots[target.0], Slot::Done(_)));
        let idle =
            |slots: &mut Vec<Slot<T>>| matches!(slots[stage], Slot::Idle) && !self.is_cancelled() && !over(slots);
        let slots = self.changed.wait_while(slots, idle).unwrap_or_else(PoisonError::into_inner);
        matches!(slots[stage], Slot::Wanted)
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

/// Runs `work` for each of `stages` stages that is wanted, at the same time, and gives their results, or the first error;
/// `stop` is called when there is one, to end what the others do. There is no result of a stage that nobody wanted.
///
/// Stage N may wait for lower-numbered ones only, so there is always one that can go on.
pub fn run_stages<T, E, F>(
    stages: usize,
    targets: &[StageIndex],
    work: F,
    stop: impl Fn() + Sync,
) -> Result<Vec<Option<Arc<T>>>, E>
where
    T: Send + Sync,
    E: Send,
    F: Fn(StageIndex, &Results<T>) -> Result<T, Stopped<E>> + Sync,
{
    let results = Results::new(stages, targets);
    let first_error = Mutex::new(None);
    let run = |stage: usize| {
        if !results.is_wanted(stage) {
            return;
        }
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
        None => Ok((0..stages).map(|stage| results.get(StageIndex(stage))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_wait_for_what_they_read() {
        let results = run_stages::<usize, (), _>(
            4,
            &[StageIndex(3)],
            |stage, results| {
                let below = match stage.0 {
                    0 => 0,
                    n => *results.wait(StageIndex(n - 1))?,
                };
                Ok(below + 1)
            },
            || {},
        );
        assert_eq!(results.unwrap().iter().map(|r| r.as_deref().copied()).collect::<Vec<_>>(), [1, 2, 3, 4].map(Some));
    }

    #[test]
    fn what_nobody_wants_is_left() {
        let work = |stage: StageIndex, results: &Results<usize>| match stage.0 {
            3 => Ok(*results.wait(StageIndex(1))?),
            n => Ok(n),
        };
        let results = run_stages::<usize, (), _>(4, &[StageIndex(3)], work, || {}).unwrap();
        assert_eq!(results.iter().map(|r| r.as_deref().copied()).collect::<Vec<_>>(), [None, Some(1), None, Some(1)]);
    }

    #[test]
    fn independent_stages_run_at_the_same_time() {
        let barrier = std::sync::Barrier::new(3);
        let results = run_stages::<(), (), _>(
            4,
            &[StageIndex(3)],
            |stage, results| {
                if stage.0 == 3 {
                    (0..3).for_each(|below| results.want(StageIndex(below)));
                    results.wait(StageIndex(0))?;
                    return Ok(());
                }
                barrier.wait();
                Ok(())
            },
            || {},
        );
        assert_eq!(results.unwrap().iter().flatten().count(), 4);
    }

    #[test]
    fn the_first_error_ends_those_that_wait() {
        let stops = std::sync::atomic::AtomicUsize::new(0);
        let work = |stage: StageIndex, results: &Results<()>| match stage.0 {
            1 => Err(Stopped::Error("broken")),
            0 => Ok(()),
            _ => results.wait(StageIndex(1)).map(drop).map_err(Stopped::from),
        };
        let results = run_stages(3, &[StageIndex(2)], work, || _ = stops.fetch_add(1, Ordering::SeqCst));
        assert_eq!(results.unwrap_err(), "broken");
        assert_eq!(stops.into_inner(), 1);
    }
}
