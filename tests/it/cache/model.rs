//! The model: after any sequence of edits, a build that may use the cache gives the image that `--no-cache` gives.
//!
//! `DOCKLESS_MODEL_HISTORIES=500` runs so many histories, `DOCKLESS_MODEL_SEED=N` the one with that seed alone.

use super::project::Project;
use super::workshop::{Busybox, Log, Workshop, name, options, place};
use dockless::build::{BuildOptions, Built};
use dockless::oci::{Digest, Platform};
use dockless::store::{Image, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Edits of a history.
const EDITS: usize = 8;
/// Histories that every run of the tests goes through.
const HISTORIES: u64 = 24;
/// The second layer of each of the bases.
const BASES: &[&[(&str, &str)]] = &[
    &[("base-is", "0"), ("etc/", ""), ("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:7:8::/:/bin/sh\n")],
    &[("base-is", "1"), ("etc/", ""), ("etc/passwd", "app:x:9:10::/:/bin/sh\n"), ("link", "->/srv/led")],
    &[("base-is", "0"), ("app/", ""), ("app/x", "the base's"), ("o", "->app"), ("srv/", "")],
];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_cached_build_gives_the_image_of_one_without_a_cache() {
    let (workshop, busybox) = (Workshop::new("the model"), Busybox::read());
    let seeds = match number("DOCKLESS_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DOCKLESS_MODEL_HISTORIES").unwrap_or(HISTORIES),
    };
    let (next, hits) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    hits.fetch_add(history(seed, &workshop, &busybox), Ordering::SeqCst);
                }
            });
        }
    });
    // A cache that never hits is always right.
    assert!(hits.into_inner() > seeds.count() as u64, "next to nothing was found in the cache");
}

/// One project through all its edits; how many steps were found in the cache.
fn history(seed: u64, workshop: &Workshop, busybox: &Busybox) -> u64 {
    let dir = place();
    let context = dir.path().join("context");
    fs::create_dir(&context).unwrap();
    let [store, plain] = ["cached", "plain"].map(|name| Store::open(&dir.path().join(name)).unwrap());
    let mut project = Project::new(seed, workshop.runs(), &context);
    let (mut edits, mut hits) = (vec!["a new project".to_string()], 0);
    for round in 0..=EDITS {
        if round > 0 {
            edits.push(project.edit(&context).join("; "));
        }
        fs::write(context.join("Dockerfile"), project.dockerfile()).unwrap();
        for store in [&store, &plain] {
            let base = busybox.put(store, BASES[project.base]);
            store.tag(&name("docker.io/library/base:latest"), &base).unwrap();
        }
        // With one time for all the images are the same bytes. Without, a file that is written again as it was is in a
        // layer or not, by the second in which it happens: then the trees that come out are the same but for times.
        let epoch = seed.is_multiple_of(2).then_some(1_000_000_000);
        let mut wanted = wanted(&project, &context, epoch);
        let log = Log::default();
        let cached = workshop.build(&store, &wanted, &log);
        wanted.no_cache = true;
        let fresh = workshop.build(&plain, &wanted, &Log::default());
        hits += log.steps().1.len() as u64;
        let same = match (&cached, &fresh) {
            (Ok(cached), Ok(fresh)) => match epoch {
                Some(_) => cached.image.descriptor == fresh.image.descriptor,
                None => shape(&store, cached, true) == shape(&plain, fresh, true),
            },
            (Err(ours), Err(theirs)) => ours.to_string() == theirs.to_string() || project.has_stages(),
            _ => false,
        };
        if !same {
            let shown = |store: &Store, built: &Result<Built, _>| match built {
                Ok(built) => serde_json::to_string_pretty(&shape(store, built, false)).unwrap(),
                Err(error) => format!("{error}: {error:?}"),
            };
            let (cached, fresh) = (shown(&store, &cached), shown(&plain, &fresh));
            let (text, edits) = (project.dockerfile(), edits.join("\n  "));
            let flags = format!("{:?} {:?} {:?}", project.args, project.labels, project.target);
            panic!(
                "DOCKLESS_MODEL_SEED={seed}, after these edits:\n  {edits}\n{text}\nflags: {flags}\n{}\n\
                 with the cache: {cached}\nwithout: {fresh}",
                log.text(),
            );
        }
    }
    hits
}

fn wanted(project: &Project, context: &Path, epoch: Option<i64>) -> BuildOptions {
    BuildOptions {
        build_args: project.args.iter().map(|(name, value)| (name.to_string(), Some(value.to_string()))).collect(),
        labels: project.labels.clone(),
        target: project.target.map(|stage| format!("s{stage}")),
        source_date_epoch: epoch,
        rewrite_timestamp: epoch.is_some(),
        ..options(context)
    }
}

/// An image without its times: its config, and what is in each layer, or in all of them together.
fn shape(store: &Store, built: &Built, together: bool) -> Value {
    let image = Image::load(store, &built.image.descriptor, &Platform::host()).unwrap();
    let mut config = serde_json::to_value(&image.config).unwrap();
    config["created"] = Value::Null;
    config["rootfs"] = Value::Null;
    // It names layers by digests of them with their times.
    config["dockless.cache"] = Value::Null;
    for entry in config["history"].as_array_mut().into_iter().flatten() {
        entry["created"] = Value::Null;
    }
    let layers: Vec<Entries> = image.layers.iter().map(|layer| entries(store, &layer.digest)).collect();
    json!({"config": config, "layers": if together { vec![merged(layers)] } else { layers }})
}

/// The tree of layers, bottom first.
fn merged(layers: Vec<Entries>) -> Entries {
    let mut tree = Entries::new();
    for layer in layers {
        for path in layer.keys() {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            let gone = match name.strip_prefix(".wh.") {
                Some(".wh..opq") => format!("{dir}/"),
                Some(hidden) if dir.is_empty() => hidden.to_string(),
                Some(hidden) => format!("{dir}/{hidden}"),
                None => path.trim_end_matches('/').to_string(),
            };
            // What replaces a directory hides what was below it; a directory hides a file of its name alone.
            let below = format!("{}/", gone.trim_end_matches('/'));
            tree.retain(|old, _| *old != gone && (path.ends_with('/') && name.is_empty() || !old.starts_with(&below)));
        }
        tree.extend(layer.into_iter().filter(|(path, _)| !path.contains(".wh.")));
    }
    tree
}

type Entries = BTreeMap<String, String>;

/// What a layer holds, without times.
fn entries(store: &Store, layer: &Digest) -> Entries {
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(store.open_blob(layer).unwrap()).read_to_end(&mut tar).unwrap();
    if tar.len() > 1 << 20 {
        // Busybox.
        return Entries::from([(layer.to_string(), String::new())]);
    }
    let mut out = Entries::new();
    for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let said = format!(
            "{:?} {:o} {}:{} {:?}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            entry.link_name().unwrap(),
        );
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        out.insert(path, format!("{said} {:?}", String::from_utf8_lossy(&content)));
    }
    out
}
