//! Tests of unpacking layers and of reading them as one tree.

use dockless::context::SourceTree;
use dockless::oci::layer::{Kind, Metadata};
use dockless::oci::{DiffId, Digest};
use dockless::rootfs::{LayerView, UnpackError, unpack};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes tars, wrong ones included.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(&mut self, kind: u8, name: &[u8], link: &[u8], size: u64, edit: impl FnOnce(&mut tar::Header)) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(kind));
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(size);
        edit(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
    }

    fn data(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn entry(mut self, kind: u8, name: impl AsRef<[u8]>, link: &str) -> Self {
        self.header(kind, name.as_ref(), link.as_bytes(), 0, |_| {});
        self
    }

    fn file(self, name: impl AsRef<[u8]>, data: &str) -> Self {
        self.file_with(name, data, |_| {})
    }

    fn file_with(mut self, name: impl AsRef<[u8]>, data: &str, edit: impl FnOnce(&mut tar::Header)) -> Self {
        self.header(b'0', name.as_ref(), b"", data.len() as u64, edit);
        self.data(data.as_bytes());
        self
    }

    fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(b'5', name, "")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target)
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target)
    }

    fn device(mut self, kind: u8, name: &str, major: u32, minor: u32) -> Self {
        self.header(kind, name.as_bytes(), b"", 0, |h| {
            h.set_device_major(major).unwrap();
            h.set_device_minor(minor).unwrap();
        });
        self
    }

    /// PAX records before the next entry.
    fn pax(mut self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap() + rest;
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.header(kind, b"pax", b"", data.len() as u64, |_| {});
        self.data(&data);
        self
    }

    fn gnu_long(mut self, kind: u8, name: &[u8]) -> Self {
        self.header(kind, b"././@LongLink", b"", name.len() as u64 + 1, |_| {});
        self.data(&[name, b"\0"].concat());
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Layers put on one another.
struct Stack {
    dir: tempfile::TempDir,
    /// Top first.
    layers: Vec<PathBuf>,
}

impl Stack {
    fn new() -> Self {
        Stack { dir: tempfile::tempdir().unwrap(), layers: Vec::new() }
    }

    fn view(&self) -> LayerView {
        LayerView::new(&self.layers).unwrap()
    }

    fn try_push(&mut self, blob: &[u8]) -> Result<DiffId, UnpackError> {
        let path = self.dir.path().join(format!("{}/tree", self.layers.len()));
        fs::create_dir_all(&path).unwrap();
        let diff_id = unpack(blob, &self.view(), &path, None)?;
        self.layers.insert(0, path);
        Ok(diff_id)
    }

    fn push(mut self, tar: Tar) -> Self {
        self.try_push(&tar.end()).unwrap();
        self
    }

    fn list(&self) -> Vec<String> {
        tree(&self.view()).keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    fn read(&self, path: &str) -> String {
        String::from_utf8(content(&self.view(), path.as_bytes())).unwrap()
    }

    fn metadata(&self, path: &str) -> Metadata {
        self.view().metadata(path.as_bytes()).unwrap().unwrap_or_else(|| panic!("no {path}"))
    }

    fn same_file(&self, a: &str, b: &str) -> bool {
        let view = self.view();
        let (a, b) = (view.link_identity(a.as_bytes()).unwrap(), view.link_identity(b.as_bytes()).unwrap());
        a.is_some() && a == b
    }
}

fn content(view: &LayerView, path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    view.open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// All that a view shows, without its root.
fn tree(view: &LayerView) -> BTreeMap<Vec<u8>, Metadata> {
    let (mut found, mut pending) = (BTreeMap::new(), vec![Vec::new()]);
    while let Some(dir) = pending.pop() {
        for name in view.read_dir(&dir).unwrap() {
            let path = if dir.is_empty() { name } else { [&dir[..], b"/", &name].concat() };
            let metadata = view.metadata(&path).unwrap().expect("what a directory lists is there");
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            found.insert(path, metadata);
        }
    }
    found
}

/// Compares a view with what a mounted directory shows, every path and all about it.
fn assert_same_as_directory(view: &LayerView, root: &Path) {
    let shown = tree(view);
    let mut pending = vec![PathBuf::new()];
    let mut seen = 0;
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let path = dir.join(entry.unwrap().file_name());
            let real = fs::symlink_metadata(root.join(&path)).unwrap();
            let key = path.as_os_str().as_bytes();
            let ours = shown.get(key).unwrap_or_else(|| panic!("the view lacks {}", path.display()));
            seen += 1;
            let kind = real.file_type();
            let expected = if kind.is_dir() {
                Kind::Dir
            } else if kind.is_symlink() {
                Kind::Symlink { target: fs::read_link(root.join(&path)).unwrap().as_os_str().as_bytes().to_vec() }
            } else if kind.is_fifo() {
                Kind::Fifo
            } else if kind.is_char_device() || kind.is_block_device() {
                let (major, minor) = (rustix::fs::major(real.rdev()), rustix::fs::minor(real.rdev()));
                if kind.is_char_device() {
                    Kind::CharDevice { major, minor }
                } else {
                    Kind::BlockDevice { major, minor }
                }
            } else {
                Kind::File { size: real.len() }
            };
            assert_eq!(ours.kind, expected, "{}", path.display());
            let about = (ours.mode, ours.uid, ours.gid, ours.mtime);
            assert_eq!(about, (real.mode() & 0o7777, real.uid(), real.gid(), real.mtime()), "{}", path.display());
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                assert_eq!(content(view, key), fs::read(root.join(&path)).unwrap(), "{}", path.display());
            }
        }
    }
    assert_eq!(shown.len(), seen, "the view shows more than the directory");
}

/// Says loudly that a test needs root.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "{test} needs root, and CI must not skip it");
        eprintln!("SKIPPED: {test} needs root");
    }
    root
}

struct Mounted(tempfile::TempDir);

impl Mounted {
    /// What the kernel makes of the same directories.
    fn overlay(stack: &Stack) -> Mounted {
        let dir = tempfile::tempdir().unwrap();
        let mut lowers: Vec<String> = stack.layers.iter().map(|p| p.to_str().unwrap().to_string()).collect();
        // With a single directory overlayfs wants an upper one.
        let empty = stack.dir.path().join("empty");
        fs::create_dir_all(&empty).unwrap();
        lowers.push(empty.to_str().unwrap().to_string());
        let options = format!("ro,userxattr,lowerdir={}", lowers.join(":"));
        let status =
            Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay"]).arg(dir.path()).status().unwrap();
        assert!(status.success(), "mount an overlay");
        Mounted(dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn whiteouts_hide_what_is_below() {
    let stack = Stack::new()
        .push(Tar::default().file("a", "1").file("b", "1").dir("d/").file("d/x", "1").file("d/y", "1").file("e", "1"))
        .push(Tar::default().entry(b'0', ".wh.a", "").entry(b'0', "d/.wh.x", "").entry(b'0', ".wh.nothing", ""));
    assert_eq!(stack.list(), ["b", "d", "d/y", "e"]);
    let stack = stack.push(Tar::default().dir("a/").file("a/new", "2").file("d/x", "2"));
    assert_eq!(stack.list(), ["a", "a/new", "b", "d", "d/x", "d/y", "e"]);
    assert_eq!(stack.read("d/x"), "2");
}

#[test]
fn a_whiteout_spares_its_own_layer_in_either_order() {
    for whiteout_first in [true, false] {
        let base =
            Stack::new().push(Tar::default().dir("d/").file("d/old", "1").file("f", "1").dir("o/").file("o/old", ""));
        let whiteouts =
            |tar: Tar| tar.entry(b'0', ".wh.d", "").entry(b'0', ".wh.f", "").entry(b'0', "o/.wh..wh..opq", "");
        let files = |tar: Tar| tar.file("d/new", "2").file("f", "2").file("o/new", "2");
        let tar = if whiteout_first { files(whiteouts(Tar::default())) } else { whiteouts(files(Tar::default())) };
        let stack = base.push(tar);
        assert_eq!(stack.list(), ["d", "d/new", "f", "o", "o/new"], "{whiteout_first}");
        assert_eq!(stack.read("f"), "2");
    }
}

#[test]
fn an_opaque_root_hides_everything_below() {
    for tar in [
        Tar::default().entry(b'0', ".wh..wh..opq", "").file("a/new", "2"),
        Tar::default().file("a/new", "2").entry(b'0', ".wh..wh..opq", ""),
    ] {
        let stack = Stack::new().push(Tar::default().dir("a/").file("a/old", "1").dir("b/").file("c", "1")).push(tar);
        assert_eq!(stack.list(), ["a", "a/new"]);
    }
}

#[test]
fn types_change_between_layers_and_within_one() {
    let stack = Stack::new()
        .push(Tar::default().dir("d/").file("d/x", "1").file("f", "1").dir("twice/").file("twice/x", "1"))
        .push(Tar::default().file("d", "now a file").dir("f/").file("f/y", "2"));
    assert_eq!(stack.list(), ["d", "f", "f/y", "twice", "twice/x"]);
    assert_eq!(stack.read("d"), "now a file");
    // Directory, file, directory again in one tar: nothing of the others is left.
    let stack = stack.push(Tar::default().dir("twice/").file("twice/y", "").file("twice", "f").dir("twice/").dir("d/"));
    assert_eq!(stack.list(), ["d", "f", "f/y", "twice"]);
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let tar =
        Tar::default().file("f", "first").file("f", "second").symlink("l", "f").file("l", "third").symlink("f", "l");
    let stack = Stack::new().push(tar);
    assert_eq!(stack.metadata("f").kind, Kind::Symlink { target: b"l".to_vec() });
    assert_eq!(stack.read("l"), "third");
}

#[test]
fn directories_nobody_names_are_as_they_were_below() {
    let stack = Stack::new()
        .push(Tar::default().pax(b'x', &[("uid", b"7"), ("mtime", b"5")]).entry(b'5', "d/", ""))
        .push(Tar::default().file("d/x", "1").file("new/deep/x", "1"));
    let d = stack.metadata("d");
    assert_eq!((d.uid, d.gid, d.mode, d.mtime), (7, 0, 0o755, 5));
    let new = stack.metadata("new/deep");
    assert_eq!((new.uid, new.mode, new.mtime), (0, 0o755, 0));
}

#[test]
fn a_linked_directory_leads_into_the_image() {
    let stack = Stack::new()
        .push(Tar::default().dir("run/").dir("var/").symlink("var/run", "/run").symlink("var/up", "../../../run"))
        .push(
            Tar::default()
                .file("var/run/x", "1")
                .dir("var/run/sub")
                .file("var/up/y", "1")
                .link("var/run/z", "var/up/y"),
        );
    assert_eq!(stack.list(), ["run", "run/sub", "run/x", "run/y", "run/z", "var", "var/run", "var/up"]);
    assert!(stack.same_file("run/y", "run/z"));
    let view = stack.view();
    for (path, expected) in
        [("var/run/x", Some("run/x")), ("var/up", Some("run")), ("var/run/none", None), ("", Some(""))]
    {
        assert_eq!(view.resolve(path.as_bytes()).unwrap(), expected.map(|p| p.as_bytes().to_vec()), "{path}");
    }
}

#[test]
fn hard_links_within_and_across_layers() {
    let stack = Stack::new()
        .push(Tar::default().dir("d/").file("d/a", "data").link("d/b", "d/a").symlink("d/s", "a").link("d/t", "/d/s"))
        .push(Tar::default().link("c", "./d/a"));
    assert!(stack.same_file("d/s", "d/t"));
    assert_eq!(stack.metadata("d/t").kind, Kind::Symlink { target: b"a".to_vec() });
    assert_eq!(stack.read("c"), "data");
    assert!(stack.same_file("c", "d/a"), "copied up to its own place and linked");
    assert!(!stack.same_file("c", "d/b"), "as when overlayfs copies one name up");
}

#[test]
fn attributes_of_every_type() {
    if !is_root("attributes_of_every_type") {
        return;
    }
    let capability = [1, 0, 0, 2, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(250));
    let tar = Tar::default()
        .pax(b'x', &[("uid", b"3000000000"), ("gid", b"4294967294"), ("mtime", b"1700000000.75")])
        .file_with("ids", "x", |h| h.set_mode(0o6755))
        .pax(b'x', &[("SCHILY.xattr.security.capability", &capability), ("SCHILY.xattr.user.a\nb", b"\n=\0")])
        .file("caps", "x")
        .pax(b'x', &[("path", long.as_bytes())])
        .file("short", "long")
        .gnu_long(b'L', &[b'g'; 150])
        .gnu_long(b'K', &[b't'; 150])
        .entry(b'2', "short", "short")
        .file(b"not \xff utf-8", "x")
        .file_with("forbidden", "x", |h| h.set_mode(0))
        .file_with("negative", "x", |h| {
            h.as_old_mut().mtime = [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 254]
        })
        .entry(b'6', "fifo", "")
        .device(b'3', "null", 1, 3)
        .device(b'4', "disk", 8, 1)
        .device(b'3', "zero", 0, 0)
        .pax(b'x', &[("uid", b"5")])
        .entry(b'2', "link", "nowhere")
        .entry(b'0', "old style directory/", "");
    let stack = Stack::new().push(tar);
    let ids = stack.metadata("ids");
    assert_eq!((ids.uid, ids.gid, ids.mode, ids.mtime), (3_000_000_000, 4_294_967_294, 0o6755, 1_700_000_000));
    let caps = stack.metadata("caps").xattrs;
    assert_eq!(caps.get(&b"security.capability"[..]).unwrap()[..], capability);
    assert_eq!(caps.get(&b"user.a\nb"[..]).unwrap()[..], *b"\n=\0");
    assert_eq!(stack.read(&long), "long");
    assert_eq!(stack.metadata(&"g".repeat(150)).kind, Kind::Symlink { target: vec![b't'; 150] });
    assert!(stack.view().metadata(b"not \xff utf-8").unwrap().is_some());
    assert_eq!(stack.metadata("forbidden").mode, 0);
    assert_eq!(stack.metadata("negative").mtime, -2);
    assert_eq!(stack.metadata("fifo").kind, Kind::Fifo);
    assert_eq!(stack.metadata("null").kind, Kind::CharDevice { major: 1, minor: 3 });
    assert_eq!(stack.metadata("disk").kind, Kind::BlockDevice { major: 8, minor: 1 });
    assert_eq!(stack.metadata("zero").kind, Kind::CharDevice { major: 0, minor: 0 }, "no whiteout");
    assert_eq!(stack.metadata("link").uid, 5);
    assert!(stack.metadata("old style directory").is_dir());
}

#[test]
fn xattrs_of_overlayfs_and_ours_are_not_taken() {
    let keys = ["user.overlay.opaque", "user.overlay.redirect", "user.dockless.override", "user.dockless.xattr.x"];
    let records: Vec<_> = keys.iter().map(|key| (format!("SCHILY.xattr.{key}"), &b"y"[..])).collect();
    let records: Vec<_> = records.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let stack = Stack::new()
        .push(Tar::default().dir("d/").file("d/x", "1"))
        .push(Tar::default().pax(b'x', &records).entry(b'5', "d/", "").pax(b'x', &records).file("f", ""));
    assert_eq!(stack.list(), ["d", "d/x", "f"]);
    assert!(stack.metadata("d").xattrs.is_empty() && stack.metadata("f").xattrs.is_empty());
}

#[test]
fn global_records_hold_until_taken_back() {
    let tar = Tar::default()
        .pax(b'g', &[("uid", b"9"), ("comment", b"0123")])
        .file("a", "")
        .pax(b'x', &[("uid", b"8")])
        .file("b", "")
        .pax(b'g', &[("uid", b"")])
        .file("c", "");
    let stack = Stack::new().push(tar);
    assert_eq!(["a", "b", "c"].map(|name| stack.metadata(name).uid), [9, 8, 0]);
}

#[test]
fn hostile_layers_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let planted = |tar: Tar| tar.symlink("out", target).symlink("up", "../../../../../..");
    // A link is followed inside the image, as the image's programs would see it.
    let stack = Stack::new().push(planted(Tar::default()).file("out/x", "1").file(format!("up{target}/y"), "1"));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let inside = target.trim_start_matches('/');
    assert_eq!((stack.read(&format!("{inside}/x")), stack.read(&format!("{inside}/y"))), ("1".into(), "1".into()));
    // Writing through a link as the last component replaces the link.
    let stack = Stack::new().push(Tar::default().symlink("f", &format!("{target}/f")).file("f", "1"));
    assert_eq!(stack.read("f"), "1");
    // The same with the link in a layer below, and for links, whiteouts and metadata.
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let before = fs::symlink_metadata(&victim).unwrap();
    let stack = Stack::new().push(planted(Tar::default())).push(
        Tar::default()
            .file("out/x", "1")
            .entry(b'0', "out/.wh.victim", "")
            .entry(b'0', "out/.wh..wh..opq", "")
            .file_with("out/victim", "2", |h| h.set_mode(0o777)),
    );
    assert_eq!(stack.read(&format!("{inside}/x")), "1");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    let after = fs::symlink_metadata(&victim).unwrap();
    assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()));
    // Absolute names start at the image's root.
    assert_eq!(Stack::new().push(Tar::default().file("/etc/../x", "1")).list(), ["x"]);
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    let deep = format!("{}x", "d/".repeat(3000));
    let cases: Vec<(Tar, &str)> = vec![
        (Tar::default().file("../x", ""), "leaves the root"),
        (Tar::default().file("a/../../x", ""), "leaves the root"),
        (Tar::default().link("l", "../../etc/passwd"), "no file of the image"),
        (Tar::default().link("l", outside.path().to_str().unwrap()), "no file of the image"),
        (Tar::default().dir("d").link("l", "d"), "no file of the image"),
        (Tar::default().entry(b'0', ".wh.", ""), "whiteout of no name"),
        (Tar::default().entry(b'0', ".wh..", ""), "whiteout of no name"),
        (Tar::default().entry(b'0', "d/.wh...", ""), "whiteout of no name"),
        (Tar::default().file(".wh.x/y", ""), "below a whiteout"),
        (Tar::default().file("./", ""), "directory"),
        (Tar::default().symlink("/", "x"), "at the root"),
        (Tar::default().file("f", "").file("f/x", ""), "no directory"),
        (Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", ""), "too many symbolic links"),
        (Tar::default().pax(b'x', &[("path", deep.as_bytes())]).file("x", ""), "longer than Linux"),
        (Tar::default().pax(b'x', &[("path", &[b'n'; 256])]).file("x", ""), "too long"),
        (Tar::default().pax(b'x', &[("path", b"a\0b")]).file("x", ""), "NUL"),
        (Tar::default().entry(b'V', "label", ""), "type 'V'"),
        (Tar::default().entry(b'S', "sparse", ""), "sparse"),
        (Tar::default().pax(b'x', &[("GNU.sparse.major", b"1")]).file("x", ""), "sparse"),
        (Tar::default().pax(b'x', &[("uid", b"4294967296")]).file("x", ""), "32 bit"),
        (Tar::default().pax(b'x', &[("size", b"18446744073709551615")]).file("x", ""), "inside an entry"),
        (Tar::default().file_with("x", "", |h| h.set_size(1 << 40)), "inside an entry"),
    ];
    for (tar, why) in cases {
        let mut stack = Stack::new();
        let bytes = if why == "inside an entry" { tar.0 } else { tar.end() };
        match stack.try_push(&bytes) {
            Err(error) => assert!(error.to_string().contains(why), "expected '{why}': {error}"),
            Ok(_) if why == "directory" => assert_eq!(stack.list(), [""; 0]),
            Ok(_) => panic!("accepted what {why}"),
        }
    }
    let mut damaged = Tar::default().file("x", "").end();
    damaged[0] = b'y';
    assert!(Stack::new().try_push(&damaged).unwrap_err().to_string().contains("checksum"));
    assert!(Stack::new().try_push(b"no tar").unwrap_err().to_string().contains("inside an entry"));
}

#[test]
fn every_compression_gives_the_same_tree_and_diff_id() {
    let big = "0123456789abcdef".repeat(100_000);
    let mut tar = Tar::default().file("big", &big).file("small", "x").end();
    // What follows the end of the archive belongs to the DiffID.
    tar.extend_from_slice(&[0; 10_000]);
    tar.extend_from_slice(b"trailer");
    let expected = DiffId::new(Digest::sha256(&tar));
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (first, second) = tar.split_at(700_000);
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    for (name, blob) in [
        ("plain", tar.clone()),
        ("gzip", gzip(&tar)),
        ("gzip in members", [gzip(first), gzip(second)].concat()),
        ("zstd", zstd.clone()),
        ("zstd in frames", [zstd::encode_all(first, 1).unwrap(), zstd::encode_all(second, 1).unwrap()].concat()),
    ] {
        let mut stack = Stack::new();
        assert_eq!(stack.try_push(&blob).unwrap(), expected, "{name}");
        assert_eq!(stack.read("big"), big, "{name}");
    }
    for blob in [&gzip(&tar)[..2000], &zstd[..zstd.len() - 5]] {
        assert!(Stack::new().try_push(blob).is_err(), "a blob cut off");
    }
}

#[test]
fn another_diff_id_than_expected_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let tar = Tar::default().file("x", "1").end();
    let view = LayerView::new(&[]).unwrap();
    let wrong = DiffId::new(Digest::sha256(b"other"));
    let error = unpack(&tar[..], &view, dir.path(), Some(&wrong)).unwrap_err();
    assert!(matches!(error, UnpackError::DiffId { .. }), "{error}");
}

#[test]
fn a_view_shows_what_overlayfs_shows() {
    if !is_root("a_view_shows_what_overlayfs_shows") {
        return;
    }
    let stack = Stack::new()
        .push(
            Tar::default()
                .dir("./")
                .dir("d/")
                .dir("d/keep/")
                .file("d/keep/f", "1")
                .dir("d/gone/")
                .file("d/gone/f", "1")
                .file("d/file-to-dir", "1")
                .dir("d/dir-to-file/")
                .file("d/dir-to-file/f", "1")
                .dir("d/opaque/")
                .dir("d/opaque/sub/")
                .file("d/opaque/sub/f", "1")
                .symlink("d/link", "keep")
                .link("d/hard", "d/keep/f")
                .device(b'3', "d/null", 1, 3)
                .entry(b'6', "d/fifo", "")
                .dir("back/")
                .file("back/old", "1"),
        )
        .push(
            Tar::default()
                .entry(b'0', "d/.wh.gone", "")
                .dir("d/file-to-dir/")
                .file("d/file-to-dir/f", "2")
                .file("d/dir-to-file", "2")
                .entry(b'0', "d/opaque/.wh..wh..opq", "")
                .file("d/opaque/sub/g", "2")
                .file("d/link/through", "2")
                .link("d/linked-across", "d/hard")
                .entry(b'0', ".wh.back", ""),
        )
        .push(
            Tar::default()
                .dir("back/")
                .file("back/new", "3")
                .file("d/gone", "3")
                .dir("d/dir-to-file/")
                .file("d/opaque/sub/h", "3")
                .entry(b'0', "d/.wh.link", "")
                .file_with("d/keep/f", "changed", |h| h.set_mode(0o4711)),
        );
    for layers in 1..=3 {
        let part = Stack { dir: tempfile::tempdir().unwrap(), layers: stack.layers[3 - layers..].to_vec() };
        let mounted = Mounted::overlay(&part);
        assert_same_as_directory(&part.view(), mounted.0.path());
    }
}

#[test]
fn what_tar_packs_comes_out_the_same() {
    // Somebody else's tar, in both of its formats.
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    let deep = at(&["d".repeat(120), "e".repeat(120), "f".repeat(120)].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("g".repeat(255)), "deep").unwrap();
    fs::write(at("tool"), vec![7; 100_000]).unwrap();
    fs::set_permissions(at("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(at("tool"), at("same tool")).unwrap();
    symlink("t".repeat(180), at("link")).unwrap();
    symlink(".", at("\n\t'\u{e9}")).unwrap();
    fs::write(source.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
    for format in ["--format=gnu", "--format=posix"] {
        let pack = |extra: &[&str]| {
            let out = Command::new("tar").args(extra).args([format, "-czf", "-", "."]).current_dir(&source).output();
            let out = out.unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        };
        let mut stack = Stack::new();
        stack.try_push(&pack(&[])).unwrap();
        assert_same_as_directory(&stack.view(), source.path());
        assert!(stack.same_file("tool", "same tool"));
        let mut stack = Stack::new();
        stack.try_push(&pack(&["--owner=3000000", "--group=4000000000", "--numeric-owner"])).unwrap();
        assert_eq!((stack.metadata("tool").uid, stack.metadata("tool").gid), (3_000_000, 4_000_000_000));
    }
}

/// Does the work of the tests below as the user that they started it as: lay down a layer of other owners' files, look at
/// it, and put another on top.
#[test]
#[ignore = "started by the tests of less privilege"]
fn as_whoever_runs_this() {
    let stack = Stack::new().push(
        Tar::default()
            .pax(b'x', &[("uid", b"5")])
            .entry(b'5', "d/", "")
            .pax(b'x', &[("uid", b"5"), ("gid", b"6")])
            .file_with("d/set-id", "x", |h| h.set_mode(0o4755))
            .file_with("mine", "x", |h| h.set_mode(0))
            .pax(b'x', &[("gid", b"7")])
            .entry(b'2', "d/link", "set-id")
            .pax(b'x', &[("gid", b"7")])
            .entry(b'6', "d/fifo", "")
            .device(b'3', "d/null", 1, 3)
            .pax(b'x', &[("SCHILY.xattr.trusted.x", b"1"), ("SCHILY.xattr.user.x", b"2")])
            .file("xattrs", "")
            .link("d/link2", "d/link")
            .symlink("gone", "x")
            .file("deep/deeper/f", "1"),
    );
    let stack = stack
        .push(Tar::default().link("d/copied", "d/null").entry(b'0', ".wh.gone", "").dir("deep/").file("d/new", ""));
    let names = ["d", "d/copied", "d/fifo", "d/link", "d/link2", "d/new", "d/null", "d/set-id"];
    assert_eq!(stack.list()[..8], names);
    assert_eq!(stack.list()[8..], ["deep", "deep/deeper", "deep/deeper/f", "mine", "xattrs"]);
    let about = |path: &str| {
        let m = stack.metadata(path);
        (m.uid, m.gid, m.mode)
    };
    assert_eq!(about("d"), (5, 0, 0o755), "also where the upper layer made it only to fill it");
    assert_eq!(about("d/set-id"), (5, 6, 0o4755));
    let native = fs::metadata(stack.layers[1].join("d/set-id")).unwrap();
    assert!(native.uid() == 5 || native.mode() & 0o6000 == 0, "no set-id bit for the wrong owner");
    assert_eq!(about("mine"), (0, 0, 0));
    assert_eq!((about("d/link").1, about("d/link2").1, about("d/fifo").1), (7, 7, 7));
    assert_eq!(stack.metadata("d/link").kind, Kind::Symlink { target: b"set-id".to_vec() });
    for device in ["d/null", "d/copied"] {
        assert_eq!(stack.metadata(device).kind, Kind::CharDevice { major: 1, minor: 3 }, "{device}");
    }
    let xattrs = stack.metadata("xattrs").xattrs;
    let expected = [(b"trusted.x".to_vec(), b"1".to_vec()), (b"user.x".to_vec(), b"2".to_vec())];
    assert_eq!(xattrs, expected.into());
    assert_eq!(stack.read("mine"), "x");
}

fn run_as(test: &str, program: &str, args: &[&str]) {
    if !is_root(test) {
        return;
    }
    // The other user may not be able to reach the build directory.
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let exe = dir.path().join("it");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let child = ["--exact", "--ignored", "--nocapture", "unpack::as_whoever_runs_this"];
    let out = Command::new(program).args(args).arg(&exe).args(child).current_dir(&dir).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn one_mapped_id_keeps_the_images_owners() {
    run_as("one_mapped_id_keeps_the_images_owners", "unshare", &["--user", "--map-root-user"]);
}

#[test]
fn an_ordinary_user_keeps_the_images_owners() {
    let args = ["--reuid=12345", "--regid=12345", "--clear-groups"];
    run_as("an_ordinary_user_keeps_the_images_owners", "setpriv", &args);
}

#[test]
fn root_holds_it_all_natively() {
    run_as("root_holds_it_all_natively", "env", &[]);
}

#[test]
fn paths_that_would_leave_the_tree_are_no_paths() {
    let stack = Stack::new().push(Tar::default().dir("d/").file("d/f", "1").symlink("loop", "loop"));
    let view = stack.view();
    for path in ["..", "d/..", ".", "d/./f", "/d", "d/", "d//f"] {
        assert!(view.metadata(path.as_bytes()).is_err(), "{path}");
        assert!(view.open(path.as_bytes()).is_err(), "{path}");
        assert!(view.read_dir(path.as_bytes()).is_err(), "{path}");
    }
    assert!(view.resolve(b"loop").is_err());
    assert_eq!(view.resolve(b"../../d/./../d/f").unwrap().as_deref(), Some(&b"d/f"[..]));
    assert_eq!(view.metadata(b"d/f/x").unwrap(), None);
    assert!(view.read_dir(b"d/f").is_err() && view.open(b"d").is_err() && view.open(b"none").is_err());
    assert!(LayerView::new(&[]).unwrap().metadata(b"").unwrap().is_some_and(|root| root.is_dir()));
    assert!(LayerView::new(&[]).unwrap().read_dir(b"").unwrap().is_empty());
}
