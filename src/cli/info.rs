//! `dockless info`: what was found, by trial.

use super::Outcome;
use super::network::Network;
use crate::registry::RegistryError;
use crate::sandbox::{self, OverlayProbe, SandboxError};
use clap::Args;
use std::fmt::Write;
use std::path::Path;

/// Print what dockless found in its surroundings
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// Print which credentials would be shown to this registry or repository, never what they are
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

impl InfoArgs {
    /// What to print.
    pub fn text(&self, version: &str, state: &Path, network: &Network) -> Outcome<String> {
        let mut text = machine(version, state);
        if let Some(name) = &self.registry {
            let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
            let found = network.client()?.lookup(registry, repository).map_err(RegistryError::from)?;
            let _ = writeln!(text, "Credentials:     {}", found.describe());
        }
        Ok(text)
    }
}

/// This machine, and the state directory at `state`.
fn machine(version: &str, state: &Path) -> String {
    let mut text = format!("Version:         {version}\nState directory: {}\n", state.display());
    let exists = state.is_dir();
    let (isolation, snapshots) = match sandbox::probe(Path::new("/proc/self/exe"), exists.then_some(state)) {
        Ok(found) => {
            let overlay = match found.overlay {
                Some(OverlayProbe::Works) => "overlay".to_string(),
                Some(OverlayProbe::Fails(why)) => format!("none: {why}"),
                None => "not tried: the state directory does not exist yet".to_string(),
            };
            (format!("namespaces, {}", found.id_map), overlay)
        }
        Err(error) => (format!("none: {}", explain(&error)), "none".to_string()),
    };
    let _ = writeln!(text, "Isolation:       {isolation}\nSnapshotter:     {snapshots}");
    text
}

/// An error of several lines, set below the column of values.
fn explain(error: &SandboxError) -> String {
    error.to_string().trim_end().replace('\n', "\n                 ")
}
