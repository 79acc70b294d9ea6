//! Variable expansion and word splitting, as the front end does it (not as a shell would).
//!
//! A word may hold `$name`, `${name}`, `${name:-w}` `${name-w}` `${name:+w}` `${name+w}` `${name:?w}` `${name?w}`,
//! `${name#p}` `${name##p}` `${name%p}` `${name%%p}`, `${name/p/r}` and `${name//p/r}`, nested up to [`MAX_DEPTH`].
//! Single quotes stop everything; in double quotes `$` works and the escape character protects `"`, `$` and itself;
//! outside quotes it protects any character. Quotes and escapes go away, unless the [`Expander`] is told to keep them.
//! What is not set expands to nothing and is reported in [`Expanded::unmatched`].

mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use pattern::{Pattern, PatternError};

/// How deeply `${a:-${b:-…}}` may nest.
pub const MAX_DEPTH: usize = 128;

/// How many bytes may be put into one word, those put into what is put in included: `ENV a=$a$a` doubles, a few dozen lines
/// of it would fill any memory. No process could be started with a variable of that size.
pub const MAX_LENGTH: usize = 16 << 20;

/// Pattern length times value length that is matched in one word, so that no Dockerfile can keep the builder busy for long.
const MAX_WORK: usize = 1 << 27;

/// Where values come from.
pub trait Env {
    /// The value of `name`, `None` where it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// Nothing is set.
impl Env for () {
    fn get(&self, _name: &str) -> Option<&str> {
        None
    }
}

/// Names and values in order; of several values for one name the last counts.
impl Env for [(String, String)] {
    fn get(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An expanded word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub word: String,
    /// Names that the word used and that are not set, sorted, each once.
    pub unmatched: Vec<String>,
    /// Names that the word used and that are set, sorted, each once.
    pub matched: Vec<String>,
}

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {kind}")]
pub struct ExpandError {
    /// The word as written.
    pub word: String,
    /// What is wrong with it.
    pub kind: ExpandErrorKind,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandErrorKind {
    /// A quote is not closed.
    #[error("unexpected end of statement while looking for matching {}-quote", if *quote == '"' { "double" } else { "single" })]
    Unbalanced {
        /// `"` or `'`
        quote: char,
    },
    /// `${` is not closed, or the pattern of `${name/pattern/replacement}` is not.
    #[error("syntax error: missing '{missing}'{}", if *missing == '/' { " in ${}" } else { "" })]
    Unclosed {
        /// `}` or `/`
        missing: char,
    },
    /// `${}`, `${{` or `${:`
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// An operator that does not exist.
    #[error("unsupported modifier ({modifier}) in substitution")]
    Modifier {
        /// The operator; U+FFFD stands for the end of the word.
        modifier: String,
    },
    /// `${name?message}` of a name that has no value.
    #[error("{name}: {message}")]
    Required {
        /// The name.
        name: String,
        /// The message, or what was expected where there is none.
        message: String,
    },
    /// A pattern that cannot be read.
    #[error("invalid pattern ({pattern}) in substitution: {source}")]
    Pattern {
        /// The pattern after expansion.
        pattern: String,
        /// What is wrong with it.
        source: PatternError,
    },
    /// More than [`MAX_DEPTH`] substitutions inside one another.
    #[error("substitutions nest more than {MAX_DEPTH} deep")]
    TooDeep,
    /// More than [`MAX_LENGTH`] bytes.
    #[error("expands to more than {} MiB", MAX_LENGTH >> 20)]
    TooLong,
}

/// Expands words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expander {
    /// The escape character, `\` or `` ` ``.
    pub escape: char,
    /// Keeps quotes in the result.
    pub raw_quotes: bool,
    /// Keeps escape characters in the result.
    pub raw_escapes: bool,
    /// Treats quotes as ordinary characters (bodies of here-documents).
    pub skip_process_quotes: bool,
    /// Leaves `$name` as it stands where the name is not set.
    pub skip_unset_env: bool,
}

impl Expander {
    /// An expander that removes quotes and escapes and expands what is not set to nothing.
    pub fn new(escape: char) -> Self {
        Expander { escape, raw_quotes: false, raw_escapes: false, skip_process_quotes: false, skip_unset_env: false }
    }

    /// Expands `word` to one word, blanks kept.
    ///
    /// # Errors
    /// [`ExpandError`] with the word and what is wrong with it.
    pub fn expand_word<E: Env + ?Sized>(&self, word: &str, env: &E) -> Result<Expanded, ExpandError> {
        let mut run = Run::new(self, word, env);
        match run.text(None) {
            Ok(text) => Ok(Expanded {
                word: text,
                unmatched: run.unmatched.into_iter().collect(),
                matched: run.matched.into_iter().collect(),
            }),
            Err(kind) => Err(ExpandError { word: word.to_string(), kind }),
        }
    }

    /// Expands `word` and splits the result at blanks that are not quoted; blanks out of variables split too.
    ///
    /// # Errors
    /// As [`Expander::expand_word`].
    pub fn expand_words<E: Env + ?Sized>(&self, word: &str, env: &E) -> Result<Vec<String>, ExpandError> {
        let mut run = Run::new(self, word, env);
        match run.text(None) {
            Ok(_) => Ok(run.words.finish()),
            Err(kind) => Err(ExpandError { word: word.to_string(), kind }),
        }
    }
}

/// Words under construction.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    /// A character that splits if it is a blank.
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    /// Ends the last word. A quoted empty word is none.
    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

/// One word on its way through.
struct Run<'a, E: Env + ?Sized> {
    rules: &'a Expander,
    env: &'a E,
    rest: Peekable<Chars<'a>>,
    raw_escapes: bool,
    depth: usize,
    words: Words,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
    /// Bytes put in so far, at every level.
    put_in: usize,
    /// What matching patterns has cost so far.
    worked: usize,
}

type Outcome = Result<String, ExpandErrorKind>;

impl<'a, E: Env + ?Sized> Run<'a, E> {
    fn new(rules: &'a Expander, word: &'a str, env: &'a E) -> Self {
        let rest = word.chars().peekable();
        let (matched, unmatched) = (BTreeSet::new(), BTreeSet::new());
        let words = Words::default();
        Run {
            rules,
            env,
            rest,
            raw_escapes: rules.raw_escapes,
            depth: 0,
            words,
            matched,
            unmatched,
            put_in: 0,
            worked: 0,
        }
    }

    /// Expands up to `stop`, which is consumed, inside a substitution.
    ///
    /// What the current word held before the substitution is lost for [`Expander::expand_words`]: `80${x:-81}` is one
    /// word, `81`. The front end shares one buffer there, and images depend on what it does.
    fn until(&mut self, stop: char, raw_escapes: bool) -> Outcome {
        let escapes = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let words = std::mem::take(&mut self.words);
        let outcome = self.text(Some(stop));
        self.raw_escapes = escapes;
        self.words = Words { done: words.done, word: String::new() };
        outcome
    }

    /// Expands up to `stop`, which is consumed, or to the end.
    fn text(&mut self, stop: Option<char>) -> Outcome {
        let mut text = String::new();
        while let Some(&c) = self.rest.peek() {
            if stop == Some(c) {
                self.rest.next();
                return Ok(text);
            }
            let quotes = !self.rules.skip_process_quotes;
            match c {
                '$' => {
                    let value = self.dollar()?;
                    self.extend(&mut text, &value)?;
                    value.chars().for_each(|c| self.words.push(c));
                }
                '\'' | '"' | '<' if quotes => {
                    let kept = match c {
                        '"' => self.double_quotes()?,
                        '<' => self.less_than(),
                        _ => self.single_quotes()?,
                    };
                    self.extend(&mut text, &kept)?;
                    self.words.word.push_str(&kept);
                }
                _ => self.plain(&mut text),
            }
        }
        match stop {
            None => Ok(text),
            Some(missing) => Err(ExpandErrorKind::Unclosed { missing }),
        }
    }

    /// One character without meaning, or an escape and what it protects.
    fn plain(&mut self, text: &mut String) {
        let Some(c) = self.rest.next() else { return };
        if c != self.rules.escape {
            text.push(c);
            self.words.push(c);
            return;
        }
        let kept = self.raw_escapes.then_some(c);
        for c in kept.into_iter().chain(self.rest.next()) {
            text.push(c);
            self.words.word.push(c);
        }
    }

    /// `<`, or `<<` and the blanks behind it, which do not split: `<< EOF` is one word.
    fn less_than(&mut self) -> String {
        let mut text: String = self.rest.next().into_iter().collect();
        if let Some(second) = self.rest.next_if_eq(&'<') {
            text.push(second);
            while let Some(blank) = self.rest.next_if(|c| c.is_whitespace()) {
                text.push(blank);
            }
        }
        text
    }

    fn single_quotes(&mut self) -> Outcome {
        self.rest.next();
        let mut text = String::from(if self.rules.raw_quotes { "'" } else { "" });
        loop {
            match self.rest.next() {
                None => return Err(ExpandErrorKind::Unbalanced { quote: '\'' }),
                Some('\'') => break,
                Some(c) => text.push(c),
            }
        }
        text.push_str(if self.rules.raw_quotes { "'" } else { "" });
        Ok(text)
    }

    fn double_quotes(&mut self) -> Outcome {
        self.rest.next();
        let mut text = String::from(if self.rules.raw_quotes { "\"" } else { "" });
        loop {
            match self.rest.peek() {
                None => return Err(ExpandErrorKind::Unbalanced { quote: '"' }),
                Some('"') => break,
                Some('$') => {
                    let value = self.dollar()?;
                    self.extend(&mut text, &value)?;
                    continue;
                }
                Some(_) => {}
            }
            let Some(c) = self.rest.next() else { continue };
            if c != self.rules.escape {
                text.push(c);
                continue;
            }
            if self.raw_escapes {
                text.push(c);
            }
            match self.rest.peek() {
                // The closing quote is missing too; the next turn says so.
                None => {}
                Some(&next) if next == '"' || next == '$' || next == self.rules.escape => {
                    self.rest.next();
                    text.push(next);
                }
                Some(_) => text.push(c),
            }
        }
        self.rest.next();
        text.push_str(if self.rules.raw_quotes { "\"" } else { "" });
        Ok(text)
    }

    fn dollar(&mut self) -> Outcome {
        self.rest.next();
        if self.rest.peek() == Some(&'{') {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(ExpandErrorKind::TooDeep);
            }
            self.rest.next();
            let outcome = self.braces();
            self.depth -= 1;
            return outcome;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_string());
        }
        Ok(match self.value(&name) {
            None if self.rules.skip_unset_env => format!("${name}"),
            value => value.unwrap_or_default().to_string(),
        })
    }

    /// What follows `${`.
    fn braces(&mut self) -> Outcome {
        match self.rest.peek() {
            None => return Err(ExpandErrorKind::Unclosed { missing: '}' }),
            Some('{' | '}' | ':') => return Err(ExpandErrorKind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            Some('}') => Ok(match self.value(&name) {
                None if self.rules.skip_unset_env => format!("${{{name}}}"),
                value => value.unwrap_or_default().to_string(),
            }),
            Some(':') => {
                let operator = self.rest.next();
                self.operator(&name, true, operator)
            }
            operator @ Some('+' | '-' | '?' | '#' | '%') => self.operator(&name, false, operator),
            Some('/') => self.replace(&name),
            other => Err(ExpandErrorKind::Modifier { modifier: other.unwrap_or('\u{fffd}').to_string() }),
        }
    }

    /// `${name-w}` and its like; `colon` makes an empty value count as none.
    fn operator(&mut self, name: &str, colon: bool, operator: Option<char>) -> Outcome {
        let raw = matches!(operator, Some('#' | '%'));
        let word = self.until('}', raw).map_err(|kind| self.unclosed(kind, '}'))?;
        let modifier = format!("{}{}", if colon { ":" } else { "" }, operator.unwrap_or('\u{fffd}'));
        let value = self.value(name);
        if value.is_none() && self.rules.skip_unset_env {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let given = value.filter(|value| !(colon && value.is_empty()));
        match (operator, colon) {
            (Some('-'), _) => Ok(given.map_or(word, str::to_string)),
            (Some('+'), _) => Ok(given.map_or(String::new(), |_| word)),
            (Some('?'), _) => given.map(str::to_string).ok_or_else(|| {
                let state = if value.is_none() { "unset" } else { "empty" };
                let message = if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                ExpandErrorKind::Required { name: name.to_string(), message }
            }),
            (Some(side @ ('#' | '%')), false) => {
                let longest = word.starts_with(side);
                let text = if longest { &word[1..] } else { &word };
                let value = value.unwrap_or_default();
                let pattern = self.pattern(text, value)?;
                Ok(if side == '#' { pattern.trim_start(value, longest) } else { pattern.trim_end(value, longest) })
            }
            _ => Err(ExpandErrorKind::Modifier { modifier }),
        }
    }

    /// `${name/p/r}` and `${name//p/r}`, after the first slash.
    fn replace(&mut self, name: &str) -> Outcome {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.until('/', true).map_err(|kind| self.unclosed(kind, '/'))?;
        let replacement = self.until('}', true).map_err(|kind| self.unclosed(kind, '}'))?;
        let value = self.value(name);
        if value.is_none() && self.rules.skip_unset_env {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        let replaced = self.pattern(&pattern, value)?.replace(value, &replacement, all);
        replaced.map_err(|source| invalid(&pattern, source))
    }

    /// An error inside a substitution that runs to the end of the word shows as the substitution not being closed.
    fn unclosed(&mut self, kind: ExpandErrorKind, missing: char) -> ExpandErrorKind {
        match kind {
            ExpandErrorKind::TooDeep | ExpandErrorKind::TooLong => kind,
            _ if self.rest.peek().is_none() => ExpandErrorKind::Unclosed { missing },
            _ => kind,
        }
    }

    /// A name: letters, digits and `_`; or digits alone; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => return self.rest.next().into_iter().collect(),
            _ => {}
        }
        while let Some(c) = self.rest.next_if(|c| c.is_alphabetic() || c.is_ascii_digit() || *c == '_') {
            name.push(c);
        }
        name
    }

    fn extend(&mut self, text: &mut String, more: &str) -> Result<(), ExpandErrorKind> {
        self.put_in += more.len();
        if self.put_in > MAX_LENGTH {
            return Err(ExpandErrorKind::TooLong);
        }
        text.push_str(more);
        Ok(())
    }

    /// Reads a pattern that is to be matched with `value`.
    fn pattern(&mut self, text: &str, value: &str) -> Result<Pattern, ExpandErrorKind> {
        let pattern = Pattern::parse(text).map_err(|source| invalid(text, source))?;
        self.worked = self.worked.saturating_add(pattern.work(value));
        if self.worked > MAX_WORK {
            return Err(invalid(text, PatternError::TooLong));
        }
        Ok(pattern)
    }

    fn value(&mut self, name: &str) -> Option<&'a str> {
        let value = self.env.get(name);
        let names = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        if !names.contains(name) {
            names.insert(name.to_string());
        }
        value
    }
}

fn invalid(pattern: &str, source: PatternError) -> ExpandErrorKind {
    ExpandErrorKind::Pattern { pattern: pattern.to_string(), source }
}
