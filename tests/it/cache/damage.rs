//! A store of which some file is damaged: what is wrong is made anew, and no wrong image comes of it.

use super::workshop::{Busybox, Log, Workshop, name, options, place};
use dockless::build::{BuildOptions, Built};
use dockless::oci::{Digest, Platform};
use dockless::store::{Image, Store};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

type Damage = (&'static str, fn(&[u8]) -> Option<Vec<u8>>);

/// What happens to a file.
const DAMAGES: [Damage; 5] = [
    ("removed", |_| None),
    ("empty", |_| Some(Vec::new())),
    ("cut off", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
    ("one bit", |bytes| {
        let mut bytes = bytes.to_vec();
        let at = bytes.len() / 3;
        bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 4);
        Some(bytes)
    }),
    ("foreign", |_| Some(b"\x89PNG\r\n{\"version\": 99}\n".to_vec())),
];

/// Files that a build may rely on. What is in unpacked layers is not among them: it is trusted in the boot in which it was
/// written.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut out, mut pending) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            match kind.is_dir() {
                true if name == "tree" || name == "tmp" => {}
                true => pending.push(path),
                false if name.ends_with("lock") => {}
                false => out.push(path),
            }
        }
    }
    out.sort();
    out
}

/// All that is at `from`, at `to`.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to); // the first time there is none
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Layers of the image that are not what they are called.
fn damaged_layers(store: &Store, built: &Built) -> BTreeSet<Digest> {
    let image = Image::load(store, &built.image.descriptor, &Platform::host()).unwrap();
    let bad = |digest: &&Digest| {
        let read = |mut blob: dockless::store::BlobReader| blob.read_to_end(&mut Vec::new());
        store.open_blob(digest).is_err() || read(store.open_blob(digest).unwrap()).is_err()
    };
    image.layers.iter().map(|layer| &layer.digest).filter(bad).cloned().collect()
}

#[test]
fn each_file_of_a_store_damaged_in_turn() {
    let (dir, workshop, busybox) = (place(), Workshop::new("damage"), Busybox::read());
    let (whole, root, context) = (dir.path().join("whole"), dir.path().join("store"), dir.path().join("context"));
    fs::create_dir(&context).unwrap();
    fs::write(context.join("a"), "a").unwrap();
    let run = if workshop.runs() { "RUN cat /a /x/y > /b\n" } else { "" };
    let text = format!(
        "FROM base AS one\nCOPY a /a\nWORKDIR /x\nCOPY <<y /x/\nz\ny\n{run}FROM base\nCOPY --from=one /x /x\nENV A=b\n"
    );
    fs::write(context.join("Dockerfile"), text).unwrap();
    let wanted = BuildOptions {
        source_date_epoch: Some(1),
        rewrite_timestamp: true,
        tags: vec![name("named:1")],
        ..options(&context)
    };
    let give_base = |store: &Store| {
        let base = busybox.put(store, &[("x/", "")]);
        store.tag(&name("docker.io/library/base:latest"), &base)
    };
    let store = Store::open(&whole).unwrap();
    give_base(&store).unwrap();
    let image = workshop.build(&store, &wanted, &Log::default()).unwrap().image;
    drop(store);
    let mut mended = 0;
    for file in files(&whole) {
        let inside = file.strip_prefix(&whole).unwrap();
        for (how, damage) in DAMAGES {
            copy(&whole, &root);
            let bytes = fs::read(&file).unwrap();
            match damage(&bytes) {
                Some(damaged) => fs::write(root.join(inside), damaged).unwrap(),
                None => fs::remove_file(root.join(inside)).unwrap(),
            }
            let what = format!("{}: {how}", inside.display());
            // Names and the format are no cache: that they cannot be read is said.
            let told = |error: &dyn std::error::Error| {
                let error = format!("{error}");
                assert!(["index.json", "version"].iter().any(|name| error.contains(name)), "{what}: {error}");
            };
            let store = match Store::open(&root) {
                Ok(store) => store,
                Err(error) => {
                    told(&error);
                    continue;
                }
            };
            if let Err(error) = give_base(&store) {
                told(&error);
                continue;
            }
            let log = Log::default();
            let built = workshop.build(&store, &wanted, &log).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert_eq!(built.image, image, "{what}: {:?}", log.warnings());
            mended += usize::from(!log.steps().0.is_empty());
            // A blob that no step had to read is found out by whoever reads it, and made again.
            if !damaged_layers(&store, &built).is_empty() {
                give_base(&store).unwrap();
                let again = workshop.build(&store, &wanted, &log).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert_eq!(again.image, image, "{what}");
                assert_eq!(damaged_layers(&store, &again), BTreeSet::new(), "{what}");
            }
        }
    }
    assert!(mended > 5, "hardly anything had to be made again: {mended}");
}

#[test]
fn a_damaged_layer_that_a_command_reads_is_made_again() {
    let (dir, workshop) = (place(), Workshop::new("damage"));
    if !workshop.runs() {
        return;
    }
    let (store, context) = (Store::open(&dir.path().join("store")).unwrap(), dir.path().join("context"));
    let base = Busybox::read().put(&store, &[]);
    store.tag(&name("docker.io/library/base:latest"), &base).unwrap();
    fs::create_dir(&context).unwrap();
    fs::write(context.join("a"), "a").unwrap();
    let text = "FROM base\nCOPY a /a\nRUN cat /a > /b\n";
    fs::write(context.join("Dockerfile"), text).unwrap();
    let built = workshop.build(&store, &options(&context), &Log::default()).unwrap();
    let layers = Image::load(&store, &built.image.descriptor, &Platform::host()).unwrap().layers;
    // The COPY's layer, of the same length; unpacked it is no more.
    let blob = dir.path().join("store/blobs/sha256").join(layers[1].digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[20] ^= 1;
    fs::write(&blob, bytes).unwrap();
    fs::remove_dir_all(dir.path().join("store/layers")).unwrap();
    fs::create_dir(dir.path().join("store/layers")).unwrap();
    fs::write(context.join("Dockerfile"), text.replace("/b", "/c")).unwrap();
    let log = Log::default();
    workshop.build(&store, &options(&context), &log).unwrap();
    let warnings = log.warnings();
    assert!(warnings.iter().any(|text| text.contains("is damaged")), "{warnings:?}");
}
