//! `dockless build`: the flags of `docker build` to a [`BuildJob`].

mod annotation;
mod caching;
mod places;
mod steps;
mod tools;

pub use tools::{DigestFile, DigestForm, ToolOptions};

use super::cache::Limits;
use super::check::{Form, Question};
use super::environment::Environment;
use super::foreign::{Foreign, OfBuild};
use super::isolation::isolation;
use super::network::NetworkArgs;
use super::output::{self, Destination, Output, OutputKind};
use super::{Outcome, usage};
use crate::build::{AnnotatedPlace, Annotation, BuildOptions, ExportEpoch};
use crate::oci::{ImageFormat, Platform, Reference};
use crate::sandbox::Isolation;
use crate::ui::Choice;
use caching::CachingArgs;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;
use steps::StepArgs;
pub use steps::size;
use tools::ToolArgs;

/// Build an image from a Dockerfile
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct BuildArgs {
    /// Name the image; may be given several times
    #[arg(short, long = "tag", value_name = "REF")]
    tag: Vec<String>,
    /// The Dockerfile; '-' reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Set an ARG of the Dockerfile; without a value, from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Add a label to the image
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Build this stage and what it needs
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Build for these platforms; several make an index [default: the host's]
    #[arg(long, value_name = "OS/ARCH,…")]
    platform: Vec<String>,
    /// Push the image under all of its names; prints its digest
    #[arg(long)]
    push: bool,
    /// Do not prove before the first command that the push will be let in
    #[arg(long)]
    no_preflight: bool,
    /// Keep the image in the local store, which is always done
    #[arg(long)]
    load: bool,
    /// Write the image out: type=oci|docker|local|tar,dest=PATH ('-' is standard output)
    #[arg(short, long, value_name = "SPEC")]
    output: Vec<String>,
    /// Media types of the image: oci or docker [default: oci]; for a check: text, json or sarif
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Check the Dockerfile and build nothing; the same as --call=check
    #[arg(long)]
    check: bool,
    /// What to do: build, check (warnings), outline (what the build takes) or targets (the stages); with ',format=json'
    /// as JSON
    #[arg(long, value_name = "METHOD")]
    call: Option<String>,
    /// Say of each step that is not in the cache what differs; logs say it always
    #[arg(long)]
    pub(super) explain: bool,
    /// Take no step from the cache
    #[arg(long)]
    no_cache: bool,
    /// Ask the registry for bases that the local store has
    #[arg(long)]
    pull: bool,
    /// How progress is shown, on standard error: auto, plain, tty, rawjson or quiet [default: auto]
    #[arg(long, value_name = "MODE")]
    progress: Option<String>,
    /// Show nothing but failures; print the image's ID
    #[arg(short, long)]
    quiet: bool,
    /// Write the image's ID to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Network of RUN steps: default, none or host
    #[arg(long, value_name = "MODE")]
    network: Option<String>,
    /// Add a line to /etc/hosts of RUN steps
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// What COPY --from=NAME and FROM NAME read: a directory, docker-image://REF, oci-layout://DIR[:TAG], a URL or a git
    /// repository
    #[arg(long, value_name = "NAME=PLACE")]
    build_context: Vec<String>,
    /// Set the times of all files in the layers to at most SOURCE_DATE_EPOCH
    #[arg(long)]
    rewrite_timestamp: bool,
    /// How RUN steps are isolated: auto, namespaces or chroot; also $DOCKLESS_ISOLATION
    #[arg(long, value_name = "TIER")]
    isolation: Option<String>,
    /// Take no step of this stage from the cache
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Add an annotation to the image's manifest, or to the index or its entries
    #[arg(long, value_name = "[PLACE:]NAME=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    pub network_args: NetworkArgs,
    #[command(flatten)]
    caching: CachingArgs,
    #[command(flatten)]
    steps: StepArgs,
    #[command(flatten)]
    tools: ToolArgs,
    #[command(flatten)]
    foreign: Foreign<OfBuild>,
    /// What COPY and ADD read: a directory, '-' (a tar or a Dockerfile on standard input), a URL or a git repository
    #[arg(value_name = "CONTEXT")]
    context: OsString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Oci,
    Docker,
    Text,
    Json,
    Sarif,
}

/// A build and what is done with its result.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildJob {
    /// What to build.
    pub options: BuildOptions,
    /// Push under every name.
    pub push: bool,
    /// Prove before the first command that the push will be let in.
    pub preflight: bool,
    /// Print the image's ID.
    pub quiet: bool,
    /// Written when the image is in the store.
    pub outputs: Vec<Output>,
    /// Where the image's ID goes.
    pub iidfile: Option<PathBuf>,
    /// What is done for other tools.
    pub tools: ToolOptions,
    /// Where the description of the result goes.
    pub metadata_file: Option<PathBuf>,
    /// What the local store keeps.
    pub limits: Limits,
}

impl BuildArgs {
    /// The wanted progress: `--progress`, else `BUILDKIT_PROGRESS`; `--quiet` above both.
    pub fn progress(&self, environment: &Environment) -> Outcome<Choice> {
        let (name, origin) = match &self.progress {
            Some(name) => (name.as_str(), "--progress"),
            None => (environment.text("BUILDKIT_PROGRESS").unwrap_or_default(), "BUILDKIT_PROGRESS"),
        };
        Ok(match name {
            _ if self.quiet => Choice::Quiet,
            "" | "auto" => Choice::Auto,
            "plain" => Choice::Plain,
            "tty" => Choice::Tty,
            "rawjson" => Choice::RawJson,
            "quiet" | "none" => Choice::Quiet,
            _ => return Err(usage(format!("{origin}={name}: expected auto, plain, tty, rawjson or quiet"))),
        })
    }

    /// Which tiers may be taken.
    pub fn isolation(&self, environment: &Environment) -> Outcome<Isolation> {
        isolation(self.isolation.as_deref(), environment)
    }

    /// The question about the Dockerfile, where `--check` or `--call` asks one instead of building.
    pub fn question(&self) -> Outcome<Option<Question>> {
        let form = match self.format {
            Some(Format::Text) => Some(Form::Text),
            Some(Format::Json) => Some(Form::Json),
            Some(Format::Sarif) => Some(Form::Sarif),
            Some(Format::Oci | Format::Docker) | None => None,
        };
        let called = self.call.as_deref().map(Question::parse).transpose()?.flatten();
        match (self.check, called, form) {
            (true, None, form) => Ok(Some(Question::check(form))),
            (_, Some(question), Some(form)) => question.in_form(form).map(Some),
            (_, Some(question), None) => Ok(Some(question)),
            (false, None, None) => Ok(None),
            (false, None, Some(_)) => {
                Err(usage("--format=text, json and sarif are forms of --check: an image is oci or docker"))
            }
        }
    }

    /// The job, and warnings about flags that are ignored. Reads standard input where `-f -` asks for it.
    pub fn job(self, environment: &Environment) -> Outcome<(BuildJob, Vec<String>)> {
        let mut warnings = self.foreign.judge().map_err(usage)?;
        let (mut push, mut outputs, mut names) = (self.push, Vec::new(), self.tag.clone());
        let (mut insecure, mut texts) = (false, self.annotation.clone());
        let (mut rewrite_timestamp, mut export_epoch) = (self.rewrite_timestamp, ExportEpoch::AsBuilt);
        let mut format = match self.format {
            Some(Format::Docker) => ImageFormat::Docker,
            _ => ImageFormat::Oci,
        };
        for text in &self.output {
            let request = output::parse(text, environment).map_err(|error| usage(error.to_string()))?;
            push |= request.push;
            rewrite_timestamp |= request.rewrite_timestamp;
            export_epoch = request.export_epoch.unwrap_or(export_epoch);
            format = request.format.unwrap_or(format);
            names.extend(request.names);
            outputs.extend(request.output);
            insecure |= request.insecure;
            texts.extend(request.annotations);
        }
        let tags = names.iter().map(|name| reference(name)).collect::<Outcome<Vec<_>>>()?;
        if push && tags.is_empty() {
            return Err(usage("--push needs a name to push to: -t REGISTRY/REPOSITORY:TAG"));
        }
        if outputs.iter().filter(|output| output.dest == Destination::Stdout).count() > 1 {
            return Err(usage("only one --output can write to standard output"));
        }
        let context = places::context(&self.context, environment)?;
        let mut build_args =
            self.build_arg.iter().map(|arg| build_arg(arg, environment)).collect::<Outcome<Vec<_>>>()?;
        build_args.extend(steps::proxies(environment, &build_args));
        let (steps, more) = self.steps.options(self.network.as_deref(), environment)?;
        warnings.extend(more);
        let annotations = texts.iter().map(|text| annotation::annotations(text));
        let annotations: Vec<_> = annotations.collect::<Outcome<Vec<_>>>()?.into_iter().flatten().collect();
        if !annotations.is_empty() && format == ImageFormat::Docker {
            return Err(usage("--annotation needs --format=oci: Docker's manifests have no annotations"));
        }
        let source_date_epoch = source_date_epoch(&build_args, environment)?;
        let platforms = platforms(&self.platform, environment)?;
        check_several(&platforms, &outputs, &annotations)?;
        let (caching, more) = self.caching.caching(&tags, environment)?;
        warnings.extend(more);
        let options = BuildOptions {
            dockerfile: places::dockerfile(self.file.as_deref(), &context, environment)?,
            tags,
            target: self.target,
            build_args,
            labels: self.label.iter().map(|label| split_label(label)).collect(),
            platforms,
            build_contexts: places::named_contexts(&self.build_context, environment)?,
            no_cache: self.no_cache,
            no_cache_stages: self.no_cache_filter,
            caching,
            pull: self.pull,
            ssh: places::ssh(&steps, &context, &self.build_context, environment),
            steps,
            annotations,
            network: network(self.network)?,
            add_hosts: self.add_host.iter().map(|host| add_host(host)).collect::<Outcome<Vec<_>>>()?,
            format,
            source_date_epoch,
            rewrite_timestamp,
            export_epoch,
            context,
            context_subdir: self.tools.subdir()?,
        };
        let iidfile = self.iidfile.map(|path| environment.absolute(path));
        let metadata_file = self.metadata_file.map(|path| environment.absolute(path));
        let (preflight, tools) = (!self.no_preflight, self.tools.options(insecure, environment));
        let (quiet, limits) = (self.quiet, Limits::read(environment)?);
        Ok((BuildJob { options, push, preflight, quiet, outputs, iidfile, tools, metadata_file, limits }, warnings))
    }
}

fn reference(text: &str) -> Outcome<Reference> {
    let reference: Reference = text.parse().map_err(|error| usage(format!("-t {text}: {error}")))?;
    if reference.digest().is_some() {
        return Err(usage(format!("-t {text}: a digest comes from the content, it cannot be chosen")));
    }
    Ok(reference)
}

fn build_arg(text: &str, environment: &Environment) -> Outcome<(String, Option<String>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_string())),
        None => (text, environment.text(text).map(str::to_string)),
    };
    if name.is_empty() {
        return Err(usage(format!("--build-arg '{text}' has no name: expected NAME=VALUE or NAME")));
    }
    Ok((name.to_string(), value))
}

fn split_label(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_string(), value.to_string())
}

/// `SOURCE_DATE_EPOCH`: the build-arg, else the environment (reproducible-builds.org/specs/source-date-epoch). A build-arg
/// may also be a name, such as `context`, which the planner looks at.
fn source_date_epoch(args: &[(String, Option<String>)], environment: &Environment) -> Outcome<Option<i64>> {
    let arg = epoch_arg(args);
    let text = arg.or(environment.text("SOURCE_DATE_EPOCH")).filter(|text| !text.is_empty());
    let Some(text) = text else { return Ok(None) };
    match text.parse() {
        Ok(seconds) if seconds >= 0 => Ok(Some(seconds)),
        Err(_) if arg.is_some() => Ok(None),
        _ => Err(usage(format!("SOURCE_DATE_EPOCH={text}: expected seconds since 1970"))),
    }
}

fn epoch_arg(args: &[(String, Option<String>)]) -> Option<&str> {
    args.iter().rev().find(|(name, _)| name == "SOURCE_DATE_EPOCH").and_then(|(_, value)| value.as_deref())
}

/// `--platform`, each a comma-separated list, else `DOCKER_DEFAULT_PLATFORM`; no platform twice.
pub(super) fn platforms(texts: &[String], environment: &Environment) -> Outcome<Vec<Platform>> {
    let default = environment.text("DOCKER_DEFAULT_PLATFORM").filter(|_| texts.is_empty());
    let words = texts.iter().map(String::as_str).chain(default).flat_map(|text| text.split(','));
    let mut platforms: Vec<Platform> = Vec::new();
    for text in words.map(str::trim).filter(|text| !text.is_empty()) {
        let platform = match text {
            // Docker's word for the machine's own.
            "local" => Platform::host(),
            _ => text.parse().map_err(|error| usage(format!("--platform={text}: {error}")))?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// Holds that what is asked for is there: an archive for `docker load` has one platform, an index has several.
fn check_several(platforms: &[Platform], outputs: &[Output], annotations: &[Annotation]) -> Outcome<()> {
    let several = platforms.len() > 1;
    if several && outputs.iter().any(|output| output.kind == OutputKind::Docker) {
        return Err(usage("--output type=docker holds one platform: type=oci holds several"));
    }
    let index = |one: &&Annotation| one.place != AnnotatedPlace::Manifest;
    match annotations.iter().find(index) {
        Some(one) if !several => {
            Err(usage(format!("--annotation {}: an image of one platform has no index", one.name)))
        }
        _ => Ok(()),
    }
}

pub(super) use steps::{shm_size, ulimit};

pub(super) fn network(mode: Option<String>) -> Outcome<Option<String>> {
    match mode.as_deref() {
        None | Some("default" | "none" | "host") => Ok(mode),
        Some(other) => Err(usage(format!("--network={other} is not supported: expected default, none or host"))),
    }
}

/// `name:ip` or `name=ip`, an IPv6 address in brackets or not.
pub(super) fn add_host(text: &str) -> Outcome<(String, String)> {
    let wrong = || usage(format!("--add-host '{text}': expected NAME:IP"));
    let (name, ip) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if ip == "host-gateway" {
        return Err(usage(format!(
            "--add-host '{text}': RUN steps share the host's network, which has no gateway name"
        )));
    }
    let address: std::net::IpAddr = ip.parse().map_err(|_| wrong())?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(wrong());
    }
    Ok((name.to_string(), address.to_string()))
}

#[cfg(test)]
mod tests;
