//! COPY and ADD.

use super::error::PlanErrorKind;
use super::fold::Fold;
use super::model::{AddOptions, CopySource, CopyStep, InlineFile, StepKind, TreeSource};
use super::planner::Command;
use super::text::destination;
use crate::dockerfile::git_ref;
use crate::dockerfile::instruction::{AddInstruction, CopyInstruction, SourcesAndDest};
use crate::dockerfile::redact::redact;

impl Fold<'_, '_> {
    pub(super) fn copy(&mut self, command: &Command<'_>, copy: &CopyInstruction) -> Result<(), PlanErrorKind> {
        let chown = self.flag(command, copy.chown.as_deref())?;
        let chmod = self.flag(command, copy.chmod.as_deref())?;
        let step = CopyStep {
            from: self.tree(command, 0)?.unwrap_or(TreeSource::Context),
            sources: Vec::new(),
            heredocs: Vec::new(),
            dest: String::new(),
            chown,
            chmod,
            link: copy.link,
            parents: copy.parents,
            exclude: copy.exclude.clone(),
            add: None,
        };
        self.copy_step(command, &copy.paths, step)
    }

    pub(super) fn add(&mut self, command: &Command<'_>, add: &AddInstruction) -> Result<(), PlanErrorKind> {
        let chown = self.flag(command, add.chown.as_deref())?;
        let chmod = self.flag(command, add.chmod.as_deref())?;
        let checksum = self.flag(command, add.checksum.as_deref())?;
        let step = CopyStep {
            from: TreeSource::Context,
            sources: Vec::new(),
            heredocs: Vec::new(),
            dest: String::new(),
            chown,
            chmod,
            link: add.link,
            parents: false,
            exclude: add.exclude.clone(),
            add: Some(AddOptions { unpack: add.unpack, checksum, keep_git_dir: add.keep_git_dir }),
        };
        self.copy_step(command, &add.paths, step)
    }

    /// A flag's value, expanded; empty is as good as absent.
    fn flag(&mut self, command: &Command<'_>, value: Option<&str>) -> Result<Option<String>, PlanErrorKind> {
        let value = value.map(|word| self.expand(command, word)).transpose()?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    fn copy_step(
        &mut self,
        command: &Command<'_>,
        paths: &SourcesAndDest,
        mut step: CopyStep,
    ) -> Result<(), PlanErrorKind> {
        let dest = self.expand(command, &paths.dest)?;
        if let Some(chmod) = step.chmod.as_deref().filter(|chmod| !is_mode(chmod)) {
            return Err(PlanErrorKind::Chmod(chmod.to_string()));
        }
        let mut created_by = if step.add.is_some() { "ADD" } else { "COPY" }.to_string();
        if step.parents {
            created_by.push_str(" --parents");
        }
        for (flag, value) in [("chown", &step.chown), ("chmod", &step.chmod)] {
            if let Some(value) = value {
                created_by.push_str(&format!(" --{flag}={value}"));
            }
        }
        for source in &paths.sources {
            let source = self.expand(command, source)?;
            created_by.push_str(&format!(" {}", redact(&source)));
            step.sources.push(classify(source, step.add.as_ref())?);
        }
        if let Some(checksum) = step.add.as_ref().and_then(|add| add.checksum.as_deref()) {
            check_checksum(checksum, &step.sources)?;
        }
        for heredoc in &paths.heredocs {
            created_by.push_str(&format!(" <<{}", heredoc.name));
            let mut content = heredoc.body.clone();
            if heredoc.expand {
                let body = self.planner.words.body(&content, &self.state.env)?;
                self.warn_unmatched(command.instruction.span, &body.unmatched);
                content = body.word;
            }
            step.heredocs.push(InlineFile { name: heredoc.name.clone(), content });
        }
        created_by.push_str(&format!(" {dest} # buildkit"));
        step.dest = destination(&self.state.cwd(), &dest);
        self.push(command, None, created_by, StepKind::Copy(Box::new(step)));
        Ok(())
    }
}

/// What kind of source it is. What could as well be a local path (`github.com/a/b`) is one.
pub(super) fn classify(source: String, add: Option<&AddOptions>) -> Result<CopySource, PlanErrorKind> {
    let git = match git_ref::parse(&source) {
        Err(reason) if reason.is_git() => return Err(PlanErrorKind::Git { address: source, reason }),
        Ok(git) if !git.indistinguishable_from_local => Some(git),
        _ => None,
    };
    let is_url = git.is_none() && (source.starts_with("http://") || source.starts_with("https://"));
    match (git, is_url, add) {
        (Some(git), _, Some(add)) => {
            if add.keep_git_dir.zip(git.keep_git_dir).is_some_and(|(flag, address)| flag != address) {
                return Err(PlanErrorKind::KeepGitDir);
            }
            match (add.checksum.clone(), git.checksum) {
                (Some(flag), Some(address)) if flag != address => {
                    Err(PlanErrorKind::ChecksumConflict { flag, address })
                }
                _ => Ok(CopySource::Git(source)),
            }
        }
        (Some(_), _, None) => Err(PlanErrorKind::GitInCopy(source)),
        (None, true, Some(_)) => Ok(CopySource::Url(source)),
        (None, true, None) => Err(PlanErrorKind::UrlInCopy(source)),
        (None, false, _) => Ok(CopySource::Path(source)),
    }
}

/// Octal up to 07777, or symbolic as in chmod(1): `u=rwX,go-w`.
fn is_mode(text: &str) -> bool {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).is_ok_and(|mode| mode <= 0o7777);
    }
    text.split(',').all(|clause| {
        let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let operations = rest.starts_with(['+', '-', '=']);
        operations && rest.chars().all(|c| "+-=rwxXstugo".contains(c))
    })
}

fn check_checksum(checksum: &str, sources: &[CopySource]) -> Result<(), PlanErrorKind> {
    let format = || PlanErrorKind::ChecksumFormat(checksum.to_string());
    match sources {
        [CopySource::Git(_)] => Ok(()),
        [CopySource::Url(_)] => {
            let (algorithm, hex) = checksum.split_once(':').ok_or_else(format)?;
            let digits = match algorithm {
                "sha256" => 64,
                "sha384" => 96,
                "sha512" => 128,
                _ => return Err(PlanErrorKind::ChecksumAlgorithm(algorithm.to_string())),
            };
            let valid = hex.len() == digits && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if valid { Ok(()) } else { Err(format()) }
        }
        [_] => Err(PlanErrorKind::ChecksumOfPath),
        _ => Err(PlanErrorKind::ChecksumOfMany),
    }
}
