//! Layers and differences, against real overlay mounts, read back by GNU tar and umoci.

use dockless::context::SourceTree;
use dockless::oci::layer::{Kind, Metadata};
use dockless::rootfs::diff::{LeftOut, diff};
use dockless::rootfs::gzip::Compression;
use dockless::rootfs::layer::{LayerOptions, LayerWriter};
use dockless::rootfs::{LayerView, unpack};
use proptest::prelude::*;
use rustix::fs::{FileType, Mode, XattrFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A plain directory as a tree.
struct Plain(PathBuf);

impl Plain {
    /// `path` on the host; none where a directory above it is no directory.
    fn at(&self, path: &[u8]) -> Option<PathBuf> {
        let full = self.0.join(OsStr::from_bytes(path));
        let real = |dir: &Path| dir.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        full.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.0)).all(real).then_some(full)
    }
}

impl SourceTree for Plain {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        let Some(full) = self.at(path) else { return Ok(None) };
        let Ok(stat) = full.symlink_metadata() else { return Ok(None) };
        let (major, minor) = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
        let kind = match FileType::from_raw_mode(stat.mode()) {
            FileType::RegularFile => Kind::File { size: stat.len() },
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink { target: fs::read_link(&full)?.as_os_str().as_bytes().to_vec() },
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            _ => Kind::Socket,
        };
        let xattrs = xattrs(&full);
        let (uid, gid, mtime) = (stat.uid(), stat.gid(), stat.mtime());
        Ok(Some(Metadata { kind, mode: stat.mode() & 0o7777, uid, gid, mtime, xattrs }))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let dir = self.0.join(OsStr::from_bytes(path));
        let mut names: Vec<_> = fs::read_dir(dir)?.map(|e| e.unwrap().file_name().as_bytes().to_vec()).collect();
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.0.join(OsStr::from_bytes(path)))?))
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        let stat = self.0.join(OsStr::from_bytes(path)).symlink_metadata()?;
        Ok((stat.nlink() > 1).then(|| (stat.dev(), stat.ino())))
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|b| *b == 0);
    let ours = |name: &&[u8]| *name == b"security.capability" || name.starts_with(b"user.");
    names
        .filter(ours)
        .filter(|name| !name.starts_with(b"user.overlay."))
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// A lower directory and an overlay on it; unmounted at the end.
struct Overlay {
    dir: tempfile::TempDir,
}

impl Overlay {
    /// Mounts over what `fill` makes of the lower directory.
    fn new(fill: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let overlay = Overlay { dir };
        fill(&overlay.path("lower"));
        let at = |name| overlay.path(name).into_os_string().into_string().unwrap();
        let options = format!("userxattr,lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        let options = CString::new(options).unwrap();
        let flags = MountFlags::empty();
        rustix::mount::mount("overlay", overlay.path("merged"), "overlay", flags, options.as_c_str())
            .expect("an overlay can be mounted (the tests run as root)");
        overlay
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn layer(&self, exclude: &[&[u8]]) -> (Vec<u8>, Vec<LeftOut>) {
        let options = LayerOptions { compression: Compression::none(), ..LayerOptions::default() };
        let mut layer = LayerWriter::new(Vec::new(), options);
        let parent = LayerView::new(&[self.path("lower")]).unwrap();
        let left_out = diff(&self.path("upper"), &parent, exclude, &mut layer).unwrap();
        (layer.finish_into().unwrap().0, left_out)
    }

    /// Paths of the layer after `change`.
    fn listed(&self) -> Vec<String> {
        names(&self.layer(&[]).0)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path("merged"), UnmountFlags::DETACH);
    }
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            match entry.header().entry_type() {
                tar::EntryType::Link => format!("{name} => {}", entry.link_name().unwrap().unwrap().display()),
                _ => name,
            }
        })
        .collect()
}

fn sh(dir: &Path, script: &str) {
    let status = Command::new("sh").args(["-euc", script]).current_dir(dir).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Each case: what the base holds, what a step does, what the layer lists.
const CASES: &[(&str, &str, &str, &[&str])] = &[
    ("nothing", "echo a > f", ":", &[]),
    ("new file in new directory", ":", "mkdir -p d/e; echo > d/e/f", &["d/", "d/e/", "d/e/f"]),
    (
        "ancestors are listed, changed or not",
        "mkdir -p d/e; echo 1 > d/e/f",
        "echo 2 > d/e/f",
        &["d/", "d/e/", "d/e/f"],
    ),
    ("a directory's time alone is no change", "mkdir d", "echo > d/f; rm d/f", &[]),
    ("a directory's mode is", "mkdir -p d/e; echo > d/e/f", "chmod 700 d/e", &["d/", "d/e/"]),
    ("whiteout", "mkdir d; echo > d/f; echo > d/g", "rm d/f", &["d/", "d/.wh.f"]),
    ("whiteouts are no hard links", "echo > f; echo > g; echo > h", "rm f g h", &[".wh.f", ".wh.g", ".wh.h"]),
    ("whiteout of nothing", ":", "echo > f; rm f", &[]),
    ("removed directory", "mkdir -p d/e; echo > d/e/f", "rm -r d", &[".wh.d"]),
    (
        "directory made again",
        "mkdir -p d/e d/k; echo > d/e/f; echo same > d/k/same; touch -d @99 d/k/same",
        "cp -a d/k keep; rm -r d; mkdir d; echo > d/n; mv keep d/k",
        &["d/", "d/.wh.e", "d/n"],
    ),
    ("opaque where nothing lies below", "mkdir d", "rmdir d; mkdir d; echo > d/f", &["d/", "d/f"]),
    ("directory to file", "mkdir d; echo > d/f", "rm -r d; echo > d", &["d"]),
    ("directory to symbolic link", "mkdir d e; echo > d/f", "rm -r d; ln -s e d", &["d"]),
    ("symbolic link to directory", "mkdir e; echo 1 > e/f; ln -s e d", "rm d; mkdir d; echo 1 > d/f", &["d/", "d/f"]),
    ("file to directory", "echo > d", "rm d; mkdir d; echo > d/f", &["d/", "d/f"]),
    ("renamed directory", "mkdir d; echo > d/f", "mv d e", &[".wh.d", "e/", "e/f"]),
    ("renamed file", "echo > f", "mv f g", &[".wh.f", "g"]),
    ("copy-up without change", "echo > f; echo > g", "echo -n >> f; chmod 644 g", &[]),
    ("same bytes and time written again", "echo 1 > f; touch -d @9 f", "echo 1 > f; touch -d @9 f", &[]),
    ("other bytes under the same time", "echo 1 > f; touch -d @9 f", "echo 2 > f; touch -d @9 f", &["f"]),
    ("time only", "echo 1 > f; touch -d @9 f", "touch -d @10 f", &["f"]),
    ("new hard links", ":", "mkdir d; echo > d/f; ln d/f a; ln a z", &["a", "d/", "d/f => a", "z => a"]),
    ("a link to an old file lists both", "echo 1 > f; echo 2 > k", "ln f g; echo -n >> k", &["f", "g => f"]),
    ("writing one name of two", "echo 1 > f; ln f g", "echo 2 > g", &["g"]),
    ("hard links that did not change", "echo > f; ln f g", "echo -n >> f; echo -n >> g", &[]),
    (
        "set-id, sticky, mode 0",
        ":",
        "echo > f; chmod 6755 f; mkdir d; chmod 1777 d; echo > n; chmod 0 n",
        &["d/", "f", "n"],
    ),
    ("fifo and device", ":", "mkfifo p; mknod c c 1 3; mknod b b 7 1", &["b", "c", "p"]),
    ("symbolic link retargeted", "ln -s a l", "ln -sfn b l", &["l"]),
];

#[test]
fn what_a_layer_lists() {
    for (what, base, step, expected) in CASES {
        let overlay = Overlay::new(|lower| sh(lower, base));
        sh(&overlay.path("merged"), step);
        assert_eq!(overlay.listed(), *expected, "{what}");
        let (tar, _) = overlay.layer(&[]);
        assert_eq!(snapshot(&apply(&overlay, &tar)), snapshot(&overlay.path("merged")), "{what}");
        assert_eq!(stacked(&overlay, &tar), snapshot(&overlay.path("merged")), "{what}");
    }
}

#[test]
fn whiteouts_of_nothing_are_dropped() {
    let overlay = Overlay::new(|lower| sh(lower, "mkdir d; echo > d/f; echo > file"));
    sh(&overlay.path("upper"), "mknod w c 0 0; mkdir d n; ln w d/f; ln w d/g; ln w n/h; rm w; mknod x c 0 0");
    assert_eq!(overlay.listed(), ["d/", "d/.wh.f", "n/"]);
}

#[test]
fn mount_points_are_left_out() {
    let overlay = Overlay::new(|lower| sh(lower, "mkdir etc; echo > etc/hosts; mkdir dev"));
    sh(
        &overlay.path("merged"),
        "echo 1 > etc/hosts; echo > etc/hosts2; mkdir -p dev/pts proc; echo > dev/null; rm -r dev/pts",
    );
    let (tar, _) = overlay.layer(&[b"etc/hosts", b"dev", b"proc"]);
    assert_eq!(names(&tar), ["etc/", "etc/hosts2"]);
}

#[test]
fn what_no_layer_can_hold_is_said() {
    let overlay = Overlay::new(|lower| sh(lower, "echo > s"));
    let merged = overlay.path("merged");
    sh(&merged, "rm s; echo > .wh.x");
    let _socket = std::os::unix::net::UnixListener::bind(merged.join("s")).unwrap();
    let (tar, left_out) = overlay.layer(&[]);
    assert_eq!(names(&tar), [".wh.s"]);
    assert_eq!(left_out, [LeftOut::Reserved(b".wh.x".to_vec()), LeftOut::Socket(b"s".to_vec())]);
}

#[test]
fn overrides_are_honoured_and_stripped() {
    let overlay = Overlay::new(|_| ());
    let upper = overlay.path("upper");
    sh(&upper, "echo > f; : > c; ln -s target l; mkdir d; : > p; chmod 755 f; chmod 600 c p; chmod 777 d");
    fs::write(overlay.path("owners"), b"l\x003:4:777:l\0").unwrap();
    let set = |name: &str, key: &str, value: &str| {
        rustix::fs::setxattr(upper.join(name), key, value.as_bytes(), XattrFlags::empty()).unwrap();
    };
    for (name, value) in [("f", "7:8:4755:f"), ("c", "0:5:600:c:1:3"), ("d", "9:9:1777:d"), ("p", "0:0:600:p")] {
        set(name, "user.dockless.override", value);
    }
    set("f", "user.overlay.origin", "x");
    set("f", "user.mine", "a\nb=c");
    let (tar, _) = overlay.layer(&[]);
    let out = extract(&overlay.path("work"), &tar);
    let tree = Plain(out);
    let meta = |path: &[u8]| tree.metadata(path).unwrap().unwrap();
    let f = meta(b"f");
    assert_eq!((f.uid, f.gid, f.mode), (7, 8, 0o4755));
    assert_eq!(f.xattrs, [(b"user.mine".to_vec(), b"a\nb=c".to_vec())].into());
    assert_eq!(meta(b"c").kind, Kind::CharDevice { major: 1, minor: 3 });
    assert_eq!(meta(b"l").kind, Kind::Symlink { target: b"target".to_vec() });
    assert_eq!((meta(b"l").uid, meta(b"d").mode, meta(b"p").kind), (3, 0o1777, Kind::Fifo));
    set("f", "user.dockless.override", "7:8");
    let mut layer = LayerWriter::new(Vec::new(), LayerOptions::default());
    let error = diff(&upper, &Plain(overlay.path("lower")), &[], &mut layer).unwrap_err();
    assert!(format!("{error:?}").contains("'7:8'"), "{error:?}");
}

#[test]
fn file_capabilities_are_carried() {
    // Version 2, CAP_NET_RAW permitted and effective.
    let value = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let set = |path: PathBuf| rustix::fs::setxattr(path, "security.capability", &value, XattrFlags::empty()).unwrap();
    let overlay = Overlay::new(|lower| {
        sh(lower, "echo > kept; echo > lost; echo > same");
        ["kept", "lost", "same"].iter().for_each(|name| set(lower.join(name)));
    });
    let merged = overlay.path("merged");
    sh(&merged, "chmod 700 kept; echo 2 > lost; chmod 644 same; echo > new");
    set(merged.join("new"));
    let (tar, _) = overlay.layer(&[]);
    assert_eq!(names(&tar), ["kept", "lost", "new"]);
    let applied = snapshot(&apply(&overlay, &tar));
    assert_eq!(applied, snapshot(&merged));
    let has = |name: &[u8]| applied[name].0.xattrs.contains_key(&b"security.capability"[..]);
    assert_eq!((has(b"kept"), has(b"lost"), has(b"same"), has(b"new")), (true, false, true, true));
}

#[test]
fn deep_trees_and_long_names() {
    let overlay = Overlay::new(|_| ());
    let merged = overlay.path("merged");
    // Deeper than the descriptors that a walk keeps, and than a path that the kernel takes at once.
    let mut dir = rustix::fs::open(&merged, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    let name = "n".repeat(200);
    for _ in 0..300 {
        rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, &name, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        rustix::fs::mkdirat(&dir, "z", Mode::RWXU).unwrap();
    }
    let (tar, _) = overlay.layer(&[]);
    assert_eq!(names(&tar).len(), 600);
    assert!(names(&tar).iter().any(|path| path.len() > 60_000));
    sh(overlay.dir.path(), "rm -rf merged/*");
}

/// Unpacks `tar` with GNU tar.
fn extract(into: &Path, tar: &[u8]) -> PathBuf {
    let out = into.join("out");
    fs::create_dir_all(&out).unwrap();
    let archive = into.join("layer.tar");
    fs::write(&archive, tar).unwrap();
    let flags = ["--xattrs", "--xattrs-include=*", "-p", "--numeric-owner", "--same-owner", "--overwrite", "-xf"];
    let output = Command::new("tar").args(flags).arg(&archive).arg("-C").arg(&out).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// A copy of the lower directory with the layer applied: removals here, the rest by GNU tar.
fn apply(overlay: &Overlay, tar: &[u8]) -> PathBuf {
    let scratch = overlay.path("applied");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir(&scratch).unwrap();
    sh(overlay.dir.path(), "cp -a lower applied/out");
    let out = scratch.join("out");
    let mut archive = tar::Archive::new(tar);
    let mut markers = vec![];
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let bytes = entry.path_bytes();
        // A slash at the end would make lstat follow a symbolic link.
        let path = out.join(OsStr::from_bytes(bytes.strip_suffix(b"/").unwrap_or(&bytes)));
        let name = path.file_name().unwrap().as_bytes();
        let gone = match name.strip_prefix(b".wh.") {
            Some(hidden) => {
                markers.push(path.clone());
                path.with_file_name(OsStr::from_bytes(hidden))
            }
            None => path.clone(),
        };
        let (is_dir, was_dir) =
            (entry.header().entry_type().is_dir(), gone.symlink_metadata().is_ok_and(|m| m.is_dir()));
        match (is_dir, was_dir) {
            (true, true) => {}
            (_, true) => fs::remove_dir_all(gone).unwrap(),
            (_, false) => drop(fs::remove_file(gone)),
        }
    }
    extract(&scratch, tar);
    markers.iter().for_each(|marker| fs::remove_file(marker).unwrap());
    out
}

/// What is compared: metadata without the times of directories, and content.
type Seen = (Metadata, Vec<u8>);

fn snapshot(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    snapshot_of(&Plain(root.to_path_buf()))
}

/// The layer unpacked by ourselves on top of the lower directory.
fn stacked(overlay: &Overlay, tar: &[u8]) -> BTreeMap<Vec<u8>, Seen> {
    let (lower, top) = (overlay.path("lower"), overlay.path("unpacked/tree"));
    let _ = fs::remove_dir_all(overlay.path("unpacked"));
    fs::create_dir_all(&top).unwrap();
    unpack(tar, &LayerView::new(std::slice::from_ref(&lower)).unwrap(), &top, None).unwrap();
    snapshot_of(&LayerView::new(&[top, lower]).unwrap())
}

/// When each file was last written, to the nanosecond: one that was written again with what it held is listed.
fn written_at(root: &Path) -> BTreeMap<Vec<u8>, i64> {
    let tree = Plain(root.to_path_buf());
    let files = snapshot(root).into_iter().filter(|(_, (meta, _))| meta.kind != Kind::Dir);
    files.map(|(path, _)| (path.clone(), tree.at(&path).map_or(0, |at| nanoseconds(&at)))).collect()
}

fn nanoseconds(path: &Path) -> i64 {
    fs::symlink_metadata(path).map_or(0, |meta| meta.mtime_nsec())
}

fn snapshot_of(tree: &dyn SourceTree) -> BTreeMap<Vec<u8>, Seen> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![Vec::new()]);
    while let Some(dir) = todo.pop() {
        for name in tree.read_dir(&dir).unwrap() {
            let path = if dir.is_empty() { name } else { [&dir[..], b"/", &name].concat() };
            let mut meta = tree.metadata(&path).unwrap().unwrap();
            let mut content = vec![];
            match meta.kind {
                Kind::Dir => {
                    meta.mtime = 0;
                    todo.push(path.clone());
                }
                Kind::File { .. } => assert!(tree.open(&path).unwrap().read_to_end(&mut content).is_ok()),
                _ => {}
            }
            found.insert(path, (meta, content));
        }
    }
    found
}

#[derive(Debug, Clone)]
enum Op {
    Write(usize, Vec<u8>),
    Append(usize),
    Mkdir(usize),
    Remove(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Symlink(usize, usize),
    Chmod(usize, u32),
    Chown(usize, u32, u32),
    Time(usize, i64),
    Xattr(usize, Vec<u8>),
    Special(usize, bool),
}

const PLACES: &[&[u8]] = &[
    b"a",
    b"b",
    b"a/x",
    b"a/y",
    b"b/x",
    b"b/\xff\xfe",
    b"a/x/1",
    b"a/x/2",
    b"a/x/1/deep",
    b"a-b",
    b"b/x/n",
    b"\xc3\xa4",
];

fn op() -> impl Strategy<Value = Op> {
    let at = || 0..PLACES.len();
    prop_oneof![
        4 => (at(), proptest::collection::vec(any::<u8>(), 0..3)).prop_map(|(a, b)| Op::Write(a, b)),
        1 => at().prop_map(Op::Append),
        4 => at().prop_map(Op::Mkdir),
        3 => at().prop_map(Op::Remove),
        2 => (at(), at()).prop_map(|(a, b)| Op::Rename(a, b)),
        2 => (at(), at()).prop_map(|(a, b)| Op::Link(a, b)),
        1 => (at(), at()).prop_map(|(a, b)| Op::Symlink(a, b)),
        1 => (at(), 0u32..0o7777).prop_map(|(a, m)| Op::Chmod(a, m)),
        1 => (at(), 0u32..4_000_000_000, 0u32..9).prop_map(|(a, u, g)| Op::Chown(a, u, g)),
        1 => (at(), 0i64..3).prop_map(|(a, t)| Op::Time(a, t)),
        1 => (at(), proptest::collection::vec(any::<u8>(), 1..4)).prop_map(|(a, v)| Op::Xattr(a, v)),
        1 => (at(), any::<bool>()).prop_map(|(a, fifo)| Op::Special(a, fifo)),
    ]
}

/// Does `op` under `root` if it can be done; what cannot is no change.
fn perform(root: &Path, op: &Op) {
    let at = |place: &usize| root.join(OsStr::from_bytes(PLACES[*place]));
    // A path through a symbolic link could leave the tree; those that exist are skipped.
    let tree = Plain(root.to_path_buf());
    let inside = |place: &usize| tree.at(PLACES[*place]).is_some();
    let no_link = |place: &usize| inside(place) && !at(place).is_symlink();
    let special = |place: &usize| at(place).symlink_metadata().is_ok_and(|m| !m.is_file() && !m.is_dir());
    match op {
        Op::Write(a, bytes) if no_link(a) && !special(a) => drop(fs::write(at(a), bytes)),
        Op::Append(a) if no_link(a) && !special(a) => drop(fs::OpenOptions::new().append(true).mode(0o600).open(at(a))),
        Op::Mkdir(a) if inside(a) => drop(fs::create_dir(at(a))),
        Op::Remove(a) if inside(a) => drop(fs::remove_file(at(a)).or_else(|_| fs::remove_dir_all(at(a)))),
        Op::Rename(a, b) if inside(a) && inside(b) => drop(fs::rename(at(a), at(b))),
        Op::Link(a, b) if inside(a) && inside(b) => drop(fs::hard_link(at(a), at(b))),
        Op::Symlink(a, b) if inside(a) => drop(std::os::unix::fs::symlink(OsStr::from_bytes(PLACES[*b]), at(a))),
        Op::Chmod(a, mode) if no_link(a) => drop(fs::set_permissions(at(a), fs::Permissions::from_mode(*mode))),
        Op::Chown(a, uid, gid) if inside(a) => drop(std::os::unix::fs::lchown(at(a), Some(*uid), Some(*gid))),
        Op::Time(a, seconds) if no_link(a) && !special(a) => {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(*seconds as u64);
            drop(File::open(at(a)).and_then(|file| file.set_modified(time)));
        }
        Op::Xattr(a, value) if no_link(a) && !special(a) => {
            let _ = rustix::fs::setxattr(at(a), "user.k", value, XattrFlags::empty());
        }
        Op::Special(a, fifo) if inside(a) => {
            let (kind, device) =
                if *fifo { (FileType::Fifo, 0) } else { (FileType::CharacterDevice, rustix::fs::makedev(1, 3)) };
            let _ = rustix::fs::mknodat(rustix::fs::CWD, at(a), kind, Mode::RUSR, device);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Base plus difference is the changed tree, whatever the changes, and only what differs is listed.
    #[test]
    fn base_and_difference_make_the_tree(
        base in proptest::collection::vec(op(), 0..24),
        step in proptest::collection::vec(op(), 0..16),
    ) {
        let overlay = Overlay::new(|lower| base.iter().for_each(|op| perform(lower, op)));
        let merged = overlay.path("merged");
        step.iter().for_each(|op| perform(&merged, op));
        let (tar, _) = overlay.layer(&[]);
        prop_assert_eq!(&tar, &overlay.layer(&[]).0);
        let (wanted, before) = (snapshot(&merged), snapshot(&overlay.path("lower")));
        prop_assert_eq!(&snapshot(&apply(&overlay, &tar)), &wanted);
        prop_assert_eq!(&stacked(&overlay, &tar), &wanted);
        let untouched = written_at(&merged) == written_at(&overlay.path("lower"));
        if wanted == before && untouched && !names(&tar).iter().any(|name| name.contains(" => ")) {
            prop_assert_eq!(names(&tar), Vec::<String>::new());
        }
    }
}
