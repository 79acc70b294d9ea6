//! Command lines of other tools as data: for each flag what becomes of it here, and one reader for all of them.
//!
//! A table of [`Flag`]s drives the reading and the documentation, so that neither knows a flag that the other does not.
//! What is read are the rules of Go's `pflag`: `--name=value`, `--name value`, `-n value`, `-nvalue`, flags without a value
//! as `--name[=true|false]`, flags between arguments, and `--` before arguments only.

use super::{Outcome, usage};

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// It is this flag of dockless, with the same value.
    Is(&'static str),
    /// The tool's own code carries it out; the text says what it does.
    Own(&'static str),
    /// A warning with the reason, and the command goes on.
    Ignored(&'static str),
    /// The command fails; the reason says what is missing.
    Refused(&'static str),
}

/// One flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Without its dashes.
    pub name: &'static str,
    /// Its letter, or `'\0'`.
    pub short: char,
    /// It takes a value.
    pub value: bool,
    /// What becomes of it.
    pub does: Does,
}

/// A flag that takes a value.
pub const fn value(name: &'static str, does: Does) -> Flag {
    Flag { name, short: '\0', value: true, does }
}

/// A flag without a value.
pub const fn switch(name: &'static str, does: Does) -> Flag {
    Flag { name, short: '\0', value: false, does }
}

impl Flag {
    /// The same flag, with a letter.
    pub const fn short(self, short: char) -> Flag {
        Flag { short, ..self }
    }
}

/// A command line, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The flags in order, with their values; those without one have `true` or `false`.
    pub flags: Vec<(&'static str, String)>,
    /// The arguments.
    pub arguments: Vec<String>,
    /// What was ignored.
    pub warnings: Vec<String>,
    /// The flags of dockless that those given are.
    pub ours: Vec<String>,
}

impl Given {
    /// The last value of a flag.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a flag.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag without a value was given, and not as false.
    pub fn is(&self, name: &str) -> bool {
        self.last(name).is_some_and(|value| value == "true")
    }
}

/// Reads `words` by `table`. With `options_first` everything after the first argument is an argument.
pub fn read(table: &[&'static [Flag]], words: &[String], options_first: bool) -> Outcome<Given> {
    let mut given = Given::default();
    let mut ignored: Vec<(&str, Vec<String>)> = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if word == "--" {
            given.arguments.extend(words.by_ref().map(str::to_string));
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let flag = find(table, |flag| flag.name == name).ok_or_else(|| unknown(&format!("--{name}")))?;
            let value = take(flag, &format!("--{name}"), value, || words.next())?;
            note(&mut given, &mut ignored, flag, value)?;
        } else if word.len() > 1 && word.starts_with('-') {
            let mut rest = &word[1..];
            while let Some(letter) = rest.chars().next() {
                let shown = format!("-{letter}");
                let flag = find(table, |flag| flag.short == letter).ok_or_else(|| unknown(&shown))?;
                rest = &rest[letter.len_utf8()..];
                let given_here = rest.strip_prefix('=').or((flag.value && !rest.is_empty()).then_some(rest));
                if given_here.is_some() {
                    rest = "";
                }
                let value = take(flag, &shown, given_here, || words.next())?;
                note(&mut given, &mut ignored, flag, value)?;
            }
        } else {
            given.arguments.push(word.to_string());
            if options_first {
                given.arguments.extend(words.by_ref().map(str::to_string));
            }
        }
    }
    given.warnings = ignored.iter().map(|(why, names)| warning(why, names)).collect();
    Ok(given)
}

fn find(table: &[&'static [Flag]], fits: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
    table.iter().flat_map(|part| part.iter()).find(|flag| fits(flag))
}

fn unknown(name: &str) -> Box<crate::ui::Diagnostic> {
    usage(format!("unknown flag: {name}"))
}

/// The value of a flag: what stands with it, or the next word.
fn take<'w>(
    flag: &Flag,
    shown: &str,
    with: Option<&'w str>,
    next: impl FnOnce() -> Option<&'w str>,
) -> Outcome<String> {
    if flag.value {
        let value = with.or_else(next).ok_or_else(|| usage(format!("flag needs an argument: {shown}")))?;
        return Ok(value.to_string());
    }
    // As Go's strconv.ParseBool.
    match with {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok("true".into()),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok("false".into()),
        Some(other) => Err(usage(format!("{shown}={other}: expected true or false"))),
    }
}

fn note(
    given: &mut Given,
    ignored: &mut Vec<(&'static str, Vec<String>)>,
    flag: &'static Flag,
    value: String,
) -> Outcome<()> {
    let shown = format!("--{}", flag.name);
    let asks = flag.value || value == "true";
    match flag.does {
        Does::Is(ours) if flag.value => given.ours.extend([ours.to_string(), value.clone()]),
        Does::Is(ours) => given.ours.push(format!("{ours}={value}")),
        Does::Own(_) => {}
        Does::Ignored(why) if asks => match ignored.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) if names.contains(&shown) => {}
            Some((_, names)) => names.push(shown),
            None => ignored.push((why, vec![shown])),
        },
        Does::Refused(why) if asks => return Err(usage(format!("flag {shown} is not supported: {why}"))),
        Does::Ignored(_) | Does::Refused(_) => {}
    }
    given.flags.push((flag.name, value));
    Ok(())
}

/// The line about flags that are ignored for one reason.
pub fn warning(why: &str, names: &[String]) -> String {
    match names {
        [name] => format!("flag {name} is ignored: {why}"),
        names => format!("flags {} are ignored: {why}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        value("context", Does::Own("where files come from")).short('c'),
        value("destination", Does::Is("--tag")).short('d'),
        switch("force", Does::Ignored("it has no meaning here")).short('f'),
        switch("cleanup", Does::Ignored("it has no meaning here")),
        switch("quiet", Does::Is("--quiet")).short('q'),
        value("azure", Does::Refused("there is no client for it")),
    ];

    fn given(line: &str, options_first: bool) -> Result<Given, String> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        read(&[TABLE], &words, options_first).map_err(|error| error.message)
    }

    #[test]
    fn as_pflag_reads() {
        let read = given("-c=dir --destination a -db x --quiet=false -fq --cleanup --force -- -y", false).unwrap();
        assert_eq!(read.last("context"), Some("dir"));
        assert_eq!(read.ours, ["--tag", "a", "--tag", "b", "--quiet=false", "--quiet=true"]);
        assert_eq!(read.arguments, ["x", "-y"]);
        assert_eq!(read.warnings, ["flags --force, --cleanup are ignored: it has no meaning here"]);
        assert!(read.is("quiet") && read.is("force") && !read.is("context"));
        let read = given("-q image -c dir", true).unwrap();
        assert_eq!((read.arguments.len(), read.last("context")), (3, None));
        assert_eq!(given("--force=false", false).unwrap().warnings, [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (line, message) in [
            ("--nope", "unknown flag: --nope"),
            ("-qx", "unknown flag: -x"),
            ("-c", "flag needs an argument: -c"),
            ("--quiet=7", "--quiet=7: expected true or false"),
            ("--azure=x", "flag --azure is not supported: there is no client for it"),
        ] {
            assert_eq!(given(line, false), Err(message.to_string()));
        }
    }
}
