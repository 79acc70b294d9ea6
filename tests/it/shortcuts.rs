//! Programs that look at files past the supervisor, where it is not needed, see what they would see through it. They need
//! root, a C compiler and glibc, as CI has it.
#![cfg(target_arch = "x86_64")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use dockless::sandbox::{Exit, Mount, MountSource, Root, RunSpec, Tier, TrialResult};

use super::sandbox::{Tree, run_as_user};
use super::support::trial_of;

/// Puts `testdata/supervisor/shortcuts.c`, which tells what it finds wrong, into `tree`, with its libraries.
fn install(tree: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/supervisor/shortcuts.c");
    let mut cc = Command::new("cc");
    assert!(cc.args(["-O1", "-w", "-o"]).arg(tree.join("bin/shortcuts")).arg(source).status().unwrap().success());
    for (library, to) in [("libc.so.6", "lib"), ("ld-linux-x86-64.so.2", "lib64")] {
        let found = Command::new("cc").arg(format!("-print-file-name={library}")).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        fs_err::create_dir_all(tree.join(to)).unwrap();
        fs_err::copy(found.trim(), tree.join(to).join(library)).unwrap();
    }
    fs_err::write(tree.join("root/own"), "canary").unwrap();
    fs_err::set_permissions(tree.join("root"), PermissionsExt::from_mode(0o700)).unwrap();
}

fn check(result: &TrialResult) {
    assert_eq!((&result.exit, result.stdout.as_str()), (&Ok(Exit::Code(0)), ""), "{result:?}");
}

#[test]
fn past_barriers_answer_as_the_supervisor_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["tree/bin", "tree/root", "tree/other", "tree/deep/place", "source"] {
        fs_err::create_dir_all(path(name)).unwrap();
    }
    for name in ["secret", "source/file", "tree/other/only-there"] {
        fs_err::write(path(name), "canary").unwrap();
    }
    install(&path("tree"));
    // The linker finds libraries by a list here, as in most images; elsewhere by their directories.
    fs_err::create_dir(path("tree/etc")).unwrap();
    assert!(Command::new("ldconfig").arg("-r").arg(path("tree")).status().unwrap().success());
    symlink("/proc", path("tree/to-proc")).unwrap();
    symlink("src", path("tree/to-src")).unwrap();
    let mut outsider = Command::new("sleep").arg("300").env("TOKEN", "canary").spawn().unwrap();
    let secret = path("secret");
    let words = ["/bin/shortcuts", secret.to_str().unwrap(), &outsider.id().to_string()];
    let mut spec = RunSpec::new(Root::Dir(path("tree")), words);
    let mount =
        |target: &str| Mount { source: MountSource::Bind(path("source")), target: target.into(), readonly: false };
    spec.mounts = ["/src", "/deep/place"].map(mount).to_vec();
    let result = trial_of(Tier::Chroot, spec);
    outsider.kill().unwrap();
    outsider.wait().unwrap();
    check(&result);
}

#[test]
fn past_records_answer_as_the_supervisor_does() {
    for what in ["links", "pipe"] {
        let tree = Tree::new();
        install(&tree.path("base"));
        let mut specs = vec![RunSpec::new(tree.overlay("upper"), ["/bin/shortcuts", "records", what])];
        if what == "links" {
            let mut later = tree.overlay("later");
            if let Root::Overlay { lowers, .. } = &mut later {
                lowers.insert(0, tree.path("upper"));
            }
            specs.push(RunSpec::new(later, ["/bin/shortcuts", "records", "later"]));
        }
        for result in run_as_user(&tree, &specs, "").unwrap() {
            check(&result);
        }
    }
}

#[test]
fn from_outside_answer_as_the_supervisor_does() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tree/bin", "tree/root"] {
        fs_err::create_dir_all(dir.path().join(name)).unwrap();
    }
    install(&dir.path().join("tree"));
    for words in [&["records", "outside"][..], &["outside"]] {
        let words = ["/bin/shortcuts"].iter().chain(words).copied();
        check(&trial_of(Tier::Emulated, RunSpec::new(Root::Dir(dir.path().join("tree")), words)));
    }
}
