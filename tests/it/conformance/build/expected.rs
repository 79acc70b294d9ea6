//! A successful build against its recording.

use super::super::{Case, difference};
use super::layers::{self, Image, Node};
use super::{Outcome, bench};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub fn compare(case: &Case, outcome: &Outcome) -> Result<(), String> {
    let wanted = case.expect["images"].as_array().expect("images");
    let mut differences = Vec::new();
    match outcome.images.len() == wanted.len() {
        true => wanted.iter().zip(&outcome.images).for_each(|(want, image)| {
            differences.extend(differences_of(case, outcome, want, image).into_iter().map(|difference| {
                match wanted.len() {
                    1 => difference,
                    _ => format!("{}: {difference}", want["platform"]),
                }
            }));
        }),
        false => {
            differences.push(format!("{} images were expected, {} were built", wanted.len(), outcome.images.len()));
        }
    }
    differences.extend(warnings(&case.expect, &outcome.warnings).err());
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
}

/// Where one platform's image is not the one that is wanted.
fn differences_of(case: &Case, outcome: &Outcome, want: &Value, image: &Image) -> Vec<String> {
    let skip: BTreeSet<&str> = strings(&case.expect["nondeterministic"]).collect();
    let mut differences = Vec::new();
    let mut note = |result: Result<(), String>| differences.extend(result.err());
    note(difference(&want["platform"], &platform(&image.config).into(), "platform"));
    if !skip.contains("#config") {
        note(difference(&want["config"], &named(&image.config["config"], &outcome.http), "config"));
    }
    note(times(want, &image.config));
    if !skip.contains("#history") {
        note(history(want, &image.config, &outcome.http));
    }
    note(files(want, image, &skip, &outcome.http));
    differences
}

/// A config in which the server has the name that the recordings give it.
fn named(config: &Value, http: &str) -> Value {
    let text = config.to_string().replace(http, "@HTTP@");
    serde_json::from_str(&text).expect("JSON as before")
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn platform(config: &Value) -> String {
    let part = |name: &str| config[name].as_str().map(str::to_string);
    [part("os"), part("architecture"), part("variant")].into_iter().flatten().collect::<Vec<_>>().join("/")
}

/// `created`, `history_created` and `author`, where they were recorded.
fn times(want: &Value, config: &Value) -> Result<(), String> {
    for name in ["created", "author"] {
        if want.get(name).is_some() {
            difference(&want[name], &config[name], name)?;
        }
    }
    if want.get("history_created").is_some() {
        let created: Vec<_> =
            config["history"].as_array().into_iter().flatten().map(|entry| entry["created"].clone()).collect();
        difference(&want["history_created"], &created.into(), "history_created")?;
    }
    Ok(())
}

fn history(want: &Value, config: &Value, http: &str) -> Result<(), String> {
    let base = want["base_history_stripped"].as_u64().unwrap_or_default() as usize;
    let own: Vec<Value> = config["history"]
        .as_array()
        .into_iter()
        .flatten()
        .skip(base)
        .map(|entry| {
            let mut entry = entry.as_object().cloned().unwrap_or_default();
            // Compared by `times`, where they were recorded.
            entry.remove("created");
            entry.remove("author");
            if let Some(text) = entry.get("created_by").and_then(Value::as_str).map(|text| text.replace(http, "@HTTP@"))
            {
                entry.insert("created_by".into(), text.into());
            }
            entry.into()
        })
        .collect();
    difference(&want["history"], &own.into(), "history")
}

fn files(want: &Value, image: &Image, skip: &BTreeSet<&str>, http: &str) -> Result<(), String> {
    difference(&want["layer_count"], &image.layers.len().into(), "layer_count")?;
    let base = want["base_layers"].as_u64().unwrap_or_default() as usize;
    let own = &image.layers[base..];
    // The root's own entry says nothing that a runtime reads; the recordings leave it out.
    let paths: Vec<BTreeSet<&str>> =
        own.iter().map(|layer| layer.keys().map(String::as_str).filter(|path| *path != "/").collect()).collect();
    let wanted_paths: Vec<BTreeSet<&str>> =
        want["layer_paths"].as_array().into_iter().flatten().map(|layer| strings(layer).collect()).collect();
    difference(&json!(wanted_paths), &json!(paths), "layer_paths")?;
    let merged = layers::merge(own.iter().map(copy).collect());
    let want: BTreeMap<&str, &Map<String, Value>> = want["files"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|file| Some((file["path"].as_str()?, file.as_object()?)))
        .collect();
    let got: BTreeSet<&str> = merged.keys().map(String::as_str).filter(|path| *path != "/").collect();
    if let Some(path) = want.keys().find(|path| !got.contains(*path)) {
        return Err(format!("{path}: missing"));
    }
    if let Some(path) = got.iter().find(|path| !want.contains_key(*path)) {
        return Err(format!("{path}: should not be there"));
    }
    let (links, wanted_links) = (links(&merged), wanted_links(&want));
    for (path, want) in want {
        if !skip.contains(path) {
            file(path, want, &merged[path], http)?;
        }
        if links.get(path) != wanted_links.get(path) {
            return Err(format!("{path}: expected the links {:?}, got {:?}", wanted_links.get(path), links.get(path)));
        }
    }
    Ok(())
}

fn copy(layer: &layers::Layer) -> layers::Layer {
    let node =
        |node: &Node| Node { fields: node.fields.clone(), content: node.content.clone(), link: node.link.clone() };
    layer.iter().map(|(path, entry)| (path.clone(), node(entry))).collect()
}

/// The names of each inode that has several.
fn links(merged: &BTreeMap<String, Node>) -> BTreeMap<&str, BTreeSet<&str>> {
    groups(merged.iter().filter_map(|(path, node)| Some((path.as_str(), node.link.as_deref()?))))
}

fn wanted_links<'a>(want: &BTreeMap<&'a str, &'a Map<String, Value>>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    groups(want.iter().filter_map(|(path, file)| Some((*path, file.get("hardlink")?.as_str()?))))
}

fn groups<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, first) in pairs {
        groups.entry(first).or_default().extend([path, first]);
    }
    groups.values().flat_map(|names| names.iter().map(|name| (*name, names.clone()))).collect()
}

fn file(path: &str, want: &Map<String, Value>, got: &Node, http: &str) -> Result<(), String> {
    for (key, value) in want {
        match key.as_str() {
            "path" | "hardlink" => {}
            // Compared with the content, which may hold an address.
            "size" => {}
            "content" => {
                let got = String::from_utf8_lossy(&got.content).replace(http, "@HTTP@");
                difference(value, &got.into(), &format!("{path}.content"))?;
            }
            "sha256" => difference(value, &layers::sha256(&got.content).into(), &format!("{path}.sha256"))?,
            key => difference(value, got.fields.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"))?,
        }
    }
    // A directory's own time is not looked at: where something in it changed, it may be the parent image's.
    let now = matches!(want["type"].as_str(), Some("file" | "symlink")) && !want.contains_key("mtime");
    if now && got.fields["mtime"].as_u64() < Some(bench::started() - 5) {
        return Err(format!("{path}.mtime: expected the time of the build, got {}", got.fields["mtime"]));
    }
    Ok(())
}

fn warnings(expect: &Value, got: &[String]) -> Result<(), String> {
    let mut want: Vec<&str> =
        expect["warnings"].as_array().into_iter().flatten().filter_map(|warning| warning["text"].as_str()).collect();
    // What the builder itself has to say (of flags it ignores, for example) names no line.
    // `(Dockerfile:3)` here, `(line 3)` there.
    let lint = |text: &String| {
        let (head, place) = text.strip_suffix(')')?.rsplit_once(" (")?;
        let line = place.rsplit_once(':')?.1.parse::<u32>().ok()?;
        Some(format!("{head} (line {line})"))
    };
    let mut got: Vec<String> = got.iter().filter_map(lint).collect();
    want.sort_unstable();
    got.sort_unstable();
    if want == got { Ok(()) } else { Err(format!("warnings: expected {want:?}, got {got:?}")) }
}
