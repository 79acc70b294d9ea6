//! `docker buildx imagetools`: indexes made in a registry out of images that are there, and a look at what a name stands for.

use super::Call;
use crate::cli::format::formatted;
use crate::cli::inspect::pretty;
use crate::cli::network::ReachArgs;
use crate::cli::transfer::screen;
use crate::cli::words::{Does, Flag, switch, value};
use crate::cli::{Outcome, go, print, reference, usage};
use crate::images::{self, index};
use crate::oci::manifest::is_index;
use crate::oci::{Platform, Reference};
use crate::store::Store;
use crate::ui;
use serde_json::{Value, json};
use std::process::ExitCode;

const NO_BUILDER: Does = Does::Ignored("there is one builder: this process");

pub const CREATE: &[Flag] = &[
    value("annotation", Does::Own("an annotation of the index: `[index:]NAME=VALUE`")),
    switch("append", Does::Own("adds to the index that the name stands for")),
    value("builder", NO_BUILDER),
    switch("dry-run", Does::Own("prints the index, and writes nothing")),
    value("file", Does::Refused("name the images as arguments")).short('f'),
    value("metadata-file", Does::Refused("the digest is printed")),
    value("platform", Does::Refused("name the image of the platform by its digest")).short('p'),
    switch("prefer-index", Does::Own("`false`: one image is given the name as it is, without an index")),
    value("progress", Does::Ignored("progress is shown as always")),
    value("tag", Does::Own("the name of the index; the index is made for the first, the others are copies")).short('t'),
];
pub const INSPECT: &[Flag] = &[
    value("builder", NO_BUILDER),
    value("format", Does::Own("a Go template over `.Name` and `.Manifest`, or `{{json .Manifest}}`")),
    switch("raw", Does::Own("the document as it is")),
];

pub fn create(call: &Call<'_>) -> Outcome<ExitCode> {
    let given = &call.given;
    let names = given.all("tag").map(reference).collect::<Outcome<Vec<_>>>()?;
    let mut sources = given.arguments.iter().map(|text| reference(text)).collect::<Outcome<Vec<_>>>()?;
    let Some(first) = names.first().cloned() else {
        return Err(usage("name the index: --tag REGISTRY/REPOSITORY:TAG"));
    };
    if given.is("append") {
        sources.insert(0, first.clone());
    }
    if sources.is_empty() {
        return Err(usage("name the images that the index is to hold"));
    }
    let annotations = given.all("annotation").map(annotation).collect::<Outcome<Vec<_>>>()?;
    let named: Vec<&Reference> = names.iter().chain(&sources).collect();
    let client = ReachArgs::default().network(call.environment, &call.state, &named)?.client()?;
    let store = Store::open(&call.state)?;
    go(&screen(call.look, true), |screen| {
        let lone = match &sources[..] {
            [only] if annotations.is_empty() => {
                let (_, target, _) = client.locate(only, screen)?;
                (is_index(target.media_type().as_ref()) || given.last("prefer-index") == Some("false")).then_some(only)
            }
            _ => None,
        };
        if let (Some(only), false) = (lone, given.is("dry-run")) {
            for name in &names {
                let copied = client.copy_image(only, name, None, screen).map_err(|e| ui::push_failure(&e, name))?;
                print(&format!("{name}: digest: {}\n", copied.digest()))?;
            }
            return Ok(());
        }
        let (target, bytes) = index::assemble(&store, &client, &sources, &annotations, screen)?;
        if given.is("dry-run") {
            let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            return print(&pretty(&document)).map(drop);
        }
        for name in &names {
            client.push_image(&store, &target, name, screen).map_err(|error| ui::push_failure(&error, name))?;
            print(&format!("{name}: digest: {}\n", target.digest()))?;
        }
        Ok(())
    })
}

/// `[index:]NAME=VALUE`.
fn annotation(text: &str) -> Outcome<(String, String)> {
    let wrong = || usage(format!("--annotation '{text}': expected [index:]NAME=VALUE"));
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    match name.split_once(':') {
        Some(("index", name)) if !name.is_empty() => Ok((name.into(), value.into())),
        Some((place, _)) => {
            Err(usage(format!("--annotation '{text}': '{place}' cannot be annotated here, only index")))
        }
        None if name.is_empty() => Err(wrong()),
        None => Ok((name.into(), value.into())),
    }
}

pub fn inspect(call: &Call<'_>) -> Outcome<ExitCode> {
    let name = reference(call.one("name")?)?;
    let client = ReachArgs::default().network(call.environment, &call.state, &[&name])?.client()?;
    go(&screen(call.look, true), |screen| {
        let (_, target, bytes) = client.locate(&name, screen)?;
        if call.given.is("raw") {
            return print(&String::from_utf8_lossy(&bytes)).map(drop);
        }
        let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let mut manifest = json!(target);
        if let (Some(manifest), Some(document)) = (manifest.as_object_mut(), document.as_object()) {
            manifest.extend(document.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        if let Some(format) = call.given.last("format") {
            let image = match format.contains(".Image") {
                true => images::inspect_remote(&client, &name, &Platform::host(), screen)?,
                false => Value::Null,
            };
            let value = json!({ "Name": name.to_string(), "Manifest": capital(&manifest), "Image": image });
            return print(&formatted(Some(format), &[value])?).map(drop);
        }
        let mut text =
            format!("Name:      {name}\nMediaType: {}\nDigest:    {}\n", target.media_type().as_ref(), target.digest());
        for entry in document["manifests"].as_array().into_iter().flatten() {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
            let platform = &entry["platform"];
            let parts = [word(&platform["os"]), word(&platform["architecture"]), word(&platform["variant"])];
            let platform = parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("/");
            text += &format!(
                "\n  Name:      {}@{}\n  MediaType: {}\n  Platform:  {platform}\n",
                name.familiar_repository(),
                word(&entry["digest"]),
                word(&entry["mediaType"])
            );
        }
        print(&text).map(drop)
    })
}

/// The same object with its keys as Go's fields too, so that both `.Manifest.digest` and `.Manifest.Digest` are found.
fn capital(value: &Value) -> Value {
    let Some(map) = value.as_object() else { return value.clone() };
    let upper = |key: &str| key[..1].to_uppercase() + &key[1..];
    let both = map.iter().filter(|(key, _)| key.is_char_boundary(1)).map(|(key, value)| (upper(key), value.clone()));
    both.chain(map.iter().map(|(key, value)| (key.clone(), value.clone()))).collect::<serde_json::Map<_, _>>().into()
}
