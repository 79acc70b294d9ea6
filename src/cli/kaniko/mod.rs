//! `/kaniko/executor …`: kaniko's flags as a build of ours.

mod context;
mod flags;

pub use flags::FLAGS;

use super::environment::Environment;
use super::tool::Tool;
use super::words::{self, Does, Given};
use super::{Outcome, docker, print, usage};
use crate::oci::Reference;
use crate::ui::{self, Look};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Where kaniko's image looks for the context when nobody says.
const WORKSPACE: &str = "/workspace";

/// Carries out a command line of the executor's.
pub fn perform(arguments: Vec<OsString>, environment: Environment, look: &mut Look) -> Outcome<ExitCode> {
    let words = docker::text(arguments.get(1..).unwrap_or_default())?;
    let native = |words: Vec<String>, environment: &Environment, look: &mut Look| {
        let line = std::iter::once(Tool::Kaniko.name().to_string()).chain(words).map(OsString::from).collect();
        super::perform(line, Tool::Kaniko, environment, look)
    };
    match words.first().map(String::as_str) {
        Some("version") => return print(concat!("Kaniko version : dockless ", env!("CARGO_PKG_VERSION"), "\n")),
        Some("login") => return native(words, &environment, look),
        Some("help" | "completion") => return print(&help()),
        Some(verb) if !verb.starts_with('-') => {
            return Err(usage(format!("executor: '{verb}' is not something dockless does: it builds, and it logs in")));
        }
        _ => {}
    }
    let given = words::read(&[FLAGS], &words, false)?;
    if given.is("help") {
        return print(&help());
    }
    if let Some(word) = given.arguments.first() {
        return Err(usage(format!("unexpected argument '{word}': the context is named with --context")));
    }
    given.warnings.iter().for_each(|text| ui::notice(*look, text));
    about_variables(&environment, *look);
    let mut line = vec!["build".to_string(), "--run-exit-code".into()];
    line.extend(outputs(&given, &environment)?);
    line.extend(cache(&given)?);
    line.extend(trust(&given)?);
    line.extend(rest(&given, &environment)?);
    // The spare files of a fetched context or Dockerfile live until the build has read them.
    let state = super::state::Places::find(&environment).state;
    let fetched = context::find(&given, &environment, &state)?;
    line.extend(given.ours.iter().cloned());
    line.extend(fetched.words.iter().cloned());
    if let Some(file) = &fetched.stdin {
        rustix::stdio::dup2_stdin(file).map_err(|errno| context::failure(&std::io::Error::from(errno)))?;
    }
    native(line, &environment, look)
}

fn help() -> String {
    let flag = |flag: &super::words::Flag| match flag.does {
        Does::Is(ours) => format!("  --{:<34}dockless's {ours}\n", flag.name),
        Does::Own(does) => format!("  --{:<34}{does}\n", flag.name),
        Does::Ignored(why) => format!("  --{:<34}ignored: {why}\n", flag.name),
        Does::Refused(why) => format!("  --{:<34}not supported: {why}\n", flag.name),
    };
    format!(
        "Usage: executor [FLAGS]\n\nThis is dockless: kaniko's command line.\n\n{}",
        FLAGS.iter().map(flag).collect::<String>()
    )
}

/// One line about the variables that do nothing here.
fn about_variables(environment: &Environment, look: Look) {
    let named = flags::IGNORED_VARIABLES.iter().filter(|name| environment.get(name).is_some()).map(ToString::to_string);
    let set: Vec<String> = named.chain(environment.names("FF_KANIKO_")).collect();
    if !set.is_empty() {
        ui::notice(look, &format!("ignored, for they are about kaniko's own workings: {}", set.join(", ")));
    }
}

fn destinations(given: &Given) -> Outcome<Vec<Reference>> {
    given.all("destination").map(super::reference).collect()
}

/// Names, pushes, files.
fn outputs(given: &Given, environment: &Environment) -> Outcome<Vec<String>> {
    let mut line: Vec<String> = given.all("destination").map(|name| format!("--tag={name}")).collect();
    let variable =
        environment.text("KANIKO_NO_PUSH").is_some_and(|value| matches!(value, "1" | "true" | "TRUE" | "True"));
    let push = !given.is("no-push") && !variable;
    if push && line.is_empty() {
        return Err(usage("you must provide --destination, or use --no-push"));
    }
    let archive = given.last("tar-path").or(given.last("tarPath"));
    if archive.is_some() && line.is_empty() {
        return Err(usage("--tar-path needs the name that the image has in the archive: --destination"));
    }
    if push && !given.is("dryrun") {
        line.push("--push".into());
    }
    line.extend(archive.map(|path| format!("--output=type=docker,\"dest={path}\"")));
    line.extend(given.last("oci-layout-path").map(|path| format!("--output=type=oci,tar=false,\"dest={path}\"")));
    line.extend(
        environment.text("BUILDER_OUTPUT").filter(|dir| !dir.is_empty()).map(|dir| format!("--images-file-in={dir}")),
    );
    match given.last("compression") {
        None | Some("gzip" | "") => {}
        Some(other) => {
            return Err(usage(format!("--compression={other} is not supported: layers are compressed with gzip")));
        }
    }
    // Annotations and layouts are OCI's.
    let oci = given.last("annotation").or(given.last("oci-layout-path")).is_some();
    let format = if oci { "oci" } else { "docker" };
    line.push(format!("--format={}", given.last("image-format").unwrap_or(format)));
    Ok(line)
}

/// `--cache`: ours, or where nothing is to be written the reading of it alone.
fn cache(given: &Given) -> Outcome<Vec<String>> {
    if !given.is("cache") {
        return Ok(Vec::new());
    }
    let place = given.last("cache-repo").filter(|place| !place.is_empty());
    if !given.is("no-push-cache") && !given.is("no-push") {
        let place = place.map(|place| format!("--cache-repo={place}"));
        return Ok(std::iter::once("--cache=true".to_string()).chain(place).collect());
    }
    let first = destinations(given)?.into_iter().next();
    let usual = first.map(|name| format!("{}/{}/cache", name.registry(), name.repository()));
    let Some(place) = place.map(str::to_string).or(usual) else {
        return Err(usage("--cache needs a place: --cache-repo, or --destination"));
    };
    Ok(vec![match place.strip_prefix("oci:") {
        Some(dir) => format!("--cache-from=type=local,src={dir}"),
        None => format!("--cache-from=type=registry,ref={place}"),
    }])
}

/// Which registries are trusted, and how.
fn trust(given: &Given) -> Outcome<Vec<String>> {
    let mut line = Vec::new();
    if given.is("insecure") || given.is("skip-tls-verify") {
        line.extend(destinations(given)?.iter().map(|name| format!("--insecure-registry={}", name.registry())));
    }
    if given.is("insecure-pull") || given.is("skip-tls-verify-pull") {
        line.push("--insecure-registry=*".into());
    }
    for text in given.all("registry-certificate").flat_map(|text| text.split(',')) {
        let wrong = || usage(format!("--registry-certificate '{text}': expected HOST=FILE"));
        line.push(format!("--registry-ca={}", text.split_once('=').ok_or_else(wrong)?.1));
    }
    // `HOST=HOST1;HOST=HOST2`, or with commas.
    let maps = given.all("registry-map").flat_map(|text| text.split([';', ','])).filter(|text| !text.is_empty());
    line.extend(maps.map(|text| format!("--registry-map={text}")));
    Ok(line)
}

fn rest(given: &Given, environment: &Environment) -> Outcome<Vec<String>> {
    let mut line = Vec::new();
    let targets: Vec<&str> = given.all("target").flat_map(|text| text.split(',')).collect();
    match targets[..] {
        [] => {}
        [only] => line.push(format!("--target={only}")),
        _ => return Err(usage("--target: one stage is built at a time")),
    }
    if given.is("reproducible") {
        line.push("--rewrite-timestamp".into());
        let arg = given.all("build-arg").any(|arg| arg.starts_with("SOURCE_DATE_EPOCH="));
        if !arg && environment.get("SOURCE_DATE_EPOCH").is_none() {
            line.push("--build-arg=SOURCE_DATE_EPOCH=0".into());
        }
    }
    if given.is("skip-push-permission-check") {
        line.push("--no-preflight".into());
    }
    if given.is("dryrun") {
        line.push("--call=outline".into());
    }
    match (given.last("verbosity"), given.last("log-format")) {
        (Some("panic" | "fatal" | "error"), _) => line.push("--progress=quiet".into()),
        (_, Some("json")) => line.push("--progress=rawjson".into()),
        _ => {}
    }
    Ok(line)
}

/// What a relative `--dockerfile` is: seen from the current directory where it is there, else from the context.
fn dockerfile(given: &Given, environment: &Environment, context: Option<&Path>) -> Outcome<Option<String>> {
    let Some(text) = given.last("dockerfile") else { return Ok(None) };
    let here = environment.absolute(text);
    let inside = context.map(|context| context.join(text));
    Ok(Some(match inside {
        _ if here.is_file() => here.to_string_lossy().into_owned(),
        Some(inside) => inside.to_string_lossy().into_owned(),
        // A context that is fetched: a path in it.
        None => text.to_string(),
    }))
}

#[cfg(test)]
mod tests;
