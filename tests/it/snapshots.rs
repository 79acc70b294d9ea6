//! One contract for all snapshotters: the same changes give the same layers, whatever made the tree.

use dockless::oci::Layer;
use dockless::rootfs::{Compression, LayerOptions, SnapshotError, Snapshotter, SnapshotterKind};
use dockless::sandbox::Root;
use dockless::store::Store;
use rustix::fs::XattrFlags;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the trees of a stack of steps are made.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Overlays.
    Overlay,
    /// One private tree that goes from step to step.
    OneTree,
    /// A new private tree for each step, of what is unpacked.
    NewTrees,
    /// The same, of layers unpacked from their blobs.
    Unpacked,
}

const WAYS: [Way; 4] = [Way::Overlay, Way::OneTree, Way::NewTrees, Way::Unpacked];

/// A tree as a command sees it: mounted, if it must be.
struct Shown {
    root: PathBuf,
    mounted: bool,
    _dir: tempfile::TempDir,
}

impl Shown {
    fn new(root: &Root) -> Shown {
        let dir = tempfile::tempdir().unwrap();
        match root {
            Root::Dir(root) => Shown { root: root.clone(), mounted: false, _dir: dir },
            Root::Overlay { lowers, upper, work } => {
                let lowers: Vec<&str> = lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
                let (upper, work) = (upper.to_str().unwrap(), work.to_str().unwrap());
                let options = format!("userxattr,lowerdir={},upperdir={upper},workdir={work}", lowers.join(":"));
                let options = CString::new(options).unwrap();
                rustix::mount::mount("overlay", dir.path(), "overlay", MountFlags::empty(), options.as_c_str())
                    .expect("an overlay can be mounted (the tests run as root)");
                Shown { root: dir.path().to_path_buf(), mounted: true, _dir: dir }
            }
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.mounted {
            rustix::mount::unmount(&self.root, UnmountFlags::DETACH).unwrap();
        }
    }
}

fn options() -> LayerOptions {
    LayerOptions { compression: Compression::none(), epoch: Some(1_000_000_000), ..LayerOptions::default() }
}

type Step = fn(&Path);

/// The layers that `steps` make on one another, and the names in each.
fn layers(way: Way, steps: &[Step]) -> Vec<(Layer, Vec<String>)> {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("store");
    let store = Store::open(&home).unwrap();
    let kind = if way == Way::Overlay { SnapshotterKind::Overlay } else { SnapshotterKind::Copy };
    let mut snapshots = Snapshotter::new(store.clone(), kind);
    let (mut stack, mut found) = (Vec::new(), Vec::new());
    for step in steps {
        let snapshot = snapshots.prepare(&stack, &|_| unreachable!("all is in the store")).unwrap();
        step(&Shown::new(&snapshot.root()).root);
        let (layer, _) = snapshot.commit(store.blob_writer().unwrap(), options(), &[]).unwrap();
        if matches!(way, Way::NewTrees | Way::Unpacked) {
            snapshots = Snapshotter::new(store.clone(), kind);
        }
        let mut tar = Vec::new();
        std::io::Read::read_to_end(&mut store.open_blob(&layer.digest).unwrap(), &mut tar).unwrap();
        found.push((layer.clone(), names(&tar)));
        stack.push(layer);
        if way == Way::Unpacked {
            fs_err::remove_dir_all(home.join("layers")).unwrap();
            fs_err::create_dir(home.join("layers")).unwrap();
        }
    }
    found
}

/// Names in the tar of a layer.
fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let shown = |entry: tar::Entry<'_, &[u8]>| {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let link = entry.header().entry_type() == tar::EntryType::Link;
        if link { format!("{name} => {}", entry.link_name().unwrap().unwrap().display()) } else { name }
    };
    archive.entries().unwrap().map(|entry| shown(entry.unwrap())).collect()
}

/// What `change` on top of `base` puts in its layer, which is the same whatever the way.
fn listed(base: Step, change: Step) -> Vec<String> {
    let mut found = WAYS.map(|way| layers(way, &[base, change]).remove(1));
    for (way, other) in WAYS.iter().zip(&found) {
        assert_eq!((&other.1, &other.0), (&found[0].1, &found[0].0), "{way:?}");
    }
    std::mem::take(&mut found[0].1)
}

fn sh(root: &Path, script: &str) {
    let output = Command::new("sh").args(["-euc", script]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// `security.capability` of `cap_net_raw+ep`, version 2 (include/uapi/linux/capability.h).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Something of everything.
fn base(root: &Path) {
    sh(
        root,
        "mkdir -p bin etc/conf.d home/app usr/lib/deep/er var/cache tmp old
         chmod 1777 tmp; chmod 700 home/app; chown 1000:1000 home/app
         for i in 1 2 3 4 5; do echo file $i > usr/lib/f$i; echo conf $i > etc/conf.d/$i; done
         echo deep > usr/lib/deep/er/file; echo x > old/x; echo y > old/y
         echo links > bin/a; ln bin/a bin/b; ln bin/a bin/c; ln bin/a usr/lib/d
         ln -s ../usr/lib bin/lib; ln -s /nowhere etc/dangling; chown -h 1000:1001 etc/dangling
         mkfifo etc/pipe; chown 5:6 etc/pipe; mknod etc/null c 1 3; mknod etc/disk b 7 200; chmod 640 etc/disk
         echo su > bin/su; chmod 4755 bin/su; echo sgid > bin/wall; chown 0:5 bin/wall; chmod 2755 bin/wall
         echo secret > etc/shadow; chmod 0 etc/shadow; chown 0:42 etc/shadow
         : > etc/empty; truncate -s 1M var/sparse; printf x >> var/sparse",
    );
    std::fs::write(root.join(OsStr::from_bytes(b"etc/odd\xff\n")), "odd").unwrap();
    set_xattr(&root.join("usr/lib/f1"), "user.note", b"one\0two");
    set_xattr(&root.join("usr/lib/deep"), "user.dir", b"x");
    set_xattr(&root.join("usr/lib/f2"), "security.capability", &CAPABILITY);
}

/// Every kind of edit.
fn edits(root: &Path) {
    sh(
        root,
        "echo more >> usr/lib/f1; chmod 600 usr/lib/f2; chown 7:8 usr/lib/f3; touch -d 2001-01-01 usr/lib/f4
         echo other > usr/lib/f5; rm etc/conf.d/2; echo new > etc/conf.d/6
         chown -h 3:4 etc/dangling; chmod 600 etc/pipe; rm etc/null; chmod 4711 bin/su; chmod 755 bin/wall
         printf y | dd of=var/sparse conv=notrunc bs=1 seek=4096 2>/dev/null",
    );
    set_xattr(&root.join("usr/lib/deep"), "user.dir", b"y");
    std::fs::write(root.join(OsStr::from_bytes(b"etc/odd\xff\n")), "odder").unwrap();
    std::fs::write(root.join(OsStr::from_bytes(b"etc/\xfe")), "new").unwrap();
}

/// Directories removed, made again, moved and replaced.
fn directories(root: &Path) {
    sh(
        root,
        "rm -rf usr/lib/deep; mkdir -p usr/lib/deep/er; echo again > usr/lib/deep/er/file
         rm -rf etc/conf.d; mkdir etc/conf.d; echo conf 1 > etc/conf.d/1; echo 9 > etc/conf.d/9
         mv old newer; rm -rf var; ln -s tmp var; rm etc/empty; mkdir -p etc/empty/full
         rm -rf home; echo file > home; chmod 755 tmp; mkdir -p a/b/c/d/e",
    );
}

fn hard_links(root: &Path) {
    // One name edited, one removed, one made from what was there, and a new pair.
    sh(
        root,
        "echo edited >> bin/b; rm bin/c; ln etc/shadow etc/shadow-; echo p > etc/p; ln etc/p usr/lib/q; ln etc/p z",
    );
}

fn links_of_the_step_before(root: &Path) {
    sh(root, "chmod 600 z; echo more >> usr/lib/q; rm etc/shadow-");
}

fn touched_and_left_alike(root: &Path) {
    sh(
        root,
        ": >> usr/lib/f1; chmod g+w usr/lib/f4; chmod g-w usr/lib/f4; chown 9:9 usr/lib/f5; chown 0:0 usr/lib/f5
         mkdir tmp/x; rmdir tmp/x; echo > tmp/y; rm tmp/y; cp -p bin/a tmp/a; cat tmp/a > bin/a; touch -r tmp/a bin/a; rm tmp/a",
    );
}

/// Everything removed and made again.
fn made_anew(root: &Path) {
    sh(root, "rm -rf ./*");
    base(root);
}

fn nothing(_: &Path) {}

#[test]
fn every_way_gives_the_same_layers() {
    let steps: &[Step] = &[
        base,
        edits,
        nothing,
        touched_and_left_alike,
        hard_links,
        links_of_the_step_before,
        directories,
        nothing,
        made_anew,
    ];
    let expected = layers(WAYS[0], steps);
    for way in &WAYS[1..] {
        let found = layers(*way, steps);
        for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!((&found.1, &found.0), (&expected.1, &expected.0), "step {number} in {way:?}");
        }
    }
}

#[test]
fn only_what_changed_is_listed() {
    let nothing: [&str; 0] = [];
    assert_eq!(listed(base, |_| {}), nothing);
    assert_eq!(listed(base, touched_and_left_alike), nothing);
    assert_eq!(listed(base, |root| sh(root, "echo x >> bin/b")), ["bin/", "bin/b"]);
    assert_eq!(listed(base, |root| sh(root, "ln bin/b bin/e")), ["bin/", "bin/b", "bin/e => bin/b"]);
    assert_eq!(listed(base, |root| sh(root, "chown 1:1 bin/*a bin/c")), ["bin/", "bin/a", "bin/c"]);
    assert_eq!(listed(base, |root| sh(root, "rm bin/a")), ["bin/", "bin/.wh.a"]);
    assert_eq!(
        listed(base, |root| sh(root, "rm -r old; mkdir old; echo z > old/z")),
        ["old/", "old/.wh.x", "old/.wh.y", "old/z"]
    );
    assert_eq!(listed(base, |root| sh(root, "rm -r usr/lib/deep")), ["usr/", "usr/lib/", "usr/lib/.wh.deep"]);
}

/// What a step does right after the tree was made, in the same tick of the clock, is seen.
#[test]
fn changes_in_the_tick_of_the_copy_are_seen() {
    for round in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let snapshots = Snapshotter::new(store.clone(), SnapshotterKind::Copy);
        let fetch = |_: &Layer| unreachable!("all is in the store");
        let first = snapshots.prepare(&[], &fetch).unwrap();
        let Root::Dir(root) = first.root() else { panic!("no directory") };
        std::fs::write(root.join("file"), "aaaa").unwrap();
        let (layer, _) = first.commit(store.blob_writer().unwrap(), options(), &[]).unwrap();
        let second = snapshots.prepare(std::slice::from_ref(&layer), &fetch).unwrap();
        let Root::Dir(root) = second.root() else { panic!("no directory") };
        std::fs::write(root.join("file"), "bbbb").unwrap();
        let (changed, _) = second.commit(store.blob_writer().unwrap(), options(), &[]).unwrap();
        assert_ne!(changed.diff_id, layer.diff_id);
        let empty = snapshots
            .prepare(&[layer, changed.clone()], &fetch)
            .unwrap()
            .commit(store.blob_writer().unwrap(), options(), &[])
            .unwrap()
            .0;
        assert_ne!(changed.diff_id, empty.diff_id, "round {round}: the change was not seen");
    }
}

/// A layer that is made once more, at other times that it does not tell, is in the store as it was made first; what is found in
/// the tree later is compared with that.
#[test]
fn regression_a_layer_made_again_keeps_its_first_times() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let fetch = |_: &Layer| unreachable!("all is in the store");
    let build = |time: &str| {
        let snapshots = Snapshotter::new(store.clone(), SnapshotterKind::Copy);
        let step = |stack: &[Layer], script: &str| {
            let snapshot = snapshots.prepare(stack, &fetch).unwrap();
            let Root::Dir(root) = snapshot.root() else { panic!("no directory") };
            sh(&root, script);
            snapshot.commit(store.blob_writer().unwrap(), options(), &[]).unwrap().0
        };
        let first = step(&[], &format!("echo x > file; ln file link; mkdir d; touch -d {time} file d"));
        let second = step(std::slice::from_ref(&first), "chmod 600 file; chmod 644 file; chmod 755 d; echo > new");
        (first.diff_id, second.diff_id)
    };
    assert_eq!(build("2020-01-01"), build("2021-01-01"));
}

/// Two stages on one base each have a tree of their own; what is kept is found by the stack it is the tree of.
#[test]
fn trees_are_not_shared_between_stages() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let snapshots = Snapshotter::new(store.clone(), SnapshotterKind::Copy);
    let step = |stack: &[Layer], name: &str| -> Result<(Layer, PathBuf, Vec<String>), SnapshotError> {
        let snapshot = snapshots.prepare(stack, &|_| unreachable!("all is in the store"))?;
        let Root::Dir(root) = snapshot.root() else { panic!("no directory") };
        let mut found: Vec<String> =
            fs_err::read_dir(&root)?.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        fs_err::write(root.join(name), name)?;
        Ok((snapshot.commit(store.blob_writer().unwrap(), options(), &[])?.0, root, found))
    };
    let (one, first, _) = step(&[], "one").unwrap();
    let (two, second, found) = step(std::slice::from_ref(&one), "two").unwrap();
    assert_eq!((first == second, found), (true, vec!["one".to_string()]));
    let (_, other, found) = step(std::slice::from_ref(&one), "three").unwrap();
    assert_eq!((other == first, found), (false, vec!["one".to_string()]));
    let (_, again, found) = step(&[one, two], "four").unwrap();
    assert_eq!((again == first, found), (true, vec!["one".to_string(), "two".to_string()]));
}
