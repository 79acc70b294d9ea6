//! What a person reads when something fails: one message, its causes, the Dockerfile's line, hints; and the exit code.

use super::lines::clean;
use crate::dockerfile::span::Span;
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet as Drawn};
use std::error::Error;
use std::ops::Range;

/// What sort of failure it is: who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line. Exit code 2.
    Usage,
    /// The Dockerfile.
    Dockerfile,
    /// A command that ran in a step or in a container.
    Run,
    /// The build context: a missing or unreadable file.
    Context,
    /// A registry, or the way to it.
    Registry,
    /// The machine: a missing privilege, a full disk.
    Environment,
    /// dockless itself.
    Bug,
}

impl Kind {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::Dockerfile => "dockerfile",
            Kind::Run => "run",
            Kind::Context => "context",
            Kind::Registry => "registry",
            Kind::Environment => "environment",
            Kind::Bug => "bug",
        }
    }
}

/// The words of a file that a failure is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The file's name as the user knows it.
    pub file: String,
    /// The whole text of the file.
    pub text: String,
    /// Which words.
    pub span: Span,
}

/// A failure, ready to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its sort.
    pub kind: Kind,
    /// One line: what failed.
    pub message: String,
    /// Why, from near to far.
    pub causes: Vec<String>,
    /// What would help.
    pub hints: Vec<String>,
    /// Where, if in a file.
    pub source: Option<Snippet>,
    /// The exit code of the process.
    pub exit: u8,
}

impl Diagnostic {
    /// A failure with nothing but its message; the exit code is 2 for usage, else 1.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let exit = if kind == Kind::Usage { 2 } else { 1 };
        Diagnostic { kind, message: message.into(), causes: Vec::new(), hints: Vec::new(), source: None, exit }
    }

    /// A failure from an error and its chain of sources. A source that the message before it quotes is not repeated.
    pub fn from_error(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        let mut diagnostic = Diagnostic::new(kind, error.to_string());
        let (mut said, mut next) = (diagnostic.message.clone(), error.source());
        while let Some(cause) = next {
            let text = cause.to_string();
            if !said.contains(&text) {
                diagnostic.causes.push(text.clone());
                said = text;
            }
            next = cause.source();
        }
        diagnostic
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says where it is.
    pub fn at(mut self, source: Snippet) -> Self {
        self.source = Some(source);
        self
    }

    /// Sets the exit code, as `run` does (125: dockless failed; 126: the command cannot be started; 127: not found).
    pub fn exit(mut self, code: u8) -> Self {
        self.exit = code;
        self
    }

    /// The lines to print, the last with its line end.
    pub fn draw(&self, colour: bool) -> String {
        let message = tidy(&self.message);
        let snippet = self.source.as_ref().and_then(window);
        let causes: Vec<String> = self.causes.iter().map(|text| tidy(text)).collect();
        let hints: Vec<String> = self.hints.iter().map(|text| tidy(text)).collect();
        let mut elements: Vec<Element<'_>> = Vec::new();
        if let (Some(source), Some((start, text, marked))) = (&self.source, &snippet) {
            let mark = AnnotationKind::Primary.span(marked.clone());
            let drawn = Drawn::source(text.as_str()).line_start(*start).path(source.file.as_str()).annotation(mark);
            elements.push(drawn.into());
        }
        elements.extend(causes.iter().map(|text| Level::NOTE.with_name("cause").message(text.as_str()).into()));
        elements.extend(hints.iter().map(|text| Level::HELP.with_name("hint").message(text.as_str()).into()));
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let report = [Level::ERROR.primary_title(message.as_str()).elements(elements)];
        format!("{}\n", renderer.decor_style(DecorStyle::Ascii).render(&report))
    }
}

/// Clean text that keeps its line ends, for messages that list something.
fn tidy(text: &str) -> String {
    text.trim_end().lines().map(|line| clean(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

/// The lines of the span (their first number, their text) and the range of the marked words in that text, in bytes.
/// Nothing where the span lies outside the file: the message must come out even then.
fn window(source: &Snippet) -> Option<(usize, String, Range<usize>)> {
    let span = source.span;
    let first = span.line.max(1) as usize;
    let last = (span.end_line as usize).max(first);
    let lines: Vec<&str> = source
        .text
        .split('\n')
        .skip(first - 1)
        .take(last - first + 1)
        .map(|line| line.trim_end_matches('\r'))
        .collect();
    let (head, tail) = (lines.first()?, lines.last()?);
    let text = lines.join("\n");
    let tail_at = text.len() - tail.len();
    let (mut start, mut end) = (head.len() - head.trim_start().len(), tail_at + tail.trim_end().len());
    if span.column > 0 {
        start = (span.column as usize - 1).min(head.len());
    }
    if span.end_column > 0 {
        end = (tail_at + span.end_column as usize - 1).min(text.len());
    }
    // Columns count bytes: stay on characters, and mark at least one place.
    start = floor(&text, start);
    end = floor(&text, end).max(start);
    if end == start {
        end = text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
    }
    Some((first, text, start..end))
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests;
