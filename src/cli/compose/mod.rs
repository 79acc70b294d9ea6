//! `docker compose build` and `push`: what a compose file says of building, as builds and pushes of ours.

mod file;
mod interpolate;

pub use file::ComposeError;

use super::docker::unsupported;
use super::environment::Environment;
use super::tool::Tool;
use super::words::{self, Does, Flag, switch, value};
use super::{Outcome, print};
use crate::ui::{self, Diagnostic, Kind, Look};
use file::{Project, Wanted, mapping};
use serde_json::Value;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

const NO_MEANING: Does = Does::Ignored("it has no meaning here");

/// Flags before the verb.
pub const GLOBAL: &[Flag] = &[
    switch("all-resources", NO_MEANING),
    value("ansi", NO_MEANING),
    switch("compatibility", NO_MEANING),
    switch("dry-run", Does::Refused("`docker build --check` looks at a Dockerfile without building it")),
    value("env-file", Does::Own("variables for the file; `.env` without it")),
    value("file", Does::Own("the compose file; several are merged")).short('f'),
    value("parallel", Does::Ignored("services are built one after the other, the stages of each in parallel")),
    value("profile", Does::Own("services of this profile too")),
    value("progress", Does::Is("--progress")),
    value("project-directory", Does::Own("what relative paths start from")),
    value("project-name", Does::Own("the project's name, of which images without a name have theirs")).short('p'),
    switch("verbose", NO_MEANING),
    switch("version", Does::Own("the version")).short('v'),
];

/// Flags of `build`.
pub const BUILD: &[Flag] = &[
    value("build-arg", Does::Is("--build-arg")),
    value("builder", Does::Is("--builder")),
    switch("check", Does::Is("--check")),
    switch("compress", NO_MEANING),
    switch("force-rm", NO_MEANING),
    value("memory", Does::Is("--memory")).short('m'),
    switch("no-cache", Does::Is("--no-cache")),
    switch("no-rm", NO_MEANING),
    switch("parallel", NO_MEANING),
    switch("print", Does::Refused("there is no bake file to be printed")),
    value("progress", Does::Is("--progress")),
    value("provenance", Does::Is("--provenance")),
    switch("pull", Does::Is("--pull")),
    switch("push", Does::Own("pushes what was built")),
    switch("quiet", Does::Is("--quiet")).short('q'),
    switch("rm", NO_MEANING),
    value("sbom", Does::Is("--sbom")),
    value("ssh", Does::Is("--ssh")),
    switch("with-dependencies", Does::Own("builds what the services depend on, too")),
];

/// Flags of `push`.
pub const PUSH: &[Flag] = &[
    switch("ignore-push-failures", Does::Own("goes on after a push that failed")),
    switch("include-deps", Does::Own("pushes what the services depend on, too")),
    switch("quiet", Does::Is("--quiet")).short('q'),
];

fn failure(message: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::new(Kind::Usage, message).exit(1))
}

impl From<ComposeError> for Box<Diagnostic> {
    fn from(error: ComposeError) -> Box<Diagnostic> {
        Box::new(Diagnostic::from_error(Kind::Usage, &error).exit(1))
    }
}

/// Carries out `docker compose …`.
pub fn perform(words: Vec<String>, environment: &Environment, look: &mut Look) -> Outcome<ExitCode> {
    let globals = words::read(&[GLOBAL], &words, true)?;
    if globals.is("version") || globals.arguments.first().is_some_and(|verb| verb == "version") {
        return print(concat!("Docker Compose version v2.33.0+dockless.", env!("CARGO_PKG_VERSION"), "\n"));
    }
    let (verb, rest) = globals.arguments.split_first().ok_or_else(|| failure("name a verb: build or push"))?;
    let table = match verb.as_str() {
        "build" => BUILD,
        "push" => PUSH,
        other => {
            let instead =
                "dockless builds and pushes what a compose file names: `docker compose build`, `docker compose push`";
            return Err(unsupported(&format!("compose {other}"), instead));
        }
    };
    let given = words::read(&[table], rest, false)?;
    globals.warnings.iter().chain(&given.warnings).for_each(|text| ui::notice(*look, text));
    let wanted = Wanted {
        files: globals.all("file").collect(),
        directory: globals.last("project-directory"),
        name: globals.last("project-name"),
        env_files: globals.all("env-file").collect(),
    };
    let project = file::read(&wanted, environment)?;
    for name in &project.unset {
        ui::notice(*look, &format!("the variable {name} is not set: it stands for nothing"));
    }
    let profiles: Vec<&str> =
        globals.all("profile").chain(environment.text("COMPOSE_PROFILES").unwrap_or_default().split(',')).collect();
    let deep = given.is("with-dependencies") || given.is("include-deps");
    let services = choose(&project, &given.arguments, &profiles, deep)?;
    for (name, service) in services {
        let call = |words: Vec<String>, look: &mut Look| {
            let line = std::iter::once(Tool::Docker.name().to_string()).chain(words).map(OsString::from).collect();
            super::perform(line, Tool::Docker, environment, look)
        };
        let image = service["image"].as_str().filter(|image| !image.is_empty());
        if verb == "push" {
            let Some(image) = image.filter(|_| !service["build"].is_null()) else {
                ui::notice(*look, &format!("service {name} is passed over: push needs both image: and build:"));
                continue;
            };
            match call([&["push".to_string()], &given.ours[..], &[image.to_string()]].concat(), look) {
                Ok(code) if code == ExitCode::SUCCESS => {}
                Ok(code) if !given.is("ignore-push-failures") => return Ok(code),
                Err(error) if !given.is("ignore-push-failures") => return Err(error),
                Ok(_) => {}
                Err(error) => ui::report(*look, &error),
            }
        } else if !service["build"].is_null() {
            let own = image.map_or_else(|| format!("{}-{name}", project.name), str::to_string);
            let inline = inline(&name, &service)?;
            let mut line = build(&project, &name, &service, &own)?;
            if let Some(file) = &inline {
                line.extend(["--file".to_string(), file.path().to_string_lossy().into_owned()]);
            }
            if given.is("push") && image.is_some() {
                line.push("--push".into());
            }
            line.extend(globals.ours.iter().chain(&given.ours).cloned());
            line.push(context(&project, &service["build"]));
            let code = call(line, look)?;
            if code != ExitCode::SUCCESS {
                return Ok(code);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The services that are named, or all of the profiles; with `deep`, what they depend on before them.
fn choose(project: &Project, named: &[String], profiles: &[&str], deep: bool) -> Outcome<Vec<(String, Value)>> {
    let on = |service: &Value| match service["profiles"].as_array() {
        Some(own) if !own.is_empty() => {
            own.iter().filter_map(Value::as_str).any(|own| profiles.contains(&own) || profiles.contains(&"*"))
        }
        _ => true,
    };
    let mut wanted: Vec<String> = named.to_vec();
    if wanted.is_empty() {
        wanted = project.services.iter().filter(|(_, service)| on(service)).map(|(name, _)| name.clone()).collect();
    }
    let mut out: Vec<(String, Value)> = Vec::new();
    let mut at = 0;
    while let Some(name) = wanted.get(at).cloned() {
        at += 1;
        let service = project.services.get(&name).ok_or_else(|| failure(format!("no such service: {name}")))?;
        if out.iter().any(|(known, _)| *known == name) {
            continue;
        }
        if deep {
            let depends = &service["depends_on"];
            let list = depends.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from);
            wanted.extend(list.chain(depends.as_object().into_iter().flatten().map(|(name, _)| name.clone())));
        }
        out.insert(0, (name, service.clone()));
    }
    if !deep {
        out.reverse();
    }
    Ok(out)
}

/// The context: a directory seen from the project's, or a URL as it is.
fn context(project: &Project, build: &Value) -> String {
    let text = build.as_str().or_else(|| build["context"].as_str()).unwrap_or(".");
    let directory = project.directory.join(text);
    let remote = text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/");
    if remote && !directory.is_dir() { text.to_string() } else { directory.to_string_lossy().into_owned() }
}

/// `dockerfile_inline`, as a file.
fn inline(name: &str, service: &Value) -> Outcome<Option<tempfile::NamedTempFile>> {
    let Some(text) = service["build"]["dockerfile_inline"].as_str() else { return Ok(None) };
    if !service["build"]["dockerfile"].is_null() {
        return Err(failure(format!("services.{name}.build: dockerfile and dockerfile_inline exclude one another")));
    }
    let file = tempfile::NamedTempFile::new().and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file));
    file.map(Some).map_err(|error| Box::new(Diagnostic::from_error(Kind::Environment, &error)))
}

/// The words of a build, without its context.
fn build(project: &Project, name: &str, service: &Value, image: &str) -> Outcome<Vec<String>> {
    let mut line = vec!["build".to_string(), format!("--tag={image}")];
    let Some(build) = service["build"].as_object() else { return Ok(line) };
    if let Some(platform) = service["platform"].as_str().filter(|_| !build.contains_key("platforms")) {
        line.push(format!("--platform={platform}"));
    }
    for (key, value) in build {
        let wrong = |what: &str| failure(format!("services.{name}.build.{key}: {what}"));
        let text = || text(value).ok_or_else(|| wrong("expected a text"));
        let texts = || match value {
            Value::Array(items) => {
                items.iter().map(self::text).collect::<Option<Vec<_>>>().ok_or_else(|| wrong("expected a list"))
            }
            value => self::text(value).map(|text| vec![text]).ok_or_else(|| wrong("expected a list")),
        };
        let pairs = || match mapping(value.clone()) {
            Value::Object(map) => Ok(map),
            _ => Err(wrong("expected a mapping or a list")),
        };
        match key.as_str() {
            "context" | "dockerfile_inline" => {}
            "dockerfile" => {
                let context = context(project, &service["build"]);
                // Seen from the context, which is ours to say for a directory only.
                let file = text()?;
                let inside = std::path::Path::new(&context).is_dir();
                line.push(match inside {
                    true => format!("--file={}", std::path::Path::new(&context).join(file).display()),
                    false => format!("--file={file}"),
                });
            }
            "args" => line.extend(pairs()?.iter().map(|(name, value)| match self::text(value) {
                Some(value) => format!("--build-arg={name}={value}"),
                None => format!("--build-arg={name}"),
            })),
            "labels" => {
                let label = |(name, value): (&String, &Value)| {
                    format!("--label={name}={}", self::text(value).unwrap_or_default())
                };
                line.extend(pairs()?.iter().map(label));
            }
            "target" | "network" | "shm_size" | "isolation" | "sbom" | "provenance" => {
                line.push(format!("--{}={}", key.replace('_', "-"), text()?));
            }
            "cache_from" | "cache_to" | "ssh" | "entitlements" | "tags" | "platforms" => {
                let flag = match key.as_str() {
                    "cache_from" => "cache-from",
                    "cache_to" => "cache-to",
                    "entitlements" => "allow",
                    "tags" => "tag",
                    "platforms" => "platform",
                    _ => "ssh",
                };
                line.extend(texts()?.iter().map(|value| format!("--{flag}={value}")));
            }
            "no_cache" | "pull" => line.push(format!("--{}={}", key.replace('_', "-"), text()?)),
            "privileged" if *value == Value::Bool(false) => {}
            "extra_hosts" => line.extend(match value {
                Value::Array(_) => texts()?.iter().map(|host| format!("--add-host={host}")).collect(),
                _ => hosts(pairs()?),
            }),
            "additional_contexts" => {
                for (name, value) in pairs()? {
                    let place = self::text(&value).unwrap_or_default();
                    let directory = project.directory.join(&place);
                    let place = if directory.is_dir() { directory.to_string_lossy().into_owned() } else { place };
                    line.push(format!("--build-context={name}={place}"));
                }
            }
            "ulimits" => line.extend(pairs()?.iter().map(|(name, value)| match value.as_object() {
                Some(both) => format!("--ulimit={name}={}:{}", both["soft"], both["hard"]),
                None => format!("--ulimit={name}={}", self::text(value).unwrap_or_default()),
            })),
            "secrets" => {
                for item in value.as_array().into_iter().flatten() {
                    line.push(secret(project, item).ok_or_else(|| wrong("a secret that the file does not define"))?);
                }
            }
            _ => return Err(wrong("dockless does not know this key")),
        }
    }
    Ok(line)
}

fn hosts(map: serde_json::Map<String, Value>) -> Vec<String> {
    let one = |(name, value): (&String, &Value)| match value {
        Value::Array(items) => items.iter().filter_map(text).map(|ip| format!("--add-host={name}={ip}")).collect(),
        value => text(value).map(|ip| format!("--add-host={name}={ip}")).into_iter().collect::<Vec<_>>(),
    };
    map.iter().flat_map(one).collect()
}

/// `--secret` for an entry of `build.secrets`.
fn secret(project: &Project, item: &Value) -> Option<String> {
    let source = item.as_str().or_else(|| item["source"].as_str())?;
    let id = item["target"].as_str().unwrap_or(source);
    let defined = project.secrets.get(source)?;
    if let Some(variable) = defined["environment"].as_str() {
        return Some(format!("--secret=id={id},env={variable}"));
    }
    let file = project.directory.join(defined["file"].as_str()?);
    Some(format!("--secret=id={id},src={}", file.display()))
}

/// A scalar as it is written on a command line.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
