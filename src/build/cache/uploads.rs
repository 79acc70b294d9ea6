//! Layers on their way into caches while the build goes on.
//!
//! Layers of the image that is pushed to the cache's own registry wait: they are mounted there once the push has them.

use super::export::keep;
use super::import::with_causes;
use super::options::{CacheSource, CacheTarget};
use crate::build::Lookup;
use crate::oci::{Layer, Reference, manifest};
use crate::progress::Event;
use crate::rootfs::make_list;
use std::collections::{HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Uploads at once.
const WORKERS: usize = 2;

/// What is to go into caches.
#[derive(Debug, Clone)]
enum Parcel {
    /// A layer and the list of its files; whether the image has it.
    Layer(Layer, bool),
    /// The list alone.
    List(Layer),
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Parcel>,
    offered: HashSet<crate::oci::Digest>,
    closed: bool,
}

/// Layers that go into the caches of a build.
pub struct Uploads<'a> {
    targets: Vec<&'a CacheTarget>,
    /// Where the image itself is pushed to.
    pushed_to: Option<&'a Reference>,
    lookup: Lookup<'a>,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Caches that take nothing.
    refused: Mutex<HashSet<String>>,
}

impl<'a> Uploads<'a> {
    /// For the caches among `targets` that are in registries.
    pub fn new(targets: &'a [CacheTarget], pushed_to: Option<&'a Reference>, lookup: Lookup<'a>) -> Self {
        let targets = targets.iter().filter(|target| matches!(target.place, CacheSource::Registry(_))).collect();
        let (queue, changed, refused) = (Mutex::default(), Condvar::new(), Mutex::default());
        Uploads { targets, pushed_to, lookup, queue, changed, refused }
    }

    /// Does `work`, and meanwhile uploads what it offers. What is left then goes with the records.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.targets.is_empty() {
            return work();
        }
        *self.queue() = Queue::default();
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| self.work());
            }
            let _closing = Closing(self);
            work()
        })
    }

    /// A step's layer, which is in the store; `shipped` where the image has it.
    pub fn layer(&self, layer: &Layer, shipped: bool) {
        self.offer(Parcel::Layer(layer.clone(), shipped), layer);
    }

    /// The layer of a base, which was fetched.
    pub fn list(&self, layer: &Layer) {
        self.offer(Parcel::List(layer.clone()), layer);
    }

    fn offer(&self, parcel: Parcel, layer: &Layer) {
        if self.targets.is_empty() {
            return;
        }
        let mut queue = self.queue();
        if queue.offered.insert(layer.digest.clone()) {
            queue.waiting.push_back(parcel);
            self.changed.notify_one();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let waits = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
            let mut queue = self.changed.wait_while(self.queue(), waits).unwrap_or_else(PoisonError::into_inner);
            let Some(parcel) = queue.waiting.pop_front().filter(|_| !queue.closed) else { return };
            drop(queue);
            for target in &self.targets {
                self.send(&parcel, target);
            }
        }
    }

    fn send(&self, parcel: &Parcel, target: &CacheTarget) {
        let CacheSource::Registry(reference) = &target.place else { return };
        let refused = || self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let name = reference.to_string();
        if refused().contains(&name) {
            return;
        }
        if let Err(error) = self.try_send(parcel, target, reference)
            && refused().insert(name)
        {
            let text = format!("--cache-to {reference}: {}", with_causes(&error));
            self.lookup.progress.emit(Event::Warning { text });
        }
    }

    fn try_send(&self, parcel: &Parcel, to: &CacheTarget, place: &Reference) -> Result<(), super::export::ExportError> {
        let Lookup { store, registry, progress, .. } = self.lookup;
        let layer = match parcel {
            Parcel::Layer(_, false) if !to.all_stages => return Ok(()),
            Parcel::Layer(layer, shipped) => {
                let mounted = *shipped && self.pushed_to.is_some_and(|image| image.registry() == place.registry());
                if !mounted {
                    let what = manifest::descriptor(&layer.media_type, &layer.digest, layer.size);
                    registry.push_layer(store, &what, place, progress)?;
                }
                layer
            }
            Parcel::List(layer) => layer,
        };
        if let Some(list) = make_list(store, layer)? {
            let name = super::export::list_name(&layer.diff_id);
            let (_, envelope) = keep(&self.lookup, &name, &list)?;
            registry.push_layer(store, &envelope, place, progress)?;
        }
        Ok(())
    }
}

/// Lets the workers end, by a panic too.
struct Closing<'u, 'a>(&'u Uploads<'a>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.changed.notify_all();
    }
}
