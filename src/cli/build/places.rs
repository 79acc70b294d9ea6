//! Where a build's files come from: the context, named contexts, the Dockerfile.

use crate::build::{ContextSource, DockerfileSource, NamedSource, RemoteUrl, StepOptions};
use crate::cli::environment::Environment;
use crate::cli::{Outcome, usage};
use crate::dockerfile::git_ref;
use crate::dockerfile::redact::redact;
use crate::git::Ssh;
use crate::oci::Reference;
use crate::ui::{Diagnostic, Kind};
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The context: `-`, a repository, a URL, else a directory.
pub(super) fn context(text: &OsString, environment: &Environment) -> Outcome<ContextSource> {
    if text == "-" {
        return Ok(ContextSource::Stdin);
    }
    let path = environment.absolute(text);
    match text.to_str().and_then(remote) {
        Some(remote) if !path.is_dir() => remote,
        _ => directory(text, path).map(ContextSource::Directory),
    }
}

/// What ssh works with: the agent of `--ssh default`; for a context at an ssh address the caller's, unasked.
pub(super) fn ssh(steps: &StepOptions, context: &ContextSource, named: &[String], environment: &Environment) -> Ssh {
    let over_ssh = |text: &str| match git_ref::parse(text) {
        Ok(found) if found.indistinguishable_from_local => false,
        Ok(found) => found.remote.starts_with("ssh://") || !found.remote.contains("://"),
        Err(_) => false,
    };
    let contexts = named.iter().filter_map(|text| text.split_once('=')).map(|(_, place)| place);
    let main = match context {
        ContextSource::Git(url) => Some(url.expose()),
        ContextSource::Directory(_) | ContextSource::Stdin | ContextSource::Url(_) => None,
    };
    let unasked = main.into_iter().chain(contexts).any(over_ssh);
    let own = || environment.get("SSH_AUTH_SOCK").filter(|_| unasked).map(|path| environment.absolute(path));
    Ssh {
        path: environment.text("PATH").unwrap_or_default().to_string(),
        home: environment.get("HOME").map(|home| environment.absolute(home)),
        agent: steps.ssh.get("default").cloned().or_else(own),
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
pub(super) fn dockerfile(
    file: Option<&Path>,
    context: &ContextSource,
    environment: &Environment,
) -> Outcome<DockerfileSource> {
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

pub(super) fn named_contexts(texts: &[String], environment: &Environment) -> Outcome<Vec<(String, NamedSource)>> {
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
