//! `buildctl build` and `buildctl-daemonless.sh build`: BuildKit's client, as a build of ours. There is no daemon behind it.

use super::environment::Environment;
use super::tool::Tool;
use super::words::{self, Does, Flag, Given, switch, value};
use super::{Outcome, docker, print, usage};
use crate::ui::{self, Look};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

const NO_DAEMON: Does = Does::Ignored("there is no daemon to be reached");

/// Flags before the verb.
pub const GLOBAL: &[Flag] = &[
    value("addr", NO_DAEMON),
    switch("debug", Does::Ignored("it has no meaning here")),
    value("log-format", Does::Ignored("it has no meaning here")),
    value("timeout", NO_DAEMON),
    value("tlscacert", NO_DAEMON),
    value("tlscert", NO_DAEMON),
    value("tlsdir", NO_DAEMON),
    value("tlskey", NO_DAEMON),
    value("tlsservername", NO_DAEMON),
    switch("version", Does::Own("the version")).short('v'),
    switch("wait", NO_DAEMON),
    switch("help", Does::Own("lists the flags")).short('h'),
];

/// Flags of `build`.
pub const BUILD: &[Flag] = &[
    value("allow", Does::Is("--allow")),
    value("debug-json-cache-metrics", Does::Refused("`--progress=rawjson` tells which steps were cached")),
    value("export-cache", Does::Is("--cache-to")),
    value("exporter", Does::Own("an older form of `--output type=`")),
    value("exporter-opt", Does::Own("an older form of the keys of `--output`")),
    value("frontend", Does::Own("`dockerfile.v0`, or `gateway.v0` with the image `docker/dockerfile`")),
    value("frontend-opt", Does::Own("an older form of `--opt`")),
    value("import-cache", Does::Own("`--cache-from`")),
    value("local", Does::Own("`context=DIR`, `dockerfile=DIR`, or a named context")),
    value("metadata-file", Does::Is("--metadata-file")),
    switch("no-cache", Does::Is("--no-cache")),
    value("oci-layout", Does::Own("a named context that is an OCI layout")),
    value(
        "opt",
        Does::Own("what the front end takes: `filename=`, `target=`, `build-arg:NAME=`, `label:NAME=`, `platform=`, …"),
    ),
    value("output", Does::Own("`--output`; without `dest=` archives go to standard output")).short('o'),
    value("progress", Does::Is("--progress")),
    value("ref-file", Does::Refused("there is no record of the build")),
    value("registry-auth-tlscontext", Does::Refused("certificates are found in /etc/docker/certs.d/HOST/")),
    value("secret", Does::Is("--secret")),
    value("source-policy-file", Does::Refused("policies are not evaluated")),
    value("ssh", Does::Is("--ssh")),
    value("trace", Does::Refused("`--progress=rawjson` tells what is done when")),
];

/// Keys of `--opt`, and what becomes of them; a colon at the end stands for a name.
pub const OPTIONS: &[(&str, Does)] = &[
    ("add-hosts", Does::Own("`--add-host`, each of a list")),
    ("attest:", Does::Ignored("no attestation is made yet")),
    ("build-arg:", Does::Is("--build-arg")),
    ("cgroup-parent", Does::Ignored("dockless sets no resource limits: the job's own hold")),
    ("cmdline", Does::Ignored("the front end is dockless's own")),
    ("context", Does::Own("the context, where it is a URL or a repository")),
    ("context:", Does::Is("--build-context")),
    ("filename", Does::Own("the Dockerfile, in its directory")),
    ("force-network-mode", Does::Is("--network")),
    ("image-resolve-mode", Does::Own("`pull` is `--pull`")),
    ("label:", Does::Is("--label")),
    ("multi-platform", Does::Ignored("several platforms make an index")),
    ("no-cache", Does::Own("`--no-cache`, or `--no-cache-filter` of the stages it names")),
    ("platform", Does::Is("--platform")),
    ("shm-size", Does::Is("--shm-size")),
    ("source", Does::Own("the image of the front end: `docker/dockerfile`, whose language dockless reads itself")),
    ("target", Does::Is("--target")),
    ("ulimit", Does::Own("`--ulimit`, each of a list")),
];

/// Carries out a command line of buildctl's.
pub fn perform(arguments: Vec<OsString>, environment: &Environment, look: &mut Look) -> Outcome<ExitCode> {
    let words = docker::text(arguments.get(1..).unwrap_or_default())?;
    let globals = words::read(&[GLOBAL], &words, true)?;
    if globals.is("version") {
        return print(concat!("buildctl dockless ", env!("CARGO_PKG_VERSION"), "\n"));
    }
    let (verb, rest) = match globals.arguments.split_first() {
        Some((verb, rest)) if !globals.is("help") => (verb.as_str(), rest),
        _ => {
            return print(
                "Usage: buildctl build [FLAGS]\n\nThis is dockless: buildctl's command line. docs/docker-cli.md lists the flags.\n",
            );
        }
    };
    globals.warnings.iter().for_each(|text| ui::notice(*look, text));
    match verb {
        "build" | "b" => {}
        // Scripts ask for the workers to wait until the daemon is up.
        "debug" if rest.first().is_some_and(|word| word == "workers") => {
            let host = crate::oci::Platform::host();
            return print(&format!("ID\tPLATFORMS\ndockless\t{host}\n"));
        }
        other => {
            let message =
                format!("buildctl: '{other}' is not something dockless does: it has build, and `debug workers`");
            return Err(usage(message));
        }
    }
    let given = words::read(&[BUILD], rest, false)?;
    given.warnings.iter().for_each(|text| ui::notice(*look, text));
    let (line, warnings) = line(&given, environment)?;
    warnings.iter().for_each(|text| ui::notice(*look, text));
    let line = std::iter::once(Tool::Buildctl.name().to_string()).chain(line).map(OsString::from).collect();
    super::perform(line, Tool::Buildctl, environment, look)
}

fn pair<'t>(flag: &str, text: &'t str) -> Outcome<(&'t str, &'t str)> {
    text.split_once('=').ok_or_else(|| usage(format!("--{flag} {text}: expected KEY=VALUE")))
}

/// The build of ours, and what of it is ignored.
fn line(given: &Given, environment: &Environment) -> Outcome<(Vec<String>, Vec<String>)> {
    let (mut line, mut warnings) = (vec!["build".to_string()], Vec::new());
    match given.last("frontend") {
        Some("dockerfile.v0" | "gateway.v0") => {}
        Some(other) => return Err(usage(format!("--frontend={other}: the one front end is dockerfile.v0"))),
        None => {
            return Err(usage(
                "--frontend=dockerfile.v0 is missing: builds of LLB on standard input are not supported",
            ));
        }
    }
    let (mut context, mut dockerfile, mut filename) = (None, None, "Dockerfile".to_string());
    for text in given.all("local") {
        match pair("local", text)? {
            ("context", dir) => context = Some(dir.to_string()),
            ("dockerfile", dir) => dockerfile = Some(environment.absolute(dir)),
            (name, dir) => line.push(format!("--build-context={name}={dir}")),
        }
    }
    for text in given.all("oci-layout") {
        let (name, dir) = pair("oci-layout", text)?;
        line.push(format!("--build-context={name}=oci-layout://{dir}"));
    }
    for text in given.all("opt").chain(given.all("frontend-opt")) {
        let (key, value) = pair("opt", text)?;
        let (kind, name) = match key.split_once(':') {
            Some((kind, name)) => (&key[..=kind.len()], Some(name)),
            None => (key, None),
        };
        let does = OPTIONS.iter().find(|(known, _)| *known == kind).map(|(_, does)| *does);
        match (kind, does) {
            (_, None) => return Err(usage(format!("--opt {key}: dockless does not know this key"))),
            (_, Some(Does::Is(flag))) => {
                line.push(name.map_or_else(|| format!("{flag}={value}"), |name| format!("{flag}={name}={value}")));
            }
            (_, Some(Does::Ignored(why))) => warnings.push(format!("--opt {key} is ignored: {why}")),
            (_, Some(Does::Refused(why))) => return Err(usage(format!("--opt {key} is not supported: {why}"))),
            ("add-hosts", _) => line.extend(value.split(',').map(|host| format!("--add-host={host}"))),
            ("ulimit", _) => line.extend(value.split(',').map(|limit| format!("--ulimit={limit}"))),
            ("context", _) => context = Some(value.to_string()),
            ("filename", _) => filename = value.to_string(),
            ("image-resolve-mode", _) if value == "pull" => line.push("--pull".into()),
            ("image-resolve-mode", _) => {}
            ("no-cache", _) if value.is_empty() => line.push("--no-cache".into()),
            ("no-cache", _) => line.push(format!("--no-cache-filter={value}")),
            ("source", _) if value.contains("docker/dockerfile") => {}
            (_, Some(Does::Own(_))) => return Err(usage(format!("--opt {text}: dockless has no such front end"))),
        }
    }
    let named = given.all("output").map(|text| complete(text.to_string())).chain(older(given)?);
    line.extend(named.map(|text| format!("--output={text}")));
    line.extend(given.all("import-cache").map(|text| format!("--cache-from={text}")));
    line.extend(given.ours.iter().cloned());
    let context = context.ok_or_else(|| usage("the context is missing: --local context=DIR, or --opt context=URL"))?;
    match dockerfile {
        Some(dir) => line.push(format!("--file={}", dir.join(&filename).display())),
        None if Path::new(&context).is_dir() => {
            line.push(format!("--file={}", environment.absolute(&context).join(&filename).display()));
        }
        None if filename != "Dockerfile" => line.push(format!("--file={filename}")),
        None => {}
    }
    line.push(context);
    Ok((line, warnings))
}

/// Archives without a place go to standard output, as buildctl writes them.
fn complete(text: String) -> String {
    let archive = ["type=oci", "type=docker", "type=tar"].iter().any(|kind| text.split(',').any(|part| part == *kind));
    if archive && !text.contains("dest=") { text + ",dest=-" } else { text }
}

/// `--exporter=image --exporter-opt name=x --exporter-opt push=true`.
fn older(given: &Given) -> Outcome<Option<String>> {
    let Some(kind) = given.last("exporter") else { return Ok(None) };
    let mut text = format!("type={kind}");
    for option in given.all("exporter-opt") {
        let (key, value) = pair("exporter-opt", option)?;
        let key = if key == "output" { "dest" } else { key };
        text += &format!(",\"{key}={value}\"");
    }
    Ok(Some(complete(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let words: Vec<String> = text.split_whitespace().map(String::from).collect();
        let given = words::read(&[BUILD], &words, false).map_err(|error| error.message)?;
        let environment = Environment::of(&[], Path::new("/cwd"));
        line(&given, &environment).map(|(line, _)| line.join(" ")).map_err(|error| error.message)
    }

    #[test]
    fn builds() {
        let table = [
            (
                "--frontend dockerfile.v0 --local context=. --local dockerfile=d --output type=image,name=r/a:1,push=true",
                "build --output=type=image,name=r/a:1,push=true --file=/cwd/d/Dockerfile .",
            ),
            (
                "--frontend=dockerfile.v0 --opt context=https://h/a.git#main --opt filename=x --opt build-arg:A=b=c --opt target=t",
                "build --build-arg=A=b=c --target=t --file=x https://h/a.git#main",
            ),
            (
                "--frontend=gateway.v0 --opt source=docker/dockerfile:1 --opt context:b=docker-image://x --local context=/nowhere \
                 --exporter=docker --exporter-opt name=x --no-cache --import-cache type=registry,ref=c --export-cache type=inline",
                "build --build-context=b=docker-image://x --output=type=docker,\"name=x\",dest=- --cache-from=type=registry,ref=c \
                 --no-cache=true --cache-to type=inline /nowhere",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(read(text).as_deref(), Ok(expected));
        }
        for (text, message) in [
            (
                "--local context=.",
                "--frontend=dockerfile.v0 is missing: builds of LLB on standard input are not supported",
            ),
            ("--frontend=x", "--frontend=x: the one front end is dockerfile.v0"),
            ("--frontend=dockerfile.v0", "the context is missing: --local context=DIR, or --opt context=URL"),
            ("--frontend=dockerfile.v0 --opt nope=1", "--opt nope: dockless does not know this key"),
        ] {
            assert_eq!(read(text), Err(message.to_string()));
        }
    }
}
