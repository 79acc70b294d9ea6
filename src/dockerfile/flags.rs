//! The flags of each instruction and their types.

use super::error::{ParseError, ParseErrorKind};
use super::suggest;
use super::syntax::Node;
use super::words::Word;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `--x=value`
    Text,
    /// `--x`, `--x=true`, `--x=false`
    Switch,
    /// `--x=value`, as often as one likes
    List,
}

use Kind::{List, Switch, Text};

/// The flags of an instruction. Every one that exists is here; whether it can be done is for later to say.
fn known(instruction: &str) -> &'static [(&'static str, Kind)] {
    match instruction {
        "FROM" => &[("platform", Text)],
        "RUN" => &[("mount", List), ("network", Text), ("security", Text), ("device", List)],
        "COPY" => &[
            ("from", Text),
            ("chown", Text),
            ("chmod", Text),
            ("link", Switch),
            ("parents", Switch),
            ("exclude", List),
        ],
        "ADD" => &[
            ("chown", Text),
            ("chmod", Text),
            ("link", Switch),
            ("exclude", List),
            ("checksum", Text),
            ("keep-git-dir", Switch),
            ("unpack", Switch),
        ],
        "HEALTHCHECK" => &[
            ("interval", Text),
            ("timeout", Text),
            ("start-period", Text),
            ("start-interval", Text),
            ("retries", Text),
        ],
        _ => &[],
    }
}

/// The flags that an instruction was given.
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<(&'static str, String, Word)>);

impl Flags {
    /// Reads `node`'s flags.
    pub(super) fn read(node: &Node, instruction: &'static str) -> Result<Self, ParseError> {
        let known = known(instruction);
        let mut given = Flags::default();
        for word in &node.flags {
            let error = |kind| ParseError::new(kind, node.span_of(&word.range));
            let text = word.text.strip_prefix("--").unwrap_or(&word.text);
            let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            let owned = || name.to_string();
            let Some((name, kind)) = known.iter().find(|(known, _)| *known == name) else {
                let near =
                    suggest::nearest(name, known.iter().map(|(known, _)| *known)).map(|near| format!("--{near}"));
                return Err(error(ParseErrorKind::UnknownFlag { name: owned(), instruction }).suggest(near));
            };
            if *kind != List && given.get(name).is_some() {
                return Err(error(ParseErrorKind::DuplicateFlag { name: owned() }));
            }
            let value = match (kind, value) {
                (Switch, None) => "true".to_string(),
                (Switch, Some("")) | (Text | List, None) => {
                    return Err(error(ParseErrorKind::MissingFlagValue { name: owned() }));
                }
                (Switch, Some(value)) => match value.to_lowercase() {
                    lower if lower == "true" || lower == "false" => lower,
                    _ => return Err(error(ParseErrorKind::NotBoolean { name: owned(), value: value.to_string() })),
                },
                (Text | List, Some(value)) => value.to_string(),
            };
            given.0.push((*name, value, word.clone()));
        }
        Ok(given)
    }

    /// Value of a flag that is given at most once.
    fn get(&self, name: &str) -> Option<&(&'static str, String, Word)> {
        self.0.iter().find(|(given, ..)| *given == name)
    }

    /// Value of a text flag; an empty value is as good as none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|(_, value, _)| value.clone()).filter(|value| !value.is_empty())
    }

    /// Value and word of a flag, empty values included.
    pub(super) fn word(&self, name: &str) -> Option<(&str, &Word)> {
        self.get(name).map(|(_, value, word)| (value.as_str(), word))
    }

    /// Value of a switch.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.get(name).map(|(_, value, _)| value == "true")
    }

    /// Values and words of a list.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = (&str, &Word)> {
        self.0.iter().filter(move |(given, ..)| *given == name).map(|(_, value, word)| (value.as_str(), word))
    }
}
