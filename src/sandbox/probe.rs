//! What this machine allows, by trial: nothing is concluded from versions or settings.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::enter::{enter, entered};
use super::error::{Attempt, AttemptFailure, During, Failure, SandboxError, Step, Way};
use super::idmap::{IdMap, IdMapKind};
use super::mounts::{mount_overlay, mount_tmpfs_at, place};
use super::{Isolation, Role};
use crate::sys;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The ids that commands will have.
    pub id_map: IdMap,
    /// The overlay, where a directory to try it in was given.
    pub overlay: Option<OverlayProbe>,
}

/// Whether overlays can be had with their upper directory in a certain place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlayProbe {
    /// They can.
    Works,
    /// They cannot, because this failed.
    Fails(Failure),
}

/// Tries whether commands can be run here: a user and mount namespace and a tmpfs mounted in it, and, with `overlay_in`,
/// an overlay whose upper directory lies in that directory, which must exist. `exe` is this program, see
/// [`super::Sandbox::new`].
pub fn probe(exe: &Path, overlay_in: Option<&Path>) -> Result<Probe, SandboxError> {
    let dir = overlay_in.map(|dir| dir.as_os_str().as_bytes()).unwrap_or_default();
    let ended = enter(exe, Role::Probe, dir, Isolation::Namespaces)?;
    let report = ended.report.ok_or(SandboxError::Lost { role: "probe", exit: ended.exit })?;
    let found: Result<Probe, (IdMapKind, Failure)> = serde_json::from_slice(&report)
        .map_err(|error| SandboxError::Control { role: "probe", source: error.into() })?;
    // Namespaces without the right to mount in them (AppArmor) are of no use.
    found.map_err(|(how, failure)| SandboxError::NoIsolation {
        attempts: vec![Attempt { how: Way::Namespaces(how), why: AttemptFailure::Setup(failure) }],
    })
}

/// The role: to be called in a process that [`probe`] started, before any thread.
pub fn probe_role() -> ExitCode {
    let Some(entered) = entered() else { return ExitCode::from(125) };
    let overlay_in = Some(Path::new(OsStr::from_bytes(&entered.payload))).filter(|dir| !dir.as_os_str().is_empty());
    let found = try_tmpfs().map_err(|failure| (entered.id_map.kind, failure)).map(|()| Probe {
        id_map: entered.id_map.clone(),
        overlay: overlay_in.map(|dir| match try_overlay(dir) {
            Ok(()) => OverlayProbe::Works,
            Err(failure) => OverlayProbe::Fails(failure),
        }),
    });
    let report = serde_json::to_vec(&found).map_err(std::io::Error::from);
    match report.and_then(|report| entered.report(&report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(125),
    }
}

fn try_tmpfs() -> Result<(), Failure> {
    let root = Path::new("/");
    mount_tmpfs_at(&place(root)?, root)
}

fn try_overlay(dir: &Path) -> Result<(), Failure> {
    let trial = tempfile::Builder::new().prefix(".dockless-probe-").tempdir_in(dir).during_at(Step::WriteFile, dir)?;
    let path = |name: &str| trial.path().join(name);
    for name in ["lower/dir", "upper", "work", "merged"] {
        fs_err::create_dir_all(path(name)).during_at(Step::WriteFile, &path(name))?;
    }
    let [lower, upper, work] = [place(&path("lower"))?, place(&path("upper"))?, place(&path("work"))?];
    mount_overlay(&[&lower], Some((&upper, &work)), &path("merged")).during_at(Step::MountOverlay, dir)?;
    // Without working user xattrs the overlay mounts, but a directory that replaces a lower one gives EIO.
    let replaced = path("merged/dir");
    let works = fs_err::remove_dir(&replaced)
        .and_then(|()| fs_err::create_dir(&replaced))
        .and_then(|()| fs_err::write(replaced.join("file"), "x"))
        .during_at(Step::ReplaceDirectory, dir);
    rustix::mount::unmount(path("merged"), rustix::mount::UnmountFlags::DETACH).during_at(Step::MountOverlay, dir)?;
    drop((lower, upper, work));
    sys::remove_tree(trial.path()).during_at(Step::WriteFile, dir)?;
    works
}
