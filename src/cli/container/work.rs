//! What is done with containers inside the namespaces.

use super::list::PsArgs;
use crate::cli::inspect::LocalInspect;
use crate::cli::{Outcome, print, run, usage};
use crate::images::{self, ImagesError};
use crate::oci::manifest::is_index;
use crate::oci::{Platform, Reference};
use crate::rootfs::SnapshotterKind;
use crate::run::{self as containers, Interrupts};
use crate::run::{
    Attachment, ChangeKind, CommitOptions, Container, Containers, CopyOptions, CreateOptions, Local, RunError,
    Services, Status, Volumes,
};
use crate::store::Image;
use crate::ui::{self, Diagnostic};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pull {
    /// Before every start.
    Always,
    /// When it is not here.
    Missing,
    /// Not at all.
    Never,
}

/// A container that is to be made.
#[derive(Debug, Serialize, Deserialize)]
pub struct CreateJob {
    /// How.
    pub options: CreateOptions,
    /// When to pull its image.
    pub pull: Pull,
    /// Which image of those for several platforms; the machine's if `None`.
    pub platform: Option<Platform>,
    /// It is to run in the foreground.
    pub foreground: bool,
}

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub enum ContainerTask {
    /// To make a container and start it.
    Run {
        /// Which.
        create: CreateJob,
        /// It has the caller's standard input.
        interactive: bool,
    },
    /// To make a container.
    Create {
        /// Which.
        create: CreateJob,
        /// Its ID is printed.
        print: bool,
    },
    /// To start one in the foreground.
    Start {
        /// Its ID.
        container: String,
        /// It has the caller's standard input.
        interactive: bool,
    },
    /// To keep one in the background; whoever waits is told by standard output.
    Keep {
        /// Its ID.
        container: String,
    },
    /// To remove some, each named as it was.
    Remove {
        /// Which, as they were named.
        containers: Vec<String>,
        /// Those that run are killed, those that are not there are no failure.
        force: bool,
        /// Their volumes without a name, too.
        volumes: bool,
    },
    /// To remove all that do not run.
    Prune {
        /// With these labels.
        labels: Vec<String>,
    },
    /// To copy a file or directory in.
    CopyIn {
        /// From.
        from: Local,
        /// Which container, as it was named.
        container: String,
        /// Its path there.
        to: Vec<u8>,
        /// How.
        options: CopyOptions,
    },
    /// To copy one out.
    CopyOut {
        /// Which container, as it was named.
        container: String,
        /// Its path there.
        from: Vec<u8>,
        /// To.
        to: Local,
        /// How.
        options: CopyOptions,
    },
    /// To write its tree as a tar.
    Export {
        /// Which, as it was named.
        container: String,
        /// The file; standard output if `None`.
        to: Option<PathBuf>,
    },
    /// To make an image of it.
    Commit {
        /// Which, as it was named.
        container: String,
        /// How.
        options: CommitOptions,
    },
    /// To list what it has changed.
    Diff {
        /// Which, as it was named.
        container: String,
    },
    /// To list some with their sizes.
    List(PsArgs),
    /// To describe some with their sizes, and images.
    Inspect(LocalInspect),
    /// To remove volumes.
    RemoveVolumes {
        /// Which.
        volumes: Vec<String>,
        /// Those that are not there are no failure.
        force: bool,
    },
    /// To remove the volumes that no container has.
    PruneVolumes {
        /// Those with a name too.
        all: bool,
    },
}

/// Does it; the exit code of the process comes back.
pub fn perform(
    task: &ContainerTask,
    services: &Services<'_>,
    kind: SnapshotterKind,
    interrupts: &Interrupts,
) -> Outcome<u8> {
    let all = Containers::of(services.store.root());
    let find = |text: &str| all.find(text).map_err(failed);
    match task {
        ContainerTask::Run { create, interactive } => {
            let container = make(create, services, kind)?;
            foreground(&container, services, interrupts, *interactive)
        }
        ContainerTask::Create { create, print } => {
            let container = make(create, services, kind)?;
            if *print {
                run::print_id(&container.id)?;
            }
            Ok(0)
        }
        ContainerTask::Start { container, interactive } => {
            foreground(&find(container)?, services, interrupts, *interactive)
        }
        ContainerTask::Keep { container } => {
            let attachment = Attachment { stdio: None, log: true };
            let mut started = super::background::tell_started;
            let result = containers::start(&find(container)?, services, attachment, interrupts, &mut started);
            Ok(result.map(|exit| exit.code())?)
        }
        ContainerTask::Remove { containers, force, volumes } => {
            each(containers, |text| match remove(text, *force, *volumes, services) {
                Err(RunError::NoContainer(_)) if *force => Ok(()),
                other => other,
            })
        }
        ContainerTask::Prune { labels } => prune(labels, services),
        ContainerTask::CopyIn { from, container, to, options } => {
            containers::copy_in(&find(container)?, services, from, to, *options).map_err(failed)?;
            Ok(0)
        }
        ContainerTask::CopyOut { container, from, to, options } => {
            let mut out = standard_output()?;
            containers::copy_out(&find(container)?, services, from, to, *options, &mut out).map_err(failed)?;
            Ok(0)
        }
        ContainerTask::Export { container, to } => {
            let container = find(container)?;
            let mut out = match to {
                Some(path) => fs_err::File::create(path).map_err(|error| failed(error.into()))?.into_parts().0,
                None => standard_output()?,
            };
            containers::export(&container, services, &mut out).map_err(failed)?;
            Ok(0)
        }
        ContainerTask::Commit { container, options } => {
            let (_, id) = containers::commit(&find(container)?, options, services).map_err(failed)?;
            print(&format!("{id}\n")).map(|_| 0)
        }
        ContainerTask::Diff { container } => {
            let changes = containers::changes(&find(container)?, services).map_err(failed)?;
            let line = |change: &containers::Change| {
                let kind = match change.kind {
                    ChangeKind::Added => 'A',
                    ChangeKind::Changed => 'C',
                    ChangeKind::Deleted => 'D',
                };
                format!("{kind} {}\n", String::from_utf8_lossy(&change.path))
            };
            print(&changes.iter().map(line).collect::<String>()).map(|_| 0)
        }
        ContainerTask::List(list) => {
            let size = |container: &Container| {
                let sizes = containers::sizes(container, services).map_err(failed)?;
                Ok(format!("{} (virtual {})", ui::bytes_in(sizes.changed, 3), ui::bytes_in(sizes.whole, 3)))
            };
            list.run(services.store.root(), &size).map(|_| 0)
        }
        ContainerTask::Inspect(inspect) => inspect.run(services.store.root(), Some(services)).map(|_| 0),
        ContainerTask::RemoveVolumes { volumes, force } => {
            each(volumes, |name| match Volumes::of(services.store.root()).remove(services.store, name, &all.list()?) {
                Err(RunError::NoVolume(_)) if *force => Ok(()),
                other => other,
            })
        }
        ContainerTask::PruneVolumes { all } => prune_volumes(*all, services),
    }
}

/// A failure of anything but a start: `docker` ends with 1.
pub fn failed(error: RunError) -> Box<Diagnostic> {
    Box::new(Diagnostic::from(&error).exit(1))
}

fn standard_output() -> Outcome<std::fs::File> {
    ui::stdout_file().map_err(|error| failed(error.into()))
}

/// Does `work` with each name and prints those that succeed, as Docker does; the first failure comes back when all have been
/// tried.
pub fn each(names: &[String], mut work: impl FnMut(&str) -> Result<(), RunError>) -> Outcome<u8> {
    let mut first = None;
    for name in names {
        match work(name) {
            Ok(()) => drop(print(&format!("{name}\n"))?),
            Err(error) => match &first {
                None => first = Some(failed(error)),
                Some(_) => ui::complain(&failed(error).draw(false)),
            },
        }
    }
    first.map_or(Ok(0), Err)
}

fn foreground(
    container: &Container,
    services: &Services<'_>,
    interrupts: &Interrupts,
    interactive: bool,
) -> Outcome<u8> {
    let stdio = ui::streams(interactive).map_err(RunError::from)?;
    // What is thrown away at its end has no log that anybody could read then.
    let attachment = Attachment { stdio: Some(stdio), log: !container.settings.auto_remove };
    Ok(containers::start(container, services, attachment, interrupts, &mut || {}).map(|exit| exit.code())?)
}

fn make(job: &CreateJob, services: &Services<'_>, kind: SnapshotterKind) -> Outcome<Container> {
    let image = image(job, services)?;
    Ok(containers::create(&job.options, &image, services, kind)?)
}

/// The image of a container: one that is here, by name or ID, or one that is pulled.
fn image(job: &CreateJob, services: &Services<'_>) -> Outcome<Image> {
    let text = &job.options.image;
    let platform = job.platform.clone().unwrap_or_else(Platform::host);
    let mut known = None;
    if job.pull != Pull::Always {
        match images::find(services.store, text) {
            Ok(found) => {
                let only = !is_index(found.target.media_type().as_ref());
                match Image::load(services.store, &found.target, &platform) {
                    Ok(image) if job.platform.is_none() && only => return Ok(image),
                    Ok(image) if platform.accepts(&image.config.platform()) => return Ok(image),
                    Ok(image) => known = Some(image.config.platform()),
                    // Its name is here, its documents for this platform are not.
                    Err(error) if job.pull == Pull::Never => return Err(error.into()),
                    Err(_) => {}
                }
            }
            Err(ImagesError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if job.pull == Pull::Never {
        let found = known.map(|own| format!(" for {platform} (it is for {own})")).unwrap_or_default();
        return Err(Box::new(Diagnostic::from(&ImagesError::NotFound(format!("{text}{found}"))).exit(125)));
    }
    let reference: Reference = text.parse().map_err(|error| usage(format!("{text}: {error}")).exit(125))?;
    let pull = |source| RunError::Pull { image: reference.clone(), source };
    let (resolved, _) =
        services.registry.pull_image(services.store, &reference, &platform, services.progress).map_err(pull)?;
    let target = match (&resolved.index, &job.platform) {
        (Some((index, _)), None) => index.clone(),
        _ => resolved.descriptor.clone(),
    };
    services.store.tag(&reference, &target)?;
    Ok(Image::load(services.store, &resolved.descriptor, &platform)?)
}

fn remove(text: &str, force: bool, volumes: bool, services: &Services<'_>) -> Result<(), RunError> {
    let all = Containers::of(services.store.root());
    let container = all.find(text)?;
    if force && all.is_running(&container.id)? {
        match containers::kill(&all, &container, Signal::KILL.as_raw()) {
            Ok(()) | Err(RunError::NotRunning { .. }) => drop(all.wait(&container.id)?),
            Err(error) => return Err(error),
        }
    }
    match containers::remove(services.store, &container, volumes) {
        // It was removed by its keeper (--rm).
        Err(RunError::NoContainer(_)) if force => Ok(()),
        other => other,
    }
}

fn prune(labels: &[String], services: &Services<'_>) -> Outcome<u8> {
    let all = Containers::of(services.store.root());
    let (mut gone, mut bytes) = (String::new(), 0);
    all.remove_damaged(services.store).map_err(failed)?;
    for container in all.list().map_err(failed)? {
        let (status, _) = all.status(&container.id).map_err(failed)?;
        if status == Status::Running || !labels.iter().all(|label| has_label(&container, label)) {
            continue;
        }
        bytes += all.size(&container.id).map_err(failed)?;
        match containers::remove(services.store, &container, false) {
            Ok(()) => gone += &format!("{}\n", container.id),
            Err(RunError::Running { .. } | RunError::NoContainer(_)) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let head = if gone.is_empty() { "" } else { "Deleted Containers:\n" };
    let tail = if gone.is_empty() { "" } else { "\n" };
    print(&format!("{head}{gone}{tail}Total reclaimed space: {}\n", ui::bytes(bytes))).map(|_| 0)
}

/// Whether the container has the label `NAME` or `NAME=VALUE`.
pub fn has_label(container: &Container, label: &str) -> bool {
    let labels = &container.settings.labels;
    match label.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|own| own == value),
        None => labels.contains_key(label),
    }
}

fn prune_volumes(all: bool, services: &Services<'_>) -> Outcome<u8> {
    let volumes = Volumes::of(services.store.root());
    let containers = Containers::of(services.store.root()).list().map_err(failed)?;
    let mut gone = String::new();
    for volume in volumes.list().map_err(failed)? {
        if !volume.anonymous && !all {
            continue;
        }
        match volumes.remove(services.store, &volume.name, &containers) {
            Ok(()) => gone += &format!("{}\n", volume.name),
            Err(RunError::VolumeUsed { .. } | RunError::NoVolume(_)) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let head = if gone.is_empty() { "" } else { "Deleted Volumes:\n" };
    print(&format!("{head}{gone}")).map(|_| 0)
}
