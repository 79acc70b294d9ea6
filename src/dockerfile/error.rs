//! What can be wrong with a Dockerfile's text.

use super::duration::DurationError;
use super::expand::ExpandError;
use super::mount::MountError;
use super::span::Span;

/// An error with its place and, where one is near, the name that was probably meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}", suggestion.as_ref().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default())]
pub struct ParseError {
    /// What is wrong.
    pub kind: Box<ParseErrorKind>,
    /// The words that are wrong.
    pub span: Span,
    /// The nearest name that would be right.
    pub suggestion: Option<String>,
}

impl ParseError {
    pub(super) fn new(kind: ParseErrorKind, span: Span) -> Self {
        ParseError { kind: Box::new(kind), span, suggestion: None }
    }

    pub(super) fn suggest(self, suggestion: Option<String>) -> Self {
        ParseError { suggestion, ..self }
    }
}

/// How many arguments an instruction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// One, no more and no fewer.
    ExactlyOne,
    /// One or more.
    AtLeastOne,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Nothing but comments and empty lines.
    #[error("file with no instructions")]
    Empty,
    /// A physical line over [`super::lines::MAX_LINE`] bytes.
    #[error("line greater than max allowed size of {} bytes", super::lines::MAX_LINE)]
    LineTooLong,
    /// Bytes in an instruction that are not UTF-8.
    #[error("instruction is not valid UTF-8")]
    NotUtf8,
    /// A directive that was given before.
    #[error("only one {name} parser directive can be used")]
    DuplicateDirective {
        /// Its name.
        name: &'static str,
    },
    /// `# escape=` of anything but `\` and `` ` ``.
    #[error("invalid escape token '{value}' does not match ` or \\")]
    InvalidEscape {
        /// Its value.
        value: String,
    },
    /// The file ends before the terminator.
    #[error("unterminated heredoc: no line is exactly \"{name}\"")]
    UnterminatedHeredoc {
        /// The terminator.
        name: String,
    },
    /// A terminator that cannot be read.
    #[error(transparent)]
    HeredocWord(ExpandError),
    /// A JSON array with something else than strings in it.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// `ENV name` or `LABEL name` without a value.
    #[error("{instruction} must have two arguments: write {instruction} {name}=value")]
    NoValue {
        /// ENV or LABEL.
        instruction: &'static str,
        /// The name.
        name: String,
    },
    /// A word among `name=value` pairs that is none.
    #[error("can't find = in {word:?}: it must be of the form name=value (quote a value that has blanks)")]
    NoEquals {
        /// The word.
        word: String,
    },
    /// No such instruction.
    #[error("unknown instruction: {word}")]
    UnknownInstruction {
        /// The first word of the line.
        word: String,
    },
    /// Something other than ARG before the first FROM.
    #[error("no build stage in current context: only ARG may stand before the first FROM")]
    NoStage,
    /// Too few or too many arguments.
    #[error("{instruction} requires {} argument", match arity { Arity::ExactlyOne => "exactly one", Arity::AtLeastOne => "at least one" })]
    Arguments {
        /// The instruction.
        instruction: &'static str,
        /// What it takes.
        arity: Arity,
    },
    /// COPY or ADD with fewer than two arguments.
    #[error("{instruction} requires at least two arguments, sources and then the destination")]
    NoDestination {
        /// COPY or ADD.
        instruction: &'static str,
    },
    /// FROM with anything but `base` or `base AS name`.
    #[error("FROM requires either one or three arguments: FROM base [AS name]")]
    FromArguments,
    /// A stage name that is not allowed.
    #[error("invalid name for build stage: {name:?}, name can't start with a number or contain symbols")]
    StageName {
        /// The name.
        name: String,
    },
    /// `=value`
    #[error("{instruction} names can not be blank")]
    BlankName {
        /// ENV, LABEL or ARG.
        instruction: &'static str,
    },
    /// No such flag.
    #[error("unknown flag: --{name}: {instruction} has none of that name")]
    UnknownFlag {
        /// Its name.
        name: String,
        /// The instruction.
        instruction: &'static str,
    },
    /// A flag that was given before and takes one value.
    #[error("duplicate flag specified: --{name}")]
    DuplicateFlag {
        /// Its name.
        name: String,
    },
    /// A flag without a value.
    #[error("missing a value on flag: --{name}")]
    MissingFlagValue {
        /// Its name.
        name: String,
    },
    /// A switch with a value that is neither `true` nor `false`.
    #[error("expecting boolean value for flag --{name}, not: {value}")]
    NotBoolean {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// SHELL in shell form.
    #[error("SHELL requires the arguments to be in JSON form, such as [\"/bin/bash\", \"-c\"]")]
    ShellNotJson,
    /// VOLUME of an empty path.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// A here-document in the destination's place.
    #[error("{instruction} cannot accept a heredoc as a destination")]
    HeredocDestination {
        /// COPY or ADD.
        instruction: &'static str,
    },
    /// HEALTHCHECK NONE with more behind it.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// HEALTHCHECK with neither NONE nor CMD.
    #[error("unknown type {word:?} in HEALTHCHECK (try CMD)")]
    HealthcheckType {
        /// What stands in its place.
        word: String,
    },
    /// HEALTHCHECK CMD with nothing behind it.
    #[error("missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    /// A duration that cannot be read.
    #[error(transparent)]
    Duration(DurationError),
    /// A duration above zero and below a millisecond, or negative.
    #[error("interval \"{flag}\" cannot be less than 1ms")]
    Interval {
        /// The flag.
        flag: &'static str,
    },
    /// `--retries=` of something that is no number from 0 to 2147483647.
    #[error("--retries must be a number from 0 to 2147483647: {value:?} has invalid syntax or range")]
    Retries {
        /// The value.
        value: String,
    },
    /// ONBUILD ONBUILD.
    #[error("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChained,
    /// ONBUILD FROM, ONBUILD MAINTAINER.
    #[error("{instruction} isn't allowed as an ONBUILD trigger")]
    OnbuildForbidden {
        /// FROM or MAINTAINER.
        instruction: String,
    },
    /// A trigger that is not one instruction.
    #[error("an ONBUILD trigger must be one instruction")]
    TriggerCount,
    /// `--network=` of something else than default, none and host.
    #[error("invalid network mode {value:?}: expected default, none or host")]
    Network {
        /// The value.
        value: String,
    },
    /// `--security=` of something else than sandbox and insecure.
    #[error("security {value:?} is not valid: expected sandbox or insecure")]
    Security {
        /// The value.
        value: String,
    },
    /// `--device=` that cannot be read.
    #[error(transparent)]
    Device(MountError),
    /// `--mount=` that cannot be read before expansion.
    #[error(transparent)]
    Mount(MountError),
}
