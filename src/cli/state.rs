//! Where the store is. The answer depends on the environment and on what can be written, so that the next command of the
//! same job finds the image again: `$DOCKLESS_HOME`, else `$XDG_DATA_HOME/dockless`, else `~/.local/share/dockless`, else
//! `$TMPDIR/dockless-UID`, else `.dockless-UID` on the volume that one works on. A home that is unset, `/` or cannot be written
//! (pods, hardened containers) is passed over.
//!
//! A job's own volume (an `emptyDir`, a runner's directory of builds) can carry what the container's root cannot: overlays.
//! It is used where one works below its mount point, never in the directory itself, which may be a context.

use super::environment::Environment;
use rustix::fs::{Access, AtFlags, CWD};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// File systems on a disk of this machine, whose files can be an overlay's.
const DISKS: &[&str] = &["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs"];

/// Where a job keeps things.
pub struct Places {
    /// The state directory.
    pub state: PathBuf,
    /// Where trees may be, on another file system.
    pub volume: Option<PathBuf>,
}

impl Places {
    /// The state directory alone, which containers are in.
    pub fn only(state: &Path) -> Places {
        Places { state: state.to_path_buf(), volume: None }
    }

    /// What this process has.
    pub fn find(environment: &Environment) -> Places {
        let table = fs_err::read("/proc/self/mountinfo").unwrap_or_default();
        let volume = volume(&table, &environment.absolute("")).filter(|volume| may_write(volume));
        let hidden = |name: &str| volume.as_ref().map(|volume| volume.join(format!(".{name}-{}", environment.uid())));
        Places { state: directory(environment, hidden("dockless")), volume: hidden("dockless-trees") }
    }
}

/// The state directory, absolute; it need not exist yet. `last` is taken where nothing else can be written.
fn directory(environment: &Environment, last: Option<PathBuf>) -> PathBuf {
    if let Some(chosen) = environment.get("DOCKLESS_HOME") {
        return environment.absolute(chosen);
    }
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").map(|path| path.join("dockless"));
    let home = absolute("HOME").filter(|path| path != Path::new("/")).map(|path| path.join(".local/share/dockless"));
    let temporary = absolute("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    let temporary = temporary.join(format!("dockless-{}", environment.uid()));
    let found = [data, home, Some(temporary.clone()), last].into_iter().flatten().find(|path| can_be_made(path));
    found.unwrap_or(temporary)
}

/// Whether the nearest ancestor that exists (or `path` itself) is a directory that we may write.
fn can_be_made(path: &Path) -> bool {
    path.ancestors().find(|ancestor| ancestor.exists()).is_some_and(|nearest| nearest.is_dir() && may_write(nearest))
}

fn may_write(directory: &Path) -> bool {
    rustix::fs::accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// The mount point above `directory`, if a disk is mounted there. `table` is proc_pid_mountinfo(5).
fn volume(table: &[u8], directory: &Path) -> Option<PathBuf> {
    let mounts = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = unescaped(fields.nth(4)?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        directory.starts_with(&point).then_some((point, kind))
    });
    // Of two at one point the later one is seen.
    let (point, kind) = mounts.max_by_key(|(point, _)| point.components().count())?;
    let disk = DISKS.iter().any(|disk| disk.as_bytes() == kind);
    (disk && point != directory && point != Path::new("/")).then_some(point)
}

/// A path without the octal escapes that the kernel writes for spaces and the like.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| std::str::from_utf8(after.get(..3)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => (bytes.push(byte), rest = &after[3..]).1,
            None => (bytes.push(*first), rest = after).1,
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_can_be_written() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name).to_str().unwrap().to_string();
        std::fs::write(at("file"), "").unwrap();
        let (good, file) = (at("good"), at("file"));
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("DOCKLESS_HOME", "/x/y"), ("HOME", &good)], "/x/y"),
            (&[("DOCKLESS_HOME", "rel")], "/cwd/rel"),
            (&[("DOCKLESS_HOME", ""), ("HOME", &good)], &at("good/.local/share/dockless")),
            (&[("XDG_DATA_HOME", &good), ("HOME", "/nowhere")], &at("good/dockless")),
            (&[("XDG_DATA_HOME", "relative"), ("HOME", &good)], &at("good/.local/share/dockless")),
            (&[("XDG_DATA_HOME", &file), ("HOME", &good)], &at("good/.local/share/dockless")),
            (&[("HOME", "/")], "/tmp/dockless-1000"),
            (&[("HOME", "/proc/self")], "/tmp/dockless-1000"),
            (&[("HOME", &file), ("TMPDIR", &good)], &at("good/dockless-1000")),
            (&[], "/tmp/dockless-1000"),
        ];
        for (vars, expected) in cases {
            let found = directory(&Environment::of(vars, Path::new("/cwd")), Some(at("last").into()));
            assert_eq!(found, Path::new(expected), "{vars:?}");
        }
        // A container whose root is read-only: nothing there can be written, root or not.
        let sealed: &[(&str, &str)] = &[("HOME", "/proc/self"), ("TMPDIR", "/proc/self")];
        let of = |last: Option<&str>| directory(&Environment::of(sealed, Path::new("/cwd")), last.map(PathBuf::from));
        assert_eq!(of(Some(&at("last"))), Path::new(&at("last")));
        assert_eq!(of(None), Path::new("/proc/self/dockless-1000"));
    }

    #[test]
    fn the_volume_above_the_working_directory() {
        let table = b"\
            1 0 0:1 / / rw,relatime - overlay overlay rw\n\
            2 1 0:2 / /builds rw,relatime shared:5 - ext4 /dev/sda1 rw\n\
            3 1 0:3 / /tmp rw - tmpfs tmpfs rw\n\
            4 1 0:4 / /with\\040space rw - xfs /dev/sdb rw\n\
            5 2 0:5 / /builds/nfs rw - nfs4 host:/x rw\n\
            6 1 0:6 / /twice rw - ext4 /dev/sda1 rw\n\
            7 6 0:7 / /twice rw - tmpfs tmpfs rw\n\
            broken line\n";
        for (directory, expected) in [
            ("/builds/group/project", Some("/builds")),
            ("/builds", None),
            ("/buildsx/project", None),
            ("/root/project", None),
            ("/tmp/project", None),
            ("/with space/project", Some("/with space")),
            ("/builds/nfs/project", None),
            ("/twice/project", None),
        ] {
            assert_eq!(volume(table, Path::new(directory)), expected.map(PathBuf::from), "{directory}");
        }
        // What is the machine's own is nobody's volume.
        assert_eq!(volume(b"1 0 0:1 / / rw - ext4 /dev/sda rw", Path::new("/root/project")), None);
    }
}
