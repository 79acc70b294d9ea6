//! What this machine allows, by trial: nothing is concluded from versions or settings.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::enter::{enter, entered};
use super::error::{Attempt, During, Failure, Namespaces, SandboxError, Step};
use super::idmap::IdMap;
use super::mounts::{mount_overlay, new_proc, place};
use super::{Isolation, Role, Tier};
use crate::sys::{self, Fork};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What commands run in.
    pub tier: Tier,
    /// The ids that commands will have.
    pub id_map: IdMap,
    /// The overlay, where a directory to try it in was given and anything can be mounted.
    pub overlay: Option<OverlayProbe>,
    /// Why commands see the processes around: a new /proc cannot be mounted.
    pub masked_proc: Option<Failure>,
    /// Better ways that do not work.
    pub attempts: Vec<Attempt>,
}

/// Whether overlays can be had with their upper directory in a certain place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlayProbe {
    /// They can.
    Works,
    /// They cannot, because this failed.
    Fails(Failure),
}

/// What the inner side finds.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    tier: Tier,
    id_map: IdMap,
    overlay: Option<OverlayProbe>,
    masked_proc: Option<Failure>,
}

/// Tries which tier of those that `isolation` allows works here, and, with `overlay_in`, whether overlays do whose upper
/// directory lies in that directory, which must exist. `exe` is this program, see [`super::Sandbox::new`].
pub fn probe(exe: &Path, overlay_in: Option<&Path>, isolation: Isolation) -> Result<Probe, SandboxError> {
    let dir = overlay_in.map(|dir| dir.as_os_str().as_bytes()).unwrap_or_default();
    let ended = enter(exe, Role::Probe, dir, isolation)?;
    let report = ended.report.ok_or(SandboxError::Lost { role: "probe", exit: ended.exit })?;
    let found: Found = serde_json::from_slice(&report)
        .map_err(|error| SandboxError::Control { role: "probe", source: error.into() })?;
    let Found { tier, id_map, overlay, masked_proc } = found;
    Ok(Probe { tier, id_map, overlay, masked_proc, attempts: ended.attempts })
}

/// The role: to be called in a process that [`probe`] started, before any thread.
pub fn probe_role() -> ExitCode {
    let Some(entered) = entered() else { return ExitCode::from(125) };
    let overlay_in = Some(Path::new(OsStr::from_bytes(&entered.payload))).filter(|dir| !dir.as_os_str().is_empty());
    let mounts = entered.tier == Tier::Namespaces;
    let found = Found {
        tier: entered.tier,
        id_map: entered.id_map.clone(),
        overlay: overlay_in.filter(|_| mounts).map(probe_overlay),
        masked_proc: if mounts { try_proc().err() } else { None },
    };
    let report = serde_json::to_vec(&found).map_err(std::io::Error::from);
    match report.and_then(|report| entered.report(&report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(125),
    }
}

/// Whether overlays work whose upper directory lies in `dir`. To be called where [`enter`] led to namespaces.
pub fn probe_overlay(dir: &Path) -> OverlayProbe {
    match try_overlay(dir) {
        Ok(()) => OverlayProbe::Works,
        Err(failure) => OverlayProbe::Fails(failure),
    }
}

/// Mounts a /proc for a pid namespace of its own, in a process that is gone afterwards.
fn try_proc() -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWPID).during(Step::Unshare(Namespaces::Step))?;
    match sys::fork().during(Step::Fork)? {
        Fork::Child => sys::exit_now(u8::from(new_proc().is_err())),
        Fork::Parent(pid) => {
            let status =
                rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).during(Step::Wait)?;
            match status.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(()),
                _ => Err(Failure::MaskedProc),
            }
        }
    }
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
