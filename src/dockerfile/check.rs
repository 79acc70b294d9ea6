//! The lints that the text alone shows.
//!
//! Words with a `$` in them are left to the plan, which knows what they expand to; so are rules about variables,
//! shells, platforms and the ignore file.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::expose;
use super::instruction::{Dockerfile, Instruction, Located, Stage};
use super::lint::{self, Options, Rule, Warning, detail};
use super::span::Span;
use super::syntax::{Args, Node};
use super::words::Word;

/// What `# check=…` comments directly above instructions say, by the instruction's first line.
pub(super) fn local_options(nodes: &[Node]) -> BTreeMap<u32, Options> {
    let mut found = BTreeMap::new();
    for node in nodes {
        for comment in &node.comments {
            let options = comment.split_once('=').filter(|(key, _)| key.trim().eq_ignore_ascii_case("check"));
            let value = options.map(|(_, value)| super::directive::first_word(value.trim()));
            // One that cannot be read is a comment like any other.
            if let Some(options) = value.and_then(|value| Options::parse(value).ok()) {
                found.insert(node.first(), options);
            }
        }
    }
    found
}

/// Finds everything; `nodes` are what `file` was read from, one for each instruction in order.
pub(super) fn run(file: &Dockerfile, nodes: &[Node]) -> Vec<Warning> {
    let (globals, staged) = nodes.split_at(file.global_args.len());
    let mut check = Check { file, found: Vec::new() };
    check.casing(staged);
    globals.iter().chain(staged).for_each(|node| check.comments(node));
    // Whether a stage has a WORKDIR, its own or that of the stage it is made from.
    let (mut names, mut workdirs) = (HashSet::new(), HashMap::new());
    let mut rest = staged;
    for stage in &file.stages {
        let (Some((from, after)), count) = (rest.split_first(), stage.instructions.len()) else { break };
        let (below, next) = after.split_at(count);
        rest = next;
        check.stage(stage, from, &mut names);
        let end = check.instructions(stage, below, workdirs.get(stage.base.as_str()).copied().unwrap_or_default());
        if let Some(name) = &stage.name {
            workdirs.insert(name.as_str(), end);
        }
    }
    check.found.sort_by_key(|warning| warning.span.line);
    check.found
}

struct Check<'a> {
    file: &'a Dockerfile,
    found: Vec<Warning>,
}

impl<'a> Check<'a> {
    /// Adds a warning about the instruction at line `about`, shown at `span`, unless a comment above turns it off.
    fn warn_at(&mut self, rule: &Rule, detail: String, about: u32, span: Span) {
        if !self.file.skips(about, rule.name) {
            self.found.push(Warning::new(rule, detail, span));
        }
    }

    fn warn(&mut self, rule: &Rule, detail: String, span: Span) {
        self.warn_at(rule, detail, span.line, span);
    }

    /// Instructions that are written in another case than most; ARGs above the first FROM are not looked at.
    fn casing(&mut self, nodes: &[Node]) {
        let lower = nodes.iter().filter(|node| is_lower(&node.command.text)).count();
        let upper = nodes.iter().filter(|node| is_upper(&node.command.text)).count();
        for node in nodes {
            let word = &node.command.text;
            let (right, casing) =
                if lower > upper { (is_lower(word), "lowercase") } else { (is_upper(word), "uppercase") };
            if !right {
                let detail = detail::consistent_instruction_casing(word, casing);
                self.warn(&lint::CONSISTENT_INSTRUCTION_CASING, detail, node.span_of(&node.command.range));
            }
        }
    }

    /// Empty lines in instructions, and comments that describe nothing.
    fn comments(&mut self, node: &Node) {
        if let Some(line) = node.empty_continuation() {
            let detail = detail::no_empty_continuation();
            self.warn_at(&lint::NO_EMPTY_CONTINUATION, detail, node.first(), Span::lines(line, line));
        }
        let (Some(comment), Args::Words(words)) = (node.comments.last(), &node.args) else { return };
        let (instruction, names): (_, Vec<String>) = match (node.command.text.to_ascii_uppercase().as_str(), &words[..])
        {
            ("FROM", [_, _, name]) => ("FROM", vec![name.text.to_lowercase()]),
            ("ARG", args) => {
                let name = |word: &Word| word.text.split('=').next().unwrap_or_default().to_string();
                ("ARG", args.iter().map(name).collect())
            }
            _ => return,
        };
        let described = super::directive::first_word(comment);
        if names.iter().any(|name| name == described) {
            return;
        }
        let example = if let [name] = names.as_slice() { name } else { "<arg_key>" };
        let detail = detail::invalid_definition_description(instruction, example);
        self.warn(&lint::INVALID_DEFINITION_DESCRIPTION, detail, node.span());
    }

    /// A FROM line; `names` are those of the stages before.
    fn stage(&mut self, stage: &'a Stage, node: &Node, names: &mut HashSet<&'a str>) {
        let span = stage.span;
        let from = &node.command.text;
        if let Args::Words(words) = &node.args
            && let [_, keyword, name] = words.as_slice()
        {
            if name.text != name.text.to_lowercase() {
                self.warn(&lint::STAGE_NAME_CASING, detail::stage_name_casing(&name.text), span);
            }
            let keyword = &keyword.text;
            let fits = (is_lower(from) && is_lower(keyword)) || (is_upper(from) && is_upper(keyword));
            if !fits && (is_lower(from) || is_upper(from)) {
                self.warn(&lint::FROM_AS_CASING, detail::from_as_casing(from, keyword), span);
            }
        }
        if let Some(name) = stage.name.as_deref() {
            if matches!(name, "scratch" | "context") {
                self.warn(&lint::RESERVED_STAGE_NAME, detail::reserved_stage_name(name), span);
            }
            if !names.insert(name) {
                self.warn(&lint::DUPLICATE_STAGE_NAME, detail::duplicate_stage_name(name), span);
            }
        }
        if let Some(platform) = stage.platform.as_deref().filter(|platform| is_wrongly_constant(platform, stage)) {
            let detail = detail::from_platform_flag_const_disallowed(platform);
            self.warn(&lint::FROM_PLATFORM_FLAG_CONST_DISALLOWED, detail, span);
        }
    }

    /// The instructions of a stage; `workdir` says whether there was a WORKDIR before, the result whether there is one now.
    fn instructions(&mut self, stage: &'a Stage, nodes: &[Node], mut workdir: bool) -> bool {
        let mut used: BTreeMap<&'static str, Span> = BTreeMap::new();
        for (located, node) in stage.instructions.iter().zip(nodes) {
            let (span, word) = (located.span, &node.command.text);
            let once = match &located.value {
                Instruction::Cmd(_) => Some("CMD"),
                Instruction::Entrypoint(_) => Some("ENTRYPOINT"),
                Instruction::Healthcheck(_) => Some("HEALTHCHECK"),
                _ => None,
            };
            if let Some(earlier) = once.and_then(|name| used.insert(name, span)) {
                // Shown at the one that has no effect.
                let detail = detail::multiple_instructions_disallowed(word);
                self.warn_at(&lint::MULTIPLE_INSTRUCTIONS_DISALLOWED, detail, span.line, earlier);
            }
            self.instruction(located, word, &mut workdir);
        }
        workdir
    }

    fn instruction(&mut self, located: &Located<Instruction>, word: &str, workdir: &mut bool) {
        let span = located.span;
        match &located.value {
            Instruction::Maintainer(_) => {
                self.warn(&lint::MAINTAINER_DEPRECATED, detail::maintainer_deprecated(), span);
            }
            Instruction::Workdir(path) => {
                if !*workdir && !path.contains('$') && !path.trim_start_matches(['"', '\'']).starts_with('/') {
                    self.warn(&lint::WORKDIR_RELATIVE_PATH, detail::workdir_relative_path(path), span);
                }
                *workdir = true;
            }
            Instruction::Env(pairs) | Instruction::Label(pairs) => {
                let env = matches!(located.value, Instruction::Env(_));
                for pair in pairs {
                    if pair.legacy {
                        self.warn(&lint::LEGACY_KEY_VALUE_FORMAT, detail::legacy_key_value_format(word), span);
                    }
                    if env {
                        self.secret("ENV", &pair.key, span);
                    }
                }
            }
            Instruction::Arg(arg) => arg.args.iter().for_each(|arg| self.secret("ARG", &arg.name, span)),
            Instruction::Expose(words) => {
                for (word, exposed) in words.iter().filter_map(|word| Some((word, expose::parse(word).ok()?))) {
                    if exposed.protocol_cased {
                        self.warn(&lint::EXPOSE_PROTO_CASING, detail::expose_proto_casing(word), span);
                    }
                    if exposed.host_side {
                        self.warn(&lint::EXPOSE_INVALID_FORMAT, detail::expose_invalid_format(word), span);
                    }
                }
            }
            _ => {}
        }
    }

    fn secret(&mut self, instruction: &str, name: &str, span: Span) {
        if !name.contains('$') && lint::is_secret_key(name) {
            let detail = detail::secrets_used_in_arg_or_env(instruction, name);
            self.warn(&lint::SECRETS_USED_IN_ARG_OR_ENV, detail, span);
        }
    }
}

fn is_lower(word: &str) -> bool {
    !word.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_upper(word: &str) -> bool {
    !word.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// A platform without a variable, in a stage whose name does not say that it is for that platform.
fn is_wrongly_constant(platform: &str, stage: &Stage) -> bool {
    let name = stage.name.as_deref().unwrap_or_default();
    !platform.contains('$') && !platform.split('/').take(2).any(|part| !part.is_empty() && name.contains(part))
}
