//! The stages of a Dockerfile and what a build takes from its caller, on standard output, as `docker buildx build
//! --call=targets` and `--call=outline` have it.

use super::lines::clean;
use super::lint::{location, pretty};
use crate::build::Source;
use crate::build::check::{Outline, OutlineInput};
use crate::dockerfile::Dockerfile;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The stages, for people.
pub fn targets_text(file: &Dockerfile) -> String {
    let mut rows = vec![vec!["TARGET".to_string(), "DESCRIPTION".to_string()]];
    for (at, stage) in file.stages.iter().enumerate() {
        let name = match (&stage.name, at + 1 == file.stages.len()) {
            (None, true) => "(default)".to_string(),
            (Some(name), true) => format!("{name} (default)"),
            (name, false) => name.clone().unwrap_or_default(),
        };
        rows.push(vec![name, clean(stage.doc_comment.as_deref().unwrap_or_default().as_bytes())]);
    }
    super::table::narrow_table(&rows)
}

/// The stages, in the form of BuildKit's `result.json`.
pub fn targets_json(file: &Dockerfile, source: &Source) -> String {
    let last = file.stages.len().wrapping_sub(1);
    let targets = file.stages.iter().enumerate().map(|(at, stage)| {
        let texts = [
            ("name", stage.name.as_deref()),
            ("description", stage.doc_comment.as_deref()),
            ("base", Some(stage.base.as_str())),
            ("platform", stage.platform.as_deref()),
        ];
        let mut target = object(&texts);
        if at == last {
            target.insert("default".into(), true.into());
        }
        target.insert("location".into(), location(stage.span));
        Value::Object(target)
    });
    pretty(&json!({ "targets": targets.collect::<Vec<_>>(), "sources": [STANDARD.encode(&source.text)] }))
}

/// Those that are there.
fn object(texts: &[(&str, Option<&str>)]) -> Map<String, Value> {
    texts.iter().filter_map(|(key, text)| Some((key.to_string(), Value::from((*text)?)))).collect()
}

/// What a build takes, for people: tables with a blank line between them.
pub fn outline_text(outline: &Outline) -> String {
    let row = |cells: &[&str]| cells.iter().map(|cell| clean(cell.as_bytes())).collect::<Vec<_>>();
    let mut parts = Vec::new();
    let mut head = vec![row(&["TARGET:", outline.name.as_deref().unwrap_or("(default)")])];
    head.extend(outline.description.as_deref().map(|text| row(&["DESCRIPTION:", text])));
    parts.push(head);
    if !outline.args.is_empty() {
        let mut rows = vec![row(&["BUILD ARG", "VALUE", "DESCRIPTION"])];
        rows.extend(outline.args.iter().map(|arg| {
            row(&[&arg.name, arg.value.as_deref().unwrap_or_default(), arg.description.as_deref().unwrap_or_default()])
        }));
        parts.push(rows);
    }
    for (title, inputs) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !inputs.is_empty() {
            let mut rows = vec![row(&[title, "REQUIRED"])];
            rows.extend(inputs.iter().map(|input| row(&[&input.id, if input.required { "true" } else { "" }])));
            parts.push(rows);
        }
    }
    if !outline.caches.is_empty() {
        let mut rows = vec![row(&["CACHE"])];
        rows.extend(outline.caches.iter().map(|(id, _)| row(&[id])));
        parts.push(rows);
    }
    parts.iter().map(|rows| super::table::narrow_table(rows)).collect::<Vec<_>>().join("\n")
}

/// What a build takes, in the form of BuildKit's `result.json`.
pub fn outline_json(outline: &Outline, source: &Source) -> String {
    let mut document = object(&[("name", outline.name.as_deref()), ("description", outline.description.as_deref())]);
    let args = outline.args.iter().map(|arg| {
        let texts = [
            ("name", Some(arg.name.as_str())),
            ("description", arg.description.as_deref()),
            ("value", arg.value.as_deref()),
        ];
        let mut arg_object = object(&texts);
        arg_object.insert("location".into(), location(arg.span));
        Value::Object(arg_object)
    });
    let input = |input: &OutlineInput| {
        let mut map = object(&[("name", Some(&input.id))]);
        if input.required {
            map.insert("required".into(), true.into());
        }
        map.insert("location".into(), location(input.span));
        Value::Object(map)
    };
    let caches = outline.caches.iter().map(|(id, span)| json!({ "ID": id, "location": location(*span) }));
    let lists: [(&str, Vec<Value>); 4] = [
        ("args", args.collect()),
        ("secrets", outline.secrets.iter().map(input).collect()),
        ("ssh", outline.ssh.iter().map(input).collect()),
        ("cache", caches.collect()),
    ];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        document.insert(key.into(), list.into());
    }
    document.insert("sources".into(), json!([STANDARD.encode(&source.text)]));
    pretty(&Value::Object(document))
}
