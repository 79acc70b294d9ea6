//! Where the words that an error is about stand in the Dockerfile.
//!
//! An instruction keeps its lines, not the columns of each of its words; an error knows the words. A word that a variable
//! made is not to be found, and then the whole instruction is meant.

use super::error::{PlanError, PlanErrorKind};
use crate::dockerfile::expose::ExposeError;
use crate::dockerfile::mount::MountError;
use crate::dockerfile::span::Span;

impl PlanError {
    /// The words that are wrong, in the Dockerfile's `text`; `None` where an option is to blame.
    pub fn place(&self, text: &str) -> Option<Span> {
        let span = self.span?;
        if span.column > 0 {
            return Some(span);
        }
        Some(self.kind.words().iter().find_map(|word| find(text, span, word)).unwrap_or(span))
    }
}

impl PlanErrorKind {
    /// The words as they may be written; one that begins with `--` is the start of a flag.
    fn words(&self) -> Vec<String> {
        let flag = |name: &str| vec![format!("--{name}=")];
        match self {
            PlanErrorKind::BadReference { name, .. } => vec![format!("--from={name}"), name.clone()],
            PlanErrorKind::EmptyPlatform { .. } | PlanErrorKind::BadPlatform { .. } => flag("platform"),
            PlanErrorKind::Expand(error) => vec![error.word.clone()],
            PlanErrorKind::VariableInFrom => flag("from"),
            PlanErrorKind::StageIndex { index, .. } => vec![format!("--from={index}"), format!("from={index}")],
            PlanErrorKind::Circular(from) | PlanErrorKind::LaterStage { from, .. } => {
                vec![format!("--from={from}"), format!("from={from}"), "--from=".to_string()]
            }
            PlanErrorKind::Mount(error) => mount_words(error),
            PlanErrorKind::MountTarget(target) => vec![target.clone(), "--mount=".to_string()],
            PlanErrorKind::Port(error) => port_words(error),
            PlanErrorKind::Signal { name, .. } => vec![name.clone()],
            PlanErrorKind::FrontEnd(image) => vec![image.clone()],
            PlanErrorKind::Chmod(_) => flag("chmod"),
            PlanErrorKind::Network { .. } => flag("network"),
            PlanErrorKind::Security { .. } => flag("security"),
            PlanErrorKind::UrlInCopy(source) | PlanErrorKind::GitInCopy(source) => vec![source.clone()],
            PlanErrorKind::Git { address, .. } => vec![address.clone()],
            PlanErrorKind::KeepGitDir => vec!["--keep-git-dir".to_string()],
            PlanErrorKind::ChecksumConflict { .. }
            | PlanErrorKind::ChecksumOfMany
            | PlanErrorKind::ChecksumOfPath
            | PlanErrorKind::ChecksumFormat(_)
            | PlanErrorKind::ChecksumAlgorithm(_) => flag("checksum"),
            PlanErrorKind::NoStages
            | PlanErrorKind::TargetNotFound { .. }
            | PlanErrorKind::EmptyBase(_)
            | PlanErrorKind::Check(_)
            | PlanErrorKind::CheckArgument(_)
            | PlanErrorKind::Trigger { .. }
            | PlanErrorKind::Unresolved(_)
            | PlanErrorKind::SourceDateEpoch(_)
            | PlanErrorKind::SourceDateEpochStage { .. }
            | PlanErrorKind::SourceDateEpochInstruction { .. }
            | PlanErrorKind::EmptyVolume => Vec::new(),
        }
    }
}

fn mount_words(error: &MountError) -> Vec<String> {
    let word = match error {
        MountError::NoValue(field) | MountError::Key { field, .. } => Some(field.clone()),
        MountError::Value { key, value } => Some(format!("{key}={value}")),
        MountError::Kind { value, .. } => Some(format!("type={value}")),
        MountError::Sharing { value, .. } => Some(format!("sharing={value}")),
        MountError::Expand(error) => Some(error.word.clone()),
        MountError::KeyForType { key, .. } => Some(key.clone()),
        MountError::NotAllowed { key, .. } => Some((*key).to_string()),
        MountError::SecretKey(key) => Some((*key).to_string()),
        MountError::VariableInFrom => Some("from".to_string()),
        MountError::Csv(_) | MountError::SecretName | MountError::SourceAndId => None,
    };
    word.into_iter().chain(["--mount=".to_string()]).collect()
}

fn port_words(error: &ExposeError) -> Vec<String> {
    match error {
        ExposeError::NoPort(word) | ExposeError::Protocol { word, .. } => vec![word.clone()],
        ExposeError::Address(part) | ExposeError::ContainerPort(part) | ExposeError::HostPort(part) => {
            vec![part.clone()]
        }
        ExposeError::Ranges { container, host } => vec![format!("{host}:{container}")],
    }
}

/// The first place of `word` in the lines of `span`, as a whole word.
fn find(text: &str, span: Span, word: &str) -> Option<Span> {
    if word.is_empty() {
        return None;
    }
    let lines = (span.line..=span.end_line).zip(text.split('\n').skip(span.line.max(1) as usize - 1));
    for (number, line) in lines {
        for (at, _) in line.match_indices(word) {
            let (before, behind) = (&line[..at], &line[at + word.len()..]);
            let starts = before.is_empty() || before.ends_with(|c: char| c.is_whitespace() || "=,\"'[:/".contains(c));
            let flag = word.starts_with("--");
            let ends =
                flag || behind.is_empty() || behind.starts_with(|c: char| c.is_whitespace() || "=,\"']/:".contains(c));
            if starts && ends {
                let rest = if flag { behind.find(char::is_whitespace).unwrap_or(behind.len()) } else { 0 };
                let column = |at: usize| u32::try_from(at + 1).unwrap_or(u32::MAX);
                let end = at + word.len() + rest;
                return Some(Span { line: number, end_line: number, column: column(at), end_column: column(end) });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_whole_words_and_whole_flags() {
        let text = "FROM x\nCOPY --chmod=77x \\\n  sub us /d\n";
        let find = |word| find(text, Span::lines(2, 3), word).map(|span| (span.line, span.column, span.end_column));
        assert_eq!(find("--chmod="), Some((2, 6, 17)));
        assert_eq!(find("us"), Some((3, 7, 9)));
        assert_eq!(find("x"), None, "in another line, or in another word");
        assert_eq!(find(""), None);
    }
}
