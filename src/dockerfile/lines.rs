//! From the file's text to logical lines: BOM, line ends, comments, continuations.

use super::error::{ParseError, ParseErrorKind};
use super::span::Span;

/// The longest physical line, in bytes without its `\n`. Logical lines have no limit.
pub const MAX_LINE: usize = 65_535;

/// A physical line with its `\n`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Physical<'a> {
    pub(super) text: &'a str,
    /// Counts from 1.
    pub(super) number: u32,
    /// Column of the first byte; not 1 behind a byte order mark.
    pub(super) column: u32,
}

impl<'a> Physical<'a> {
    /// Without `\n` and any `\r` before it.
    pub(super) fn trimmed(&self) -> &'a str {
        self.text.trim_end_matches(['\n', '\r'])
    }

    pub(super) fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }
}

/// The physical lines of a file.
pub(super) struct Source<'a> {
    rest: &'a str,
    number: u32,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Source { rest: text, number: 0 }
    }

    /// Number of the line given last.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The next line, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Physical<'a>>, ParseError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (mut text, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.number += 1;
        let mut column = 1;
        if self.number == 1
            && let Some(after) = text.strip_prefix('\u{feff}')
        {
            text = after;
            column += '\u{feff}'.len_utf8() as u32;
        }
        if text.len() - usize::from(text.ends_with('\n')) > MAX_LINE {
            return Err(ParseError::new(ParseErrorKind::LineTooLong, Span::lines(self.number, self.number)));
        }
        Ok(Some(Physical { text, number: self.number, column }))
    }
}

/// The part of a logical line that one physical line gave.
#[derive(Debug, Clone, Copy)]
struct Piece {
    at: usize,
    line: u32,
    column: u32,
}

/// A line with its continuations joined and the comments in it removed.
#[derive(Debug, Clone, Default)]
pub(super) struct Logical {
    /// The joined text; blanks before its first character are dropped.
    pub(super) text: String,
    pieces: Vec<Piece>,
    /// First physical line.
    pub(super) first: u32,
    /// Last physical line.
    pub(super) last: u32,
    /// There was an empty line inside.
    pub(super) empty_continuation: bool,
}

impl Logical {
    /// Reads on from `start`, whose text without leading blanks and line end is `text`.
    pub(super) fn join(
        text: &str,
        start: Physical<'_>,
        source: &mut Source<'_>,
        escape: char,
    ) -> Result<Self, ParseError> {
        let mut line = Logical { first: start.number, last: start.number, ..Logical::default() };
        let indent = start.trimmed().len() - text.len();
        let mut more = line.push(text, start.number, start.column + indent as u32, escape);
        while more {
            let Some(next) = source.next()? else { break };
            line.last = next.number;
            if next.is_comment() {
                continue;
            }
            let text = next.trimmed();
            if text.trim_start().is_empty() {
                line.empty_continuation = true;
                continue;
            }
            more = line.push(text, next.number, next.column, escape);
        }
        Ok(line)
    }

    /// Appends a physical line and says whether the line goes on.
    fn push(&mut self, text: &str, line: u32, column: u32, escape: char) -> bool {
        let kept = continued(text, escape);
        self.pieces.push(Piece { at: self.text.len(), line, column });
        self.text.push_str(kept.unwrap_or(text));
        kept.is_some()
    }

    /// A line that stands nowhere in a file: every span in it is `span`.
    pub(super) fn detached(text: String, span: Span) -> Self {
        Logical { text, pieces: Vec::new(), first: span.line, last: span.end_line, empty_continuation: false }
    }

    /// Where the bytes `from..to` of the text stand.
    pub(super) fn span(&self, from: usize, to: usize) -> Span {
        let (Some(start), Some(end)) = (self.place(from), self.place(to.saturating_sub(1).max(from))) else {
            return Span::lines(self.first, self.last);
        };
        let wide = u32::from(to > from);
        Span { line: start.0, end_line: end.0, column: start.1, end_column: end.1 + wide }
    }

    fn place(&self, at: usize) -> Option<(u32, u32)> {
        let index = self.pieces.partition_point(|piece| piece.at <= at).checked_sub(1)?;
        let piece = self.pieces[index];
        Some((piece.line, piece.column + (at - piece.at) as u32))
    }
}

/// The line without its continuation: an escape character that ends the line, blanks behind it allowed, and that does
/// not follow another escape character. `None` where the line ends here.
fn continued(text: &str, escape: char) -> Option<&str> {
    let kept = text.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!kept.ends_with(escape)).then_some(kept)
}
