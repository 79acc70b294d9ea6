//! From words to typed instructions and stages: arguments are counted, flags typed, values checked that need no
//! expansion.

use std::collections::HashMap;

use super::duration;
use super::error::{Arity, ParseError, ParseErrorKind};
use super::flags::Flags;
use super::heredoc;
use super::instruction::*;
use super::mount;
use super::suggest;
use super::syntax::{Args, Node, Part};
use super::words::Word;

/// Every instruction there is.
pub const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// FROM, ARG or anything else: what the order of a file depends on.
pub(super) enum Typed {
    Stage(Stage),
    Instruction(Instruction),
}

/// Types one node.
pub(super) fn node(node: &Node) -> Result<Typed, ParseError> {
    let upper = node.command.text.to_ascii_uppercase();
    let Some(name) = INSTRUCTIONS.iter().copied().find(|name| *name == upper) else {
        let word = node.command.text.clone();
        let near = suggest::nearest_ignoring_case(&word, INSTRUCTIONS);
        let span = node.span_of(&node.command.range);
        return Err(ParseError::new(ParseErrorKind::UnknownInstruction { word }, span).suggest(near));
    };
    let typing = Typing { node, name, words: word_texts(&node.args) };
    if name == "FROM" {
        return typing.from().map(Typed::Stage);
    }
    typing.instruction().map(Typed::Instruction)
}

fn word_texts(args: &Args) -> Vec<Word> {
    match args {
        Args::Words(words) => words.clone(),
        Args::Json(strings, range) => strings.iter().map(|text| Word::new(text.clone(), range.clone())).collect(),
        Args::Typed(kind, _) => vec![kind.clone()],
        Args::Pairs(_) | Args::Trigger(_) => Vec::new(),
    }
}

/// One instruction on its way to its type.
struct Typing<'a> {
    node: &'a Node,
    name: &'static str,
    words: Vec<Word>,
}

impl Typing<'_> {
    fn instruction(&self) -> Result<Instruction, ParseError> {
        match self.name {
            "ADD" => self.add().map(Instruction::Add),
            "ARG" => self.arg().map(Instruction::Arg),
            "CMD" => self.flags().map(|_| Instruction::Cmd(command_line(&self.node.args))),
            "COPY" => self.copy().map(Instruction::Copy),
            "ENTRYPOINT" => self.flags().map(|_| Instruction::Entrypoint(command_line(&self.node.args))),
            "ENV" => self.pairs().map(Instruction::Env),
            "EXPOSE" => self.list().map(Instruction::Expose),
            "HEALTHCHECK" => self.healthcheck().map(Instruction::Healthcheck),
            "LABEL" => self.pairs().map(Instruction::Label),
            "MAINTAINER" => self.one(true).map(Instruction::Maintainer),
            "ONBUILD" => self.onbuild().map(Instruction::Onbuild),
            "RUN" => self.run().map(Instruction::Run),
            "SHELL" => self.shell().map(Instruction::Shell),
            "STOPSIGNAL" => self.one(false).map(Instruction::Stopsignal),
            "USER" => self.one(true).map(Instruction::User),
            "VOLUME" => self.volume().map(Instruction::Volume),
            _ => self.one(true).map(Instruction::Workdir),
        }
    }

    /// An error about the whole instruction.
    fn error(&self, kind: ParseErrorKind) -> ParseError {
        ParseError::new(kind, self.node.text_span())
    }

    /// An error about one word of it.
    fn error_at(&self, kind: ParseErrorKind, word: &Word) -> ParseError {
        ParseError::new(kind, self.node.span_of(&word.range))
    }

    fn arity(&self, arity: Arity) -> ParseError {
        self.error(ParseErrorKind::Arguments { instruction: self.name, arity })
    }

    fn flags(&self) -> Result<Flags, ParseError> {
        Flags::read(self.node, self.name)
    }

    fn one(&self, flags: bool) -> Result<String, ParseError> {
        let [word] = self.words.as_slice() else { return Err(self.arity(Arity::ExactlyOne)) };
        if flags {
            self.flags()?;
        }
        Ok(word.text.clone())
    }

    fn list(&self) -> Result<Vec<String>, ParseError> {
        if self.words.is_empty() {
            return Err(self.arity(Arity::AtLeastOne));
        }
        self.flags()?;
        Ok(self.words.iter().map(|word| word.text.clone()).collect())
    }

    fn volume(&self) -> Result<Vec<String>, ParseError> {
        let volumes: Vec<String> = self.list()?.iter().map(|path| path.trim().to_string()).collect();
        match volumes.iter().position(String::is_empty) {
            Some(at) => Err(self.error_at(ParseErrorKind::EmptyVolume, &self.words[at])),
            None => Ok(volumes),
        }
    }

    fn shell(&self) -> Result<Vec<String>, ParseError> {
        self.flags()?;
        match &self.node.args {
            _ if self.words.is_empty() => Err(self.arity(Arity::AtLeastOne)),
            Args::Json(strings, _) => Ok(strings.clone()),
            _ => Err(self.error_at(ParseErrorKind::ShellNotJson, &self.words[0])),
        }
    }

    fn pairs(&self) -> Result<Vec<KeyValue>, ParseError> {
        self.flags()?;
        let Args::Pairs(pairs) = &self.node.args else { return Err(self.arity(Arity::AtLeastOne)) };
        if pairs.is_empty() {
            return Err(self.arity(Arity::AtLeastOne));
        }
        if let Some(blank) = pairs.iter().find(|pair| pair.key.is_empty()) {
            let kind = ParseErrorKind::BlankName { instruction: self.name };
            return Err(ParseError::new(kind, self.node.span_of(&blank.range)));
        }
        let typed = |pair: &super::syntax::Pair| KeyValue {
            key: pair.key.clone(),
            value: pair.value.clone(),
            legacy: pair.legacy,
        };
        Ok(pairs.iter().map(typed).collect())
    }

    /// ARG alone never looks at its flags.
    fn arg(&self) -> Result<ArgInstruction, ParseError> {
        if self.words.is_empty() {
            return Err(self.arity(Arity::AtLeastOne));
        }
        let descriptions = self.descriptions();
        let mut args = Vec::with_capacity(self.words.len());
        for word in &self.words {
            let (name, default) = match word.text.split_once('=') {
                Some(("", _)) => {
                    return Err(self.error_at(ParseErrorKind::BlankName { instruction: self.name }, word));
                }
                Some((name, default)) => (name, Some(default.to_string())),
                None => (word.text.as_str(), None),
            };
            let doc_comment = descriptions.get(name).map(|text| text.to_string());
            args.push(ArgDefinition { name: name.to_string(), default, doc_comment });
        }
        Ok(ArgInstruction { args })
    }

    /// What the comments directly above say: a name, a blank, a description.
    fn descriptions(&self) -> HashMap<&str, &str> {
        // Of several about one name the first counts.
        self.node.comments.iter().rev().filter_map(|comment| comment.split_once(' ')).collect()
    }

    fn from(&self) -> Result<Stage, ParseError> {
        let (base, name) = match self.words.as_slice() {
            [base] => (base, None),
            [base, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => (base, Some(name)),
            _ => return Err(self.error(ParseErrorKind::FromArguments)),
        };
        let lower = name.map(|name| name.text.to_lowercase());
        if let (Some(name), Some(lower)) = (name, &lower)
            && !is_stage_name(lower)
        {
            return Err(self.error_at(ParseErrorKind::StageName { name: name.text.clone() }, name));
        }
        let flags = self.flags()?;
        Ok(Stage {
            base: base.text.clone(),
            base_span: self.node.span_of(&base.range),
            doc_comment: lower.as_ref().and_then(|name| Some(self.descriptions().get(name.as_str())?.to_string())),
            name: lower,
            name_as_written: name.map(|name| name.text.clone()),
            platform: flags.text("platform"),
            span: self.node.span(),
            original: self.node.original().to_string(),
            instructions: Vec::new(),
        })
    }

    fn run(&self) -> Result<RunInstruction, ParseError> {
        let flags = self.flags()?;
        for (value, word) in flags.list("device") {
            mount::Device::parse(value).map_err(|e| self.error_at(ParseErrorKind::Device(e), word))?;
        }
        for (value, word) in flags.list("mount") {
            mount::check_before_expansion(value).map_err(|e| self.error_at(ParseErrorKind::Mount(e), word))?;
        }
        if let Some((value, word)) = flags.word("network").filter(|(v, _)| !["default", "none", "host"].contains(v)) {
            return Err(self.error_at(ParseErrorKind::Network { value: value.to_string() }, word));
        }
        if let Some((value, word)) = flags.word("security").filter(|(v, _)| !["sandbox", "insecure"].contains(v)) {
            return Err(self.error_at(ParseErrorKind::Security { value: value.to_string() }, word));
        }
        let command = command_line(&self.node.args);
        let mut heredocs = self.node.heredocs.clone();
        // Where the command is a here-document and nothing else, its body is the script, so tabs are ours to strip.
        if let ([only], CommandLine::Shell(text)) = (heredocs.as_mut_slice(), &command)
            && only.strip_tabs
            && heredoc::parse_word(text).is_ok_and(|word| word.is_some())
        {
            only.body = heredoc::strip_tabs(&only.body);
        }
        Ok(RunInstruction {
            command,
            heredocs,
            mounts: flags.list("mount").map(|(value, _)| value.to_string()).collect(),
            network: flags.text("network"),
            security: flags.text("security"),
            devices: flags.list("device").map(|(value, _)| value.to_string()).collect(),
        })
    }

    fn copy(&self) -> Result<CopyInstruction, ParseError> {
        self.at_least_two()?;
        let flags = self.flags()?;
        Ok(CopyInstruction {
            paths: self.sources_and_dest()?,
            from: flags.text("from"),
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.switch("link").unwrap_or(false),
            parents: flags.switch("parents").unwrap_or(false),
            exclude: flags.list("exclude").map(|(value, _)| value.to_string()).collect(),
        })
    }

    fn add(&self) -> Result<AddInstruction, ParseError> {
        self.at_least_two()?;
        let flags = self.flags()?;
        Ok(AddInstruction {
            paths: self.sources_and_dest()?,
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.switch("link").unwrap_or(false),
            exclude: flags.list("exclude").map(|(value, _)| value.to_string()).collect(),
            checksum: flags.text("checksum"),
            keep_git_dir: flags.switch("keep-git-dir"),
            unpack: flags.switch("unpack"),
        })
    }

    fn at_least_two(&self) -> Result<(), ParseError> {
        if self.words.len() < 2 {
            return Err(self.error(ParseErrorKind::NoDestination { instruction: self.name }));
        }
        Ok(())
    }

    fn sources_and_dest(&self) -> Result<SourcesAndDest, ParseError> {
        let heredoc_word = |word: &Word| heredoc::parse_word(&word.text).ok().flatten();
        let Some((dest, words)) = self.words.split_last() else {
            return Err(self.error(ParseErrorKind::NoDestination { instruction: self.name }));
        };
        if heredoc_word(dest).is_some() {
            return Err(self.error_at(ParseErrorKind::HeredocDestination { instruction: self.name }, dest));
        }
        let bodies: HashMap<&str, &str> =
            self.node.heredocs.iter().map(|read| (read.name.as_str(), read.body.as_str())).collect();
        let (mut sources, mut heredocs) = (Vec::new(), Vec::<Heredoc>::new());
        let mut last: HashMap<String, usize> = HashMap::new();
        for word in words {
            let Some(heredoc) = heredoc_word(word) else {
                sources.push(word.text.clone());
                continue;
            };
            // Several with one name are one file with the last body.
            match last.get(&heredoc.name) {
                Some(at) => heredocs[*at] = heredoc,
                None => {
                    last.insert(heredoc.name.clone(), heredocs.len());
                    heredocs.push(heredoc);
                }
            }
        }
        for heredoc in &mut heredocs {
            // In JSON form the word has none.
            let body = bodies.get(heredoc.name.as_str()).copied().unwrap_or_default();
            heredoc.body = if heredoc.strip_tabs { heredoc::strip_tabs(body) } else { body.to_string() };
        }
        Ok(SourcesAndDest { sources, heredocs, dest: dest.text.clone() })
    }

    fn healthcheck(&self) -> Result<Healthcheck, ParseError> {
        let Args::Typed(kind, command) = &self.node.args else { return Err(self.arity(Arity::AtLeastOne)) };
        let empty = word_texts(command).is_empty();
        if kind.text.eq_ignore_ascii_case("none") {
            return if empty { Ok(Healthcheck::None) } else { Err(self.error(ParseErrorKind::HealthcheckNone)) };
        }
        let flags = self.flags()?;
        if !kind.text.eq_ignore_ascii_case("cmd") {
            let word = kind.text.to_uppercase();
            return Err(self.error_at(ParseErrorKind::HealthcheckType { word }, kind));
        }
        if empty {
            return Err(self.error(ParseErrorKind::HealthcheckCommand));
        }
        Ok(Healthcheck::Cmd {
            command: command_line(command),
            interval: self.interval(&flags, "interval")?,
            timeout: self.interval(&flags, "timeout")?,
            start_period: self.interval(&flags, "start-period")?,
            start_interval: self.interval(&flags, "start-interval")?,
            retries: self.retries(&flags)?,
        })
    }

    fn interval(&self, flags: &Flags, flag: &'static str) -> Result<i64, ParseError> {
        const MILLISECOND: i64 = 1_000_000;
        let Some((value, word)) = flags.word(flag).filter(|(value, _)| !value.is_empty()) else { return Ok(0) };
        match duration::parse(value) {
            Ok(0) => Ok(0),
            Ok(short) if short < MILLISECOND => Err(self.error_at(ParseErrorKind::Interval { flag }, word)),
            Ok(interval) => Ok(interval),
            Err(error) => Err(self.error_at(ParseErrorKind::Duration(error), word)),
        }
    }

    fn retries(&self, flags: &Flags) -> Result<i64, ParseError> {
        let Some((value, word)) = flags.word("retries").filter(|(value, _)| !value.is_empty()) else { return Ok(0) };
        match value.parse::<i32>() {
            Ok(retries) if retries >= 0 => Ok(retries.into()),
            _ => Err(self.error_at(ParseErrorKind::Retries { value: value.to_string() }, word)),
        }
    }

    fn onbuild(&self) -> Result<String, ParseError> {
        let Args::Trigger(trigger) = &self.node.args else { return Err(self.arity(Arity::AtLeastOne)) };
        self.flags()?;
        let Part { command, .. } = trigger.as_ref();
        match command.text.to_uppercase().as_str() {
            "ONBUILD" => return Err(self.error_at(ParseErrorKind::OnbuildChained, command)),
            name @ ("FROM" | "MAINTAINER") => {
                let kind = ParseErrorKind::OnbuildForbidden { instruction: name.to_string() };
                return Err(self.error_at(kind, command));
            }
            _ => {}
        }
        // A continuation's blanks and everything behind the trigger's last word stay as they are.
        let mut text = self.node.original()[trigger.range.start..].to_string();
        for heredoc in &self.node.heredocs {
            text.push('\n');
            text.push_str(&heredoc.body);
            text.push_str(&heredoc.name);
        }
        Ok(text)
    }
}

fn command_line(args: &Args) -> CommandLine {
    match args {
        Args::Json(strings, _) => CommandLine::Exec(strings.clone()),
        Args::Words(words) => CommandLine::Shell(words.first().map(|word| word.text.clone()).unwrap_or_default()),
        Args::Typed(..) | Args::Pairs(_) | Args::Trigger(_) => CommandLine::Shell(String::new()),
    }
}

/// A letter, then letters, digits, `-`, `_` and `.`.
fn is_stage_name(lower: &str) -> bool {
    let tail = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    lower.starts_with(|c: char| c.is_ascii_lowercase()) && lower.chars().all(tail)
}
