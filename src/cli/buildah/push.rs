//! `buildah push IMAGE [DESTINATION]`: to a registry, or into an archive.

use super::Call;
use crate::cli::network::ReachArgs;
use crate::cli::transfer::screen;
use crate::cli::{Outcome, go, reference, state, usage};
use crate::images::{self, Saved, Target};
use crate::oci::{Platform, Reference};
use crate::store::{Image, Store};
use crate::ui::{Diagnostic, Kind};
use std::path::PathBuf;
use std::process::ExitCode;

/// Where an image goes to.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    Registry(String),
    /// A file, and the name in it.
    DockerArchive(PathBuf, Option<String>),
    OciArchive(PathBuf, Option<String>),
    Layout(PathBuf, Option<String>),
}

/// Reads `docker://NAME`, `oci:DIR:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME`, or a name alone.
/// Spec: containers-transports(5).
fn destination(text: &str, absolute: impl Fn(&str) -> PathBuf) -> Outcome<Destination> {
    if let Some(name) = text.strip_prefix("docker://") {
        return Ok(Destination::Registry(name.to_string()));
    }
    let (transport, rest) = text.split_once(':').unwrap_or((text, ""));
    let (path, name) = match rest.split_once(':') {
        Some((path, name)) => (absolute(path), Some(name.to_string())),
        None => (absolute(rest), None),
    };
    Ok(match transport {
        "docker-archive" => Destination::DockerArchive(path, name),
        "oci-archive" => Destination::OciArchive(path, name),
        "oci" => Destination::Layout(path, name),
        "dir" | "docker-daemon" | "containers-storage" | "ostree" | "sif" if rest.starts_with(['/', '.', '[']) => {
            return Err(usage(format!("'{transport}:' is not a place that dockless pushes to")));
        }
        _ => Destination::Registry(text.to_string()),
    })
}

/// Pushes.
pub fn push(call: &mut Call<'_>, trust: Option<String>) -> Outcome<ExitCode> {
    let words = call.given.arguments.clone();
    let (source, to) = match &words[..] {
        [source] => (source, source),
        [source, to] => (source, to),
        _ => return Err(usage("name the image, and where it goes if that is not its name")),
    };
    match call.given.last("compression-format") {
        None | Some("gzip") => {}
        Some(other) => return Err(usage(format!("--compression-format={other} is not supported: layers are gzip"))),
    }
    let state = state::Places::find(&call.environment).state;
    let store = Store::open(&state)?;
    let found = images::find(&store, source)?;
    let environment = &call.environment;
    let done = match destination(to, |path| environment.absolute(path))? {
        Destination::Registry(name) => {
            let name = reference(&name)?;
            if found.reference.as_ref() != Some(&name) {
                store.tag(&name, &found.target)?;
            }
            let mut line = vec!["push".to_string(), "--quiet".into()];
            line.extend(trust);
            line.extend(call.given.ours.iter().cloned());
            line.push(name.to_string());
            let done = call.native(&line)?;
            if done == ExitCode::SUCCESS && found.reference.as_ref() != Some(&name) && words.len() == 2 {
                store.untag(&name)?;
            }
            done
        }
        archive => save(call, &store, &found.target, archive)?,
    };
    if let (Some(file), true) = (call.given.last("digestfile"), done == ExitCode::SUCCESS) {
        let written = fs_err::write(call.environment.absolute(file), found.target.digest().to_string());
        written.map_err(|error| Box::new(Diagnostic::from_error(Kind::Environment, &error)))?;
    }
    if let (Some(name), true) = (&found.reference, call.given.is("rm") && done == ExitCode::SUCCESS) {
        store.untag(name)?;
    }
    Ok(done)
}

/// Writes an archive; layers that were not needed so far are fetched.
fn save(call: &Call<'_>, store: &Store, target: &crate::oci::Descriptor, to: Destination) -> Outcome<ExitCode> {
    let state = state::Places::find(&call.environment).state;
    let client = ReachArgs::default().network(&call.environment, &state, &[])?.client()?;
    let platform = Platform::host();
    go(&screen(*call.look, true), |screen| {
        for layer in &Image::load(store, target, &platform)?.layers {
            client.ensure_known(store, &layer.digest, screen)?;
        }
        let named =
            |name: &Option<String>| name.as_deref().map(reference).transpose().map(|name| name.into_iter().collect());
        // A layout's name is a tag alone; a reference of that tag writes it.
        let tagged = |name: &Option<String>| -> Outcome<Vec<Reference>> {
            let name = name.as_ref().map(|tag| if tag.contains('/') { tag.clone() } else { format!("image:{tag}") });
            Ok(name.as_deref().map(reference).transpose()?.into_iter().collect())
        };
        match &to {
            Destination::DockerArchive(path, name) => {
                let saved = Saved { target: target.clone(), names: named(name)? };
                images::save_docker(store, &[saved], &platform, Target::File(path))?;
            }
            Destination::OciArchive(path, name) => images::save_oci(store, target, &tagged(name)?, Target::File(path))?,
            Destination::Layout(path, name) => {
                images::save_oci(store, target, &tagged(name)?, Target::Directory(path))?
            }
            Destination::Registry(_) => {}
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_images_go() {
        let read = |text| destination(text, |path| PathBuf::from("/cwd").join(path)).map_err(|error| error.message);
        let registry = |name: &str| Ok(Destination::Registry(name.into()));
        assert_eq!(read("docker://r.io/a:1"), registry("r.io/a:1"));
        assert_eq!(read("localhost:5000/a"), registry("localhost:5000/a"));
        assert_eq!(read("oci:dir:tag"), Ok(Destination::Layout("/cwd/dir".into(), Some("tag".into()))));
        assert_eq!(read("oci-archive:/f.tar"), Ok(Destination::OciArchive("/f.tar".into(), None)));
        let named = Destination::DockerArchive("/cwd/f".into(), Some("r/a:1".into()));
        assert_eq!(read("docker-archive:f:r/a:1"), Ok(named));
        assert_eq!(read("dir:/x"), Err("'dir:' is not a place that dockless pushes to".into()));
    }
}
