//! The patterns of `${name#p}` and `${name/p/r}`: `*` is any run, `?` any one character, neither a line end;
//! `\*`, `\?` and `\\` stand for themselves, `\}` and `\/` only get past the delimiter. There are no `[…]` sets.

use super::MAX_LENGTH;

const NO_MATCH: u32 = u32::MAX;

/// A pattern that cannot be read or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A backslash before something that needs none.
    #[error("invalid escape '\\{0}'")]
    Escape(char),
    /// Pattern and value together are too long to match, or the result would be.
    #[error("pattern and value are too long")]
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyOne,
    AnyRun,
}

/// A pattern.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Token::AnyRun,
                '?' => Token::AnyOne,
                '\\' => match rest.next() {
                    Some(c @ ('}' | '/' | '*' | '?' | '\\')) => Token::Literal(c),
                    other => return Err(PatternError::Escape(other.unwrap_or('\u{fffd}'))),
                },
                c => Token::Literal(c),
            });
        }
        tokens.dedup_by(|a, b| *a == Token::AnyRun && *b == Token::AnyRun);
        Ok(Pattern(tokens))
    }

    /// What matching with `value` costs: the product of both lengths.
    pub(super) fn work(&self, value: &str) -> usize {
        (self.0.len() + 1).saturating_mul(value.len() + 1)
    }

    /// `value` without the shortest or longest match at its start.
    pub(super) fn trim_start(&self, value: &str, longest: bool) -> String {
        let text: Vec<char> = value.chars().collect();
        text[self.prefix(&text, longest)..].iter().collect()
    }

    /// `value` without the shortest or longest match at its end.
    pub(super) fn trim_end(&self, value: &str, longest: bool) -> String {
        let text: Vec<char> = value.chars().rev().collect();
        let reversed = Pattern(self.0.iter().rev().copied().collect());
        text[reversed.prefix(&text, longest)..].iter().rev().collect()
    }

    fn prefix(&self, text: &[char], longest: bool) -> usize {
        let end = self.ends(text, longest)[0];
        if end == NO_MATCH { 0 } else { end as usize }
    }

    /// `value` with the first match replaced as it stands, or with all of them replaced by `template`.
    pub(super) fn replace(&self, value: &str, template: &str, all: bool) -> Result<String, PatternError> {
        let text: Vec<char> = value.chars().collect();
        let ends = self.ends(&text, true);
        let mut out = String::new();
        if !all {
            let Some(start) = ends.iter().position(|end| *end != NO_MATCH) else { return Ok(value.to_string()) };
            out.extend(&text[..start]);
            out.push_str(template);
            out.extend(&text[ends[start] as usize..]);
            return Ok(out);
        }
        let template = Template::read(template);
        let (mut copied, mut at) = (0, 0);
        while at <= text.len() {
            let Some(found) = ends[at..].iter().position(|end| *end != NO_MATCH) else { break };
            let (start, end) = (at + found, ends[at + found] as usize);
            out.extend(&text[copied..start]);
            // An empty match right behind a match is none.
            if end > copied || start == 0 {
                template.fill(&mut out, &text[start..end]);
            }
            if out.len() > MAX_LENGTH {
                return Err(PatternError::TooLong);
            }
            copied = end;
            at = end.max(at + 1);
        }
        out.extend(&text[copied.min(text.len())..]);
        Ok(out)
    }

    /// For every place in `text`, and its end: where the preferred match that starts there ends, or [`NO_MATCH`].
    ///
    /// Goes through the pattern from its end, keeping one row, so that time is the product of both lengths and no more.
    fn ends(&self, text: &[char], greedy: bool) -> Vec<u32> {
        let mut row: Vec<u32> = (0..=text.len() as u32).collect();
        for token in self.0.iter().rev() {
            match token {
                Token::Literal(_) | Token::AnyOne => {
                    for i in 0..text.len() {
                        let here = match token {
                            Token::Literal(c) => text[i] == *c,
                            _ => text[i] != '\n',
                        };
                        row[i] = if here { row[i + 1] } else { NO_MATCH };
                    }
                    row[text.len()] = NO_MATCH;
                }
                Token::AnyRun => {
                    for i in (0..text.len()).rev() {
                        let further = if text[i] == '\n' { NO_MATCH } else { row[i + 1] };
                        let (first, second) = if greedy { (further, row[i]) } else { (row[i], further) };
                        row[i] = if first == NO_MATCH { second } else { first };
                    }
                }
            }
        }
        row
    }
}

/// What a match is replaced by: `$0` and `${0}` are the matched text, `$$` is a dollar and any other `$name` is nothing.
struct Template {
    /// Literal text, and the matched text after each piece but the last.
    pieces: Vec<String>,
    /// The literal text alone: what an empty match gives. Long templates would cost as much for each otherwise.
    literal: String,
}

impl Template {
    fn read(text: &str) -> Template {
        let (mut pieces, mut rest) = (vec![String::new()], text);
        while let Some((before, after)) = rest.split_once('$') {
            let last = pieces.len() - 1;
            pieces[last].push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                pieces[last].push('$');
                rest = after;
                continue;
            }
            let braced = after.strip_prefix('{');
            let inner = braced.unwrap_or(after);
            let name = &inner[..inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len())];
            let tail = &inner[name.len()..];
            let tail = if braced.is_some() { tail.strip_prefix('}') } else { Some(tail) };
            match tail {
                Some(tail) if !name.is_empty() => {
                    if name == "0" {
                        pieces.push(String::new());
                    }
                    rest = tail;
                }
                _ => {
                    pieces[last].push('$');
                    rest = after;
                }
            }
        }
        let last = pieces.len() - 1;
        pieces[last].push_str(rest);
        Template { literal: pieces.concat(), pieces }
    }

    fn fill(&self, out: &mut String, matched: &[char]) {
        if matched.is_empty() {
            return out.push_str(&self.literal);
        }
        for (index, piece) in self.pieces.iter().enumerate() {
            if index > 0 {
                out.extend(matched);
            }
            out.push_str(piece);
        }
    }
}
