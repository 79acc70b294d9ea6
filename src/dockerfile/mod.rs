//! The Dockerfile language: text in, typed instructions with spans out. Pure: no I/O.
//!
//! ```text
//! text ── lines ──> logical lines ── syntax ──> instructions as words ── typed ──> Dockerfile
//!                                                                         lint ──> warnings
//! ```
//!
//! Words stay unexpanded here; [`expand`] is for those who know the values. The language is the one that BuildKit's
//! Dockerfile front end 1.26 reads, oddities included: what it accepts is accepted, with the same meaning, and what it
//! refuses is refused.
//!
//! # Why a parser of our own
//!
//! The crate `dockerfile-parser` 0.9 was measured on the conformance data: it reads 84 % of the valid files right and
//! 8 of BuildKit's own 26 test files, accepts 140 of 229 invalid ones, and runs out of stack at 10,000 continuation
//! lines. Here-documents, flags, the JSON form and escapes are beyond its grammar, and most instructions come back as
//! unparsed text. It serves as an independent opinion in the tests, on the classic part of the language.

mod check;
pub mod directive;
pub mod duration;
mod error;
pub mod expand;
pub mod expose;
mod flags;
pub mod git_ref;
pub mod heredoc;
pub mod instruction;
mod lines;
pub mod lint;
pub mod mount;
pub mod redact;
pub mod span;
pub mod suggest;
pub mod syntax;
mod typed;
pub mod value;
mod words;

pub use error::{Arity, ParseError, ParseErrorKind};
pub use instruction::Dockerfile;
pub use typed::INSTRUCTIONS;
pub use words::Word;

use instruction::{Directives, Instruction, Located};
use span::Span;
use syntax::Syntax;
use typed::Typed;

/// Reads a Dockerfile.
///
/// # Errors
/// [`ParseError`] for the first thing that is wrong: first words that cannot be told apart anywhere in the file, then
/// instructions that cannot be typed.
pub fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    let syntax = syntax::read(text, '\\')?;
    build(text, &syntax)
}

/// Reads a Dockerfile's bytes. Bytes that are not UTF-8 are passed over in comments; image configs cannot hold them
/// anywhere else.
///
/// # Errors
/// As [`parse`], and for an instruction that is not UTF-8.
pub fn parse_bytes(bytes: &[u8]) -> Result<Dockerfile, ParseError> {
    let text = String::from_utf8_lossy(bytes);
    let dockerfile = parse(&text)?;
    if let std::borrow::Cow::Owned(_) = text {
        let nodes = syntax::read(&text, '\\')?.nodes;
        let bad = (1..).zip(bytes.split(|byte| *byte == b'\n')).filter(|(_, line)| std::str::from_utf8(line).is_err());
        for (number, line) in bad {
            let comment = line.trim_ascii_start().starts_with(b"#");
            let node = nodes.get(nodes.partition_point(|node| node.last < number));
            if node.is_some_and(|node| node.first() <= number && !(comment && node.heredocs.is_empty())) {
                return Err(ParseError::new(ParseErrorKind::NotUtf8, Span::lines(number, number)));
            }
        }
    }
    Ok(dockerfile)
}

/// Reads the text of one ONBUILD trigger, which may hold here-documents; every span in the result is `span`.
///
/// # Errors
/// As [`parse`], and for FROM.
pub fn parse_trigger(text: &str, escape: char, span: Span) -> Result<Located<Instruction>, ParseError> {
    let node = syntax::read_trigger(text, escape, span)?;
    match typed::node(&node)? {
        Typed::Instruction(value) => Ok(Located { value, span, original: node.original().to_string() }),
        Typed::Stage(_) => {
            let instruction = "FROM".to_string();
            Err(ParseError::new(ParseErrorKind::OnbuildForbidden { instruction }, span))
        }
    }
}

fn build(text: &str, syntax: &Syntax) -> Result<Dockerfile, ParseError> {
    let syntax_directive = directive::detect(text, "syntax", true).map(|found| {
        let line = found.line.max(1);
        (found.value, Span::lines(line, line))
    });
    let directives = Directives { syntax: syntax_directive, escape: syntax.escape, check: syntax.check.clone() };
    let (mut global_args, mut stages) = (Vec::new(), Vec::new());
    for node in &syntax.nodes {
        let value = match typed::node(node)? {
            Typed::Stage(stage) => {
                stages.push(stage);
                continue;
            }
            Typed::Instruction(value) => value,
        };
        let (span, original) = (node.span(), node.original().to_string());
        match (stages.last_mut(), value) {
            (Some(stage), value) => stage.instructions.push(Located { value, span, original }),
            (None, Instruction::Arg(value)) => global_args.push(Located { value, span, original }),
            (None, _) => return Err(ParseError::new(ParseErrorKind::NoStage, node.text_span())),
        }
    }
    let lint_options = check::local_options(&syntax.nodes);
    let mut file = Dockerfile { directives, global_args, stages, lint_options, warnings: Vec::new() };
    file.warnings = check::run(&file, &syntax.nodes);
    Ok(file)
}
