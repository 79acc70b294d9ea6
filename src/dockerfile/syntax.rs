//! From logical lines to instructions with words: which word is the instruction, which are flags, how the rest splits.
//!
//! Nothing here knows what an instruction means; an unknown one goes through.

use std::ops::Range;

use super::directive::DirectiveBlock;
use super::error::{ParseError, ParseErrorKind};
use super::heredoc;
use super::instruction::Heredoc;
use super::lines::{Logical, Source};
use super::span::Span;
use super::words::{self, Json, Word};

/// One instruction as words.
#[derive(Debug, Clone)]
pub struct Node {
    /// The instruction's word as written.
    pub command: Word,
    /// The words at the start that begin with `--`.
    pub flags: Vec<Word>,
    /// The arguments.
    pub args: Args,
    /// Here-documents with their bodies, tabs not stripped.
    pub heredocs: Vec<Heredoc>,
    /// Comment lines directly above, without `#` and blanks around; an empty comment line starts anew.
    pub comments: Vec<String>,
    line: Logical,
    /// Last line, here-documents included.
    pub last: u32,
}

/// The arguments of an instruction.
#[derive(Debug, Clone)]
pub enum Args {
    /// Words, or the whole text as one.
    Words(Vec<Word>),
    /// A JSON array; the range is the whole array's.
    Json(Vec<String>, Range<usize>),
    /// HEALTHCHECK: a word and a command in shell form (at most one word) or exec form.
    Typed(Word, Box<Args>),
    /// ENV and LABEL.
    Pairs(Vec<Pair>),
    /// ONBUILD: the trigger.
    Trigger(Box<Part>),
}

/// A `name=value`, or the older `name value`.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
    /// Written without `=`.
    pub legacy: bool,
    /// Both, in the logical line.
    pub range: Range<usize>,
}

/// An instruction inside a line: the line's own, or ONBUILD's trigger.
#[derive(Debug, Clone)]
pub struct Part {
    /// The instruction's word as written.
    pub command: Word,
    /// Its flags.
    pub flags: Vec<Word>,
    /// Its arguments.
    pub args: Args,
    /// All of it in the logical line.
    pub range: Range<usize>,
}

impl Node {
    /// The logical line as written, continuations joined.
    pub fn original(&self) -> &str {
        &self.line.text
    }

    /// First line.
    pub fn first(&self) -> u32 {
        self.line.first
    }

    /// The whole lines, here-documents included.
    pub fn span(&self) -> Span {
        Span::lines(self.line.first, self.last)
    }

    /// Where a part of the logical line stands.
    pub fn span_of(&self, range: &Range<usize>) -> Span {
        self.line.span(range.start, range.end)
    }

    /// Last line before the here-documents, where there was an empty line inside the logical line.
    pub fn empty_continuation(&self) -> Option<u32> {
        self.line.empty_continuation.then_some(self.line.last)
    }

    /// Where the logical line's text stands.
    pub fn text_span(&self) -> Span {
        let range = words::trim(&self.line.text, 0..self.line.text.len());
        self.line.span(range.start, range.end)
    }
}

/// A file as instructions with words.
#[derive(Debug, Clone)]
pub struct Syntax {
    /// The instructions in order; never empty.
    pub nodes: Vec<Node>,
    /// The escape character.
    pub escape: char,
    /// Value of `# check=` and its place.
    pub check: Option<(String, Span)>,
}

/// Reads a file.
///
/// # Errors
/// [`ParseError`] for lines that cannot be split into words.
pub fn read(text: &str, escape: char) -> Result<Syntax, ParseError> {
    let mut source = Source::new(text);
    let mut directives = DirectiveBlock::new(escape);
    let (mut nodes, mut comments) = (Vec::new(), Vec::new());
    while let Some(start) = source.next()? {
        let directive = directives.read(start)?;
        if start.is_comment() {
            if !directive {
                comment(start.trimmed(), &mut comments);
            }
            continue;
        }
        let text = start.trimmed().trim_start();
        if text.is_empty() {
            continue;
        }
        let line = Logical::join(text, start, &mut source, directives.escape)?;
        let mut node = node(line, directives.escape, std::mem::take(&mut comments))?;
        if node.may_open_heredocs() {
            node.heredocs = heredoc::opened_by(&node.line)?;
            heredoc::read_bodies(&mut node.heredocs, &node.line, &mut source)?;
            node.last = source.number();
        }
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(ParseError::new(ParseErrorKind::Empty, Span::lines(source.number(), source.number())));
    }
    Ok(Syntax { nodes, escape: directives.escape, check: directives.check })
}

/// Reads an ONBUILD trigger, here-documents included; every span in it is `span`.
pub(super) fn read_trigger(text: &str, escape: char, span: Span) -> Result<Node, ParseError> {
    let at = |error: ParseError| ParseError { span, ..error };
    let mut syntax = read(text, escape).map_err(at)?;
    let (Some(mut node), true) = (syntax.nodes.pop(), syntax.nodes.is_empty()) else {
        return Err(ParseError::new(ParseErrorKind::TriggerCount, span));
    };
    node.line = Logical::detached(std::mem::take(&mut node.line.text), span);
    node.last = span.end_line;
    Ok(node)
}

fn comment(line: &str, comments: &mut Vec<String>) {
    // The mark of an indented comment stays in it, so that it describes nothing.
    let text = line.strip_prefix('#').unwrap_or(line).trim();
    if text.is_empty() {
        comments.clear();
    } else {
        comments.push(text.to_string());
    }
}

fn node(line: Logical, escape: char, comments: Vec<String>) -> Result<Node, ParseError> {
    let range = 0..line.text.len();
    let Part { command, flags, args, .. } = part(&line, range, escape, false)?;
    let last = line.last;
    Ok(Node { command, flags, args, heredocs: Vec::new(), comments, line, last })
}

impl Node {
    /// RUN, COPY and ADD, also as a trigger, and not in JSON form.
    fn may_open_heredocs(&self) -> bool {
        let (command, args) = match &self.args {
            Args::Trigger(trigger) => (&trigger.command, &trigger.args),
            args => (&self.command, args),
        };
        ["run", "copy", "add"].iter().any(|name| command.text.eq_ignore_ascii_case(name))
            && !matches!(args, Args::Json(..))
    }
}

/// Reads one instruction in `range` of a line; `trigger` says that it is ONBUILD's.
fn part(line: &Logical, range: Range<usize>, escape: char, trigger: bool) -> Result<Part, ParseError> {
    let text = &line.text;
    let range = words::trim(text, range);
    let (command, rest) = words::split_first(text, range.clone());
    let command = Word::slice(text, command);
    let (flags, rest) = match rest {
        Some(rest) => words::split_flags(text, rest),
        None => (Vec::new(), range.end..range.end),
    };
    let rest = words::trim(text, rest);
    let name = command.text.to_ascii_lowercase();
    // ONBUILD as a trigger is an error later, whatever follows; reading on could go as deep as the line is long.
    let args = if name == "onbuild" && !rest.is_empty() && !trigger {
        Args::Trigger(Box::new(part(line, rest, escape, true)?))
    } else {
        args(line, &name, rest, escape)?
    };
    Ok(Part { command, flags, args, range })
}

fn args(line: &Logical, name: &str, rest: Range<usize>, escape: char) -> Result<Args, ParseError> {
    let text = &line.text;
    match name {
        "maintainer" | "stopsignal" | "user" | "workdir" => Ok(whole(text, rest)),
        "from" | "expose" => Ok(Args::Words(words::split_blanks(text, rest))),
        "add" | "copy" | "volume" => Ok(match exec_form(line, &rest)? {
            Some(args) => args,
            None => Args::Words(words::split_blanks(text, rest)),
        }),
        "run" | "cmd" | "entrypoint" | "shell" => Ok(exec_form(line, &rest)?.unwrap_or_else(|| whole(text, rest))),
        "healthcheck" => healthcheck(line, rest),
        "env" => pairs(line, "ENV", rest, escape),
        "label" => pairs(line, "LABEL", rest, escape),
        "arg" => Ok(Args::Words(words::split_quoted(text, rest, escape))),
        // An unknown instruction, or an ONBUILD without a trigger.
        _ => Ok(Args::Words(Vec::new())),
    }
}

/// Everything as one word; no word where there is nothing.
fn whole(text: &str, range: Range<usize>) -> Args {
    Args::Words(if range.is_empty() { Vec::new() } else { vec![Word::slice(text, range)] })
}

fn exec_form(line: &Logical, range: &Range<usize>) -> Result<Option<Args>, ParseError> {
    match words::json(&line.text[range.clone()]) {
        Json::Strings(strings) => Ok(Some(Args::Json(strings, range.clone()))),
        Json::Not => Ok(None),
        Json::Mixed => Err(ParseError::new(ParseErrorKind::JsonNotStrings, line.span(range.start, range.end))),
    }
}

fn healthcheck(line: &Logical, range: Range<usize>) -> Result<Args, ParseError> {
    if range.is_empty() {
        return Ok(Args::Words(Vec::new()));
    }
    let text = &line.text;
    let end = text[range.clone()].find(char::is_whitespace).map_or(range.end, |at| range.start + at);
    let kind = Word::slice(text, range.start..end);
    let rest = words::trim(text, end..range.end);
    let command = exec_form(line, &rest)?.unwrap_or_else(|| whole(text, rest));
    Ok(Args::Typed(kind, Box::new(command)))
}

fn pairs(line: &Logical, instruction: &'static str, range: Range<usize>, escape: char) -> Result<Args, ParseError> {
    let text = &line.text;
    let words = words::split_quoted(text, range.clone(), escape);
    let Some(first) = words.first() else { return Ok(Args::Pairs(Vec::new())) };
    if !first.text.contains('=') {
        let (key, value) = words::split_first(text, range.clone());
        let name = text[key.clone()].to_string();
        let Some(value) = value else {
            let kind = ParseErrorKind::NoValue { instruction, name };
            return Err(ParseError::new(kind, line.span(key.start, key.end)));
        };
        return Ok(Args::Pairs(vec![Pair { key: name, value: text[value].to_string(), legacy: true, range }]));
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in words {
        let Some((key, value)) = word.text.split_once('=') else {
            let span = line.span(word.range.start, word.range.end);
            return Err(ParseError::new(ParseErrorKind::NoEquals { word: word.text }, span));
        };
        pairs.push(Pair { key: key.into(), value: value.into(), legacy: false, range: word.range });
    }
    Ok(Args::Pairs(pairs))
}
