//! A build that pushes: proved to be possible before the first command, layers on their way while they are written.

use super::place::{Caller, Place, was_pushed};
use crate::support::faulty::{Faulty, Habits, Seen};
use crate::support::registry::{Options, Registry};
use std::fs;

/// A registry that lets nobody push who does not log in.
fn locked() -> Registry {
    Registry::start_with(Options { login: Some(("me".into(), "hunter2".into())), ..Options::default() })
}

#[test]
fn a_push_that_would_be_refused_is_refused_before_the_first_command() {
    let (open, locked) = (Registry::start(), locked());
    let base = open.put_base("busybox");
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", format!("FROM {base}\nRUN echo it ran\n"));
    let build = |flags: &str| format!("build -t {}/app -t {}/app --push {flags} context", open.host(), locked.host());
    let words = ["cannot push", locked.host(), "no credentials found", "--no-preflight"];
    let refused = place.dockless(&build("")).failed(1, &words);
    let ran = |text: &str| text.lines().any(|line| line.ends_with(" it ran") && !line.contains("RUN"));
    assert!(!ran(&refused.stderr) && !refused.stderr.contains("--> Dockerfile"), "{}", refused.stderr);
    assert!(!was_pushed(&open, "app"));
    // Without the proof the command runs, and the push fails.
    let late = place.dockless(&build("--no-preflight")).failed(1, &["cannot push", locked.host()]);
    assert!(ran(&late.stderr) && !late.stderr.contains("--no-preflight"), "{}", late.stderr);
    // A step that is known needs no proof: the push is about to tell anyway.
    place.dockless(&build("")).failed(1, &["cannot push"]);
    let creds = format!("--creds {}=me:hunter2", locked.host());
    place.dockless(&build(&creds)).succeeded();
    assert!(was_pushed(&open, "app") && was_pushed(&locked, "app"));
}

/// A COPY may take long, too: its context is read, its base fetched. A build whose steps are all known proves nothing: it
/// takes no request that the push does not take.
#[test]
fn a_proof_is_for_builds_that_have_something_to_do() {
    let locked = locked();
    let place = Place::new(Caller::Own);
    place.file("file", "x").file("Dockerfile", "FROM scratch\nCOPY file /\n");
    place
        .dockless(&format!("build -t {}/app --push context", locked.host()))
        .failed(1, &["cannot push", "no credentials found", "--no-preflight"]);

    let registry = Faulty::start_with(Habits { open: true, ..Habits::default() }, |_, _| None);
    let requests = || {
        let before = registry.seen().len();
        place.dockless(&format!("build -t {}/app --push context", registry.host())).succeeded();
        registry.seen()[before..].iter().map(Seen::kind).collect::<Vec<_>>()
    };
    let first = requests();
    assert_eq!(first[..2], ["POST blobs/uploads/", "DELETE blobs/uploads/"], "{first:?}");
    assert_eq!(requests(), ["HEAD manifests"]);
    registry.forget_all();
    let second = requests();
    assert!(!second.contains(&"DELETE blobs/uploads/".to_string()) && second.len() < first.len(), "{second:?}");
}

/// A large layer of the image goes out while it is written; one of a stage that the image does not have goes nowhere.
#[test]
fn layers_go_out_while_they_are_written() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let place = Place::new(Caller::Own);
    // Bytes that do not compress.
    let random = |seed: u64| -> Vec<u8> {
        let mut state = seed + 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(10 << 20).collect()
    };
    place.file("shipped", random(1)).file("left", random(2));
    let dockerfile =
        format!("FROM scratch AS other\nCOPY left /\nFROM {base}\nCOPY shipped /\nCOPY --from=other /left /right\n");
    place.file("Dockerfile", dockerfile);
    let ran = place.dockless(&format!("build -t {}/app --push --progress=plain context", registry.host())).succeeded();
    let early = ran.stderr.matches("uploaded while it was written").count();
    assert_eq!(early, 2, "the layers of the two COPYs of the image:\n{}", ran.stderr);
    let out = place.path("out/layout");
    registry.get("app:latest", &out);
    // Base, two COPYs, config, manifest: the other stage's layer is nowhere.
    assert_eq!(fs::read_dir(out.join("blobs/sha256")).unwrap().count(), 5);
    let blobs = fs::read_dir(registry.data().join("docker/registry/v2/repositories/app/_layers/sha256")).unwrap();
    assert_eq!(blobs.count(), 4);
}

/// The step before it changed, so COPY is carried out again; the layer that it makes is the one that is there.
#[test]
fn a_layer_that_was_written_before_is_not_compressed_again() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let place = Place::new(Caller::Own);
    let file = |byte: u8| vec![byte; 2 << 20];
    place.file("large", file(1));
    let build = |marker: &str| {
        place.file("Dockerfile", format!("FROM {base}\nRUN echo {marker} > /marker\nCOPY large /\n"));
        let name = format!("{}/app:{marker}", registry.host());
        let ran = place.dockless(&format!("build -t {name} --push --progress=plain context")).succeeded();
        let manifest: serde_json::Value = serde_json::from_slice(&registry.manifest(&format!("app:{marker}"))).unwrap();
        (manifest["layers"][2]["digest"].clone(), ran.stderr.contains("was written before"), ran.stderr)
    };
    let (first, known, text) = build("one");
    assert!(!known, "{text}");
    let (second, known, text) = build("two");
    assert!(known && second == first, "{text}");
    // The same shape, other bytes.
    let times = fs::metadata(place.path("context/large")).unwrap().modified().unwrap();
    place.file("large", file(2));
    fs::File::options().write(true).open(place.path("context/large")).unwrap().set_modified(times).unwrap();
    let (third, known, text) = build("three");
    assert!(!known && third != first, "{text}");
}
