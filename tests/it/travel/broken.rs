//! Caches that are damaged, foreign or lie: each is a warning, and the image is what it is without them.

use super::{Job, Project};
use crate::support::registry::Registry;
use dockless::oci::Digest;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn project(base: &str) -> Project {
    let dockerfile = format!("FROM {base}\nRUN echo one > /one\nCOPY f /f\nRUN cat /one /f > /both\n");
    Project::default().with("Dockerfile", dockerfile).with("f", "x")
}

/// The cache in `dir` with its config changed: index, manifest and config fit together.
fn change(dir: &Path, edit: impl FnOnce(&mut Value)) {
    let blob = |digest: &str| dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let put = |value: &Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::sha256(&bytes).to_string();
        fs::write(blob(&digest), &bytes).unwrap();
        json!({"digest": digest, "size": bytes.len()})
    };
    let mut index = read(dir.join("index.json"));
    let mut manifest = read(blob(index["manifests"][0]["digest"].as_str().unwrap()));
    let mut config = read(blob(manifest["config"]["digest"].as_str().unwrap()));
    edit(&mut config);
    let merge =
        |into: &mut Value, from: Value| ["digest", "size"].into_iter().for_each(|key| into[key] = from[key].clone());
    merge(&mut manifest["config"], put(&config));
    merge(&mut index["manifests"][0], put(&manifest));
    fs::write(dir.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
}

#[test]
fn a_damaged_cache_is_a_warning_and_a_rebuild() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let project = project(&base);
    let shared = tempfile::tempdir().unwrap();
    let whole = shared.path().join("whole");
    Job::new(&project).build(&format!("--cache-to type=local,dest={}", whole.display()));
    let blobs = |dir: &Path| {
        let entries = fs::read_dir(dir.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
        entries.collect::<Vec<_>>()
    };
    let zero = format!("sha256:{}", "0".repeat(64));
    type Damage<'a> = Box<dyn Fn(&Path) + 'a>;
    let damages: Vec<(&str, &str, Damage<'_>)> = vec![
        ("no-index", "warning: --cache-from", Box::new(|dir| fs::remove_file(dir.join("index.json")).unwrap())),
        ("a-torn-index", "cannot be read", Box::new(|dir| fs::write(dir.join("index.json"), "{\"sch").unwrap())),
        (
            "later",
            "later version",
            Box::new(|dir| change(dir, |config| config["dockless.cache"]["version"] = json!(99))),
        ),
        ("foreign", "no records", Box::new(|dir| change(dir, |config| config["dockless.cache"] = Value::Null))),
        (
            "nonsense",
            "records are not used",
            Box::new(|dir| change(dir, |config| config["dockless.cache"]["steps"] = json!("x"))),
        ),
        // Layers and documents with other bytes, or none.
        (
            "other-bytes",
            "does not hold what its name says",
            Box::new(|dir| blobs(dir).iter().for_each(|b| fs::write(b, "garbage").unwrap())),
        ),
        (
            "torn-layers",
            "cannot be had",
            Box::new(|dir| {
                let large = blobs(dir).into_iter().filter(|b| fs::read(b).unwrap().starts_with(&[0x1f, 0x8b]));
                large.for_each(|blob| fs::write(&blob, &fs::read(&blob).unwrap()[..60]).unwrap());
            }),
        ),
        (
            "no-layers",
            "cannot be had",
            Box::new(|dir| {
                let layers = blobs(dir).into_iter().filter(|b| fs::read(b).unwrap().starts_with(&[0x1f, 0x8b]));
                layers.for_each(|blob| fs::remove_file(blob).unwrap());
            }),
        ),
        (
            "lists-of-nothing",
            "is not used",
            Box::new(|dir| {
                let lists =
                    blobs(dir).into_iter().filter(|b| fs::read(b).unwrap().starts_with(b"dockless/layer-files"));
                lists.for_each(|blob| fs::write(blob, "garbage").unwrap());
                // What earlier steps saw is looked at before the lists are.
                change(dir, |config| config["dockless.cache"]["details"] = Value::Null);
            }),
        ),
        (
            "details-of-nothing",
            "the details of its steps cannot be read",
            Box::new(|dir| change(dir, |config| config["dockless.cache"]["details"] = json!("AAAA"))),
        ),
        // A record whose layer is another step's would be a lie that nobody can see; one of no layer at all is none.
        (
            "dangling",
            "",
            Box::new(|dir| {
                change(dir, |config| {
                    for step in config["dockless.cache"]["steps"].as_array_mut().unwrap() {
                        if step["layer"].is_object() {
                            step["layer"]["diff_id"] = json!(zero);
                        }
                    }
                })
            }),
        ),
    ];
    for (what, words, damage) in damages {
        let dir = shared.path().join(what);
        crate::build::place::tool("cp", ["-r", whole.to_str().unwrap(), dir.to_str().unwrap()]);
        damage(&dir);
        // A step reads what is there: a changed file under the last RUN.
        let job = Job::new(&project.with("f", "y"));
        let log = job.build(&format!("--cache-from type=local,src={} -o type=local,dest=out", dir.display()));
        log.says(words);
        assert_eq!(fs::read_to_string(job.place.path("out/both")).unwrap(), "one\ny", "{what}");
    }
}
