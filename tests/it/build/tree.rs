//! What a snapshot holds: every kind of change and every kind of file, through the registry to umoci.

use super::place::{Place, callers, is_root, tool};
use crate::support::registry::Registry;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

const DOCKERFILE: &str = r#"ARG BASE
FROM $BASE AS prepared
RUN mkdir -p /t/gone /t/opaque /t/keep && touch /t/gone/a /t/file /t/opaque/old /t/keep/k && ln /t/keep/k /t/keep/l
FROM prepared
ADD special.tar /special/
RUN rm -r /t/gone /t/file /t/opaque && mkdir /t/opaque && touch /t/opaque/new && chmod 700 /t/keep
RUN <<SCRIPT
set -e
mkdir /s /s/empty /s/sticky
cd /s
echo x > one; ln one two; ln -s one link; ln -s /nowhere dangling; mkfifo fifo
touch suid; chmod 6755 suid
chmod 1777 sticky
touch "$(printf 'latin\351')"
d=$(printf '%0120d' 1); mkdir -p $d/$d/$d; touch $d/$d/$d/$(printf '%0250d' 2)
echo cap > cap; chmod 755 cap
perl -e '
    sub set { my ($f, $n, $v) = @_; syscall(188, $f, $n, $v, length $v, 0) == 0 or die "$n: $!" }
    set("cap", "security.capability", pack("V5", 0x02000001, 0x400, 0, 0, 0));
    set("cap", "user.note", "hello");'
chmod 600 /special/null
SCRIPT
COPY --chown=3000001:3000002 Dockerfile /big/ids
"#;

/// A tar archive with what nobody but root may make.
fn special() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, device, mode, ids) in [
        ("null", tar::EntryType::Char, (1, 3), 0o666, (0, 0)),
        ("loop", tar::EntryType::Block, (7, 0), 0o660, (0, 6)),
        ("fifo", tar::EntryType::Fifo, (0, 0), 0o600, (0, 0)),
        ("suid", tar::EntryType::Regular, (0, 0), 0o6755, (3_000_000, 4_000_000)),
        ("empty", tar::EntryType::Directory, (0, 0), 0o2750, (5, 6)),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        // The ids do not fit the octal field of ustar: GNU's base 256.
        let mut gnu = tar::Header::new_gnu();
        gnu.as_mut_bytes()[..].copy_from_slice(header.as_bytes());
        let gnu_magic = b"ustar  \0";
        gnu.as_mut_bytes()[257..265].copy_from_slice(gnu_magic);
        gnu.set_uid(ids.0);
        gnu.set_gid(ids.1);
        gnu.set_device_major(device.0).expect("a device");
        gnu.set_device_minor(device.1).expect("a device");
        tar.append_data(&mut gnu, name, &b""[..]).expect("memory");
    }
    tar.into_inner().expect("memory")
}

fn unpacked(registry: &Registry, name: &str, place: &Place) -> PathBuf {
    let (layout, bundle) = (place.path("layout"), place.path("bundle"));
    registry.get(name, &layout);
    let image = format!("{}:latest", layout.display());
    tool("umoci", ["unpack".as_ref(), "--image".as_ref(), image.as_ref(), bundle.as_os_str()]);
    bundle.join("rootfs")
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    Some(value[..length].to_vec())
}

#[test]
fn a_snapshot_holds_every_kind_of_file_and_change() {
    if !is_root("what only root can unpack") {
        return;
    }
    let registry = Registry::start();
    let base = registry.put_base("debian");
    for caller in callers("snapshots") {
        let place = Place::new(caller);
        place.file("Dockerfile", DOCKERFILE).file("special.tar", special());
        let name = format!("app:{caller:?}");
        place
            .dockless(&format!("build --build-arg BASE={base} -t {}/{name} --push context", registry.host()))
            .succeeded();
        let root = unpacked(&registry, &name, &place);
        let meta = |path: &str| {
            fs::symlink_metadata(root.join(path)).unwrap_or_else(|error| panic!("{caller:?} {path}: {error}"))
        };
        let is = |path: &str| (meta(path).mode() & 0o7777, meta(path).uid(), meta(path).gid());
        for gone in ["t/gone", "t/file", "t/opaque/old"] {
            assert!(fs::symlink_metadata(root.join(gone)).is_err(), "{caller:?}: {gone} is still there");
        }
        assert!(meta("t/opaque/new").is_file() && meta("t/keep/k").is_file());
        assert_eq!(meta("t/keep/k").ino(), meta("t/keep/l").ino(), "{caller:?}");
        assert_eq!(meta("s/one").ino(), meta("s/two").ino(), "{caller:?}");
        assert_eq!(fs::read_link(root.join("s/link")).unwrap(), Path::new("one"));
        assert_eq!(fs::read_link(root.join("s/dangling")).unwrap(), Path::new("/nowhere"));
        assert!(meta("s/fifo").file_type().is_fifo() && meta("special/fifo").file_type().is_fifo());
        assert!(meta("special/null").file_type().is_char_device(), "{caller:?}");
        assert_eq!(meta("special/null").rdev(), rustix::fs::makedev(1, 3), "{caller:?}");
        assert!(meta("special/loop").file_type().is_block_device(), "{caller:?}");
        assert_eq!(meta("special/loop").rdev(), rustix::fs::makedev(7, 0), "{caller:?}");
        for (path, expected) in [
            ("t/keep", (0o700, 0, 0)),
            ("s/empty", (0o755, 0, 0)),
            ("s/sticky", (0o1777, 0, 0)),
            ("s/suid", (0o6755, 0, 0)),
            ("special/null", (0o600, 0, 0)),
            ("special/loop", (0o660, 0, 6)),
            ("special/suid", (0o6755, 3_000_000, 4_000_000)),
            ("special/empty", (0o2750, 5, 6)),
            ("big/ids", (0o644, 3_000_001, 3_000_002)),
        ] {
            assert_eq!(is(path), expected, "{caller:?} {path}");
        }
        assert!(root.join("s").join(OsStr::from_bytes(b"latin\xe9")).exists(), "{caller:?}");
        let long = format!("{:0120}", 1);
        assert!(root.join(format!("s/{long}/{long}/{long}/{:0250}", 2)).exists(), "{caller:?}");
        // Version 2 of vfs_cap_data, as the step wrote it: no root id of this machine.
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(xattr(&root.join("s/cap"), "security.capability").unwrap(), capability, "{caller:?}");
        assert_eq!(xattr(&root.join("s/cap"), "user.note").unwrap(), b"hello", "{caller:?}");
        assert_eq!(xattr(&root.join("special/null"), "user.dockless.override"), None);
    }
}

/// Takes minutes: nine gibibytes are hashed and compressed. `scripts/test --full` runs it.
#[test]
#[ignore = "takes minutes"]
fn a_snapshot_holds_a_file_over_8_gib() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let place = Place::new(super::place::Caller::Own);
    place.file("Dockerfile", format!("FROM {base}\nRUN truncate -s 9G /sparse\n"));
    place.dockless(&format!("build -t {}/app --push context", registry.host())).succeeded();
    let manifest: serde_json::Value = serde_json::from_slice(&registry.manifest("app:latest")).unwrap();
    let digest = manifest["layers"][1]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_string();
    let blob = registry.data().join(format!("docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]));
    let listed = tool("tar", ["-tvzf".as_ref(), blob.as_os_str()]);
    assert!(listed.contains("9663676416"), "{listed}");
}
