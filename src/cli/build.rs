//! `dockless build`: the flags of `docker build` to a [`BuildJob`].

mod steps;

use super::check::{Form, Question};
use super::environment::Environment;
use super::foreign::{Foreign, OfBuild};
use super::isolation::isolation;
use super::output::{self, Destination, Output};
use super::{Outcome, usage};
use crate::build::{BuildOptions, ContextSource, DockerfileSource, NamedSource, RemoteUrl};
use crate::dockerfile::git_ref;
use crate::dockerfile::redact::redact;
use crate::oci::{ImageFormat, Platform, Reference};
use crate::sandbox::Isolation;
use crate::ui::{Choice, Diagnostic, Kind};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use steps::StepArgs;

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
    /// Build for this platform [default: the host's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Push the image under all of its names; prints its digest
    #[arg(long)]
    push: bool,
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
    /// Add an annotation to the image's manifest
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    steps: StepArgs,
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
    /// Print the image's ID.
    pub quiet: bool,
    /// Written when the image is in the store.
    pub outputs: Vec<Output>,
    /// Where the image's ID goes.
    pub iidfile: Option<PathBuf>,
    /// Where the description of the result goes.
    pub metadata_file: Option<PathBuf>,
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
        let mut rewrite_timestamp = self.rewrite_timestamp;
        let mut format = match self.format {
            Some(Format::Docker) => ImageFormat::Docker,
            _ => ImageFormat::Oci,
        };
        for text in &self.output {
            let request = output::parse(text, environment).map_err(|error| usage(error.to_string()))?;
            push |= request.push;
            rewrite_timestamp |= request.rewrite_timestamp;
            format = request.format.unwrap_or(format);
            names.extend(request.names);
            outputs.extend(request.output);
        }
        let tags = names.iter().map(|name| reference(name)).collect::<Outcome<Vec<_>>>()?;
        if push && tags.is_empty() {
            return Err(usage("--push needs a name to push to: -t REGISTRY/REPOSITORY:TAG"));
        }
        if outputs.iter().filter(|output| output.dest == Destination::Stdout).count() > 1 {
            return Err(usage("only one --output can write to standard output"));
        }
        let context = context(&self.context, environment)?;
        let mut build_args =
            self.build_arg.iter().map(|arg| build_arg(arg, environment)).collect::<Outcome<Vec<_>>>()?;
        build_args.extend(steps::proxies(environment, &build_args));
        let (steps, more) = self.steps.options(self.network.as_deref(), environment)?;
        warnings.extend(more);
        let annotations = self.annotation.iter().map(|text| steps::annotation(text)).collect::<Outcome<Vec<_>>>()?;
        if !annotations.is_empty() && format == ImageFormat::Docker {
            return Err(usage("--annotation needs --format=oci: Docker's manifests have no annotations"));
        }
        let source_date_epoch = source_date_epoch(&build_args, environment)?;
        if rewrite_timestamp && source_date_epoch.is_none() && epoch_arg(&build_args).is_none() {
            return Err(usage("--rewrite-timestamp needs SOURCE_DATE_EPOCH in the environment"));
        }
        let options = BuildOptions {
            dockerfile: dockerfile(self.file.as_deref(), &context, environment)?,
            tags,
            target: self.target,
            build_args,
            labels: self.label.iter().map(|label| split_label(label)).collect(),
            platform: platform(self.platform.as_deref().or(environment.text("DOCKER_DEFAULT_PLATFORM")))?,
            build_contexts: named_contexts(&self.build_context, environment)?,
            no_cache: self.no_cache,
            no_cache_stages: self.no_cache_filter,
            pull: self.pull,
            steps,
            annotations,
            network: network(self.network)?,
            add_hosts: self.add_host.iter().map(|host| add_host(host)).collect::<Outcome<Vec<_>>>()?,
            format,
            source_date_epoch,
            rewrite_timestamp,
            context,
        };
        let iidfile = self.iidfile.map(|path| environment.absolute(path));
        let metadata_file = self.metadata_file.map(|path| environment.absolute(path));
        Ok((BuildJob { options, push, quiet: self.quiet, outputs, iidfile, metadata_file }, warnings))
    }
}

fn reference(text: &str) -> Outcome<Reference> {
    let reference: Reference = text.parse().map_err(|error| usage(format!("-t {text}: {error}")))?;
    if reference.digest().is_some() {
        return Err(usage(format!("-t {text}: a digest comes from the content, it cannot be chosen")));
    }
    Ok(reference)
}

/// The context: `-`, a repository, a URL, else a directory.
fn context(text: &OsString, environment: &Environment) -> Outcome<ContextSource> {
    if text == "-" {
        return Ok(ContextSource::Stdin);
    }
    let path = environment.absolute(text);
    match text.to_str().and_then(remote) {
        Some(remote) if !path.is_dir() => remote,
        _ => directory(text, path).map(ContextSource::Directory),
    }
}

/// What `text` names elsewhere, if it looks like that.
fn remote(text: &str) -> Option<Outcome<ContextSource>> {
    match git_ref::parse(text) {
        Ok(_) => Some(Ok(ContextSource::Git(RemoteUrl::new(text)))),
        Err(reason) if reason.is_git() => Some(Err(usage(format!("the context '{}': {reason}", redact(text))))),
        Err(_) if ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) => {
            Some(Ok(ContextSource::Url(RemoteUrl::new(text))))
        }
        Err(_) => None,
    }
}

fn directory(text: &OsString, path: PathBuf) -> Outcome<PathBuf> {
    let shown = text.to_string_lossy();
    match fs_err::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => {
            let diagnostic = Diagnostic::new(Kind::Context, format!("the context '{shown}' is not a directory"));
            Err(Box::new(diagnostic.hint("the last argument is the context; a Dockerfile is named with -f")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Box::new(Diagnostic::new(Kind::Context, format!("the context '{shown}' does not exist"))))
        }
        Err(error) => Err(Box::new(Diagnostic::from_error(Kind::Context, &error))),
    }
}

/// The Dockerfile: `-f`, else `Dockerfile` or `Containerfile` in the context. A relative path is one in the context where
/// that is fetched first.
fn dockerfile(file: Option<&Path>, context: &ContextSource, environment: &Environment) -> Outcome<DockerfileSource> {
    let missing = |what: String| Box::new(Diagnostic::new(Kind::Context, what));
    let from_stdin = file == Some(Path::new("-"));
    if from_stdin && *context == ContextSource::Stdin {
        return Err(usage("the context and the Dockerfile cannot both come from standard input"));
    }
    let Some(file) = file else {
        let ContextSource::Directory(context) = context else { return Ok(DockerfileSource::InContext(None)) };
        let names = ["Dockerfile", "Containerfile"];
        let found = names.into_iter().find(|name| context.join(name).exists()).ok_or_else(|| {
            missing(format!("there is no Dockerfile in {}", context.display())).hint("name it with -f FILE").into()
        });
        return found.map(|name| DockerfileSource::File { path: context.join(name), name: name.into() });
    };
    if from_stdin {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text).map_err(|error| {
            let mut diagnostic = Diagnostic::new(Kind::Context, "cannot read the Dockerfile from standard input");
            diagnostic.causes.push(error.to_string());
            diagnostic
        })?;
        return Ok(DockerfileSource::Text(text));
    }
    if !matches!(context, ContextSource::Directory(_)) && file.is_relative() {
        return Ok(DockerfileSource::InContext(Some(file.to_string_lossy().into_owned())));
    }
    let path = environment.absolute(file);
    if path.is_file() {
        Ok(DockerfileSource::File { path, name: file.to_string_lossy().into_owned() })
    } else if path.exists() {
        Err(missing(format!("the Dockerfile '{}' is not a file", file.display())))
    } else {
        Err(missing(format!("the Dockerfile '{}' does not exist", file.display())))
    }
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

fn platform(text: Option<&str>) -> Outcome<Option<Platform>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.contains(',') {
        return Err(usage(format!("--platform={text}: several platforms in one build are not supported yet")));
    }
    text.parse().map(Some).map_err(|error| usage(format!("--platform={text}: {error}")))
}

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

fn named_contexts(texts: &[String], environment: &Environment) -> Outcome<Vec<(String, NamedSource)>> {
    texts
        .iter()
        .map(|text| {
            let (name, place) =
                text.split_once('=').filter(|(name, place)| !name.is_empty() && !place.is_empty()).ok_or_else(
                    || usage(format!("--build-context '{}': expected NAME=DIRECTORY, URL or image", redact(text))),
                )?;
            Ok((name.to_string(), named_context(name, place, environment)?))
        })
        .collect()
}

fn named_context(name: &str, place: &str, environment: &Environment) -> Outcome<NamedSource> {
    let wrong = |what: String| usage(format!("--build-context {name}={}: {what}", redact(place)));
    if let Some(reference) = place.strip_prefix("docker-image://") {
        reference.parse::<Reference>().map_err(|error| wrong(error.to_string()))?;
        return Ok(NamedSource::Image(reference.to_string()));
    }
    if let Some(layout) = place.strip_prefix("oci-layout://") {
        let (path, image) = split_layout(layout);
        return Ok(NamedSource::Layout { path: environment.absolute(path), image: image.map(str::to_string) });
    }
    match context(&OsString::from(place), environment)? {
        ContextSource::Stdin => Err(wrong("only the main context can come from standard input".to_string())),
        ContextSource::Directory(_) if place.contains("://") => Err(wrong("unknown kind of context".to_string())),
        source => Ok(NamedSource::Tree(source)),
    }
}

/// `PATH`, `PATH:TAG`, `PATH@DIGEST` or `PATH:TAG@DIGEST`, where the digest decides.
fn split_layout(text: &str) -> (&str, Option<&str>) {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, digest.or(Some(tag))),
        _ => (rest, digest),
    }
}

#[cfg(test)]
mod tests;
