//! Tests of `store`.

use dockless::oci::{ChainId, Descriptor, Digest, Reference, manifest};
use dockless::store::{Store, StoreError};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

fn open(root: &Path) -> Store {
    Store::open(root).unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text)
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// A minimal image in the store.
fn put_image(store: &Store, seed: &str) -> Descriptor {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","author":"{seed}","rootfs":{{"type":"layers","diff_ids":[]}},"config":{{}}}}"#
    );
    let config_digest = store.put_blob(config.as_bytes()).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config_digest}","size":{}}},"layers":[]}}"#,
        manifest::OCI_MANIFEST,
        manifest::OCI_CONFIG,
        config.len()
    );
    let digest = store.put_blob(manifest.as_bytes()).unwrap();
    manifest::descriptor(manifest::OCI_MANIFEST, &digest, manifest.len() as u64)
}

fn temp_entries(root: &Path) -> usize {
    fs::read_dir(root.join("tmp")).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count()
}

#[test]
fn blobs_come_back_verified() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let digest = store.put_blob(b"hello").unwrap();
    assert_eq!(digest, Digest::sha256(b"hello"));
    assert_eq!(store.has_blob(&digest).unwrap(), Some(5));
    assert_eq!(store.read_blob(&digest, 5).unwrap(), b"hello");
    assert!(matches!(store.read_blob(&digest, 4), Err(StoreError::TooLong { size: 5, limit: 4, .. })));
    assert!(matches!(store.open_blob(&Digest::sha256(b"other")), Err(StoreError::Missing(_))));
    assert_eq!(store.has_blob(&Digest::sha256(b"other")).unwrap(), None);
}

#[test]
fn a_damaged_blob_is_an_error_and_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = open(&root);
    let digest = store.put_blob(b"hello").unwrap();
    fs::write(root.join("blobs/sha256").join(digest.hex()), b"hellO").unwrap();
    let mut text = Vec::new();
    let error = store.open_blob(&digest).unwrap().read_to_end(&mut text).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains(digest.hex()), "{error}");
    assert_eq!(store.has_blob(&digest).unwrap(), None);
    store.put_blob(b"hello").unwrap();
    assert_eq!(store.read_blob(&digest, 10).unwrap(), b"hello");
}

#[test]
fn a_writer_stores_only_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = open(&root);
    let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    for (expected, size) in [(digest("other"), None), (digest("bytes"), Some(4)), (sha512, None)] {
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"bytes").unwrap();
        assert!(writer.finish_as(&expected, size).is_err(), "{expected}");
        assert_eq!(store.has_blob(&expected).unwrap(), None);
    }
    let mut dropped = store.blob_writer().unwrap();
    dropped.write_all(b"bytes").unwrap();
    drop(dropped);
    assert_eq!(store.has_blob(&digest("bytes")).unwrap(), None);
    let hello512 = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043";
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"hello").unwrap();
    assert_eq!(writer.finish_as(&hello512.parse().unwrap(), Some(5)).unwrap(), 5);
    assert_eq!(store.read_blob(&hello512.parse().unwrap(), 5).unwrap(), b"hello");
    drop(store);
    assert_eq!(temp_entries(&root), 0);
}

#[test]
fn names_move_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let (one, two) = (put_image(&store, "one"), put_image(&store, "two"));
    let (app, other) = (reference("app:1"), reference("127.0.0.1:5000/x/app:1"));
    assert_eq!(store.resolve(&app).unwrap(), None);
    store.tag(&app, &one).unwrap();
    store.tag(&other, &one).unwrap();
    assert_eq!(store.resolve(&app).unwrap(), Some(one.clone()));
    store.tag(&app, &two).unwrap();
    assert_eq!(store.resolve(&app).unwrap(), Some(two.clone()));
    let names: Vec<_> = store.names().unwrap();
    assert_eq!(names, [(other.clone(), one), (app.clone(), two)]);
    assert!(store.untag(&app).unwrap());
    assert!(!store.untag(&app).unwrap());
    assert_eq!(store.names().unwrap().len(), 1);
}

#[test]
fn skopeo_reads_the_layout_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = open(&root);
    let name = reference("127.0.0.1:5000/x/app:1");
    store.tag(&name, &put_image(&store, "skopeo")).unwrap();
    let source = format!("oci:{}:{name}", root.display());
    let out = Command::new("skopeo").args(["inspect", "--config", &source]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8_lossy(&out.stdout).contains("skopeo"));
    // And what skopeo adds, we see.
    let target = format!("oci:{}:copied:2", root.display());
    let out = Command::new("skopeo").args(["copy", "-q", &source, &target]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(store.resolve(&reference("copied:2")).unwrap().is_some());
    open(&root);
}

#[test]
fn layers_appear_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let chain = ChainId::new(digest("chain"));
    assert_eq!(store.layer_dir(&chain), None);
    let (a, b, dropped) = (store.stage_layer().unwrap(), store.stage_layer().unwrap(), store.stage_layer().unwrap());
    fs::write(a.path().join("a"), "1").unwrap();
    fs::write(b.path().join("b"), "1").unwrap();
    assert_eq!(store.layer_dir(&chain), None);
    let gone = dropped.path().to_path_buf();
    drop(dropped);
    let first = a.commit(&chain).unwrap();
    let second = b.commit(&chain).unwrap();
    let path = first.path;
    assert_eq!(second.path, path, "the first one stays");
    assert_eq!((first.was_there, second.was_there), (false, true));
    assert_eq!(store.layer_dir(&chain), Some(path.clone()));
    assert!(path.join("a").exists() && !path.join("b").exists());
    // What was dropped is removed in the background.
    drop(store);
    assert!(path.join("a").exists() && !gone.exists());
}

#[test]
fn a_layer_of_another_boot_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = open(&root);
    let chain = ChainId::new(digest("chain"));
    let path = store.stage_layer().unwrap().commit(&chain).unwrap().path;
    fs::write(path.join("torn"), "").unwrap();
    fs::write(path.parent().unwrap().join("boot"), "another").unwrap();
    assert_eq!(store.layer_dir(&chain), None);
    let again = store.stage_layer().unwrap();
    fs::write(again.path().join("whole"), "").unwrap();
    assert_eq!(again.commit(&chain).unwrap().path, path);
    assert!(path.join("whole").exists() && !path.join("torn").exists());
}

#[test]
fn records_are_whole_or_absent() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = open(&root);
    let key = digest("key");
    assert_eq!(store.record("step", &key).unwrap(), None);
    store.put_record("step", &key, b"one\ntwo\n").unwrap();
    assert_eq!(store.record("step", &key).unwrap().as_deref(), Some(&b"one\ntwo\n"[..]));
    assert_eq!(store.record("other", &key).unwrap(), None);
    store.put_record("step", &key, b"").unwrap();
    assert_eq!(store.record("step", &key).unwrap().as_deref(), Some(&b""[..]));
    store.put_record("step", &key, b"value").unwrap();
    let path = root.join("records/step").join(key.hex());
    let whole = fs::read(&path).unwrap();
    for torn in [&whole[..whole.len() - 1], &whole[..10], b""] {
        fs::write(&path, torn).unwrap();
        assert_eq!(store.record("step", &key).unwrap(), None);
    }
}

#[test]
fn opening_sweeps_what_killed_processes_left_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let live = open(&root);
    let kept = live.temp_dir().unwrap();
    fs::write(kept.path().join("f"), "").unwrap();
    // What a kill in mid-write leaves: with a lock nobody holds, and without one.
    for (name, lock) in [("1-dead", true), ("2-dead", false)] {
        let dead = root.join("tmp").join(name);
        fs::create_dir_all(dead.join("0/tree/work/work")).unwrap();
        fs::write(dead.join("1"), "half a blob").unwrap();
        fs::set_permissions(dead.join("0/tree/work/work"), fs::Permissions::from_mode(0o000)).unwrap();
        if lock {
            fs::write(dead.join("lock"), "").unwrap();
        }
    }
    assert_eq!(temp_entries(&root), 3);
    // It waits for what it removes in the background.
    drop(open(&root));
    assert_eq!(temp_entries(&root), 1);
    assert!(kept.path().join("f").exists());
    drop((kept, live));
    assert_eq!(temp_entries(&root), 0);
}

#[test]
fn refuses_a_directory_that_is_not_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("home");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.join("thesis.tex"), "").unwrap();
    let error = Store::open(&root).unwrap_err();
    assert!(matches!(&error, StoreError::NotAStore { found, .. } if found == "thesis.tex"), "{error}");
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o755, "left as it was");
}

#[test]
fn refuses_a_later_format_and_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    drop(open(&root));
    fs::write(root.join("version"), "2\n").unwrap();
    assert!(matches!(Store::open(&root), Err(StoreError::Newer { found: 2, known: 1, .. })));
    fs::write(root.join("version"), "x").unwrap();
    assert!(matches!(Store::open(&root), Err(StoreError::Damaged { .. })));
    fs::write(root.join("version"), "1\n").unwrap();
    fs::write(root.join("index.json"), "{").unwrap();
    assert!(matches!(open(&root).names(), Err(StoreError::Damaged { .. })));
}

#[test]
fn is_private_whatever_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    drop(open(&root));
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn refuses_what_another_user_owns() {
    if !is_root("refuses_what_another_user_owns") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (theirs, link, target) = (dir.path().join("theirs"), dir.path().join("link"), dir.path().join("target"));
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(12345), None).unwrap();
    assert!(matches!(Store::open(&theirs), Err(StoreError::Owner { owner: 12345, user: 0, .. })));
    fs::create_dir(&target).unwrap();
    symlink(&target, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(12345), None).unwrap();
    assert!(matches!(Store::open(&link), Err(StoreError::Owner { owner: 12345, .. })));
    std::os::unix::fs::lchown(&link, Some(0), None).unwrap();
    assert!(Store::open(&link).is_ok());
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let Some(mount) = Tmpfs::mount("a_full_disk_is_said_and_leaves_nothing", "512k") else { return };
    let store = open(&mount.0.path().join("s"));
    let mut writer = store.blob_writer().unwrap();
    let error = loop {
        if let Err(error) = writer.write_all(&[7; 1 << 16]) {
            break StoreError::from(error);
        }
    };
    assert!(matches!(error, StoreError::DiskFull(_)), "{error}");
    drop(writer);
    // Half of it fits again, and what did not fit can be seen nowhere.
    let digest = store.put_blob(&[1; 1 << 17]).unwrap();
    assert!(matches!(store.put_blob(&[2; 1 << 19]), Err(StoreError::DiskFull(_))));
    let blobs = fs::read_dir(mount.0.path().join("s/blobs/sha256")).unwrap().count();
    assert_eq!((blobs, store.has_blob(&digest).unwrap()), (1, Some(1 << 17)));
    assert!(matches!(store.put_record("step", &digest, &[2; 1 << 19]), Err(StoreError::DiskFull(_))));
    assert_eq!(store.record("step", &digest).unwrap(), None);
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let root = &root;
            // Each opens the store itself, so file locks are what keeps them apart, as between processes.
            scope.spawn(move || {
                let store = open(root);
                for n in 0..10 {
                    let image = put_image(&store, &format!("{writer} {n}"));
                    store.tag(&reference(&format!("w{writer}:{n}")), &image).unwrap();
                    let layer = store.stage_layer().unwrap();
                    fs::write(layer.path().join("f"), format!("{n}")).unwrap();
                    let path = layer.commit(&ChainId::new(digest(&n.to_string()))).unwrap().path;
                    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), format!("{n}"));
                    store.put_record("step", &digest("shared"), n.to_string().as_bytes()).unwrap();
                    assert!(store.record("step", &digest("shared")).unwrap().is_some());
                }
            });
        }
    });
    let store = open(&root);
    let names = store.names().unwrap();
    assert_eq!(names.len(), 40);
    for (name, target) in names {
        let digest = manifest::digest_of(&target).unwrap();
        assert!(store.read_blob(&digest, 1 << 20).is_ok(), "{name}");
    }
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

/// A small file system that ends with the value.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(test: &str, size: &str) -> Option<Tmpfs> {
        if !is_root(test) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=700");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).status();
        assert!(status.unwrap().success(), "mount a tmpfs");
        Some(Tmpfs(dir))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Whoever follows a blob sees its bytes while they come, from the beginning as often as it likes, and how it ended.
#[test]
fn a_blob_is_followed_while_it_is_written() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"be").unwrap();
    let follower = writer.follow().unwrap();
    let read = || {
        let mut bytes = Vec::new();
        follower.reader().read_to_end(&mut bytes).map(|_| bytes)
    };
    let (first, digest) = std::thread::scope(|scope| {
        let reader = scope.spawn(read);
        assert!(follower.grows_to(2));
        writer.write_all(b"fore").unwrap();
        let digest = writer.finish().unwrap().0;
        (reader.join().unwrap().unwrap(), digest)
    });
    assert_eq!((first, read().unwrap()), (b"before".to_vec(), b"before".to_vec()));
    assert_eq!(follower.finished(), Some((digest, 6)));
    assert!(follower.grows_to(6) && !follower.grows_to(7));

    let mut writer = store.blob_writer().unwrap();
    let follower = writer.follow().unwrap();
    writer.write_all(b"x").unwrap();
    drop(writer);
    assert!(follower.reader().read_to_end(&mut Vec::new()).is_err() && !follower.grows_to(1));
    assert_eq!(follower.finished(), None);
}
