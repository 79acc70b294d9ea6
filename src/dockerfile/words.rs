//! How an instruction's text falls into words: four ways, all of them older than the language's description.

use std::ops::Range;

/// A word and where it stands in its logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text, quotes and escapes kept unless the grammar says otherwise.
    pub text: String,
    /// The bytes of the logical line that it was read from.
    pub range: Range<usize>,
}

impl Word {
    pub(super) fn new(text: impl Into<String>, range: Range<usize>) -> Self {
        Word { text: text.into(), range }
    }

    /// The part `range` of `line` as it stands.
    pub(super) fn slice(line: &str, range: Range<usize>) -> Self {
        Word { text: line[range.clone()].to_string(), range }
    }
}

/// The blanks between the words of a list; narrower than the blanks around a line.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// `range` without the white space at its ends.
pub(super) fn trim(line: &str, range: Range<usize>) -> Range<usize> {
    let text = &line[range.clone()];
    let start = range.start + (text.len() - text.trim_start().len());
    let end = start + text.trim().len();
    start..end
}

/// Splits at blanks.
pub(super) fn split_blanks(line: &str, range: Range<usize>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = line[at..range.end].find(is_blank).map_or(range.end, |blank| at + blank);
        words.push(Word::slice(line, at..end));
        let next = line[end..range.end].find(|c| !is_blank(c)).map_or(range.end, |word| end + word);
        at = next;
    }
    words
}

/// The first word and what follows the blanks behind it.
pub(super) fn split_first(line: &str, range: Range<usize>) -> (Range<usize>, Option<Range<usize>>) {
    let Some(blank) = line[range.clone()].find(is_blank) else { return (range, None) };
    let end = range.start + blank;
    let rest = line[end..range.end].find(|c| !is_blank(c)).map_or(range.end, |word| end + word);
    (range.start..end, Some(rest..range.end))
}

/// Splits at white space outside quotes; quotes and escapes stay in the words (ENV, LABEL, ARG).
pub(super) fn split_quoted(line: &str, range: Range<usize>, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line[range.clone()].char_indices().peekable();
    let base = range.start;
    while let Some(&(start, first)) = rest.peek() {
        if first.is_whitespace() {
            rest.next();
            continue;
        }
        let (mut text, mut quote, mut end) = (String::new(), None, start);
        while let Some(&(at, c)) = rest.peek() {
            if quote.is_none() && c.is_whitespace() {
                break;
            }
            rest.next();
            end = at + c.len_utf8();
            match quote {
                None if c == '\'' || c == '"' => quote = Some(c),
                Some(open) if open == c => quote = None,
                _ => {}
            }
            if c == escape && quote != Some('\'') {
                // An escape at the very end protects nothing and goes.
                let Some((at, next)) = rest.next() else { break };
                end = at + next.len_utf8();
                text.push(c);
                text.push(next);
                continue;
            }
            text.push(c);
        }
        if !text.is_empty() {
            words.push(Word::new(text, base + start..base + end));
        }
    }
    words
}

/// Cuts off the words at the start that begin with `--`, quotes and escapes removed from them, and a bare `--`.
/// Returns them and what is left. The escape character of flags is always the backslash.
pub(super) fn split_flags(line: &str, range: Range<usize>) -> (Vec<Word>, Range<usize>) {
    let mut flags = Vec::new();
    let mut at = range.start;
    loop {
        at = line[at..range.end].find(|c: char| !c.is_whitespace()).map_or(range.end, |word| at + word);
        if !line[at..range.end].starts_with("--") {
            return (flags, at..range.end);
        }
        let (text, end) = flag_word(line, at..range.end);
        if text == "--" {
            return (flags, end..range.end);
        }
        flags.push(Word::new(text, at..end));
        at = end;
    }
}

fn flag_word(line: &str, range: Range<usize>) -> (String, usize) {
    let (mut text, mut quote) = (String::new(), None);
    let mut rest = line[range.clone()].char_indices();
    while let Some((at, c)) = rest.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => return (text, range.start + at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (_, '\\') => text.extend(rest.next().map(|(_, next)| next)),
            (_, c) => text.push(c),
        }
    }
    (text, range.end)
}

/// The strings of a JSON array.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// All elements are strings.
    Strings(Vec<String>),
    /// An array with something else in it.
    Mixed,
    /// No array, or no JSON.
    Not,
}

/// Reads the exec form. What is not valid JSON to the last character is no exec form at all.
pub(super) fn json(text: &str) -> Json {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Json::Not;
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Err(_) => Json::Not,
        Ok(values) => {
            let strings = values.into_iter().map(|value| match value {
                serde_json::Value::String(text) => Some(text),
                _ => None,
            });
            strings.collect::<Option<_>>().map_or(Json::Mixed, Json::Strings)
        }
    }
}
