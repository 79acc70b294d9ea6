//! What the local store drops, and what it never does.

use super::workshop::{Busybox, Log, Workshop, name, options, place};
use crate::build::place::{Caller, Place};
use crate::support::registry::Registry;
use dockless::build::{BuildOptions, Built};
use dockless::oci::{Digest, Platform};
use dockless::store::{CacheUse, Image, ItemKind, Keep, Store, StoreError};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
const FORTNIGHT: Keep = Keep { lately: Some(DAY.saturating_mul(14)), bytes: None };

/// Every file that says when something was last of use.
fn marks(root: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).map_or(Vec::new(), |all| all.map(|entry| entry.unwrap().path()).collect())
    };
    let mut out = list(&root.join("blobs/sha256"));
    out.extend(list(&root.join("records")).iter().flat_map(|bucket| list(bucket)));
    out.extend(list(&root.join("layers")).iter().map(|layer| layer.join("boot")));
    out.extend(list(&root.join("caches")).iter().flat_map(|cache| list(cache)).map(|slot| slot.join("lock")));
    out
}

/// As if what is in the store had not been used for so long.
fn age(root: &Path, by: Duration) {
    for path in marks(root) {
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }
}

fn dockerfile(context: &Path, text: &str) -> BuildOptions {
    fs::create_dir_all(context).unwrap();
    fs::write(context.join("Dockerfile"), text).unwrap();
    options(context)
}

/// A store at `root` that names busybox `base`.
fn with_base(root: &Path) -> Store {
    let store = Store::open(root).unwrap();
    let base = Busybox::read().put(&store, &[]);
    store.tag(&name("docker.io/library/base:latest"), &base).unwrap();
    store
}

/// All blobs of the image are there, and are what they are called.
fn is_whole(store: &Store, built: &Built) {
    let image = Image::load(store, &built.image.descriptor, &Platform::host()).unwrap();
    for layer in &image.layers {
        let mut blob = store.open_blob(&layer.digest).unwrap();
        std::io::copy(&mut blob, &mut std::io::sink()).unwrap();
    }
}

#[test]
fn what_is_old_goes_and_images_stay() {
    let (dir, workshop) = (place(), Workshop::new("cleaning"));
    let root = dir.path().join("store");
    let store = with_base(&root);
    let context = dir.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("a"), "a").unwrap();
    let text = "FROM base\nCOPY a /a\nWORKDIR /w\n";
    let mut wanted = dockerfile(&context, text);
    wanted.tags = vec![name("named:1")];
    let built = workshop.build(&store, &wanted, &Log::default()).unwrap();
    let unnamed = dockerfile(&context, "FROM scratch\nCOPY a /other\n");
    let gone = workshop.build(&store, &unnamed, &Log::default()).unwrap();
    drop(store);
    // Nothing is old.
    let all = marks(&root).len();
    let store = Store::open(&root).unwrap();
    assert_eq!(store.clean(FORTNIGHT, &|_| true).unwrap().items.len(), 0);
    assert_eq!(marks(&root).len(), all);
    age(&root, 15 * DAY);
    // What is looked up is not old any more: a build that finds all.
    let log = Log::default();
    workshop.build(&store, &unnamed, &log).unwrap();
    assert_eq!(log.steps().0, [""; 0]);
    drop(store);
    let store = Store::open(&root).unwrap();
    let would = store.would_drop(FORTNIGHT, &|_| true).unwrap();
    let dropped = store.clean(FORTNIGHT, &|_| true).unwrap();
    let ids = |items: &[dockless::store::Item]| items.iter().map(|item| item.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&would.items), ids(&dropped.items));
    assert!(dropped.items.iter().any(|item| item.kind == ItemKind::Record), "{dropped:?}");
    assert!(dropped.items.iter().all(|item| item.kind != ItemKind::Blob), "all blobs are an image's or were used");
    assert!(dropped.size() > 0);
    is_whole(&store, &built);
    is_whole(&store, &gone);
    // And without the image nobody names, after another fortnight.
    drop(store);
    age(&root, 15 * DAY);
    let store = Store::open(&root).unwrap();
    store.clean(FORTNIGHT, &|_| true).unwrap();
    is_whole(&store, &built);
    assert!(Image::load(&store, &gone.image.descriptor, &Platform::host()).is_err());
    assert!(store.usage().unwrap().items.is_empty(), "{:?}", store.usage());
    // All of it can be had again.
    fs::write(context.join("Dockerfile"), text).unwrap();
    let log = Log::default();
    let again = workshop.build(&store, &wanted, &log).unwrap();
    assert_eq!(log.steps().0.len(), 2);
    assert_eq!(again.image.platforms.len(), 1);
    is_whole(&store, &again);
}

#[test]
fn no_more_is_kept_than_was_said_and_the_last_used_stays() {
    let dir = place();
    let store = Store::open(dir.path()).unwrap();
    let blobs: Vec<Digest> = (0..8u8).map(|n| store.put_blob(&vec![n; 1 << 16]).unwrap()).collect();
    drop(store);
    for (ago, digest) in blobs.iter().enumerate() {
        let file = File::options().write(true).open(dir.path().join("blobs/sha256").join(digest.hex())).unwrap();
        file.set_modified(SystemTime::now() - DAY - Duration::from_secs(ago as u64)).unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    let keep = Keep { lately: None, bytes: Some(3 << 16) };
    assert_eq!(store.clean(keep, &|item| item.kind != ItemKind::Blob).unwrap().items.len(), 0);
    assert_eq!(store.clean(keep, &|_| true).unwrap().items.len(), 5);
    let left: Vec<bool> = blobs.iter().map(|digest| store.has_blob(digest).unwrap().is_some()).collect();
    assert_eq!(left, [true, true, true, false, false, false, false, false]);
}

#[test]
fn a_cache_mount_in_use_stays() {
    let dir = place();
    let (store, other) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
    let fill = |_: &Path| Ok::<_, StoreError>(());
    let take =
        |store: &Store, key: &str| store.cache_dir(&Digest::sha256(key), CacheUse::Locked, &|| (), &fill).unwrap();
    let (held, idle) = (take(&store, "held"), take(&store, "idle"));
    fs::write(held.path().join("file"), "").unwrap();
    drop(idle);
    let dropped = other.clean(Keep::NOTHING, &|_| true).unwrap();
    assert_eq!((dropped.items.len(), dropped.in_use), (1, 1), "{dropped:?}");
    assert!(held.path().join("file").exists());
    // Somebody waits for it while its user ends and a third drops it.
    let ready = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let waits = || {
            ready.wait();
        };
        let waiter = scope.spawn(move || {
            let again = store.cache_dir(&Digest::sha256("held"), CacheUse::Locked, &waits, &fill).unwrap();
            fs::write(again.path().join("new"), "").unwrap();
        });
        ready.wait();
        drop(held);
        other.clean(Keep::NOTHING, &|_| true).unwrap();
        waiter.join().unwrap();
    });
    assert!(other.usage().unwrap().items.len() <= 1);
}

#[test]
fn nothing_vanishes_under_a_build() {
    let (dir, workshop) = (place(), Workshop::new("cleaning"));
    let root = dir.path().join("store");
    let store = with_base(&root);
    // One that is under way finds what it has found again, whoever cleans.
    let (context, other) = (dir.path().join("context"), Store::open(&root).unwrap());
    let wanted = dockerfile(&context, "FROM base\nCOPY Dockerfile /a\nWORKDIR /w\n");
    workshop.build(&store, &wanted, &Log::default()).unwrap();
    let dropped = other.clean(Keep::NOTHING, &|_| true).unwrap();
    assert!(dropped.in_use > 0 && dropped.items.is_empty(), "{dropped:?}");
    let log = Log::default();
    workshop.build(&store, &wanted, &log).unwrap();
    assert_eq!(log.steps().0, [""; 0]);
    drop((store, other));
    // Many at a time, against one that cleans without a pause.
    let (done, builds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let builders: Vec<_> = (0..3)
            .map(|who| {
                let (workshop, builds, context) = (&workshop, &builds, dir.path().join(format!("context-{who}")));
                let root = &root;
                scope.spawn(move || {
                    for round in 0..12 {
                        let store = Store::open(root).unwrap();
                        let run = if workshop.runs() { "RUN cat /x/a > /b\n" } else { "" };
                        let text = format!("FROM base\nCOPY . /x/\n{run}WORKDIR /w{}\n", round % 3);
                        let wanted = dockerfile(&context, &text);
                        fs::write(context.join("a"), (round % 4).to_string()).unwrap();
                        let log = Log::default();
                        let built = workshop.build(&store, &wanted, &log);
                        let built = built.unwrap_or_else(|error| panic!("{error:?}\n{}", log.text()));
                        is_whole(&store, &built);
                        builds.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let cleaner = scope.spawn(|| {
            let mut dropped = 0;
            while !done.load(Ordering::SeqCst) {
                dropped += Store::open(&root).unwrap().clean(Keep::NOTHING, &|_| true).unwrap().items.len();
            }
            dropped
        });
        builders.into_iter().for_each(|builder| builder.join().unwrap());
        done.store(true, Ordering::SeqCst);
        // With somebody building all the time there may be nothing that is older than all of them.
        cleaner.join().unwrap();
    });
    assert_eq!(builds.into_inner(), 36);
    let store = Store::open(&root).unwrap();
    is_whole(&store, &workshop.build(&store, &wanted, &Log::default()).unwrap());
}

#[test]
fn a_killed_prune_leaves_a_store_that_works() {
    let (registry, place) = (Registry::start(), Place::new(Caller::Own));
    let base = registry.put_base("busybox");
    place
        .file("a", "a")
        .file("Dockerfile", format!("FROM {base}\nCOPY a /a\nRUN --mount=type=cache,target=/c cp a b\n"));
    let id = || place.dockless("build -q -t named --rewrite-timestamp --build-arg SOURCE_DATE_EPOCH=1 context");
    let first = id().succeeded();
    for delay in 0..12 {
        let mut prune = place.command("cache prune --all", [""; 0]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(3 * delay)); // to be killed somewhere else each time
        prune.kill().unwrap();
        prune.wait().unwrap();
        assert_eq!(id().succeeded().stdout, first.stdout, "after {delay}");
    }
    place.dockless("cache prune --all").succeeded();
    place.dockless("run --rm named cat /b").succeeded();
}

#[test]
fn the_cache_is_listed_counted_and_pruned() {
    let (registry, place) = (Registry::start(), Place::new(Caller::Own));
    let base = registry.put_base("busybox");
    place
        .file("a", "a")
        .file("Dockerfile", format!("FROM {base}\nCOPY a /a\nRUN --mount=type=cache,target=/c cp a b\n"));
    place.dockless("build -t named context").succeeded();
    let listed = place.dockless("cache ls").succeeded();
    for word in ["TYPE", "layer ", "record steps", "record step-parts", "mount "] {
        assert!(listed.text().contains(word), "no '{word}' in:\n{}", listed.text());
    }
    let mounts = place.dockless("cache ls -q --type mount").succeeded();
    assert_eq!(mounts.text().lines().count(), 1);
    let counted = place.dockless("cache du").succeeded();
    assert!(counted.text().contains("blobs of images"), "{}", counted.text());
    let would = place.dockless("cache prune --all --dry-run").succeeded();
    let pruned = place.dockless("cache prune -af").succeeded();
    assert_eq!(would.text().lines().count(), pruned.text().lines().count());
    assert!(pruned.text().contains("Total reclaimed space: "), "{}", pruned.text());
    assert_eq!(place.dockless("cache ls").succeeded().text().lines().count(), 1, "only the head is left");
    place.dockless("run --rm named cat /b").succeeded();
    place.dockless("cache prune --keep-for later").failed(2, &["--keep-for=later", "14d"]);
    // A build cleans by itself what nobody used.
    age(&place.state(), 15 * DAY);
    let mark = place.state().join("cleaned");
    fs::remove_file(&mark).unwrap();
    place.file("a", "b");
    let said = place.dockless("build -t named --progress=plain context").succeeded().stderr;
    assert!(said.contains("not used lately"), "{said}");
    let short = place.command("build --progress=plain context", [""; 0]).env("DOCKLESS_CACHE_SIZE", "x").output();
    let mut text = String::new();
    (&short.unwrap().stderr[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("DOCKLESS_CACHE_SIZE=x: expected a size"), "{text}");
}

#[test]
fn with_its_last_name_an_image_goes_at_once() {
    let (registry, place) = (Registry::start(), Place::new(Caller::Own));
    let base = registry.put_base("busybox");
    let left = || marks(&place.state()).into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    place.dockless(&format!("pull {base}")).succeeded();
    place.dockless(&format!("run --rm {base} true")).succeeded();
    assert!(left().iter().any(|path| path.contains("/layers/")), "{:?}", left());
    let said = place.dockless(&format!("rmi {base}")).succeeded();
    let lines: Vec<&str> = said.text().lines().collect();
    assert!(lines[0].starts_with("Untagged: ") && lines[1].starts_with("Deleted: sha256:"), "{lines:?}");
    assert_eq!(lines.len(), 3, "one layer: {lines:?}");
    assert_eq!(left(), [""; 0]);
    // What another name, another image, a container or the cache needs stays.
    place.file("a", "a").file("Dockerfile", format!("FROM {base}\nRUN echo b > /b\n"));
    place.dockless(&format!("pull {base}")).succeeded();
    place.dockless("build -t named context").succeeded();
    place.dockless("tag named other").succeeded();
    let before = left();
    for (image, lines) in [(base.to_string(), 2), ("other".to_string(), 1)] {
        let said = place.dockless(&format!("rmi {image}")).succeeded();
        assert_eq!(said.text().lines().count(), lines, "{}", said.text());
        assert_eq!(left(), before, "{image}");
    }
    place.dockless("create --name cc named").succeeded();
    place.dockless("rmi named").succeeded();
    place.dockless("rm cc").succeeded();
    assert_eq!(left(), before);
    place.dockless("build -t named context").succeeded();
    place.dockless("rmi named").succeeded();
    let gone = before.len() - left().len();
    assert_eq!(gone, 3, "manifest, config, and the record of the ID: {before:?} {:?}", left());
    let log = place.dockless("build --progress=plain -t named context").succeeded().stderr;
    assert!(log.contains("CACHED"), "{log}");
    // A process that has loaded it may read all of it.
    place.dockless("cache prune -a").succeeded();
    let store = Store::open(&place.state()).unwrap();
    let (_, target) = store.names().unwrap().remove(0);
    let image = Image::load(&store, &target, &Platform::host()).unwrap();
    assert!(place.command("rmi named", [""; 0]).output().unwrap().status.success());
    assert!(image.layers.iter().all(|layer| store.has_blob(&layer.digest).unwrap().is_some()));
    drop(store);
    place.dockless("cache prune -a").succeeded();
    assert_eq!(left(), [""; 0]);
}
