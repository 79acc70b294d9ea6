//! `buildah …`: the verbs that jobs use, as verbs of ours.

mod flags;
mod push;
mod working;

pub use flags::GLOBAL;

use super::environment::Environment;
use super::tool::Tool;
use super::words::{self, Flag, Given};
use super::{Outcome, docker, print, usage};
use crate::ui::{self, Diagnostic, Kind, Look};
use flags::{
    BUILD, COMMIT, CONFIG, CONTAINERS, COPY, FROM, IMAGES, INSPECT, LOGIN, MOUNT, PULL, PUSH, RM, RMI, RUN, UNMOUNT,
};
use std::ffi::OsString;
use std::process::ExitCode;

/// A verb: its words, its flags, the verb of ours that it is.
pub const VERBS: &[(&str, &[Flag], &str)] = &[
    ("bud", BUILD, "build"),
    ("build", BUILD, "build"),
    ("build-using-dockerfile", BUILD, "build"),
    ("add", COPY, "copy into"),
    ("commit", COMMIT, "commit"),
    ("config", CONFIG, "configure"),
    ("containers", CONTAINERS, "ps"),
    ("copy", COPY, "copy into"),
    ("from", FROM, "create"),
    ("images", IMAGES, "images"),
    ("inspect", INSPECT, "inspect"),
    ("login", LOGIN, "login"),
    ("mount", MOUNT, "mount"),
    ("umount", UNMOUNT, "unmount"),
    ("unmount", UNMOUNT, "unmount"),
    ("logout", LOGIN, "logout"),
    ("pull", PULL, "pull"),
    ("push", PUSH, "push"),
    ("ps", CONTAINERS, "ps"),
    ("rm", RM, "rm"),
    ("rmi", RMI, "rmi"),
    ("run", RUN, "start"),
    ("tag", &[], "tag"),
];

struct Call<'a> {
    given: Given,
    environment: Environment,
    look: &'a mut Look,
}

impl Call<'_> {
    /// Carries out a verb of ours.
    fn native(&mut self, line: &[String]) -> Outcome<ExitCode> {
        let line =
            std::iter::once(Tool::Buildah.name().into()).chain(line.iter().cloned()).map(OsString::from).collect();
        super::perform(line, Tool::Buildah, &self.environment, self.look)
    }
}

/// Carries out a command line of buildah's.
pub fn perform(arguments: Vec<OsString>, environment: Environment, look: &mut Look) -> Outcome<ExitCode> {
    let words = docker::text(arguments.get(1..).unwrap_or_default())?;
    let globals = words::read(&[GLOBAL], &words, true)?;
    let (verb, rest) = match globals.arguments.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None if globals.is("version") => ("version", &[][..]),
        None => ("help", &[][..]),
    };
    match verb {
        "version" => return print(concat!("buildah version 1.44.0+dockless.", env!("CARGO_PKG_VERSION"), "\n")),
        "help" => return print(&help()),
        _ => {}
    }
    globals.warnings.iter().for_each(|text| ui::notice(*look, text));
    let environment = match globals.last("registries-conf") {
        Some(file) => environment.with("CONTAINERS_REGISTRIES_CONF", file),
        None => environment,
    };
    if verb == "manifest" {
        let line = [&["manifest".to_string()], rest].concat();
        return Call { given: Given::default(), environment, look }.native(&line);
    }
    let Some((_, table, native)) = VERBS.iter().find(|(known, ..)| *known == verb) else {
        let message = format!("buildah: '{verb}' is not something dockless does");
        let hint = "a Dockerfile does more than working containers: `buildah build`";
        return Err(Box::new(Diagnostic::new(Kind::Usage, message).hint(hint)));
    };
    let given = words::read(&[table], rest, verb == "run")?;
    given.warnings.iter().for_each(|text| ui::notice(*look, text));
    let environment = match given.last("authfile") {
        Some(file) => environment.with("REGISTRY_AUTH_FILE", file),
        None => environment,
    };
    let trust = (given.last("tls-verify") == Some("false")).then(|| "--insecure-registry=*".to_string());
    let mut call = Call { given, environment, look };
    match *native {
        "build" => {
            let line = build(&call, trust)?;
            call.native(&line)
        }
        "push" => push::push(&mut call, trust),
        "tag" => tag(&mut call),
        "rmi" if call.given.is("all") => rmi_all(&mut call),
        "create" => working::from(&mut call, trust),
        "start" => working::run(&mut call),
        "configure" => working::config(&mut call),
        "mount" => working::mount(&mut call),
        "unmount" => working::unmount(&mut call),
        "copy into" => working::copy(&mut call),
        "commit" => working::commit(&mut call, trust),
        "rm" => working::remove(&mut call),
        _ => {
            let mut line = vec![native.to_string()];
            line.extend(trust.filter(|_| *native != "logout"));
            line.extend(call.given.ours.iter().cloned());
            line.extend(about(native, &call)?);
            line.extend(call.given.arguments.iter().cloned());
            call.native(&line)
        }
    }
}

fn help() -> String {
    let verbs: String = VERBS.iter().map(|(verb, _, ours)| format!("  {verb:<24}dockless {ours}\n")).collect();
    format!(
        "Usage: buildah [FLAGS] COMMAND\n\nThis is dockless: buildah's command line.\n\nCommands:\n{verbs}  manifest                dockless manifest\n"
    )
}

/// The flags of our verb that are no plain translation.
fn about(native: &str, call: &Call<'_>) -> Outcome<Vec<String>> {
    let given = &call.given;
    let mut line = Vec::new();
    match native {
        "pull" => {
            line.extend(platform(given)?);
            line.push("--quiet".into());
            if given.last("policy") == Some("never") {
                return Err(usage(
                    "--policy=never is not supported: the image is in the store already, or it is pulled",
                ));
            }
        }
        "ps" => line.push("--all".into()),
        "images" if given.is("json") => line.push("--format=json".into()),
        "images" if given.is("noheading") => {
            line.push(r"--format={{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}".into());
        }
        "inspect" if !matches!(given.last("type"), None | Some("image")) => {
            return Err(usage("--type: there are images only"));
        }
        _ => {}
    }
    Ok(line)
}

/// `--os`, `--arch` and `--variant`, as one platform.
fn platform(given: &Given) -> Outcome<Option<String>> {
    let host = crate::oci::Platform::host();
    match (given.last("os"), given.last("arch"), given.last("variant")) {
        (None, None, None) => Ok(None),
        _ if given.last("platform").is_some() => Err(usage("--platform excludes --os, --arch and --variant")),
        (os, arch, variant) => {
            let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
            Ok(Some(format!("--platform={}/{}{variant}", os.unwrap_or(&host.os), arch.unwrap_or(&host.architecture))))
        }
    }
}

/// `build`, as ours.
fn build(call: &Call<'_>, trust: Option<String>) -> Outcome<Vec<String>> {
    let (given, environment) = (&call.given, &call.environment);
    let mut line = vec!["build".to_string(), "--run-exit-code".into()];
    line.extend(trust);
    line.extend(platform(given)?);
    for file in given.all("build-arg-file") {
        let text = fs_err::read_to_string(environment.absolute(file));
        let text = text.map_err(|error| Box::new(Diagnostic::from_error(Kind::Usage, &error)))?;
        let pairs = text.lines().map(str::trim).filter(|text| !text.is_empty() && !text.starts_with('#'));
        line.extend(pairs.map(|pair| format!("--build-arg={pair}")));
    }
    for flag in ["cache-from", "cache-to"] {
        let mode = if flag == "cache-to" { ",mode=max" } else { "" };
        line.extend(given.all(flag).map(|repository| format!("--{flag}=type=registry,ref={repository}{mode}")));
    }
    match given.last("compression-format") {
        None | Some("gzip") => {}
        Some(other) => return Err(usage(format!("--compression-format={other} is not supported: layers are gzip"))),
    }
    line.extend(given.all("manifest").map(|name| format!("--tag={name}")));
    match given.last("network") {
        None | Some("private" | "slirp4netns" | "pasta" | "default") => {}
        Some(mode) => line.push(format!("--network={mode}")),
    }
    if given.is("pull") {
        line.push("--pull".into());
    }
    let epoch = given.last("timestamp").or(given.last("source-date-epoch"));
    line.extend(epoch.map(|seconds| format!("--build-arg=SOURCE_DATE_EPOCH={seconds}")));
    if given.last("timestamp").is_some() {
        line.push("--rewrite-timestamp".into());
    }
    let context = match &given.arguments[..] {
        [] => ".".to_string(),
        [only] => only.clone(),
        _ => return Err(usage("expected one context")),
    };
    let files: Vec<&str> = given.all("file").collect();
    match files[..] {
        [] => {}
        [file] => {
            let inside = environment.absolute(&context).join(file);
            let there = !environment.absolute(file).is_file() && inside.is_file();
            line.push(if there { format!("--file={}", inside.display()) } else { format!("--file={file}") });
        }
        _ => return Err(usage("--file: one Dockerfile is read; several are not put together")),
    }
    line.extend(given.ours.iter().cloned());
    line.push(context);
    Ok(line)
}

fn tag(call: &mut Call<'_>) -> Outcome<ExitCode> {
    let words = call.given.arguments.clone();
    let Some((source, names)) = words.split_first().filter(|(_, names)| !names.is_empty()) else {
        return Err(usage("name the image, and its new names"));
    };
    for name in names {
        call.native(&["tag".to_string(), source.clone(), name.clone()])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rmi_all(call: &mut Call<'_>) -> Outcome<ExitCode> {
    let state = super::state::Places::find(&call.environment).state;
    let store = state.exists().then(|| crate::store::Store::open(&state)).transpose()?;
    let names = store.map(|store| store.names()).transpose()?.unwrap_or_default();
    if names.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let line: Vec<String> =
        std::iter::once("rmi".to_string()).chain(names.iter().map(|(name, _)| name.to_string())).collect();
    call.native(&line)
}
