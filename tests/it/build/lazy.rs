//! Nothing is fetched or unpacked without a reader.

use super::place::{Caller, Place, tool};
use crate::support::faulty::{Faulty, Habits};
use dockless::oci::Digest;
use serde_json::json;
use std::fs;

/// A base image of one layer: a user, a link in the place of a directory, a file.
fn put_base(registry: &Faulty) -> Digest {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, name: &str, link: &str, content: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    };
    add(tar::EntryType::Directory, "etc", "", "");
    add(tar::EntryType::Regular, "etc/passwd", "", "app:x:1234:1235::/:/bin/sh\n");
    add(tar::EntryType::Regular, "etc/group", "", "app:x:1235:\n");
    add(tar::EntryType::Directory, "usr", "", "");
    add(tar::EntryType::Directory, "usr/bin", "", "");
    add(tar::EntryType::Symlink, "bin", "usr/bin", "");
    let layer = tar.into_inner().unwrap();
    let digest = registry.put_blob(&layer);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "history": [],
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": registry.put_blob(&config), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.len(),
        }],
    });
    let bytes = serde_json::to_vec(&manifest).unwrap();
    registry.put_manifest("application/vnd.oci.image.manifest.v1+json", &bytes, Some("base"));
    digest
}

#[test]
fn a_copy_reads_lists_of_files_alone() {
    let open = Habits { open: true, ..Habits::default() };
    let (registry, place) = (Faulty::start_with(open, |_, _| None), Place::new(Caller::Own));
    let base = put_base(&registry);
    let fetched = || {
        let gets = registry.seen().into_iter().filter(|seen| seen.method == "GET");
        gets.filter(|seen| seen.target.ends_with(&format!("blobs/{base}"))).count()
    };
    let unpacked = || fs::read_dir(place.state().join("layers")).map_or(0, Iterator::count);
    let text = "COPY --chown=app f /bin/f\nUSER app\nWORKDIR /srv/x\nCOPY g /bin/f2\nENV A=b\n";
    place.file("Dockerfile", format!("FROM {}/lib/image:base\n{text}", registry.host()));
    place.file("f", "one").file("g", "two");
    let name = format!("{}/lib/image:new", registry.host());
    place.dockless(&format!("build -t {name} --push context")).succeeded();
    // Who is `app`, and where does /bin lead? The layer was read once, and not unpacked; the push mounted it.
    assert_eq!((fetched(), unpacked()), (1, 0));
    // The last COPY changed, all changed, nothing changed.
    for (f, g) in [("one", "three"), ("four", "five"), ("four", "five")] {
        place.file("f", f).file("g", g);
        place.dockless(&format!("build -t {name} --push context")).succeeded();
        assert_eq!((fetched(), unpacked()), (1, 0), "{f} {g}");
    }
    // A new state that needs no list, because nothing depends on the tree, asks for no byte of it.
    let other = Place::new(Caller::Own);
    other.file("Dockerfile", format!("FROM {}/lib/image:base\nENV A=b\nCMD [\"x\"]\n", registry.host()));
    other.dockless(&format!("build -t {}/lib/image:bare --push context", registry.host())).succeeded();
    assert_eq!(fetched(), 1);
    // What came out is what the tree says: the owner, and the directory behind the link.
    let tar = place.path("out/tree.tar");
    place.dockless(&format!("build -o type=tar,dest={} context", tar.display())).succeeded();
    let listing = tool("tar", ["--numeric-owner", "-tvf", tar.to_str().unwrap()]);
    let line = |name: &str| listing.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap_or("").to_string();
    assert!(line("usr/bin/f").contains("1234/1235"), "{listing}");
    assert!(line("usr/bin/f2").contains("0/0"), "{listing}");
    assert!(line("srv/x/").contains("1234/1235"), "{listing}");
    assert!(unpacked() > 0, "the tar was read from unpacked layers");
}
