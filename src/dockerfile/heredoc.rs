//! Here-documents: which words open one, and reading their bodies.

use super::error::{ParseError, ParseErrorKind};
use super::expand::{ExpandError, Expander};
use super::instruction::Heredoc;
use super::lines::{Logical, Source};

/// Reads a word such as `<<EOF`, `3<<-"EOF"`; the body is left empty. `None` for any other word.
///
/// # Errors
/// A terminator whose quotes are not balanced.
pub fn parse_word(word: &str) -> Result<Option<Heredoc>, ExpandError> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Some(rest) = word[digits..].strip_prefix("<<") else { return Ok(None) };
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let mut expander = Expander { skip_unset_env: true, ..Expander::new('\\') };
    let names = expander.expand_words(rest, &())?;
    expander.raw_quotes = true;
    let raw = expander.expand_words(rest, &())?;
    let ([name], [raw]) = (names.as_slice(), raw.as_slice()) else { return Ok(None) };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Ok(Some(Heredoc {
        name: name.clone(),
        // Too large a number is no file descriptor either way.
        fd: if digits == 0 { 0 } else { word[..digits].parse().unwrap_or(u32::MAX) },
        expand: quotes(name) == quotes(raw),
        strip_tabs,
        body: String::new(),
    }))
}

/// The here-documents that a logical line opens, in order. A line with unbalanced quotes opens none: it is left to the
/// shell to complain.
pub(super) fn opened_by(line: &Logical) -> Result<Vec<Heredoc>, ParseError> {
    if !line.text.contains("<<") {
        return Ok(Vec::new());
    }
    let expander = Expander { raw_quotes: true, raw_escapes: true, skip_unset_env: true, ..Expander::new('\\') };
    let words = expander.expand_words(&line.text, &()).unwrap_or_default();
    let mut found = Vec::new();
    for word in words {
        match parse_word(&word) {
            Ok(heredoc) => found.extend(heredoc),
            Err(error) => {
                let at = line.text.find(&word).map_or(0..line.text.len(), |at| at..at + word.len());
                let span = line.span(at.start, at.end);
                return Err(ParseError::new(ParseErrorKind::HeredocWord(error), span));
            }
        }
    }
    Ok(found)
}

/// Reads the bodies of `heredocs`, which `line` opened, each up to its terminator.
pub(super) fn read_bodies(heredocs: &mut [Heredoc], line: &Logical, source: &mut Source<'_>) -> Result<(), ParseError> {
    for heredoc in heredocs {
        loop {
            let Some(next) = source.next()? else {
                let at = line.text.find("<<").unwrap_or_default();
                let end = at + line.text[at..].find(char::is_whitespace).unwrap_or(line.text.len() - at);
                let kind = ParseErrorKind::UnterminatedHeredoc { name: heredoc.name.clone() };
                return Err(ParseError::new(kind, line.span(at, end)));
            };
            let text = next.trimmed();
            let text = if heredoc.strip_tabs { text.trim_start_matches('\t') } else { text };
            if text == heredoc.name {
                break;
            }
            heredoc.body.push_str(next.text);
        }
    }
    Ok(())
}

/// `body` without the tabs at the start of its lines, for `<<-`.
pub fn strip_tabs(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}
