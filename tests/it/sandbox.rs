//! Tests of `sandbox`, with the real binary and a busybox root.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use dockless::sandbox::{Exit, Root, RunSpec, TrialResult, trial};

const EXE: &str = env!("CARGO_BIN_EXE_dockless");

/// A busybox root as a lower layer, and room for upper and work directories.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        fs_err::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let tree = Tree { dir };
        for name in ["base/bin", "base/etc", "base/tmp", "base/root"] {
            fs_err::create_dir_all(tree.path(name)).unwrap();
        }
        fs_err::copy("/usr/bin/busybox", tree.path("base/bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "id", "true", "sleep", "kill", "mkdir", "rm", "env", "ps", "readlink", "chown", "stat",
            "hostname",
        ] {
            symlink("busybox", tree.path("base/bin").join(applet)).unwrap();
        }
        fs_err::write(tree.path("base/etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
            .unwrap();
        fs_err::write(tree.path("base/etc/group"), "root:x:0:\napp:x:1001:\nweb:x:33:app\n").unwrap();
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An overlay over the base with a new upper directory of this name.
    fn overlay(&self, upper: &str) -> Root {
        let (upper, work) = (self.path(upper), self.path(&format!("{upper}.work")));
        fs_err::create_dir(&upper).unwrap();
        fs_err::create_dir(&work).unwrap();
        Root::Overlay { lowers: vec![self.path("base")], upper, work }
    }

    /// What is in an upper directory, but for directories that are the same below (copied up by an entry that came and
    /// went; the diff leaves them out).
    fn upper(&self, upper: &str) -> Vec<String> {
        let mut out = Vec::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(at) = todo.pop() {
            for entry in fs_err::read_dir(self.path(upper).join(&at)).unwrap() {
                let path = at.join(entry.unwrap().file_name());
                let above = fs_err::symlink_metadata(self.path(upper).join(&path)).unwrap();
                if above.is_dir() {
                    todo.push(path.clone());
                    let same = fs_err::symlink_metadata(self.path("base").join(&path)).is_ok_and(|below| {
                        (below.mode(), below.uid(), below.mtime(), below.mtime_nsec())
                            == (above.mode(), above.uid(), above.mtime(), above.mtime_nsec())
                    });
                    if same {
                        continue;
                    }
                }
                out.push(path.to_str().unwrap().to_string());
            }
        }
        out.sort();
        out
    }

    /// `script` run by sh in a new overlay.
    fn sh(&self, upper: &str, script: &str) -> RunSpec {
        RunSpec::new(self.overlay(upper), ["/bin/sh", "-c", script])
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        dockless::sys::remove_tree(self.dir.path()).unwrap();
        fs_err::create_dir(self.dir.path()).unwrap();
    }
}

fn run(spec: RunSpec) -> TrialResult {
    trial(Path::new(EXE), &[spec]).unwrap().remove(0)
}

#[test]
fn runs_a_command_in_an_overlay() {
    let tree = Tree::new();
    let result = run(tree.sh("one", "echo out; echo err >&2; echo new > /new; exit 7"));
    assert_eq!(result, TrialResult { exit: Ok(Exit::Code(7)), stdout: "out\n".into(), stderr: "err\n".into() });
    assert_eq!(tree.upper("one"), ["new"]);
}
