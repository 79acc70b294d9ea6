//! The operations, called inside the namespaces: from a job's values to results on standard output and in files.

use super::Outcome;
use super::build::BuildJob;
use super::cache::clean_after;
use super::job::{Job, SELF, Task};
use super::output::{Destination, Output, OutputKind};
use crate::build::{self, BuildError, Built, BuiltImage, Lookup, Services};
use crate::context::SourceTree;
use crate::dockerfile::lint::Warning;
use crate::images::{self, Saved, Target};
use crate::oci::json::to_canonical;
use crate::oci::{Layer, Platform};
use crate::progress::{Event, Progress};
use crate::registry::RegistryClient;
use crate::rootfs::{Snapshotter, SnapshotterKind};
use crate::run::{self, RunOptions};
use crate::sandbox::{self, OverlayProbe, Sandbox, SandboxError, Tier};
use crate::store::{Follower, Image, Store};
use crate::ui::{self, Diagnostic, Kind, Screen};
use serde_json::json;
use std::io;
use std::path::Path;

/// Does the job, with commands in `tier`; the exit code of the process comes back.
pub fn perform(job: Job, tier: Tier, screen: &Screen) -> Outcome<u8> {
    let store = Store::open(&job.state)?;
    let registry = job.network.client()?;
    let sandbox = Sandbox::new(SELF, tier)?;
    let snapshots = snapshotter(&store, tier)?;
    match &job.task {
        Task::Build(job) => build(job, &store, &registry, Ok(&sandbox), snapshots, screen).map(|()| 0),
        Task::Run(options) => start(options, &store, &registry, &sandbox, snapshots, screen),
        Task::Cache(task) => print(&task.perform(&store, &registry, screen)?).map(|()| 0),
    }
}

/// Overlays where they work, by trial; else copies.
fn snapshotter(store: &Store, tier: Tier) -> Outcome<SnapshotterKind> {
    if !tier.mounts() {
        return Ok(SnapshotterKind::Copy);
    }
    let place = store.temp_dir()?;
    Ok(match sandbox::probe_overlay(place.path()) {
        OverlayProbe::Works => SnapshotterKind::Overlay,
        OverlayProbe::Fails(why) => {
            tracing::debug!(%why, "no overlays in the state directory");
            SnapshotterKind::Copy
        }
    })
}

/// Does a job in this process, where there are no namespaces, as `why` says: a build without RUN steps needs
/// none.
pub fn perform_outside(job: Job, why: SandboxError, screen: &Screen) -> Outcome<u8> {
    let store = || Store::open(&job.state);
    match &job.task {
        Task::Build(task) => {
            build(task, &store()?, &job.network.client()?, Err(why), SnapshotterKind::Copy, screen).map(|()| 0)
        }
        Task::Cache(task) => print(&task.perform(&store()?, &job.network.client()?, screen)?).map(|()| 0),
        Task::Run(_) => Err(why.into()),
    }
}

fn start(
    options: &RunOptions,
    store: &Store,
    registry: &RegistryClient,
    sandbox: &Sandbox,
    snapshots: SnapshotterKind,
    screen: &Screen,
) -> Outcome<u8> {
    Ok(run::run(options, store, registry, sandbox, snapshots, screen)?.code())
}

fn build(
    job: &BuildJob,
    store: &Store,
    registry: &RegistryClient,
    sandbox: Result<&Sandbox, SandboxError>,
    snapshots: SnapshotterKind,
    screen: &Screen,
) -> Outcome<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found = sandbox.as_ref().ok().copied();
    let lookup = Lookup { store, registry, progress: screen, ssh: &job.options.ssh };
    let inputs = build::open(&job.options, || Ok(lookup))?;
    let source = &inputs.dockerfile;
    let warn = |warnings: &[Warning]| {
        for warning in warnings {
            let text = format!("{}: {} ({}:{})", warning.rule, warning.detail, source.name, warning.span.line);
            screen.emit(Event::Warning { text });
        }
    };
    let destinations = if job.push && job.preflight { &job.options.tags[..] } else { &[] };
    let run = |watch: Option<&(dyn Fn(Follower) + Sync)>| {
        let store = store.clone();
        let services = Services {
            ssh: &job.options.ssh,
            store,
            registry,
            sandbox: found,
            snapshots,
            progress: screen,
            threads,
            watch,
            destinations,
        };
        build::build(&job.options, &inputs, &services)
    };
    // Layers go out to the first name while they are made; the other names mount them.
    let built = match job.options.tags.first().filter(|_| job.push) {
        Some(to) => registry.upload_early(to, screen, Result::is_ok, |watch| run(Some(watch))),
        None => run(None),
    };
    let built = built.map_err(|error| {
        if let BuildError::Lint { warnings, .. } = &error {
            warn(warnings);
        }
        match (&error, sandbox) {
            (BuildError::NoSandbox { .. }, Err(why)) => ui::no_sandbox(&error, &why, source),
            _ => ui::build_failure(&error, source),
        }
    })?;
    warn(&built.warnings);
    images::remember(store, &built.image.id, &built.image.descriptor)?;
    write_outputs(job, &built, store, registry, screen)?;
    if job.push {
        push(job, &built.image, store, registry, screen)?;
    }
    // Its layers are in the registry now, if they are the image's: the caches mount them.
    build::give(&built.gifts, &lookup);
    if let Some(path) = &job.iidfile {
        write_file(path, built.image.id.to_string().as_bytes())?;
    }
    if let Some(path) = &job.metadata_file {
        write_file(path, &metadata(job, &built.image))?;
    }
    if job.quiet && !job.push {
        print(&format!("{}\n", built.image.id))?;
    }
    clean_after(store, job.limits, screen);
    Ok(())
}

/// Pushes under every name; the digest goes to standard output.
fn push(job: &BuildJob, image: &BuiltImage, store: &Store, registry: &RegistryClient, screen: &Screen) -> Outcome<()> {
    for tag in &job.options.tags {
        registry.push_image(store, &image.descriptor, tag, screen).map_err(|error| ui::push_failure(&error, tag))?;
    }
    print(&format!("{}\n", image.descriptor.digest()))
}

fn write_outputs(
    job: &BuildJob,
    built: &Built,
    store: &Store,
    registry: &RegistryClient,
    screen: &Screen,
) -> Outcome<()> {
    if job.outputs.is_empty() {
        return Ok(());
    }
    let (descriptor, names) = (&built.image.descriptor, &job.options.tags);
    let images = built.image.platforms.iter().map(|one| Image::load(store, &one.manifest, &one.platform));
    let images = images.collect::<Result<Vec<_>, _>>()?;
    let fetch = |layer: &Layer| Ok(registry.ensure_known(store, &layer.digest, screen)?);
    // Trees are only read here.
    let snapshots = Snapshotter::new(store.clone(), SnapshotterKind::Copy);
    for output in &job.outputs {
        if matches!(output.kind, OutputKind::Oci | OutputKind::Docker) {
            for layer in images.iter().flat_map(|image| &image.layers) {
                registry.ensure_known(store, &layer.digest, screen)?;
            }
            with_target(output, |to| match output.kind {
                OutputKind::Docker => {
                    let saved = Saved { target: descriptor.clone(), names: names.clone() };
                    images::save_docker(store, &[saved], &built.image.platforms[0].platform, to)
                }
                _ => images::save_oci(store, descriptor, names, to),
            })?;
            continue;
        }
        let trees = images.iter().map(|image| snapshots.view(&image.layers, &fetch)).collect::<Result<Vec<_>, _>>()?;
        let mut named: Vec<(String, &dyn SourceTree)> = trees
            .iter()
            .zip(&images)
            .map(|(tree, image)| (place_of(&built.image, &image.config.platform()), tree as &dyn SourceTree))
            .collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        match (output.kind, &output.dest) {
            (OutputKind::Local, Destination::Path(dir)) => {
                for (place, tree) in named {
                    for left_out in images::save_local(tree, &dir.join(place))? {
                        screen.emit(Event::Warning { text: left_out.to_string() });
                    }
                }
            }
            _ => with_target(output, |to| images::save_tar(&named, built.clamp, to))?,
        }
    }
    Ok(())
}

/// The directory of one platform's files: that of the output itself where there is one platform, else one of its own.
fn place_of(image: &BuiltImage, platform: &Platform) -> String {
    if image.platforms.len() > 1 { platform.to_string().replace('/', "_") } else { String::new() }
}

/// Calls `write` with where an output goes.
fn with_target<E>(output: &Output, write: impl FnOnce(Target) -> Result<(), E>) -> Outcome<()>
where
    Box<Diagnostic>: From<E>,
{
    match &output.dest {
        Destination::Path(path) => Ok(write(Target::File(path))?),
        Destination::Stdout => Ok(ui::with_stdout(|out| write(Target::Stream(out)))?),
    }
}

/// What `--metadata-file` holds, in buildx's words.
fn metadata(job: &BuildJob, image: &BuiltImage) -> Vec<u8> {
    let names: Vec<String> = job.options.tags.iter().map(ToString::to_string).collect();
    let mut document = json!({
        "containerimage.descriptor": image.descriptor,
        "containerimage.digest": image.descriptor.digest().to_string(),
    });
    // Several images have no config of their own.
    if !image.is_index() {
        document["containerimage.config.digest"] = image.id.to_string().into();
    }
    if !names.is_empty() {
        document["image.name"] = names.join(",").into();
    }
    // Strings and numbers only: always JSON.
    to_canonical(&document).unwrap_or_default()
}

fn write_file(path: &Path, bytes: &[u8]) -> Outcome<()> {
    fs_err::write(path, bytes).map_err(|error| output_failure(&error))
}

fn print(text: &str) -> Outcome<()> {
    ui::print(text).map_err(|error| output_failure(&error))
}

fn output_failure(error: &io::Error) -> Box<Diagnostic> {
    Box::new(Diagnostic::from_error(Kind::Environment, error))
}
