//! Building: a Dockerfile and a context in, an image in the store out.
//!
//! [`build`] parses, plans (taking turns with the registry, which resolves bases to digest and config, no layers), runs the
//! stages that the target needs at the same time, and writes config and manifest. Each step is looked up by its
//! [`key::CacheKey`]; on a hit its layer is a descriptor and nothing is read. Trees are made only when a step must read one.

pub mod check;
pub mod copy;
pub mod error;
mod files;
pub mod image;
pub mod inputs;
pub mod key;
mod mounts;
pub mod options;
pub mod record;
pub mod remote;
pub mod schedule;
pub mod stage;
mod steps;

pub use error::{BaseError, BuildError, StepError};
pub use image::BuiltImage;
pub use inputs::{Inputs, open, open_main};
pub use mounts::MountError;
pub use options::{BuildOptions, ContextSource, DockerfileSource, Entitlement, NamedSource, RemoteUrl, StepOptions};

use crate::dockerfile::{self, lint::Warning};
use crate::oci::{Layer, Platform};
use crate::plan::{
    BaseImage, BuildPlan, ImageRequest, ImageSource, NamedContext, PlanOptions, PlannedImage, Planner, SourceDateEpoch,
    Step, StepKind, check_front_end, lint_options,
};
use crate::progress::{Event, Outcome, Progress, StepId};
use crate::registry::RegistryClient;
use crate::rootfs::{Snapshotter, SnapshotterKind};
use crate::sandbox::{Sandbox, SandboxError};
use crate::store::{Image, Store};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// What a build works with.
pub struct Services<'a> {
    /// Where everything is kept.
    pub store: Store,
    /// Where bases come from.
    pub registry: &'a RegistryClient,
    /// What runs RUN steps; `None` where this machine has no namespaces for them.
    pub sandbox: Option<&'a Sandbox>,
    /// How trees for them are made.
    pub snapshots: SnapshotterKind,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Threads for hashing and compressing.
    pub threads: usize,
}

impl Services<'_> {
    /// The part that finds base images.
    /// Where base images and what else is elsewhere are found.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { store: &self.store, registry: self.registry, progress: self.progress }
    }
}

/// Where base images, and what else is elsewhere, are found.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
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
    images: HashMap<(ImageSource, Platform), Image>,
    inputs: &'a Inputs,
    snapshots: Snapshotter,
    parts: mounts::ContextParts,
    next_id: AtomicU64,
    epoch: Option<i64>,
}

/// Builds an image into the store and tags it there.
pub fn build(options: &BuildOptions, inputs: &Inputs, services: &Services) -> Result<Built, BuildError> {
    let parsed = dockerfile::parse(&inputs.dockerfile.text)?;
    check_front_end(&parsed, &options.build_args)?;
    let wanted = lint_options(&parsed, &options.build_args)?;
    wanted.unknown_rules().into_iter().for_each(|text| services.progress.emit(Event::Warning { text }));
    let plan_options = plan_options(options);
    let (plan, images) = make_plan(options, Planner::new(&parsed, &plan_options)?, &services.lookup())?;
    if services.sandbox.is_none() {
        refuse_commands(&plan)?;
    }
    let build = Build {
        epoch: options.source_date_epoch.or(epoch_of(&plan, inputs)),
        plan,
        images,
        inputs,
        snapshots: Snapshotter::new(services.store.clone(), services.snapshots),
        parts: mounts::ContextParts::default(),
        next_id: AtomicU64::new(inputs.ids),
        options,
        services,
    };
    let warnings = build.plan.lints(&parsed, &wanted, |path| inputs.context.leaves_out(path));
    if wanted.error && !warnings.is_empty() {
        return Err(BuildError::lint(warnings));
    }
    let steps = build.plan.stages.iter().map(|stage| stage.total).sum();
    services.progress.emit(Event::Planned { steps });
    let results = schedule::run_stages(
        build.plan.stages.len(),
        |index, results| build.run_stage(index, results),
        || services.sandbox.into_iter().for_each(Sandbox::stop),
    )?;
    let image = image::write(&services.store, &results[build.plan.target.0], options.format, &options.annotations)?;
    for tag in &options.tags {
        services.store.tag(tag, &image.manifest)?;
    }
    Ok(Built { image, warnings })
}

/// Fails where the plan has a RUN step: said before anything is pulled.
fn refuse_commands(plan: &BuildPlan) -> Result<(), BuildError> {
    let run = |step: &&Step| matches!(step.kind, StepKind::Run(_));
    match plan.stages.iter().find_map(|stage| stage.steps.iter().find(run)) {
        Some(step) => Err(BuildError::NoSandbox { span: step.span }),
        None => Ok(()),
    }
}

/// The Dockerfile's own `SOURCE_DATE_EPOCH`. A context that is no commit has no time of its own.
fn epoch_of(plan: &BuildPlan, inputs: &Inputs) -> Option<i64> {
    match plan.source_date_epoch.as_ref()? {
        SourceDateEpoch::Seconds(seconds) => Some(*seconds),
        SourceDateEpoch::Context => inputs.times.get(inputs::MAIN).copied(),
        SourceDateEpoch::NamedContext(name) => inputs.times.get(name).copied(),
    }
}

type Images = HashMap<(ImageSource, Platform), Image>;

/// Plans, resolving images as the planner asks for them.
fn make_plan(
    options: &BuildOptions,
    mut planner: Planner<'_>,
    lookup: &Lookup<'_>,
) -> Result<(BuildPlan, Images), BuildError> {
    let mut images = HashMap::new();
    loop {
        let wanted = planner.wanted();
        if wanted.is_empty() {
            return Ok((planner.finish()?, images));
        }
        for request in wanted {
            let image = resolve(options, &request, lookup).map_err(|source| BuildError::Base {
                text: request.text.clone(),
                span: request.span,
                source,
            })?;
            planner.supply(&request, BaseImage { digest: image.digest.clone(), config: image.config.clone() })?;
            images.insert((request.source, request.platform), image);
        }
    }
}

fn plan_options(options: &BuildOptions) -> PlanOptions {
    PlanOptions {
        target: options.target.clone(),
        build_args: options.build_args.clone(),
        labels: options.labels.clone(),
        platform: options.platform.clone().unwrap_or_else(Platform::host),
        platform_is_explicit: options.platform.is_some(),
        build_platform: Platform::host(),
        named_contexts: options.build_contexts.iter().map(|(name, source)| (name.clone(), named(source))).collect(),
    }
}

fn named(source: &NamedSource) -> NamedContext {
    match source {
        NamedSource::Tree(_) => NamedContext::Tree,
        NamedSource::Image(reference) => NamedContext::Image(reference.clone()),
        NamedSource::Layout { .. } => NamedContext::Layout,
    }
}

/// The image of a named context that is an OCI layout.
fn resolve_layout(options: &BuildOptions, name: &str, platform: &Platform, store: &Store) -> Result<Image, BaseError> {
    // The last one wins, as it does for the planner.
    let layout = options.build_contexts.iter().rev().find_map(|(own, source)| match source {
        NamedSource::Layout { path, image } if own == name => Some((path, image)),
        _ => None,
    });
    let Some((path, image)) = layout else { return Err(BaseError::NamedContext { name: name.to_string() }) };
    let imported = remote::import_layout(store, path, image.as_deref(), platform);
    imported.map_err(|error| BaseError::Layout(Box::new(error)))
}

/// An image from the store where it has a name there, else from its registry.
fn resolve(options: &BuildOptions, request: &ImageRequest, lookup: &Lookup<'_>) -> Result<Image, BaseError> {
    let reference = match &request.source {
        ImageSource::Registry(reference) => reference,
        ImageSource::Context(name) => return resolve_layout(options, name, &request.platform, lookup.store),
    };
    if !options.pull
        && let Some(image) = lookup.store.image(reference, &request.platform)?
    {
        return Ok(image);
    }
    let (resolved, _) = lookup.registry.pull_image(lookup.store, reference, &request.platform, lookup.progress)?;
    Ok(Image::load(lookup.store, &resolved.descriptor, &request.platform)?)
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
        Ok(registry.ensure_known(store, &layer.digest, *progress)?)
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
            Err(StepError::Sandbox(SandboxError::Stopped)) => Outcome::Cancelled,
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
