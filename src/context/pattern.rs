//! One path pattern, compiled once and matched without backtracking.
//!
//! Two syntaxes share one machine: the globs of COPY and ADD sources (Go's `filepath.Match`) and the patterns of ignore
//! files and `--exclude` (moby's patternmatcher, which turns a pattern into a regular expression and so inherits some of
//! that syntax: `\b` is a word boundary there, `[*]` is no literal star). Paths are bytes; where they are not UTF-8 each
//! stray byte counts as one U+FFFD, as it does in Go.

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern '{0}'")]
pub struct PatternError(pub String);

fn bad(pattern: &[u8]) -> PatternError {
    PatternError(String::from_utf8_lossy(pattern).into_owned())
}

/// A set of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn not(c: char) -> Class {
        Class { negated: true, ranges: vec![(c, c)] }
    }

    fn holds(&self, c: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != self.negated
    }
}

/// One step of the machine; a match is a way from the first step past the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Takes this character.
    Char(char),
    /// Takes a character of the class.
    One(Class),
    /// Takes any number of characters of the class.
    Many(Class),
    /// Goes on with the next step, or skips this many after it.
    MaySkip(usize),
    /// Takes nothing: holds at the start of the text only.
    Start,
    /// Takes nothing: holds at the end of the text only.
    End,
    /// Takes nothing: holds between a word character and another one, or (`false`) where there is no such border.
    Border(bool),
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    steps: Vec<Step>,
    /// Bytes that every match ends with, to tell most misses before anything is allocated.
    tail: Vec<u8>,
}

impl Machine {
    fn new(steps: Vec<Step>) -> Machine {
        // A character that may be skipped is no part of every match; U+FFFD stands for bytes that are something else.
        let skippable = steps.iter().rposition(|step| matches!(step, Step::MaySkip(_))).map_or(0, |at| at + 3);
        let literal = |step: &&Step| matches!(step, Step::Char(c) if *c != char::REPLACEMENT_CHARACTER);
        let count = steps[skippable..].iter().rev().take_while(literal).count();
        let tail = steps[steps.len() - count..].iter().filter_map(|step| match step {
            Step::Char(c) => Some(*c),
            _ => None,
        });
        Machine { tail: tail.collect::<String>().into_bytes(), steps }
    }

    /// Whether the whole of `text` matches. Takes at most (steps x characters) time.
    pub fn matches(&self, text: &[u8]) -> bool {
        let first = match self.steps.first() {
            Some(Step::Char(c)) if c.is_ascii() => Some(*c as u8),
            _ => None,
        };
        if !text.ends_with(&self.tail) || first.is_some_and(|first| text.first() != Some(&first)) {
            return false;
        }
        let mut chars = text
            .utf8_chunks()
            .flat_map(|chunk| chunk.valid().chars().chain(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER)))
            .peekable();
        let mut now = vec![false; self.steps.len() + 1];
        let mut next = now.clone();
        self.enter(0, None, chars.peek().copied(), &mut now);
        while let Some(c) = chars.next() {
            let after = chars.peek().copied();
            next.fill(false);
            for at in (0..self.steps.len()).filter(|at| now[*at]) {
                match &self.steps[at] {
                    Step::Char(own) if *own == c => self.enter(at + 1, Some(c), after, &mut next),
                    Step::One(class) if class.holds(c) => self.enter(at + 1, Some(c), after, &mut next),
                    Step::Many(class) if class.holds(c) => self.enter(at, Some(c), after, &mut next),
                    _ => {}
                }
            }
            std::mem::swap(&mut now, &mut next);
            if !now.contains(&true) {
                return false;
            }
        }
        now[self.steps.len()]
    }

    /// Marks `at` and all that it reaches without taking a character.
    fn enter(&self, mut at: usize, before: Option<char>, after: Option<char>, marks: &mut [bool]) {
        loop {
            if std::mem::replace(&mut marks[at], true) {
                return;
            }
            let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
            match self.steps.get(at) {
                Some(Step::Many(_)) => {}
                Some(Step::MaySkip(skip)) => self.enter(at + 1 + skip, before, after, marks),
                Some(Step::Start) if before.is_none() => {}
                Some(Step::End) if after.is_none() => {}
                Some(Step::Border(is)) if (word(before) != word(after)) == *is => {}
                _ => return,
            }
            at += 1;
        }
    }
}

/// Reads a glob as Go's `filepath.Match` does: `*` and `?` stop at `/`, `[a-c]`, `[^a-c]`, `\` escapes.
pub fn glob(pattern: &[u8]) -> Result<Machine, PatternError> {
    let text = std::str::from_utf8(pattern).map_err(|_| bad(pattern))?;
    let mut chars = text.chars().peekable();
    let mut steps = Vec::new();
    while let Some(c) = chars.next() {
        steps.push(match c {
            '*' => Step::Many(Class::not('/')),
            '?' => Step::One(Class::not('/')),
            '\\' => Step::Char(chars.next().ok_or_else(|| bad(pattern))?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                    let low = glob_class_char(&mut chars).ok_or_else(|| bad(pattern))?;
                    let high = match chars.next_if_eq(&'-') {
                        Some(_) => glob_class_char(&mut chars).ok_or_else(|| bad(pattern))?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
                Step::One(Class { negated, ranges })
            }
            c => Step::Char(c),
        });
    }
    Ok(Machine::new(steps))
}

/// One end of a range; nothing where a bare `-` or `]` stands, or the pattern ends.
fn glob_class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

/// Whether a glob's segment needs matching at all: it has an unescaped `*`, `?` or `[`.
pub fn has_wildcard(segment: &[u8]) -> bool {
    let mut bytes = segment.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// How an ignore pattern is compared with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// The path is this.
    Exact(Vec<u8>),
    /// The path starts with this.
    Prefix(Vec<u8>),
    /// The path ends with this, or is this without its leading `/`.
    Suffix(Vec<u8>),
    /// The path matches as a whole.
    Machine(Machine),
}

impl Matcher {
    /// Reads a cleaned pattern of an ignore file, without its `!`.
    pub fn read(pattern: &[u8]) -> Result<Matcher, PatternError> {
        let text = match std::str::from_utf8(pattern) {
            Ok(text) => text,
            Err(_) if !pattern.iter().any(|b| b"*?[]\\".contains(b)) => return Ok(Matcher::Exact(pattern.to_vec())),
            Err(_) => return Err(bad(pattern)),
        };
        glob(pattern)?;
        let (shape, expression) = translate(text);
        Ok(match shape {
            Shape::Exact => Matcher::Exact(pattern.to_vec()),
            Shape::Prefix => Matcher::Prefix(pattern[..pattern.len() - 2].to_vec()),
            Shape::Suffix => Matcher::Suffix(pattern[2..].to_vec()),
            Shape::Expression => Matcher::Machine(expression_machine(&expression).ok_or_else(|| bad(pattern))?),
        })
    }

    /// Whether `path` itself matches; its parents are the caller's business.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Matcher::Exact(text) => path == text,
            Matcher::Prefix(text) => path.starts_with(text),
            Matcher::Suffix(text) => path.ends_with(text) || text.strip_prefix(b"/").is_some_and(|rest| path == rest),
            Matcher::Machine(machine) => machine.matches(path),
        }
    }
}

enum Shape {
    Exact,
    Prefix,
    Suffix,
    Expression,
}

/// The regular expression that patternmatcher makes of a pattern, and whether it then uses it.
fn translate(pattern: &str) -> (Shape, String) {
    let mut shape = Shape::Exact;
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                shape = match (chars.peek(), shape) {
                    (None, Shape::Exact) => Shape::Prefix,
                    (None, _) => {
                        out.push_str(".*");
                        Shape::Expression
                    }
                    (Some(_), _) => {
                        out.push_str("(.*/)?");
                        Shape::Expression
                    }
                };
                if first {
                    shape = Shape::Suffix;
                }
            }
            '*' | '?' => {
                out.push_str(if c == '*' { "[^/]*" } else { "[^/]" });
                shape = Shape::Expression;
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => out.extend(['\\', c]),
            '\\' => {
                out.push('\\');
                if let Some(next) = chars.next() {
                    out.push(next);
                    shape = Shape::Expression;
                }
            }
            '[' | ']' => {
                out.push(c);
                shape = Shape::Expression;
            }
            c => out.push(c),
        }
        first = false;
    }
    (shape, out)
}

/// Reads the part of Go's regular expressions that `translate` can give; nothing where Go refuses it.
fn expression_machine(expression: &str) -> Option<Machine> {
    let any = || Class::not('\n');
    let mut steps = Vec::new();
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("(.*/)?") {
            steps.extend([Step::MaySkip(2), Step::Many(any()), Step::Char('/')]);
            rest = after;
        } else if let Some(after) = rest.strip_prefix(".*") {
            steps.push(Step::Many(any()));
            rest = after;
        } else if c == '[' {
            let (class, after) = expression_class(&rest[1..])?;
            let many = after.strip_prefix('*');
            steps.push(if many.is_some() { Step::Many(class) } else { Step::One(class) });
            rest = many.unwrap_or(after);
        } else if c == '\\' {
            let (step, after) = escape(&rest[1..])?;
            steps.push(step);
            rest = after;
        } else {
            steps.push(if c == '^' { Step::Start } else { Step::Char(c) });
            rest = &rest[c.len_utf8()..];
        }
    }
    Some(Machine::new(steps))
}

/// What follows a backslash.
fn escape(text: &str) -> Option<(Step, &str)> {
    let c = text.chars().next()?;
    let rest = &text[c.len_utf8()..];
    let step = match c {
        'b' | 'B' => Step::Border(c == 'b'),
        'A' => Step::Start,
        'z' => Step::End,
        _ => match perl_class(c) {
            Some(class) => Step::One(class),
            None => Step::Char(escaped_char(c)?),
        },
    };
    Some((step, rest))
}

fn perl_class(c: char) -> Option<Class> {
    let ranges = match c.to_ascii_lowercase() {
        'd' => vec![('0', '9')],
        's' => vec![('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
        'w' => vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        _ => return None,
    };
    Some(Class { negated: c.is_ascii_uppercase(), ranges })
}

fn escaped_char(c: char) -> Option<char> {
    match c {
        'a' => Some('\x07'),
        'f' => Some('\x0c'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0b'),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
        // Go also knows octal, \x, \p and \Q here; as a name in an ignore file they are a mistake, and an error says so.
        _ => None,
    }
}

/// A class, from behind its `[`; gives what stands behind its `]` too.
fn expression_class(text: &str) -> Option<(Class, &str)> {
    let mut class = Class { negated: text.starts_with('^'), ranges: Vec::new() };
    let mut rest = text.strip_prefix('^').unwrap_or(text);
    let mut first = true;
    loop {
        if let Some(after) = rest.strip_prefix(']').filter(|_| !first) {
            return Some((class, after));
        }
        first = false;
        if let Some((ranges, after)) = posix_class(rest)? {
            class.ranges.extend(ranges);
            rest = after;
            continue;
        }
        let perl = rest.strip_prefix('\\').and_then(|escaped| perl_class(escaped.chars().next()?));
        if let Some(perl) = perl.filter(|class| !class.negated) {
            class.ranges.extend(perl.ranges);
            rest = &rest[2..];
            continue;
        }
        let (low, after) = class_char(rest)?;
        let (high, after) = match after.strip_prefix('-').filter(|behind| !behind.starts_with(']')) {
            Some(behind) => class_char(behind)?,
            None => (low, after),
        };
        if high < low {
            return None;
        }
        class.ranges.push((low, high));
        rest = after;
    }
}

fn class_char(text: &str) -> Option<(char, &str)> {
    match text.strip_prefix('\\') {
        Some(escaped) => {
            let c = escaped.chars().next()?;
            Some((escaped_char(c)?, &escaped[c.len_utf8()..]))
        }
        None => {
            let c = text.chars().next()?;
            Some((c, &text[c.len_utf8()..]))
        }
    }
}

/// `[:name:]` at the start of `text`: its ranges and the rest; an unknown name is no pattern at all (outer `None`).
#[allow(clippy::type_complexity)]
fn posix_class(text: &str) -> Option<Option<(Vec<(char, char)>, &str)>> {
    let Some((name, rest)) = text.strip_prefix("[:").and_then(|inside| inside.split_once(":]")) else {
        return Some(None);
    };
    let holds: fn(&u8) -> bool = match name {
        "alnum" => u8::is_ascii_alphanumeric,
        "alpha" => u8::is_ascii_alphabetic,
        "ascii" => u8::is_ascii,
        "blank" => |b| matches!(b, b' ' | b'\t'),
        "cntrl" => u8::is_ascii_control,
        "digit" => u8::is_ascii_digit,
        "graph" => u8::is_ascii_graphic,
        "lower" => u8::is_ascii_lowercase,
        "print" => |b| b.is_ascii_graphic() || *b == b' ',
        "punct" => u8::is_ascii_punctuation,
        "space" => |b| b.is_ascii_whitespace() || *b == 0x0b,
        "upper" => u8::is_ascii_uppercase,
        "word" => |b| b.is_ascii_alphanumeric() || *b == b'_',
        "xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    };
    let ranges = (0..128u8).filter(holds).map(|b| (char::from(b), char::from(b))).collect();
    Some(Some((ranges, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(pattern: &str, text: &str) -> bool {
        glob(pattern.as_bytes()).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn globs_match_as_go_does() {
        for (pattern, text) in
            [("*.txt", ".txt"), ("a?c", "aéc"), ("[a-c]x", "bx"), ("[^a]", "b"), ("\\*", "*"), ("[]-a]", "")]
        {
            if pattern == "[]-a]" {
                assert!(glob(pattern.as_bytes()).is_err());
            } else {
                assert!(globs(pattern, text), "{pattern} {text}");
            }
        }
        for (pattern, text) in [("*.txt", "a/b.txt"), ("a?c", "a/c"), ("[a-c]", "d"), ("\\*", "x"), ("a", "")] {
            assert!(!globs(pattern, text), "{pattern} {text}");
        }
        for pattern in ["[", "[a", "[a-", "a\\", "[a-]", "[-x]", "[^"] {
            assert!(glob(pattern.as_bytes()).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_stray_byte_is_one_character() {
        assert!(glob(b"a?c").unwrap().matches(b"a\xffc"));
        assert!(!glob(b"a?c").unwrap().matches(b"a\xff\xfec"));
    }

    #[test]
    fn regexp_leftovers_of_ignore_patterns() {
        for (pattern, path, expected) in [
            ("*\\d", "a7", true),
            ("*\\d", "ad", false),
            ("[[:alpha:]]*", "x1", true),
            ("[[:alpha:]]*", "1x", false),
            ("*^x", "a^x", false),
            ("^x", "^x", true),
            ("**/a\\*b", "d/a*b", true),
        ] {
            assert_eq!(
                Matcher::read(pattern.as_bytes()).unwrap().matches(path.as_bytes()),
                expected,
                "{pattern} {path}"
            );
        }
        assert!(Matcher::read(b"*\\q").is_err());
    }

    #[test]
    fn many_stars_cost_no_exponential_time() {
        let pattern = "a*".repeat(60) + "b";
        let text = "a".repeat(4000);
        assert!(!glob(pattern.as_bytes()).unwrap().matches(text.as_bytes()));
    }
}
