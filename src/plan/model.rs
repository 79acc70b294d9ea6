//! The plan: stages in dependency order, each a list of steps and the config it ends with.

use super::mount::Mount;
use crate::dockerfile::lint::Warning;
use crate::dockerfile::span::Span;
use crate::oci::{Digest, History, ImageConfig, Platform, Reference};

/// What is to be built, and in which order.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildPlan {
    /// The stages that the target needs, each after those it needs.
    pub stages: Vec<PlannedStage>,
    /// The stages that become the image: one a platform, in the order in which the platforms were asked for.
    pub targets: Vec<StageIndex>,
    /// The global ARGs and their values.
    pub global_args: Vec<(String, Option<String>)>,
    /// What the planner has to say; the parser's own warnings are in the `Dockerfile`.
    pub warnings: Vec<Warning>,
}

impl BuildPlan {
    /// The stage that becomes the image; of several platforms the first one's.
    pub fn target_stage(&self) -> &PlannedStage {
        &self.stages[self.targets[0].0]
    }
}

/// Place of a stage in [`BuildPlan::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageIndex(pub usize);

/// A stage with everything expanded and folded.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStage {
    /// `AS name`, lower-cased.
    pub name: Option<String>,
    /// Zero-based place of its FROM in the Dockerfile.
    pub file_index: usize,
    /// What progress calls the stage: its name, `stage-N`, or nothing when the file has one unnamed stage.
    pub label: String,
    /// FROM's lines.
    pub span: Span,
    /// What the stage starts from.
    pub base: Base,
    /// What its steps run on and its config says.
    pub platform: Platform,
    /// Steps in order, fired ONBUILD triggers included.
    pub steps: Vec<Step>,
    /// Arguments that are declared at its end, each once, those of the stages it is made from first.
    pub args: Vec<(String, Option<String>)>,
    /// How many numbers progress counts in this stage (a base image counts one, metadata steps none).
    pub total: usize,
    /// The stage's final config: `config` complete, `history` the base's entries and then one a step, the steps' without
    /// times. `rootfs` and `created` are left for the builder: `rootfs` still holds the base image's layers.
    pub config: ImageConfig,
}

impl PlannedStage {
    /// `[build 2/5] RUN make`: the step as progress shows it.
    pub fn describe(&self, step: &Step) -> String {
        match step.number {
            Some(number) => format!("{} {}", self.count(number), step.text),
            None => step.text.clone(),
        }
    }

    /// `[build 1/5] FROM docker.io/library/debian:13@sha256:…`: the base as progress shows it; `None` unless the base is
    /// an image.
    pub fn describe_base(&self) -> Option<String> {
        match &self.base {
            Base::Image(image) => Some(format!("{} FROM {}", self.count(1), image.pinned())),
            _ => None,
        }
    }

    /// `[build  2/15]`
    fn count(&self, number: usize) -> String {
        let total = self.total.to_string();
        let label = if self.label.is_empty() { String::new() } else { format!("{} ", self.label) };
        format!("[{label}{number:>width$}/{total}]", width = total.len())
    }
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// `FROM scratch`
    Scratch,
    /// `FROM stage`
    Stage(StageIndex),
    /// `FROM image`, or an image that a named context put in its place.
    Image(Box<PlannedImage>),
    /// A named context that is a tree of files.
    Context(String),
}

/// An image that the caller resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedImage {
    /// Where it comes from.
    pub source: ImageSource,
    /// Digest of the manifest for `platform`.
    pub digest: Digest,
    /// The platform it was asked for.
    pub platform: Platform,
}

impl PlannedImage {
    /// The reference with the digest that it was resolved to.
    pub fn pinned(&self) -> String {
        match &self.source {
            ImageSource::Registry(reference) if reference.digest().is_none() => format!("{reference}@{}", self.digest),
            ImageSource::Registry(reference) => reference.to_string(),
            ImageSource::Context(name) => format!("{name}@{}", self.digest),
        }
    }
}

/// Where an image is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageSource {
    /// By reference, from the store or a registry.
    Registry(Reference),
    /// The named context of this name, which is an OCI layout.
    Context(String),
}

/// One instruction to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The instruction's lines; for a fired ONBUILD trigger of a base image, FROM's.
    pub span: Span,
    /// Number that progress counts; `None` for metadata.
    pub number: Option<usize>,
    /// The instruction with variables expanded, for people.
    pub text: String,
    /// Its entry in the image's history; `created` left out. `empty_layer` is false exactly where the step makes a layer.
    pub history: History,
    /// What to do.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// RUN
    Run(Box<RunStep>),
    /// COPY and ADD
    Copy(Box<CopyStep>),
    /// WORKDIR: makes the directory. `WORKDIR /` is [`StepKind::Metadata`].
    Workdir(WorkdirStep),
    /// Changes the config alone, which is folded already.
    Metadata,
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// The command after SHELL was put before a shell form.
    pub args: Vec<String>,
    /// A heredoc whose body starts with `#!`: a file to be written before the command, which is its path.
    pub script: Option<Script>,
    /// The config's ENV, then arguments in scope, without `proxy_env`.
    pub env: Vec<(String, String)>,
    /// Proxy variables given as build arguments; visible to the command, never part of the cache key.
    pub proxy_env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// USER as it stands in the config; empty is root.
    pub user: String,
    /// `--mount=`, in order.
    pub mounts: Vec<Mount>,
    /// `--network=`; `None` leaves it to the build's option.
    pub network: Option<Network>,
    /// `--security=insecure`
    pub insecure: bool,
    /// `--device=`, as written.
    pub devices: Vec<String>,
    /// Arguments declared so far and their values, used or not (part of the cache key); also in `env` where they have a
    /// value.
    pub declared_args: Vec<(String, Option<String>)>,
}

/// A heredoc that is a script of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// `/dev/pipes/WORD`; visible to this step alone, mode 0755, read-only.
    pub path: String,
    /// The body.
    pub content: String,
}

/// `--network=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// `default`
    Default,
    /// `none`
    None,
    /// `host`
    Host,
}

/// COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStep {
    /// The tree that path sources are read from.
    pub from: TreeSource,
    /// Sources in order, expanded.
    pub sources: Vec<CopySource>,
    /// Heredocs, written after `sources`.
    pub heredocs: Vec<InlineFile>,
    /// Absolute, joined to WORKDIR but not cleaned at its end: a trailing `/` says that it is a directory.
    pub dest: String,
    /// `--chown=`, expanded.
    pub chown: Option<String>,
    /// `--chmod=`, expanded and valid: octal up to 07777, or symbolic.
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude=`, as written.
    pub exclude: Vec<String>,
    /// ADD's own options; `None` for COPY.
    pub add: Option<AddOptions>,
}

/// What only ADD has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddOptions {
    /// `--unpack`; `None`: archives of the context are unpacked, downloads are not.
    pub unpack: Option<bool>,
    /// `--checksum=`, expanded and valid: `sha256:…`, `sha384:…` or `sha512:…` for a URL, a commit for git.
    pub checksum: Option<String>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<bool>,
}

/// One source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path or wildcard below the root of [`CopyStep::from`], as expanded.
    Path(String),
    /// `http://` or `https://`
    Url(String),
    /// A git repository.
    Git(String),
}

/// A heredoc of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// The file's name.
    pub name: String,
    /// The body, expanded where the heredoc's word was not quoted.
    pub content: String,
}

/// A tree that COPY, ADD or a mount reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeSource {
    /// The build context, its ignore file applied.
    Context,
    /// A stage's result.
    Stage(StageIndex),
    /// An image.
    Image(Box<PlannedImage>),
    /// A named context that is a tree of files.
    NamedContext(String),
    /// The empty tree (`--from=scratch`).
    Scratch,
}

/// WORKDIR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkdirStep {
    /// Absolute and clean.
    pub path: String,
    /// USER at that time, who owns what is made; empty is root.
    pub user: String,
}
