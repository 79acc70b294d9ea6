//! Why a Dockerfile cannot be planned.

use super::text::did_you_mean;
use crate::dockerfile::ParseError;
use crate::dockerfile::expand::ExpandError;
use crate::dockerfile::expose::ExposeError;
use crate::dockerfile::git_ref::GitRefError;
use crate::dockerfile::lint::OptionsError;
use crate::dockerfile::mount::MountError;
use crate::dockerfile::span::Span;
use crate::oci::platform::PlatformError;
use crate::oci::reference::ReferenceError;

/// An error of the planner and the lines it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct PlanError {
    /// The instruction; `None` where an option is to blame.
    pub span: Option<Span>,
    /// What is wrong.
    pub kind: Box<PlanErrorKind>,
}

/// What is wrong with a Dockerfile or the options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanErrorKind {
    /// A Dockerfile without FROM.
    #[error("the Dockerfile has no stage to build (it needs a FROM)")]
    NoStages,
    /// `--target` names no stage.
    #[error("target stage \"{name}\" could not be found{}", did_you_mean(.suggestion.as_deref()))]
    TargetNotFound {
        /// `--target`.
        name: String,
        /// The nearest stage name.
        suggestion: Option<String>,
    },
    /// FROM expands to nothing.
    #[error("base name ({0}) should not be blank")]
    EmptyBase(String),
    /// FROM's base is no reference.
    #[error("failed to parse stage name \"{name}\": {reason}{}", did_you_mean(.suggestion.as_deref()))]
    BadReference {
        /// The text after expansion.
        name: String,
        /// Why.
        reason: ReferenceError,
        /// A stage of nearly that name.
        suggestion: Option<String>,
    },
    /// `--platform` expands to nothing.
    #[error("empty platform value from expression {expression}{}", did_you_mean(.suggestion.as_deref()))]
    EmptyPlatform {
        /// The text before expansion.
        expression: String,
        /// A variable of nearly that name.
        suggestion: Option<String>,
    },
    /// `--platform` is no platform.
    #[error("failed to parse platform {expression}: {reason}{}", did_you_mean(.suggestion.as_deref()))]
    BadPlatform {
        /// The text before expansion.
        expression: String,
        /// Why.
        reason: PlatformError,
        /// A variable of nearly that name.
        suggestion: Option<String>,
    },
    /// `# check=` cannot be read.
    #[error(transparent)]
    Check(OptionsError),
    /// `BUILDKIT_DOCKERFILE_CHECK` cannot be read.
    #[error("build argument BUILDKIT_DOCKERFILE_CHECK: {0}")]
    CheckArgument(OptionsError),
    /// A word that cannot be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// `--from=$X`
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    VariableInFrom,
    /// `COPY --from=7` with fewer stages.
    #[error("invalid stage index {index} (the Dockerfile has {stages} stage{}, counted from 0)", if *stages == 1 { "" } else { "s" })]
    StageIndex {
        /// The number as written.
        index: String,
        /// How many there are.
        stages: usize,
    },
    /// Stages that need one another.
    #[error("circular dependency detected on stage: {0}")]
    Circular(String),
    /// A stage further down is needed.
    #[error("cannot copy from stage \"{from}\", it needs to be defined before current stage \"{stage}\"")]
    LaterStage {
        /// What `--from` or `from=` names.
        from: String,
        /// The stage it stands in.
        stage: String,
    },
    /// An ONBUILD trigger that is no instruction.
    #[error("invalid ONBUILD trigger \"{trigger}\": {reason}")]
    Trigger {
        /// The trigger's text.
        trigger: String,
        /// Why.
        reason: Box<ParseError>,
    },
    /// `finish` was called too early.
    #[error("image {0} was not resolved")]
    Unresolved(String),
    /// `SOURCE_DATE_EPOCH` is no number.
    #[error("invalid SOURCE_DATE_EPOCH: {0}")]
    SourceDateEpoch(String),
    /// `SOURCE_DATE_EPOCH` names a stage that is more than `FROM scratch` and an ADD.
    #[error("SOURCE_DATE_EPOCH={stage}: the stage does not only hold a source: unsupported {instruction} instruction")]
    SourceDateEpochInstruction {
        /// The stage.
        stage: String,
        /// What it should not hold.
        instruction: String,
    },
    /// `SOURCE_DATE_EPOCH` names a stage that holds no source, or more than one.
    #[error("SOURCE_DATE_EPOCH={stage}: the stage must {must}")]
    SourceDateEpochStage {
        /// The stage.
        stage: String,
        /// What it does not do.
        must: &'static str,
    },
    /// `--mount=`
    #[error(transparent)]
    Mount(#[from] MountError),
    /// `--mount=` on the root, or without a target.
    #[error("invalid mount target \"{0}\"")]
    MountTarget(String),
    /// EXPOSE
    #[error("{0}{hint}", hint = port_hint(.0))]
    Port(#[from] ExposeError),
    /// STOPSIGNAL
    #[error("invalid signal: {name}{}", did_you_mean(.suggestion.as_deref()))]
    Signal {
        /// The signal.
        name: String,
        /// The nearest signal.
        suggestion: Option<String>,
    },
    /// `# syntax=` or `BUILDKIT_SYNTAX` asks for a front end that is none of Docker's own.
    #[error("the front end {0} cannot be run: docker/dockerfile is built in, others are programs in images")]
    FrontEnd(String),
    /// VOLUME with an empty path.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `--chmod=`
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777, or symbolic")]
    Chmod(String),
    /// `--network=`
    #[error("unsupported network mode \"{name}\"{}", did_you_mean(.suggestion.as_deref()))]
    Network {
        /// The value.
        name: String,
        /// The nearest mode.
        suggestion: Option<String>,
    },
    /// `--security=`
    #[error("security \"{name}\" is not valid{}", did_you_mean(.suggestion.as_deref()))]
    Security {
        /// The value.
        name: String,
        /// The nearest mode.
        suggestion: Option<String>,
    },
    /// A URL in COPY.
    #[error("source can't be a URL for COPY: {0}")]
    UrlInCopy(String),
    /// A git repository in COPY.
    #[error("source can't be a git ref for COPY: {0}")]
    GitInCopy(String),
    /// A git repository whose address cannot be read.
    #[error("{address}: {reason}")]
    Git {
        /// The source.
        address: String,
        /// Why.
        reason: GitRefError,
    },
    /// `--keep-git-dir` says one thing, the address another.
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDir,
    /// `--checksum` says one thing, the address another.
    #[error("checksum mismatch {flag:?} != {address:?}")]
    ChecksumConflict {
        /// `--checksum`
        flag: String,
        /// `checksum=` in the address.
        address: String,
    },
    /// `--checksum` with several sources.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumOfMany,
    /// `--checksum` of a local file.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumOfPath,
    /// `--checksum` without a colon, or with anything but hexadecimal digits behind it.
    #[error("invalid checksum digest format: {0}")]
    ChecksumFormat(String),
    /// `--checksum` of another kind.
    #[error("unsupported digest algorithm: {0}")]
    ChecksumAlgorithm(String),
}

fn port_hint(error: &ExposeError) -> &'static str {
    match error {
        ExposeError::Protocol { .. } => " (expected tcp, udp or sctp)",
        _ => "",
    }
}

impl PlanErrorKind {
    /// The error, about `span`.
    pub(super) fn at(self, span: Span) -> PlanError {
        PlanError { span: Some(span), kind: Box::new(self) }
    }
}
