//! Parser directives: `# key=value` lines at the very top of the file.

use super::error::{ParseError, ParseErrorKind};
use super::lines::Physical;
use super::span::Span;

const KEYS: [&str; 3] = ["syntax", "escape", "check"];

/// A directive that was found by [`detect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The value up to the first blank.
    pub value: String,
    /// The whole value.
    pub line_value: String,
    /// Where the directive stands; line 0 for one in a JSON object.
    pub line: u32,
}

/// Looks for the directive `key` without parsing the rest, which need not be a Dockerfile at all.
///
/// A first line that starts with `#!` is passed over. With `any_format` the directive may also be written
/// `// key=value`, or be a member of a JSON object that is the whole text.
pub fn detect(text: &str, key: &str, any_format: bool) -> Option<Detected> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (body, skipped) = match text.split_once('\n') {
        _ if !text.starts_with("#!") => (text, 0),
        Some((_, rest)) => (rest, 1),
        None => ("", 1),
    };
    let found = in_comments(body, key, "#", skipped);
    if found.is_some() || !any_format {
        return found;
    }
    in_comments(body, key, "//", skipped).or_else(|| {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).ok()?;
        let value = object.get(key)?.as_str()?.to_string();
        Some(Detected { line_value: value.clone(), value, line: skipped })
    })
}

fn in_comments(body: &str, key: &str, prefix: &str, skipped: u32) -> Option<Detected> {
    let mut seen = Seen::default();
    for (number, line) in (skipped + 1..).zip(body.lines()) {
        let directive = split(line, prefix)?;
        if !seen.add(directive.key) {
            return None;
        }
        if directive.key == key {
            let value = first_word(directive.value).to_string();
            return Some(Detected { value, line_value: directive.value.to_string(), line: number });
        }
    }
    None
}

/// Whether this builder reads the language of `# syntax=image` itself, as it does for every release of
/// `docker/dockerfile` and `docker/dockerfile-upstream`.
pub fn is_built_in(image: &str) -> bool {
    let name = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"]
        .iter()
        .find_map(|host| image.strip_prefix(host))
        .unwrap_or(image);
    let repository = name.split(['@', ':']).next().unwrap_or_default();
    matches!(repository, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// What comes before the first blank.
pub(super) fn first_word(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}

struct Split<'a> {
    key: &'static str,
    value: &'a str,
}

/// Reads `# key = value`, keys in any case.
fn split<'a>(line: &'a str, prefix: &str) -> Option<Split<'a>> {
    const BLANKS: [char; 5] = ['\t', '\n', '\x0c', '\r', ' '];
    let (key, value) = line.strip_prefix(prefix)?.trim_start().split_once('=')?;
    let key = key.trim_end_matches(BLANKS).to_ascii_lowercase();
    let key = KEYS.iter().find(|known| **known == key)?;
    let trimmed = value.trim_matches(BLANKS);
    // A value of blanks alone is its last blank: wrong for every key, but a directive.
    let value = if trimmed.is_empty() { &value[value.char_indices().next_back()?.0..] } else { trimmed };
    Some(Split { key, value })
}

/// The keys that were given.
#[derive(Debug, Default)]
struct Seen(Vec<&'static str>);

impl Seen {
    /// False for a key that was given before.
    fn add(&mut self, key: &'static str) -> bool {
        let new = !self.0.contains(&key);
        self.0.push(key);
        new
    }
}

/// Reads the block of directives line by line.
#[derive(Debug)]
pub(super) struct DirectiveBlock {
    seen: Seen,
    done: bool,
    /// The escape character so far.
    pub(super) escape: char,
    /// Value and place of `check`.
    pub(super) check: Option<(String, Span)>,
}

impl DirectiveBlock {
    pub(super) fn new(escape: char) -> Self {
        DirectiveBlock { seen: Seen::default(), done: false, escape, check: None }
    }

    /// Looks at the next line and says whether it is a directive; the first that is none ends the block.
    pub(super) fn read(&mut self, line: Physical<'_>) -> Result<bool, ParseError> {
        if self.done {
            return Ok(false);
        }
        let Some(Split { key, value }) = split(line.trimmed().trim_start(), "#") else {
            self.done = true;
            return Ok(false);
        };
        let span = value_span(line, value);
        if !self.seen.add(key) {
            let whole = Span::lines(line.number, line.number);
            return Err(ParseError::new(ParseErrorKind::DuplicateDirective { name: key }, whole));
        }
        match (key, value) {
            ("escape", "\\" | "`") => self.escape = if value == "`" { '`' } else { '\\' },
            ("escape", _) => {
                return Err(ParseError::new(ParseErrorKind::InvalidEscape { value: value.to_string() }, span));
            }
            ("check", _) => self.check = Some((first_word(value).to_string(), span)),
            _ => {}
        }
        Ok(true)
    }
}

/// Where `value`, a part of `line`, stands.
fn value_span(line: Physical<'_>, value: &str) -> Span {
    let at = line.text.rfind(value).unwrap_or_default() as u32 + line.column;
    Span { line: line.number, end_line: line.number, column: at, end_column: at + value.len() as u32 }
}
