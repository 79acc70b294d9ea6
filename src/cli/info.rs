//! `dockless info`: what was found, by trial.

use crate::sandbox::{self, OverlayProbe, SandboxError};
use std::fmt::Write;
use std::path::Path;

/// What to print about this machine and the state directory at `state`.
pub fn text(version: &str, state: &Path) -> String {
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
