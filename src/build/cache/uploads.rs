//! Layers on their way into caches while the build goes on.
//!
//! Layers of the image that is pushed to the cache's own registry wait: they are mounted there once the push has them.

use super::export::{ExportError, keep};
use super::import::with_causes;
use super::mounts::{self, Packed};
use super::options::{CacheSource, CacheTarget};
use crate::build::Lookup;
use crate::oci::{Descriptor, Digest, Layer, Reference, manifest};
use crate::progress::Event;
use crate::rootfs::make_list;
use std::collections::{HashMap, HashSet, VecDeque};
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
    /// What a cache mount holds.
    Mount(Digest),
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Parcel>,
    offered: HashSet<Digest>,
    closed: bool,
}

/// Layers that go into the caches of a build.
pub struct Uploads<'a> {
    targets: Vec<&'a CacheTarget>,
    /// Bytes that a cache mount may have; none is taken where there is no cache to be filled.
    limit: u64,
    /// Where the image itself is pushed to.
    pushed_to: Option<&'a Reference>,
    lookup: Lookup<'a>,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Caches that take nothing.
    refused: Mutex<HashSet<String>>,
    mounts: Mutex<Mounts>,
}

/// Cache mounts of steps that ran.
#[derive(Debug, Default)]
struct Mounts {
    /// How many steps used each.
    used: HashMap<Digest, u32>,
    /// Those that are packed, with how many steps had used them by then.
    packed: HashMap<Digest, (u32, Option<Packed>)>,
}

impl<'a> Uploads<'a> {
    /// For the caches among `targets` that are in registries.
    pub fn new(targets: &'a [CacheTarget], pushed_to: Option<&'a Reference>, lookup: Lookup<'a>) -> Self {
        let limit = mounts::limit(targets);
        let targets = targets.iter().filter(|target| matches!(target.place, CacheSource::Registry(_))).collect();
        let (queue, changed, refused) = (Mutex::default(), Condvar::new(), Mutex::default());
        Uploads { limit, targets, pushed_to, lookup, queue, changed, refused, mounts: Mutex::default() }
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

    /// A step that ended had these cache mounts.
    pub fn mounts(&self, keys: &[Digest]) {
        if self.limit == 0 {
            return;
        }
        for key in keys {
            *self.taken().used.entry(key.clone()).or_default() += 1;
            if !self.targets.is_empty() {
                self.queue().waiting.push_back(Parcel::Mount(key.clone()));
                self.changed.notify_one();
            }
        }
    }

    /// All cache mounts of steps that ran, packed as the last of them left them.
    pub fn packed_mounts(&self) -> HashMap<Digest, Packed> {
        let used: Vec<Digest> = self.taken().used.keys().cloned().collect();
        used.iter().for_each(|key| self.pack(key));
        let packed = std::mem::take(&mut self.taken().packed);
        packed.into_iter().filter_map(|(key, (_, packed))| Some((key, packed?))).collect()
    }

    fn taken(&self) -> MutexGuard<'_, Mounts> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packs a cache mount, unless that was done after its last use, and sends the pieces.
    fn pack(&self, key: &Digest) {
        let uses = self.taken().used.get(key).copied().unwrap_or(0);
        if self.taken().packed.get(key).is_some_and(|(then, _)| *then == uses) {
            return;
        }
        let packed = mounts::pack(&self.lookup, key, self.limit, |piece| {
            self.targets.iter().for_each(|target| self.send_blob(piece, target));
            Ok(())
        });
        let packed = packed.unwrap_or_else(|error| {
            let text = format!("a cache mount is not exported: {}", with_causes(&error));
            self.lookup.progress.emit(Event::Warning { text });
            None
        });
        self.taken().packed.insert(key.clone(), (uses, packed));
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
            match &parcel {
                Parcel::Mount(key) => self.pack(key),
                Parcel::Layer(layer, shipped) => {
                    self.targets.iter().for_each(|target| self.send(layer, Some(*shipped), target));
                }
                Parcel::List(layer) => self.targets.iter().for_each(|target| self.send(layer, None, target)),
            }
        }
    }

    /// Sends the list of a layer's files, and the layer itself where it is said whether the image has it.
    fn send(&self, layer: &Layer, shipped: Option<bool>, target: &CacheTarget) {
        self.unless_refused(target, |place| self.try_send(layer, shipped, target, place));
    }

    fn send_blob(&self, blob: &Descriptor, target: &CacheTarget) {
        let Lookup { store, registry, progress, .. } = self.lookup;
        self.unless_refused(target, |place| Ok(registry.push_layer(store, blob, place, progress)?));
    }

    fn unless_refused(&self, target: &CacheTarget, send: impl FnOnce(&Reference) -> Result<(), ExportError>) {
        let CacheSource::Registry(reference) = &target.place else { return };
        let refused = || self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let name = reference.to_string();
        if refused().contains(&name) {
            return;
        }
        if let Err(error) = send(reference)
            && refused().insert(name)
        {
            let text = format!("--cache-to {reference}: {}", with_causes(&error));
            self.lookup.progress.emit(Event::Warning { text });
        }
    }

    fn try_send(
        &self,
        layer: &Layer,
        shipped: Option<bool>,
        to: &CacheTarget,
        place: &Reference,
    ) -> Result<(), ExportError> {
        let Lookup { store, registry, progress, .. } = self.lookup;
        if let Some(shipped) = shipped {
            if !shipped && !to.all_stages {
                return Ok(());
            }
            let mounted = shipped && self.pushed_to.is_some_and(|image| image.registry() == place.registry());
            if !mounted {
                let what = manifest::descriptor(&layer.media_type, &layer.digest, layer.size);
                registry.push_layer(store, &what, place, progress)?;
            }
        }
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
