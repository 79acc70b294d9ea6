//! A cache that goes to another machine.

use crate::build::place::{Caller, Place};
use crate::support::registry::Registry;
use std::fs;

#[test]
fn what_is_exported_is_found_on_another_machine() {
    let (registry, here) = (Registry::start(), Place::new(Caller::Own));
    let base = registry.put_base("busybox");
    let dockerfile = format!("FROM {base}\nARG TOKEN\nCOPY a /a\nRUN cat /a > /b\nCOPY a /c\n");
    let flags = "--progress=plain --build-arg TOKEN=hush-hush context";
    here.file("a", "a").file("Dockerfile", &dockerfile);
    here.dockless(&format!("build -t named {flags}")).succeeded();
    let dir = here.path("out/cache");
    let said = here.dockless(&format!("cache export {}", dir.display())).succeeded();
    assert_eq!(said.text(), "4 steps, 3 layers\n");
    // No value leaves the machine.
    for entry in fs::read_dir(dir.join("blobs/sha256")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|window| window == b"hush-hush"));
    }
    let elsewhere = || {
        let there = Place::new(Caller::Own);
        there.file("a", "a").file("Dockerfile", &dockerfile);
        there
    };
    let cached = |log: &str| log.lines().filter(|line| line.contains(" CACHED") || line.contains(" HIT")).count();
    let there = elsewhere();
    let said = there.dockless(&format!("cache import {}", dir.display())).succeeded();
    assert_eq!(said.text(), "4 steps, 3 layers\n");
    let built = there.dockless(&format!("build {flags}")).succeeded().stderr;
    assert_eq!((cached(&built), built.matches("MISS").count()), (3, 0), "{built}");
    // The same as a source.
    let built = elsewhere().dockless(&format!("build --cache-from type=local,src={} {flags}", dir.display()));
    assert_eq!(built.succeeded().stderr.matches("MISS").count(), 0);
    // A blob that is not what it is called: its step is left out and made again.
    let blobs: Vec<_> = fs::read_dir(dir.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let gzip = blobs.iter().find(|path| fs::read(path).unwrap().starts_with(&[0x1f, 0x8b])).unwrap();
    let mut bytes = fs::read(gzip).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(gzip, bytes).unwrap();
    let there = elsewhere();
    let said = there.dockless(&format!("cache import {}", dir.display())).succeeded();
    assert!(said.stderr.contains("left out: "), "{}", said.stderr);
    let built = there.dockless(&format!("build {flags}")).succeeded().stderr;
    assert!(built.matches("MISS").count() > 0, "{built}");
    // Nothing, and something else.
    there.dockless("cache import out").failed(1, &["out"]);
    fs::write(dir.join("index.json"), "{").unwrap();
    there.dockless(&format!("cache import {}", dir.display())).failed(1, &["index.json"]);
}
