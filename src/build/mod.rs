//! Building: a Dockerfile and a context in, an image in the store out.
//!
//! [`build`] parses, plans (taking turns with the registry, which resolves bases to digest and config, no layers), runs the
//! stages that the target needs at the same time, those of several platforms too, and writes config and manifest. Each step is looked up by its
//! [`key::CacheKey`]; on a hit its layer is a descriptor and nothing is read. Trees are made only when a step must read one.

pub mod cache;
pub mod check;
pub mod copy;
mod damage;
mod epoch;
pub mod error;
mod explain;
mod files;
mod flights;
pub mod image;
pub mod inputs;
pub mod key;
mod known;
mod mounts;
pub mod options;
mod planning;
pub mod record;
pub mod remote;
pub mod schedule;
pub mod stage;
mod steps;

pub use cache::{CacheSource, CacheTarget, Caching, Gift, give};
pub use error::{BaseError, BuildError, StepError};
pub use image::BuiltImage;
pub use inputs::{Inputs, open, open_main};
pub use mounts::MountError;
pub use options::{
    AnnotatedPlace, Annotation, BuildOptions, ContextSource, DockerfileSource, Entitlement, ExportEpoch, NamedSource,
    RemoteUrl, StepOptions,
};

use crate::dockerfile::{self, lint::Warning};
use crate::git::Ssh;
use crate::oci::{Layer, Reference};
use crate::plan::{BuildPlan, PlannedImage, Step, StepKind, check_front_end, lint_options};
use crate::progress::{Event, Outcome, Progress, StepId};
use crate::registry::RegistryClient;
use crate::rootfs::{Snapshotter, SnapshotterKind};
use crate::sandbox::{Sandbox, SandboxError};
use crate::store::{Follower, Image, Store, StoreError};
use cache::import::Imports;
use cache::selections::Memory;
use cache::uploads::Uploads;
use planning::Images;
use stage::StageResult;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// What a build works with.
pub struct Services<'a> {
    /// What repositories at ssh addresses are reached with.
    pub ssh: &'a Ssh,
    /// Where everything is kept.
    pub store: Store,
    /// Where bases come from.
    pub registry: &'a RegistryClient,
    /// What runs RUN steps; `None` where this machine has no namespaces for them.
    pub sandbox: Option<&'a Sandbox>,
    /// How trees for them are made.
    pub snapshots: SnapshotterKind,
    /// Where trees are, if the store's own file system cannot carry them.
    pub trees: Option<&'a Store>,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Threads for hashing and compressing.
    pub threads: usize,
    /// Shown the layers that the image will have, while they are written.
    pub watch: Option<&'a (dyn Fn(Follower) + Sync)>,
    /// Where the image will be pushed to: proved to be possible before the first command runs.
    pub destinations: &'a [Reference],
}

impl Services<'_> {
    /// Where base images and what else is elsewhere are found.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { ssh: self.ssh, store: &self.store, registry: self.registry, progress: self.progress }
    }
}

/// Where base images, and what else is elsewhere, are found.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    /// What repositories at ssh addresses are reached with.
    pub ssh: &'a Ssh,
    /// Those that are there already.
    pub store: &'a Store,
    /// All others.
    pub registry: &'a RegistryClient,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

/// A finished build.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image.
    pub image: BuiltImage,
    /// Lints, for the end of the output.
    pub warnings: Vec<Warning>,
    /// Times after this one, in seconds since 1970, were set back to it in layers, and are to be in files written out.
    pub clamp: Option<i64>,
    /// No step was carried out: the image may be in the registry already.
    pub unchanged: bool,
    /// What the caches are to be given once the image is pushed.
    pub gifts: Vec<Gift>,
}

/// The Dockerfile's text, kept for errors that draw its lines.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user named it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A build under way.
struct Build<'a> {
    options: &'a BuildOptions,
    services: &'a Services<'a>,
    plan: BuildPlan,
    images: Images,
    inputs: &'a Inputs,
    snapshots: Snapshotter,
    parts: mounts::ContextParts,
    flights: flights::Flights,
    next_id: AtomicU64,
    /// `SOURCE_DATE_EPOCH`: what stands for now.
    epoch: Option<i64>,
    /// Whether pushing is known to be possible.
    proved: Mutex<bool>,
    /// Later times in layers are set back to this.
    clamp: Option<i64>,
    /// Records that were found elsewhere.
    imports: Imports,
    /// Layers on their way into caches.
    uploads: Uploads<'a>,
    /// What was taken from memory about stages, and of contexts what was looked at.
    memory: Memory,
    /// Whether anything is taken from memory about stages that are not built.
    remembers: bool,
    /// A step was carried out.
    made: AtomicBool,
    /// What was taken turned out not to hold: all stages begin anew without it.
    starts_over: AtomicBool,
    /// Blobs that were found damaged.
    damaged: AtomicUsize,
}

/// Builds an image into the store and tags it there.
pub fn build(options: &BuildOptions, inputs: &Inputs, services: &Services) -> Result<Built, BuildError> {
    let parsed = dockerfile::parse(&inputs.dockerfile.text)?;
    check_front_end(&parsed, &options.build_args)?;
    let wanted = lint_options(&parsed, &options.build_args)?;
    wanted.unknown_rules().into_iter().for_each(|text| services.progress.emit(Event::Warning { text }));
    let epoch = epoch::find(options, &parsed, inputs, || Ok(services.lookup()))?;
    // While the bases are looked for, so are records.
    let (planned, imports) = std::thread::scope(|scope| {
        let lookup = services.lookup();
        let imports = scope.spawn(move || cache::import::import(&options.caching, &options.platforms, &lookup));
        let planned = planning::for_all_platforms(options, &parsed, epoch, &lookup);
        (planned, imports.join().unwrap_or_default())
    });
    let (plan, images) = planned?;
    if services.sandbox.is_none() {
        refuse_commands(&plan)?;
    }
    let mut build = Build {
        imports,
        uploads: Uploads::new(
            &options.caching.to,
            options.tags.first().filter(|_| services.watch.is_some()),
            services.lookup(),
        ),
        memory: Memory::default(),
        // A stage that is to be made anew is not to be passed over.
        remembers: !options.no_cache && options.no_cache_stages.is_empty(),
        made: AtomicBool::new(false),
        starts_over: AtomicBool::new(false),
        damaged: AtomicUsize::new(0),
        epoch: epoch.or(options.export_epoch.or(None)),
        clamp: options.export_epoch.or(epoch).filter(|_| options.rewrite_timestamp),
        plan,
        images,
        inputs,
        snapshots: {
            let snapshots = Snapshotter::new(services.store.clone(), services.snapshots);
            services.trees.iter().fold(snapshots, |snapshots, trees| snapshots.with_trees((*trees).clone()))
        },
        parts: mounts::ContextParts::default(),
        flights: flights::Flights::default(),
        next_id: AtomicU64::new(inputs.ids),
        proved: Mutex::new(services.destinations.is_empty()),
        options,
        services,
    };
    if options.rewrite_timestamp && build.clamp.is_none() && options.export_epoch != ExportEpoch::None {
        let text = "--rewrite-timestamp does nothing: there is no SOURCE_DATE_EPOCH to set times to".to_string();
        services.progress.emit(Event::Warning { text });
    }
    let warnings = build.plan.lints(&parsed, &wanted, |path| inputs.context.leaves_out(path));
    if wanted.error && !warnings.is_empty() {
        return Err(BuildError::lint(warnings));
    }
    let steps = build.plan.stages.iter().map(|stage| stage.total).sum();
    services.progress.emit(Event::Planned { steps });
    inputs.bring_stats(options, &services.store)?;
    let results = build.run_all();
    if let Err(error) = inputs.keep_stats(options, &services.store) {
        let text = format!("the context will be read anew by the next build: {error}");
        services.progress.emit(Event::Warning { text });
    }
    let results = results?;
    let targets: Vec<&StageResult> = build.plan.targets.iter().filter_map(|at| results[at.0].as_deref()).collect();
    let image = build.write_image(&targets)?;
    let gifts =
        cache::export::gifts(&options.caching.to, &results, &targets, &build.uploads.packed_mounts(), &build.imports);
    Ok(Built { image, warnings, clamp: build.clamp, unchanged: !build.made.into_inner(), gifts })
}

/// Fails where the plan has a RUN step: said before anything is pulled.
fn refuse_commands(plan: &BuildPlan) -> Result<(), BuildError> {
    let run = |step: &&Step| matches!(step.kind, StepKind::Run(_));
    match plan.stages.iter().find_map(|stage| stage.steps.iter().find(run)) {
        Some(step) => Err(BuildError::NoSandbox { span: step.span }),
        None => Ok(()),
    }
}

impl Build<'_> {
    /// An image of the plan.
    fn image(&self, image: &PlannedImage) -> &Image {
        // The planner names only images that it was supplied with.
        &self.images[&(image.source.clone(), image.platform.clone())]
    }

    /// Brings the blob of a layer into the store, from where it was found.
    fn fetch(&self, layer: &Layer) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Services { store, registry, progress, .. } = self.services;
        let fetched: Result<(), Box<dyn std::error::Error + Send + Sync>> =
            match self.imports.directory_of(&layer.digest) {
                Some(dir) => cache::directory::bring(&dir, store, &layer.digest).map_err(Into::into),
                None => registry.ensure_known(store, &layer.digest, *progress).map_err(Into::into),
            };
        if fetched.is_ok() {
            self.uploads.list(layer);
        }
        if let Err(error) = &fetched
            && self.imports.disown(&layer.digest)
        {
            let why = cache::import::with_causes(&**error);
            let text = format!("layer {} of the cache cannot be had, building without it: {why}", layer.digest);
            progress.emit(Event::Warning { text });
            self.starts_over.store(true, Ordering::SeqCst);
        }
        fetched
    }

    /// Runs the stages that the targets need. Where something that was taken from a cache or from memory turns out not to
    /// hold, all begins anew without it: what was made meanwhile is in the local store.
    fn run_all(&mut self) -> Result<Vec<Option<Arc<StageResult>>>, BuildError> {
        loop {
            let build = &*self;
            let work =
                |index, results: &_| build.run_stage(index, results).map_err(|stopped| build.or_begin_anew(stopped));
            let stop = || build.services.sandbox.into_iter().for_each(Sandbox::stop);
            let (stages, targets) = (build.plan.stages.len(), &build.plan.targets);
            let results = build.uploads.during(|| schedule::run_stages(stages, targets, work, stop));
            if !self.starts_over.swap(false, Ordering::SeqCst) {
                let results = results?;
                if !self.bring_shipped(&results) {
                    continue;
                }
                self.tell_unneeded(&results);
                return Ok(results);
            }
            self.begin_anew();
        }
    }

    fn begin_anew(&mut self) {
        self.remembers = false;
        self.memory.start_over();
        self.flights = flights::Flights::default();
        let text = "what the cache says does not hold for this build: its stages begin anew".to_string();
        self.services.progress.emit(Event::Note { id: None, text });
    }

    /// Brings the layers of the image that are in a directory into the store: nobody who pushes it knows of that. False where
    /// one cannot be had.
    fn bring_shipped(&mut self, results: &[Option<Arc<StageResult>>]) -> bool {
        let targets = self.plan.targets.iter().filter_map(|at| results[at.0].as_deref());
        let layers: Vec<Layer> = targets.flat_map(|target| target.layers.iter().cloned()).collect();
        let theirs = layers.iter().filter(|layer| self.imports.directory_of(&layer.digest).is_some());
        let all = theirs.map(|layer| self.fetch(layer)).all(|fetched| fetched.is_ok());
        if !all {
            self.starts_over.store(false, Ordering::SeqCst);
            self.begin_anew();
        }
        all
    }

    /// Reports the steps of the stages that nobody had to look at.
    fn tell_unneeded(&self, results: &[Option<Arc<StageResult>>]) {
        let left = self.plan.stages.iter().zip(results).filter(|(_, result)| result.is_none());
        for (stage, _) in left {
            let base = stage.describe_base().map(|text| (text, stage.span.line, Outcome::Done));
            let steps = stage.steps.iter().filter(|step| step.number.is_some());
            let unneeded = || Outcome::Cached("not needed: what is read of it is known".into());
            let steps = steps.map(|step| (stage.describe(step), step.span.line, unneeded()));
            for (text, line, outcome) in base.into_iter().chain(steps) {
                // Reporting itself cannot fail.
                let _ = self.report(&text, Some(line), |_| Ok(((), outcome)));
            }
        }
    }

    /// Writes the image and its names; reported in BuildKit's words, which scripts look for.
    fn write_image(&self, targets: &[&StageResult]) -> Result<BuiltImage, StoreError> {
        let Services { store, progress, .. } = self.services;
        let (id, started) = (StepId(self.next_id.fetch_add(1, Ordering::SeqCst)), Instant::now());
        progress.emit(Event::Started { id, name: "exporting to image".into(), line: None });
        let part = |text: String| progress.emit(Event::Part { id, text });
        let written = image::write_all(store, targets, self.options).and_then(|image| {
            image.platforms.iter().for_each(|one| part(format!("writing image {}", one.config)));
            if image.is_index() {
                part(format!("exporting manifest list {}", image.id));
            }
            for tag in &self.options.tags {
                store.tag(tag, &image.descriptor)?;
                part(format!("naming to {tag}"));
            }
            Ok(image)
        });
        let outcome = if written.is_ok() { Outcome::Done } else { Outcome::Failed };
        progress.emit(Event::Finished { id, outcome, elapsed: started.elapsed() });
        written
    }

    /// Reports a step from its start to its end.
    fn report<T>(
        &self,
        name: &str,
        line: Option<u32>,
        work: impl FnOnce(StepId) -> Result<(T, Outcome), StepError>,
    ) -> Result<T, StepError> {
        let id = StepId(self.next_id.fetch_add(1, Ordering::SeqCst));
        let started = Instant::now();
        self.services.progress.emit(Event::Started { id, name: name.to_string(), line });
        let result = work(id);
        let outcome = match &result {
            Ok((_, outcome)) => outcome.clone(),
            Err(StepError::Sandbox(SandboxError::Stopped) | StepError::StageFailed { .. }) => Outcome::Cancelled,
            Err(_) => Outcome::Failed,
        };
        self.services.progress.emit(Event::Finished { id, outcome, elapsed: started.elapsed() });
        result.map(|(value, _)| value)
    }

    /// Now, or `SOURCE_DATE_EPOCH`, in seconds since 1970.
    fn now_seconds(&self) -> i64 {
        let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        self.epoch.unwrap_or_else(clock)
    }

    /// [`Build::now_seconds`] in RFC 3339.
    fn now(&self) -> String {
        let seconds = u64::try_from(self.now_seconds()).unwrap_or_default();
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    }
}
