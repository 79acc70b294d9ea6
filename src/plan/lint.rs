//! Warnings about what the ignore file leaves out, which only the caller can read.

use super::model::{BuildPlan, CopySource, StepKind, TreeSource};
use super::text::absolute;
use crate::dockerfile::lint::{self, Warning, detail};

impl BuildPlan {
    /// Warnings of COPY and ADD of what the ignore file leaves out; `is_ignored` is asked with clean paths below the
    /// context, wildcards and all.
    pub fn warn_ignored(&self, is_ignored: impl Fn(&str) -> bool) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for step in self.stages.iter().flat_map(|stage| &stage.steps) {
            let StepKind::Copy(copy) = &step.kind else { continue };
            if copy.from != TreeSource::Context {
                continue;
            }
            let word = if copy.add.is_some() { "Add" } else { "Copy" };
            for source in &copy.sources {
                let CopySource::Path(path) = source else { continue };
                let path = absolute("/", path);
                let path = path.strip_prefix('/').filter(|path| !path.is_empty()).unwrap_or(".");
                if is_ignored(path) {
                    let detail = detail::copy_ignored_file(word, path);
                    warnings.push(Warning::new(&lint::COPY_IGNORED_FILE, detail, step.span));
                }
            }
        }
        warnings
    }
}
