//! The operations, called inside the namespaces: from a job's values to results on standard output and in files.

use super::Outcome;
use super::build::{BuildJob, DigestFile, DigestForm};
use super::cache::{CacheTask, clean_after};
use super::container;
use super::job::{Job, SELF, Task};
use super::output::{Destination, Output, OutputKind};
use crate::build::{self, BuildError, Built, BuiltImage, Lookup, Services};
use crate::context::SourceTree;
use crate::dockerfile::lint::Warning;
use crate::images::{self, Saved, Target};
use crate::oci::json::to_canonical;
use crate::oci::{Layer, Platform, Reference};
use crate::progress::{Event, Progress};
use crate::registry::RegistryClient;
use crate::rootfs::{Snapshotter, SnapshotterKind};
use crate::run::{Interrupts, RunError, Services as RunServices};
use crate::sandbox::{self, OverlayProbe, Sandbox, SandboxError, Tier};
use crate::store::{Follower, Image, Store};
use crate::ui::{self, Diagnostic, Kind, Screen};
use serde_json::json;
use std::io;
use std::path::Path;

/// Does the job, with commands in `tier`; the exit code of the process comes back.
pub fn perform(job: Job, tier: Tier, screen: &Screen) -> Outcome<u8> {
    match &job.task {
        Task::Build(task) => {
            let (store, registry, sandbox, trees) = open(&job, tier)?;
            build(task, &store, &registry, Ok(&sandbox), &trees, screen).map(|()| 0)
        }
        Task::Container(task) => {
            // Before the store and the client have threads of their own, which would get the signals.
            let interrupts = Interrupts::block().map_err(RunError::from)?;
            let (store, registry, sandbox, trees) = open(&job, tier)?;
            let services = RunServices { store: &store, registry: &registry, sandbox: &sandbox, progress: screen };
            container::perform(task, &services, trees.in_state(), &interrupts)
        }
        Task::Cache(task) => clean(task, &job, screen),
        Task::RemoveImages(task) => task.perform(Some(&Store::open(&job.state)?), job.look),
    }
}

/// What is asked of the cache: in the state directory, and in the trees on the job's volume where a build has made some.
fn clean(task: &CacheTask, job: &Job, screen: &Screen) -> Outcome<u8> {
    let volume = job.volume.as_deref().filter(|volume| volume.is_dir()).map(Store::open).transpose()?;
    let store = Store::open(&job.state)?;
    print(&task.perform(&store, volume.as_ref(), &job.network.client()?, screen)?).map(|()| 0)
}

/// What a job works with.
fn open(job: &Job, tier: Tier) -> Outcome<(Store, RegistryClient, Sandbox, Trees)> {
    let store = Store::open(&job.state)?;
    let registry = job.network.client()?;
    let sandbox = Sandbox::new(SELF, tier)?;
    let trees = trees(&store, tier, job.volume.as_deref())?;
    Ok((store, registry, sandbox, trees))
}

/// How trees are made, and where.
struct Trees {
    kind: SnapshotterKind,
    /// A store of their own, where the state directory's file system cannot carry overlays and a volume can.
    volume: Option<Store>,
}

impl Trees {
    /// How they are made in the state directory.
    fn in_state(&self) -> SnapshotterKind {
        if self.volume.is_some() { SnapshotterKind::Copy } else { self.kind }
    }
}

/// Overlays where they work, by trial: in the state directory, else on the job's volume; else copies.
fn trees(store: &Store, tier: Tier, volume: Option<&Path>) -> Outcome<Trees> {
    let copies = Trees { kind: SnapshotterKind::Copy, volume: None };
    if !tier.mounts() {
        return Ok(copies);
    }
    let place = store.temp_dir()?;
    let OverlayProbe::Fails(why) = sandbox::probe_overlay(place.path()) else {
        return Ok(Trees { kind: SnapshotterKind::Overlay, volume: None });
    };
    tracing::debug!(%why, "no overlays in the state directory");
    let Some((volume, above)) = volume.and_then(|volume| Some((volume, volume.parent()?))) else { return Ok(copies) };
    match sandbox::probe_overlay(above) {
        OverlayProbe::Works => Ok(Trees { kind: SnapshotterKind::Overlay, volume: Some(Store::open(volume)?) }),
        OverlayProbe::Fails(why) => {
            tracing::debug!(%why, "nor on the volume");
            Ok(copies)
        }
    }
}

/// Does a job in this process, where there are no namespaces, as `why` says: a build without RUN steps needs
/// none.
pub fn perform_outside(job: Job, why: SandboxError, screen: &Screen) -> Outcome<u8> {
    let store = || Store::open(&job.state);
    match &job.task {
        Task::Build(task) => {
            let trees = Trees { kind: SnapshotterKind::Copy, volume: None };
            build(task, &store()?, &job.network.client()?, Err(why), &trees, screen).map(|()| 0)
        }
        Task::Cache(task) => clean(task, &job, screen),
        Task::RemoveImages(task) => task.perform(Some(&store()?), job.look),
        Task::Container(_) => Err(why.into()),
    }
}

fn build(
    job: &BuildJob,
    store: &Store,
    registry: &RegistryClient,
    sandbox: Result<&Sandbox, SandboxError>,
    trees: &Trees,
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
            snapshots: trees.kind,
            trees: trees.volume.as_ref(),
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
        let failure = match (&error, sandbox) {
            (BuildError::NoSandbox { .. }, Err(why)) => ui::no_sandbox(&error, &why, source),
            _ => ui::build_failure(&error, source),
        };
        match error.run_exit() {
            Some(code) if job.tools.run_exit_code => Box::new(failure.exit(code)),
            _ => failure,
        }
    })?;
    warn(&built.warnings);
    images::remember(store, &built.image.id, &built.image.descriptor)?;
    write_outputs(job, &built, (store, trees), registry, screen)?;
    if job.push {
        push(job, &built, store, registry, screen)?;
    }
    for file in &job.tools.digest_files {
        write_digest(file, job, &built.image)?;
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
    trees.volume.iter().for_each(|volume| clean_after(volume, job.limits, screen));
    Ok(())
}

/// Pushes under every name; the digest goes to standard output.
fn push(job: &BuildJob, built: &Built, store: &Store, registry: &RegistryClient, screen: &Screen) -> Outcome<()> {
    let image = &built.image;
    for tag in &job.options.tags {
        if built.unchanged {
            // It was pushed before, most likely: then one question is enough, whatever name it had.
            registry.remember(store, tag, &image.descriptor)?;
        }
        match registry.push_image(store, &image.descriptor, tag, screen) {
            Err(error) if job.tools.ignore_immutable_tags && error.is_immutable() => {
                screen.emit(Event::Warning { text: format!("{tag} is there already and cannot be changed: {error}") });
            }
            pushed => _ = pushed.map_err(|error| ui::push_failure(&error, tag))?,
        }
    }
    print(&format!("{}\n", image.descriptor.digest()))
}

fn write_outputs(
    job: &BuildJob,
    built: &Built,
    (store, trees): (&Store, &Trees),
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
    let snapshots = Snapshotter::new(store.clone(), SnapshotterKind::Copy)
        .with_trees(trees.volume.as_ref().unwrap_or(store).clone());
    for output in &job.outputs {
        if matches!(output.kind, OutputKind::Oci | OutputKind::Layout | OutputKind::Docker) {
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
        Destination::Path(path) if output.kind == OutputKind::Layout => Ok(write(Target::Directory(path))?),
        Destination::Path(path) => Ok(write(Target::File(path))?),
        Destination::Stdout => Ok(ui::with_stdout(|out| write(Target::Stream(out)))?),
    }
}

/// Writes a file of digests, as kaniko does.
fn write_digest(file: &DigestFile, job: &BuildJob, image: &BuiltImage) -> Outcome<()> {
    let digest = image.descriptor.digest();
    let line = |name: &Reference| {
        let whole = format!("{}/{}", name.registry(), name.repository());
        let tag = name.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        match file.form {
            DigestForm::Digest => String::new(),
            DigestForm::Name => format!("{whole}@{digest}\n"),
            DigestForm::NameAndTag => format!("{whole}{tag}@{digest}\n"),
            DigestForm::Json => {
                format!("{}\n", json!({ "name": format!("{whole}{tag}"), "digest": digest.to_string() }))
            }
        }
    };
    let text = match file.form {
        DigestForm::Digest => digest.to_string(),
        _ => job.options.tags.iter().map(line).collect(),
    };
    if let Some(dir) = file.path.parent() {
        fs_err::create_dir_all(dir).map_err(|error| output_failure(&error))?;
    }
    write_file(&file.path, text.as_bytes())
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
