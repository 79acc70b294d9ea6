//! Typed instructions: what the parser gives and everything above it works on.
//!
//! A value keeps its source [`Span`] for life, so that an error found minutes later in a RUN step can still draw the
//! Dockerfile's line. Words that are subject to expansion are kept unexpanded, quotes and escapes included; `plan`
//! expands them. Field names follow the Dockerfile reference.

use std::collections::BTreeMap;

use super::lint::{Options, Warning};
use super::span::Span;

/// A parsed Dockerfile: directives, global arguments and stages in source order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// `# syntax=`, `# escape=`, `# check=` at the top of the file.
    pub directives: Directives,
    /// ARG instructions before the first FROM (the global scope).
    pub global_args: Vec<Located<ArgInstruction>>,
    /// Stages in source order; never empty in a Dockerfile that parsed.
    pub stages: Vec<Stage>,
    /// What `# check=…` comments directly above instructions say, by the instruction's first line.
    pub lint_options: BTreeMap<u32, Options>,
    /// Warnings that the text alone shows, by line, those left out that a comment above turns off; which of the rest
    /// are wanted is for `# check=` and the caller to say.
    pub warnings: Vec<Warning>,
}

impl Dockerfile {
    /// Whether a comment above the instruction at `line` turns `rule` off for it.
    pub fn skips(&self, line: u32, rule: &str) -> bool {
        self.lint_options.get(&line).is_some_and(|options| options.skip.has(rule))
    }
}

/// Parser directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// Value of `# syntax=` up to the first blank.
    pub syntax: Option<(String, Span)>,
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// Value of `# check=`.
    pub check: Option<(String, Span)>,
}

/// A value with the source it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands in the file (the whole logical line, heredoc bodies included).
    pub span: Span,
    /// The logical line as written after joining continuations, comments removed (history and errors use it).
    pub original: String,
}

/// One `FROM` and the instructions below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// FROM's base word, unexpanded.
    pub base: String,
    /// Span of the base word alone.
    pub base_span: Span,
    /// `AS name`, lower-cased.
    pub name: Option<String>,
    /// `AS name` as written.
    pub name_as_written: Option<String>,
    /// `--platform=`, unexpanded.
    pub platform: Option<String>,
    /// Description from a doc comment directly above FROM.
    pub doc_comment: Option<String>,
    /// FROM's logical line.
    pub span: Span,
    /// FROM's logical line as written.
    pub original: String,
    /// The instructions of the stage.
    pub instructions: Vec<Located<Instruction>>,
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`
    Add(AddInstruction),
    /// `ARG`
    Arg(ArgInstruction),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(CopyInstruction),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<KeyValue>),
    /// `EXPOSE`, words unexpanded and unsplit
    Expose(Vec<String>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Vec<KeyValue>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`: the trigger's raw text, heredocs included
    Onbuild(String),
    /// `RUN`
    Run(RunInstruction),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    Stopsignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

/// `name=value`, or the legacy `name value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The name, unexpanded.
    pub key: String,
    /// The value, unexpanded.
    pub value: String,
    /// Written in the legacy form without `=`.
    pub legacy: bool,
}

/// `ARG name[=default] …`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgInstruction {
    /// Each argument in source order.
    pub args: Vec<ArgDefinition>,
}

/// One argument of an ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name, unexpanded.
    pub name: String,
    /// The default, unexpanded; `None` where there is no `=`.
    pub default: Option<String>,
    /// Description from a doc comment directly above.
    pub doc_comment: Option<String>,
}

/// Shell form or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// The text that SHELL runs, with leading blanks trimmed.
    Shell(String),
    /// The JSON array's strings; empty for `[]`.
    Exec(Vec<String>),
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator's word, which is also the file's name in COPY and ADD.
    pub name: String,
    /// The file descriptor before `<<`, 0 when absent.
    pub fd: u32,
    /// False when any part of the word was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are stripped (already done in `body` for COPY/ADD and for a RUN that is one heredoc).
    pub strip_tabs: bool,
    /// The body, byte-exact (but for `strip_tabs`), each line with its `\n`.
    pub body: String,
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    /// What to run. For a RUN whose whole argument is one heredoc this is its `<<WORD` text; see `heredocs`.
    pub command: CommandLine,
    /// Bodies in order of appearance.
    pub heredocs: Vec<Heredoc>,
    /// `--mount=`, raw CSV values in order; `plan` types them after expansion.
    pub mounts: Vec<String>,
    /// `--network=`
    pub network: Option<String>,
    /// `--security=`
    pub security: Option<String>,
    /// `--device=`
    pub devices: Vec<String>,
}

/// `COPY`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInstruction {
    /// Sources and destination.
    pub paths: SourcesAndDest,
    /// `--from=`
    pub from: Option<String>,
    /// `--chown=`, unexpanded
    pub chown: Option<String>,
    /// `--chmod=`, unexpanded
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude=`
    pub exclude: Vec<String>,
}

/// `ADD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddInstruction {
    /// Sources and destination.
    pub paths: SourcesAndDest,
    /// `--chown=`, unexpanded
    pub chown: Option<String>,
    /// `--chmod=`, unexpanded
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--exclude=`
    pub exclude: Vec<String>,
    /// `--checksum=`, unexpanded
    pub checksum: Option<String>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<bool>,
    /// `--unpack`
    pub unpack: Option<bool>,
}

/// The words of COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcesAndDest {
    /// Source words, unexpanded, heredocs left out.
    pub sources: Vec<String>,
    /// Heredoc sources, copied after `sources`.
    pub heredocs: Vec<Heredoc>,
    /// The destination, unexpanded.
    pub dest: String,
}

/// `HEALTHCHECK`; durations in nanoseconds, 0 = not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [flags] CMD …`
    Cmd {
        /// The probe.
        command: CommandLine,
        /// `--interval`
        interval: i64,
        /// `--timeout`
        timeout: i64,
        /// `--start-period`
        start_period: i64,
        /// `--start-interval`
        start_interval: i64,
        /// `--retries`
        retries: i64,
    },
}
