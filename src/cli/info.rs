//! `dockless info` and `dockless doctor`: what was found, by trial.

use super::environment::Environment;
use super::network::Network;
use super::state::Places;
use super::{Outcome, isolation};
use crate::registry::RegistryError;
use crate::sandbox::{self, Isolation, OverlayProbe, Probe, SandboxError, Tier};
use crate::store::Store;
use clap::Args;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Print what dockless found in its surroundings
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// Print which credentials would be shown to this registry or repository, never what they are
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

/// Print every probe of this machine, and what would enable what does not work
#[derive(Args, Debug)]
pub struct DoctorArgs {}

impl InfoArgs {
    /// What to print.
    pub fn text(&self, version: &str, places: &Places, environment: &Environment) -> Outcome<String> {
        let mut text = machine(version, places, isolation::isolation(None, environment)?);
        if let Some(name) = &self.registry {
            let network = Network::plain(environment, &places.state);
            let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
            let found = network.client()?.lookup(registry, repository).map_err(RegistryError::from)?;
            let _ = writeln!(text, "Credentials:     {}", found.describe());
        }
        Ok(text)
    }
}

/// What `docker info` tells of the machine.
pub struct Facts {
    /// The tier that RUN steps have, or why there is none.
    pub tier: String,
    /// How trees are made: Docker's word is the storage driver.
    pub snapshotter: String,
}

/// Finds them out, by trial.
pub fn facts(state: &Path, environment: &Environment) -> Outcome<Facts> {
    Ok(match probe(state, isolation::isolation(None, environment)?) {
        Ok(found) => {
            let overlay = matches!(found.overlay, Some(OverlayProbe::Works));
            Facts { tier: found.tier.to_string(), snapshotter: if overlay { "overlay" } else { "copy" }.to_string() }
        }
        Err(error) => Facts { tier: format!("none: {}", indent(&error.to_string(), 3)), snapshotter: "none".into() },
    })
}

fn probe(state: &Path, isolation: Isolation) -> Result<Probe, SandboxError> {
    sandbox::probe(Path::new(super::job::SELF), place(state).as_deref(), isolation)
}

/// Where a file system like the store's can be tried without making a store: in it, else above.
fn place(state: &Path) -> Option<PathBuf> {
    let temporary = state.join("tmp");
    let above = temporary.ancestors().find(|path| path.is_dir())?;
    // A store holds nothing but its own.
    Some(if above == state { state.parent()?.to_path_buf() } else { above.to_path_buf() })
}

/// This machine, and the state directory.
fn machine(version: &str, places: &Places, isolation: Isolation) -> String {
    let state = places.state.as_path();
    let mut text = format!("Version:         {version}\nState directory: {}\n", state.display());
    let (tier, ids, snapshots) = match probe(state, isolation) {
        Ok(found) => (tier_line(&found), found.id_map.to_string(), snapshotter(&found, places, isolation)),
        Err(error) => (format!("none: {}", indent(&error.to_string(), 17)), "none".to_string(), "none".to_string()),
    };
    let _ = writeln!(text, "Isolation:       {tier}\nIds:             {ids}\nSnapshotter:     {snapshots}");
    text
}

/// The tier, and why it is no better one.
fn tier_line(found: &Probe) -> String {
    let mut line = found.tier.to_string();
    for (number, attempt) in found.attempts.iter().enumerate() {
        let before = if number == 0 { ", because these do not work:" } else { "" };
        let _ = write!(line, "{before}\n                   {}: {}", attempt.how, indent(&attempt.why.to_string(), 19));
    }
    line
}

fn snapshotter(found: &Probe, places: &Places, isolation: Isolation) -> String {
    match &found.overlay {
        Some(OverlayProbe::Works) => "overlay".to_string(),
        Some(OverlayProbe::Fails(why)) => match volume(places, isolation) {
            Some(volume) => {
                format!("overlay, in {}, because one in the state directory does not work: {why}", volume.display())
            }
            None => format!("copy, because an overlay does not work: {why}"),
        },
        None if !found.tier.mounts() => "copy, because nothing can be mounted in this tier".to_string(),
        None => "not tried: the state directory cannot be used".to_string(),
    }
}

/// The volume that overlays work on.
fn volume(places: &Places, isolation: Isolation) -> Option<&Path> {
    let volume = places.volume.as_deref()?;
    let found = sandbox::probe(Path::new(super::job::SELF), volume.parent(), isolation);
    found.is_ok_and(|found| found.overlay == Some(OverlayProbe::Works)).then_some(volume)
}

/// A text of several lines, set below a column.
fn indent(text: &str, column: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{}", " ".repeat(column)))
}

impl DoctorArgs {
    /// What to print.
    pub fn text(&self, version: &str, places: &Places) -> String {
        let state = places.state.as_path();
        let kernel = rustix::system::uname();
        let mut text = format!(
            "dockless {version}, {} {} {}, user {} group {}\nstate directory {}\n",
            kernel.sysname().to_string_lossy(),
            kernel.release().to_string_lossy(),
            kernel.machine().to_string_lossy(),
            rustix::process::geteuid(),
            rustix::process::getegid(),
            state.display()
        );
        if state.is_dir() {
            match Store::open(state) {
                Ok(_) => text.push_str("  can be used\n"),
                Err(error) => text.push_str(&format!("  cannot be used: {error}\n")),
            }
        } else {
            text.push_str("  does not exist yet\n");
        }
        for tier in Tier::ALL {
            examine(&mut text, places, tier, tier.alone());
        }
        text.push_str(
            "\nA Dockerfile without RUN needs no tier. docs/environments.md says what each environment allows.\n",
        );
        text
    }
}

/// One tier: each way tried, its answer, and what would enable it.
fn examine(text: &mut String, places: &Places, tier: Tier, isolation: Isolation) {
    let (works, attempts) = match probe(&places.state, isolation) {
        Ok(found) => {
            let attempts = found.attempts.clone();
            (Ok(found), attempts)
        }
        Err(SandboxError::NoIsolation { attempts }) => (Err(None), attempts),
        Err(error) => (Err(Some(error)), Vec::new()),
    };
    let _ = writeln!(text, "\n{tier}: {}", if works.is_ok() { "works" } else { "does not work" });
    for attempt in &attempts {
        let _ = writeln!(text, "  {}: {}", attempt.how, indent(&attempt.why.to_string(), 4));
    }
    match works {
        Ok(found) => {
            let _ = writeln!(text, "  ids: {}", found.id_map);
            let _ = match (&found.overlay, tier) {
                (Some(OverlayProbe::Works), _) => writeln!(text, "  overlay in the state directory: works"),
                (Some(OverlayProbe::Fails(why)), _) => match volume(places, isolation) {
                    Some(volume) => writeln!(
                        text,
                        "  overlay in the state directory: {why}\n  overlay in {}: works, and is used",
                        volume.display()
                    ),
                    None => writeln!(
                        text,
                        "  overlay in the state directory: {why}\n    instead each stage copies its base; a state \
                         directory (DOCKLESS_HOME) on a volume would do without"
                    ),
                },
                (None, Tier::Chroot | Tier::Emulated) => {
                    writeln!(text, "  snapshotter: copy, for nothing can be mounted")
                }
                (None, Tier::Namespaces) => writeln!(text, "  overlay: not tried, the state directory cannot be used"),
            };
            if let Some(why) = found.masked_proc {
                let _ = writeln!(text, "  pid namespace: {why}; steps see the processes of the container");
            }
        }
        Err(Some(error)) => text.push_str(&format!("  {}\n", indent(&error.to_string(), 4))),
        Err(None) => {}
    }
    let remedies = sandbox::remedies(tier, &attempts);
    if !remedies.is_empty() {
        text.push_str("  any one of these enables it:\n");
        remedies.iter().for_each(|remedy| text.push_str(&format!("    {remedy}\n")));
    }
}
