//! Where kaniko's contexts come from: a directory, an archive, standard input, a repository, a web server, a bucket.

use super::{WORKSPACE, dockerfile};
use crate::build::remote::{RemoteError, download};
use crate::cli::environment::Environment;
use crate::cli::network::Network;
use crate::cli::words::Given;
use crate::cli::{Outcome, usage};
use crate::dockerfile::redact::redact;
use crate::http::Url;
use crate::registry;
use crate::ui::{Diagnostic, Kind};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A context as the words of a build.
pub struct Found {
    /// The words: the Dockerfile and the part of the context first, the context last.
    pub words: Vec<String>,
    /// What standard input is to be: the archive that is the context.
    pub stdin: Option<File>,
    /// Keeps what was fetched.
    _kept: Vec<tempfile::NamedTempFile>,
}

/// Why a context cannot be had.
pub fn failure(error: &(dyn std::error::Error + 'static)) -> Box<Diagnostic> {
    Box::new(Diagnostic::from_error(Kind::Context, error))
}

/// Finds the context that the flags name, and fetches what a build of ours does not fetch itself.
pub fn find(given: &Given, environment: &Environment, state: &Path) -> Outcome<Found> {
    let bucket =
        given.last("bucket").map(|name| if name.contains("://") { name.into() } else { format!("gs://{name}") });
    let text = bucket.or(given.last("context").map(String::from)).unwrap_or_else(|| WORKSPACE.into());
    let part = given.last("context-sub-path").unwrap_or_default().trim_matches('/').to_string();
    let (scheme, rest) = text.split_once("://").unwrap_or(("dir", &text));
    let mut found = Found { words: Vec::new(), stdin: None, _kept: Vec::new() };
    let network = || Network::plain(environment, state);
    let context = match scheme {
        "dir" => {
            let dir = environment.absolute(rest).join(&part);
            if !dir.is_dir() {
                let message = format!("the context '{}' is no directory", dir.display());
                return Err(Box::new(Diagnostic::new(Kind::Context, message)));
            }
            let file = dockerfile(given, environment, Some(&dir))?;
            found.words.extend(file.map(|file| format!("--file={file}")));
            found.words.push(dir.to_string_lossy().into_owned());
            return Ok(found);
        }
        "tar" if rest == "stdin" => "-".to_string(),
        "tar" => {
            let file = fs_err::File::open(environment.absolute(rest)).map_err(|error| failure(&error))?;
            found.stdin = Some(file.into_parts().0);
            "-".to_string()
        }
        "s3" | "gs" => {
            let mut temp = spare(state)?;
            let network = network();
            let http = network.client()?;
            registry::fetch_object(http.http(), &network.surroundings(), &text, temp.as_file_mut())
                .map_err(|error| failure(&error))?;
            found.stdin = Some(temp.reopen().map_err(|error| failure(&error))?);
            found._kept.push(temp);
            "-".to_string()
        }
        "git" => repository(&text, given, environment, &part)?,
        "http" | "https" if is_repository(&text) => repository(&text, given, environment, &part)?,
        "http" | "https" => {
            let azure = Url::parse(&text).is_ok_and(|url| url.host_str().unwrap_or_default().contains(".blob.core."));
            if azure && environment.get("AZURE_STORAGE_ACCESS_KEY").is_some() {
                let why = "an account's key is not used for Azure's blobs: give the URL a signature (SAS)";
                return Err(usage(format!("--context {}: {why}", redact(&text))));
            }
            text.clone()
        }
        other => return Err(usage(format!("--context: '{other}://' is no kind of context that is known"))),
    };
    let git = scheme == "git" || is_repository(&text);
    if !part.is_empty() && !git {
        found.words.push(format!("--context-subdir={part}"));
    }
    if let Some(url) =
        given.last("dockerfile").filter(|file| file.starts_with("http://") || file.starts_with("https://"))
    {
        let (temp, path) = fetched_dockerfile(url, &network(), state)?;
        found._kept.push(temp);
        found.words.push(format!("--file={}", path.display()));
    } else {
        found.words.extend(dockerfile(given, environment, None)?.map(|file| format!("--file={file}")));
    }
    found.words.push(context);
    Ok(found)
}

/// An empty file where there is room: beside the state directory's own.
fn spare(state: &Path) -> Outcome<tempfile::NamedTempFile> {
    let place = state.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/tmp"));
    // A store holds nothing but its own.
    let place = if place == state { state.parent().unwrap_or(place) } else { place };
    tempfile::NamedTempFile::new_in(place).or_else(|_| tempfile::NamedTempFile::new()).map_err(|error| failure(&error))
}

fn fetched_dockerfile(url: &str, network: &Network, state: &Path) -> Outcome<(tempfile::NamedTempFile, PathBuf)> {
    let temp = spare(state)?;
    let path = temp.path().to_path_buf();
    download(network.client()?.http(), url, None, &path).map_err(|error: RemoteError| failure(&error))?;
    Ok((temp, path))
}

/// As kaniko tells repositories from archives.
fn is_repository(url: &str) -> bool {
    let url = url.split(['#', '?']).next().unwrap_or_default();
    url.starts_with("git@") || url.ends_with(".git")
}

/// A repository's address as ours: `https` unless `GIT_PULL_METHOD` says otherwise, with user and token of the variables,
/// and `#REF:DIRECTORY`. kaniko's own form is `URL[#REF[#COMMIT]]`.
fn repository(text: &str, given: &Given, environment: &Environment, part: &str) -> Outcome<String> {
    let wrong = || usage(format!("--context {}: no address of a repository", redact(text)));
    let mut pieces = text.split('#');
    let address = pieces.next().unwrap_or_default();
    let (mut reference, commit) = (pieces.next().unwrap_or_default().to_string(), pieces.next());
    let (mut submodules, mut scheme) = (false, environment.text("GIT_PULL_METHOD").unwrap_or("https"));
    for option in given.all("git").flat_map(|text| text.split(',')) {
        let (key, value) = option.split_once('=').unwrap_or((option, "true"));
        match key {
            "branch" if reference.is_empty() => reference = format!("refs/heads/{value}"),
            "branch" | "single-branch" | "depth" => {}
            "recurse-submodules" => submodules = value == "true",
            "insecure-skip-tls" if value == "true" => {
                return Err(usage("--git insecure-skip-tls: name the host with --insecure-registry HOST instead"));
            }
            "insecure-skip-tls" => {}
            _ => {
                return Err(usage(format!(
                    "--git {option}: expected branch=, depth=, single-branch= or recurse-submodules="
                )));
            }
        }
    }
    let rest = match address.split_once("://") {
        Some(("git", rest)) => rest,
        Some((own, rest)) => {
            scheme = own;
            rest
        }
        None => return Err(wrong()),
    };
    let mut url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| wrong())?;
    let variable = |name: &str| environment.text(name).filter(|value| !value.is_empty());
    let user = variable("GIT_TOKEN").or(variable("GIT_USERNAME"));
    if let (Some(user), true) = (user, url.username().is_empty()) {
        url.set_username(user).map_err(|()| wrong())?;
        let password = variable("GIT_PASSWORD").filter(|_| variable("GIT_TOKEN").is_none());
        url.set_password(password).map_err(|()| wrong())?;
    }
    if !url.path().ends_with(".git") {
        url.set_path(&format!("{}.git", url.path().trim_end_matches('/')));
    }
    let mut query = vec![format!("submodules={submodules}")];
    // A commit may be any one of the branch's.
    if let Some(wanted) = commit.or(Some(&*reference).filter(|name| !name.is_empty())) {
        query.push(format!("ref={wanted}"));
    }
    if !part.is_empty() {
        query.push(format!("subdir={part}"));
    }
    url.set_query(Some(&query.join("&")));
    Ok(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::words;

    fn address(context: &str, flags: &str, part: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let words: Vec<String> = flags.split_whitespace().map(String::from).collect();
        let given = words::read(&[super::super::FLAGS], &words, false).map_err(|error| error.message)?;
        let environment = Environment::of(variables, Path::new("/"));
        repository(context, &given, &environment, part).map_err(|error| error.message)
    }

    #[test]
    fn repositories() {
        let table = [
            ("git://github.com/a/b.git", "", "", "https://github.com/a/b.git?submodules=false"),
            ("git://github.com/a/b", "", "sub", "https://github.com/a/b.git?submodules=false&subdir=sub"),
            (
                "git://h/a.git#refs/heads/x#0123456789012345678901234567890123456789",
                "",
                "",
                "https://h/a.git?submodules=false&ref=0123456789012345678901234567890123456789",
            ),
            (
                "https://h/a.git",
                "--git branch=main,recurse-submodules=true,depth=1",
                "",
                "https://h/a.git?submodules=true&ref=refs/heads/main",
            ),
        ];
        for (context, flags, part, expected) in table {
            assert_eq!(address(context, flags, part, &[]).as_deref(), Ok(expected), "{context}");
        }
        let user = [("GIT_USERNAME", "me"), ("GIT_PASSWORD", "p@ss")];
        let expected = Ok("https://me:p%40ss@h/a.git?submodules=false");
        assert_eq!(address("git://h/a.git", "", "", &user).as_deref(), expected);
        let expected = Ok("http://tok@h/a.git?submodules=false");
        let token = [("GIT_TOKEN", "tok"), ("GIT_PULL_METHOD", "http")];
        assert_eq!(address("git://h/a.git", "", "", &token).as_deref(), expected);
        let wrong = address("git://h/a.git", "--git nope=1", "", &[]);
        assert_eq!(wrong, Err("--git nope=1: expected branch=, depth=, single-branch= or recurse-submodules=".into()));
    }
}
