//! Images written out of the store, read by skopeo, umoci and GNU tar.

use dockless::context::SourceTree;
use dockless::images::{Saved, Target, find, history, list, load, remove, save_docker, save_local, save_oci, save_tar};
use dockless::oci::json::to_canonical;
use dockless::oci::layer::{Kind, Metadata};
use dockless::oci::manifest::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, descriptor};
use dockless::oci::{Descriptor, ImageConfig, Platform, Reference};
use dockless::rootfs::gzip::Compression;
use dockless::rootfs::layer::{LayerOptions, LayerWriter};
use dockless::store::Store;
use dockless::store::{Image, ImageError};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

fn meta(kind: Kind, mode: u32) -> Metadata {
    Metadata { kind, mode, uid: 3, gid: 4, mtime: 1_000_000_000, xattrs: BTreeMap::new() }
}

fn file(size: usize) -> Metadata {
    meta(Kind::File { size: size as u64 }, 0o640)
}

/// An image of two layers with everything that an archive can hold.
fn image(store: &Store, compression: Compression) -> Descriptor {
    let options = LayerOptions { compression, ..LayerOptions::default() };
    let start = || LayerWriter::new(store.blob_writer().unwrap(), options);
    let mut base = start();
    let long = [vec![b'l'; 250], vec![b'/'], vec![b'm'; 250]].concat();
    let mut special = file(3);
    special.xattrs.insert(b"user.k".to_vec(), b"a\nb=c\0\xff".to_vec());
    special.uid = 3_000_000_000;
    special.mode = 0o4755;
    base.append(b"bad\xff\xfe", &file(0), None).unwrap();
    base.append(b"dev", &meta(Kind::Dir, 0o755), None).unwrap();
    base.append(b"dev/null", &meta(Kind::CharDevice { major: 1, minor: 3 }, 0o666), None).unwrap();
    base.append(b"etc", &meta(Kind::Dir, 0o755), None).unwrap();
    base.append(b"etc/gone", &file(1), Some(&mut &b"x"[..])).unwrap();
    base.append(b"etc/kept", &special, Some(&mut &b"abc"[..])).unwrap();
    base.append(&long[..250], &meta(Kind::Dir, 0o1777), None).unwrap();
    base.append(&long, &file(2), Some(&mut &b"hi"[..])).unwrap();
    base.append(b"pipe", &meta(Kind::Fifo, 0o600), None).unwrap();
    let big = 5 << 20;
    base.append(b"zeros", &file(big), Some(&mut io::repeat(0).take(big as u64))).unwrap();
    let mut top = start();
    top.append(b"etc", &meta(Kind::Dir, 0o700), None).unwrap();
    top.whiteout(b"etc/gone").unwrap();
    top.append(b"etc/link", &meta(Kind::Symlink { target: vec![b't'; 300] }, 0o777), None).unwrap();
    top.append(b"etc/new", &file(3), Some(&mut &b"new"[..])).unwrap();
    top.hardlink(b"etc/other", b"etc/new", &file(3)).unwrap();
    let layers = [base.finish().unwrap(), top.finish().unwrap()];
    let host = Platform::host();
    let mut config = ImageConfig { os: host.os, architecture: host.architecture, ..ImageConfig::default() };
    config.created = Some("2020-01-02T03:04:05Z".into());
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let put = |media_type, bytes: Vec<u8>| descriptor(media_type, &store.put_blob(&bytes).unwrap(), bytes.len() as u64);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": put(OCI_CONFIG, to_canonical(&config).unwrap()),
        "layers": layers.map(|layer| descriptor(&layer.media_type, &layer.digest, layer.size)),
    });
    put(OCI_MANIFEST, to_canonical(&manifest).unwrap())
}

fn saved(image: &Descriptor, names: &[Reference]) -> Saved {
    Saved { target: image.clone(), names: names.to_vec() }
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    image: Descriptor,
    names: Vec<Reference>,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let image = image(&store, Compression::default());
    let names = ["app:1", "127.0.0.1:5000/team/app:2"].map(|name| name.parse().unwrap()).to_vec();
    Fixture { dir, store, image, names }
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn skopeo_and_umoci_read_an_oci_archive() {
    let Fixture { dir, store, image, names } = fixture();
    let archive = dir.path().join("image.tar");
    save_oci(&store, &image, &names, Target::File(&archive)).unwrap();
    let tags = run("skopeo", &["inspect", "--format", "{{.Digest}}", &format!("oci-archive:{}:1", text(&archive))]);
    assert_eq!(tags.trim(), image.digest().to_string());
    let layout = dir.path().join("layout");
    save_oci(&store, &image, &names, Target::Directory(&layout)).unwrap();
    let bundle = dir.path().join("bundle");
    run("umoci", &["unpack", "--image", &format!("{}:2", text(&layout)), text(&bundle)]);
    let at = |name: &str| bundle.join("rootfs").join(name);
    let stat = |name: &str| at(name).symlink_metadata().unwrap();
    let kept = stat("etc/kept");
    assert_eq!((kept.uid(), kept.gid(), kept.mode() & 0o7777, kept.mtime()), (3_000_000_000, 4, 0o4755, 1_000_000_000));
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(at("etc/kept"), "user.k", &mut value).unwrap();
    assert_eq!(&value[..length], b"a\nb=c\0\xff");
    assert_eq!(fs::read(at("etc/other")).unwrap(), b"new");
    assert_eq!(stat("etc/other").ino(), stat("etc/new").ino());
    assert_eq!(fs::read_link(at("etc/link")).unwrap().as_os_str().len(), 300);
    assert!(!at("etc/gone").exists() && stat("zeros").len() == 5 << 20);
    assert_eq!(stat("etc").mode() & 0o7777, 0o700);
    assert_eq!(stat("dev/null").rdev(), rustix::fs::makedev(1, 3));
    let long = format!("{}/{}", "l".repeat(250), "m".repeat(250));
    assert_eq!(fs::read(at(&long)).unwrap(), b"hi");
    use std::os::unix::ffi::OsStrExt;
    assert!(bundle.join("rootfs").join(std::ffi::OsStr::from_bytes(b"bad\xff\xfe")).exists());
}

#[test]
fn layouts_take_more_images() {
    let Fixture { dir, store, image: first, names } = fixture();
    let layout = dir.path().join("layout");
    let second = image(&store, Compression::zstd(None).unwrap());
    save_oci(&store, &first, &names, Target::Directory(&layout)).unwrap();
    save_oci(&store, &second, &names[1..], Target::Directory(&layout)).unwrap();
    for (tag, expected) in [("1", &first), ("2", &second)] {
        let digest = run("skopeo", &["inspect", "--format", "{{.Digest}}", &format!("oci:{}:{tag}", text(&layout))]);
        assert_eq!(digest.trim(), expected.digest().to_string());
    }
}

#[test]
fn skopeo_reads_a_docker_archive() {
    let Fixture { dir, store, image, names } = fixture();
    let archive = dir.path().join("image.tar");
    save_docker(&store, &[saved(&image, &names)], &Platform::host(), Target::File(&archive)).unwrap();
    for name in &names {
        let source = format!("docker-archive:{}:{}", text(&archive), name.familiar());
        let copied = dir.path().join(name.tag().unwrap());
        run("skopeo", &["copy", &source, &format!("oci:{}:x", text(&copied))]);
        let target = format!("oci:{}:x", text(&copied));
        let config: ImageConfig =
            serde_json::from_str(&run("skopeo", &["inspect", "--config", "--raw", &target])).unwrap();
        let ours = Image::load(&store, &image, &Platform::host()).unwrap().config;
        assert_eq!(config.rootfs, ours.rootfs);
    }
    let listing = run("tar", &["tf", text(&archive)]);
    let files: Vec<&str> = listing.lines().filter(|name| !name.starts_with("blobs/sha256/")).collect();
    assert_eq!(files, ["blobs/", "index.json", "manifest.json", "oci-layout", "repositories"]);
}

#[test]
fn archives_do_not_depend_on_where_they_go() {
    let Fixture { dir, store, image, names } = fixture();
    let archive = dir.path().join("image.tar");
    fs::write(&archive, "an older one").unwrap();
    let mut stream = Vec::new();
    save_oci(&store, &image, &names, Target::File(&archive)).unwrap();
    save_oci(&store, &image, &names, Target::Stream(&mut stream)).unwrap();
    assert!(fs::read(&archive).unwrap() == stream);
    let mut again = Vec::new();
    save_docker(&store, &[saved(&image, &names)], &Platform::host(), Target::Stream(&mut stream)).unwrap();
    save_oci(&store, &image, &names, Target::Stream(&mut again)).unwrap();
    save_docker(&store, &[saved(&image, &names)], &Platform::host(), Target::Stream(&mut again)).unwrap();
    assert!(again == stream);
}

#[test]
fn nothing_half_written_is_left() {
    let Fixture { dir, store, image, names } = fixture();
    let layer = Image::load(&store, &image, &Platform::host()).unwrap().manifest.layers()[0].digest().clone();
    fs::write(store.root().join("blobs/sha256").join(layer.digest()), "damaged").unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let error = save_oci(&store, &image, &names, Target::File(&out.join("image.tar"))).unwrap_err();
    assert!(format!("{error:?}").contains("Mismatch"), "{error:?}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn lists_what_has_a_name() {
    let Fixture { dir: _dir, store, image, names } = fixture();
    for name in &names {
        store.tag(name, &image).unwrap();
    }
    let broken = descriptor(OCI_MANIFEST, &store.put_blob(b"{}").unwrap(), 2);
    store.tag(&"broken".parse().unwrap(), &broken).unwrap();
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    let bytes = to_canonical(&index).unwrap();
    let empty = descriptor(OCI_INDEX, &store.put_blob(&bytes).unwrap(), bytes.len() as u64);
    store.tag(&"empty".parse().unwrap(), &empty).unwrap();
    let listed = list(&store).unwrap();
    assert_eq!(listed.len(), 4);
    for line in listed {
        match line.reference.repository() {
            "library/broken" => assert!(matches!(line.image, Err(ImageError::Document { .. }))),
            "library/empty" => assert!(matches!(line.image, Err(ImageError::Platform { .. }))),
            _ => {
                let image = line.image.unwrap();
                assert_eq!(image.config.created.as_deref(), Some("2020-01-02T03:04:05Z"));
                let blobs: u64 = image.manifest.layers().iter().map(|layer| layer.size()).sum();
                assert!(image.size() > blobs);
                assert_eq!(image.id.to_string(), image.manifest.config().digest().to_string());
            }
        }
    }
}

/// A tree in memory.
struct Memory(BTreeMap<Vec<u8>, (Metadata, Vec<u8>, Option<u64>)>);

impl SourceTree for Memory {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        Ok(self.0.get(path).map(|(meta, ..)| meta.clone()))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let prefix = if path.is_empty() { vec![] } else { [path, b"/"].concat() };
        let inside = self.0.keys().filter_map(|key| key.strip_prefix(&prefix[..]));
        Ok(inside.filter(|rest| !rest.contains(&b'/')).map(<[u8]>::to_vec).collect())
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0[path].1.clone())))
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        Ok(self.0[path].2.map(|inode| (0, inode)))
    }
}

fn memory() -> Memory {
    let mut entries = BTreeMap::new();
    let mut add = |path: &str, meta: Metadata, bytes: &[u8], inode| {
        entries.insert(path.as_bytes().to_vec(), (meta, bytes.to_vec(), inode));
    };
    add("closed", meta(Kind::Dir, 0o555), b"", None);
    add("closed/f", file(1), b"f", Some(1));
    add("dev", meta(Kind::CharDevice { major: 1, minor: 3 }, 0o666), b"", None);
    add("link", meta(Kind::Symlink { target: b"closed".to_vec() }, 0o777), b"", None);
    add("other", file(1), b"f", Some(1));
    add("pipe", meta(Kind::Fifo, 0o600), b"", None);
    add("setuid", meta(Kind::File { size: 0 }, 0o4711), b"", None);
    add("sock", meta(Kind::Socket, 0o600), b"", None);
    Memory(entries)
}

#[test]
fn a_tree_as_tar() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("tree.tar");
    save_tar(&[(String::new(), &memory())], Some(7), Target::File(&archive)).unwrap();
    let listing = run("tar", &["--numeric-owner", "--utc", "-tvf", text(&archive)]);
    let lines: Vec<String> =
        listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "dr-xr-xr-x 3/4 0 1970-01-01 00:00 closed/",
            "-rw-r----- 3/4 1 1970-01-01 00:00 closed/f",
            "crw-rw-rw- 3/4 1,3 1970-01-01 00:00 dev",
            "lrwxrwxrwx 3/4 0 1970-01-01 00:00 link -> closed",
            "hrw-r----- 3/4 0 1970-01-01 00:00 other link to closed/f",
            "prw------- 3/4 0 1970-01-01 00:00 pipe",
            "-rws--x--x 3/4 0 1970-01-01 00:00 setuid",
        ]
    );
}

#[test]
fn a_tree_as_files() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let outside = dir.path().join("outside");
    fs::create_dir_all(&out).unwrap();
    fs::create_dir(&outside).unwrap();
    // What is there must not lead the export elsewhere.
    std::os::unix::fs::symlink(&outside, out.join("closed")).unwrap();
    std::os::unix::fs::symlink(outside.join("target"), out.join("other")).unwrap();
    fs::write(out.join("mine"), "stays").unwrap();
    for _ in 0..2 {
        assert_eq!(save_local(&memory(), &out).unwrap(), []);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
    let stat = |name: &str| out.join(name).symlink_metadata().unwrap();
    assert_eq!((stat("closed").mode() & 0o7777, stat("closed").mtime()), (0o555, 1_000_000_000));
    assert_eq!(stat("closed/f").ino(), stat("other").ino());
    assert_eq!((stat("setuid").mode() & 0o7777, stat("setuid").uid()), (0o4711, rustix::process::getuid().as_raw()));
    assert_eq!(fs::read_to_string(out.join("mine")).unwrap(), "stays");
    assert_eq!(stat("dev").rdev(), rustix::fs::makedev(1, 3));
    fs::set_permissions(out.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    let full = dir.path().join("full");
    fs::create_dir_all(full.join("pipe/x")).unwrap();
    assert!(save_local(&memory(), &full).unwrap_err().to_string().contains("full/pipe"));
}

/// What is in an archive of ours, of skopeo's (`docker-archive:`, which has a manifest.json and links alone), compressed or
/// not, comes back as the same image under the same names.
#[test]
fn loads_what_was_saved() {
    let Fixture { dir, store, image, names } = fixture();
    let archive = dir.path().join("image.tar");
    save_docker(&store, &[saved(&image, &names)], &Platform::host(), Target::File(&archive)).unwrap();
    let old = dir.path().join("old.tar");
    let source = format!("docker-archive:{}:{}", text(&archive), names[0].familiar());
    run("skopeo", &["copy", &source, &format!("docker-archive:{}:{}", text(&old), names[0].familiar())]);
    run("gzip", &["-k", text(&old)]);
    let id = Image::load(&store, &image, &Platform::host()).unwrap().id;
    for (path, wanted) in
        [(archive, &names[..]), (old.clone(), &names[..1]), (old.with_extension("tar.gz"), &names[..1])]
    {
        let other = Store::open(&dir.path().join(format!("store-{}", path.file_name().unwrap().display()))).unwrap();
        let loaded = load(&other, &mut fs::File::open(&path).unwrap()).unwrap();
        let [one] = &loaded[..] else { panic!("{loaded:?}") };
        let mut wanted = wanted.to_vec();
        wanted.sort();
        assert_eq!(one.names, wanted, "{}", path.display());
        let image = other.image(&wanted[0], &Platform::host()).unwrap().unwrap();
        assert_eq!(image.id, id);
        assert!(image.layers.iter().all(|layer| other.has_blob(&layer.digest).unwrap().is_some()));
        assert!(find(&other, id.hex()).is_ok());
    }
    let error = load(&store, &mut &b"no archive"[..]).unwrap_err();
    assert!(error.to_string().contains("archive"), "{error}");
}

#[test]
fn names_are_taken_away() {
    let Fixture { dir: _dir, store, image, names } = fixture();
    let other: Reference = "elsewhere.io/app:1".parse().unwrap();
    for name in names.iter().chain([&other]) {
        store.tag(name, &image).unwrap();
    }
    let id = Image::load(&store, &image, &Platform::host()).unwrap().id;
    assert!(remove(&store, id.hex(), false).unwrap_err().to_string().contains("several repositories"));
    let removed = remove(&store, &names[0].familiar(), false).unwrap();
    assert_eq!((removed.names, removed.image), (names[..1].to_vec(), None));
    let removed = remove(&store, &id.hex()[..12], true).unwrap();
    assert_eq!((removed.names.len(), removed.image), (2, Some(id)));
    assert!(store.names().unwrap().is_empty());
    assert!(remove(&store, "nothing", true).unwrap_err().to_string().contains("no such image"));
}

#[test]
fn history_is_newest_first() {
    let Fixture { dir: _dir, store, image, names } = fixture();
    store.tag(&names[0], &image).unwrap();
    let steps = history(&store, &names[0].familiar(), &Platform::host()).unwrap();
    let layers = Image::load(&store, &image, &Platform::host()).unwrap().layers;
    let sizes: Vec<u64> = steps.iter().map(|step| step.size).collect();
    assert_eq!(sizes, [layers[1].size, layers[0].size]);
    assert!(steps[0].id.is_some() && steps[1].id.is_none());
}
