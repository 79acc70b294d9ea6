//! What a step must never see or do, tried by one program in every tier and variant. They need root, as CI has it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command};

use dockless::sandbox::{Exit, Isolation, Mount, MountSource, Network, Root, RunSpec, TrialResult, trial_in};

use super::sandbox::{Tree, results_of, run_as_user, start_elsewhere};

const EXE: &str = env!("CARGO_BIN_EXE_dockless");

/// A tree with the program, a secret beside it, and a process outside that has the secret in its environment.
struct Guarded {
    tree: Tree,
    outsider: Child,
}

impl Guarded {
    fn new() -> Guarded {
        let tree = Tree::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/supervisor/guards.c");
        let mut cc = Command::new("cc");
        let compiled = cc.args(["-O1", "-static", "-w", "-o"]).arg(tree.path("base/bin/guards")).arg(source).status();
        assert!(compiled.unwrap().success(), "these tests need a C compiler");
        fs_err::set_permissions(tree.path("base/tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        fs_err::create_dir_all(tree.path("source/sub")).unwrap();
        fs_err::write(tree.path("secret"), "canary").unwrap();
        symlink("../secret", tree.path("source/up")).unwrap();
        symlink(tree.path("secret"), tree.path("source/absolute")).unwrap();
        let outsider = Command::new("sleep").arg("300").env("TOKEN", "canary").spawn().unwrap();
        Guarded { tree, outsider }
    }

    /// The program in `root`; `words` tell it what is special.
    fn spec(&self, root: Root, user: &str, words: &[&str]) -> RunSpec {
        let (pid, secret) = (self.outsider.id().to_string(), self.tree.path("secret"));
        let args = ["/bin/guards", &pid, secret.to_str().unwrap()].into_iter().chain(words.iter().copied());
        let mut spec = RunSpec::new(root, args);
        spec.user = user.into();
        spec.mounts =
            vec![Mount { source: MountSource::Bind(self.tree.path("source")), target: "/src".into(), readonly: false }];
        if words.contains(&"no-network") {
            spec.network = Network::None;
        }
        spec
    }

    fn check(&mut self, result: &TrialResult) {
        assert_eq!((&result.exit, result.stdout.as_str()), (&Ok(Exit::Code(0)), ""), "{result:?}");
        assert_eq!(fs_err::read_to_string(self.tree.path("secret")).unwrap(), "canary");
        assert!(self.outsider.try_wait().unwrap().is_none(), "the process outside was ended");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.outsider.kill();
        let _ = self.outsider.wait();
    }
}

#[test]
fn in_the_chroot_tier() {
    for user in ["", "app"] {
        let words = ["supervised", "own-devices", "machine-terminals", "no-network"];
        for words in [&words[..3], &words] {
            let mut guarded = Guarded::new();
            let spec = guarded.spec(Root::Dir(guarded.tree.path("base")), user, words);
            let result = trial_in(Path::new(EXE), &[spec], Isolation::Chroot).unwrap().remove(0);
            guarded.check(&result);
        }
    }
}

#[test]
fn in_namespaces() {
    for user in ["", "app"] {
        let mut guarded = Guarded::new();
        let specs = [&["own-pids"][..], &["own-pids", "no-network"]]
            .map(|words| guarded.spec(guarded.tree.overlay(&format!("upper{}", words.len())), user, words));
        for result in trial_in(Path::new(EXE), &specs, Isolation::Namespaces).unwrap() {
            guarded.check(&result);
        }
    }
}

/// No pid namespace can be had there: the job's processes are to be seen, and no more than that.
#[test]
fn where_proc_is_masked() {
    let mut guarded = Guarded::new();
    let specs = ["", "app"].map(|user| {
        let root = guarded.tree.overlay(&format!("as{user}"));
        guarded.spec(root, user, &["sees-processes"])
    });
    let setup = "mount --bind /dev/null /proc/version && mount --make-rprivate / &&";
    for result in results_of(&guarded.tree, start_elsewhere(&guarded.tree, &specs, "", setup, "")).unwrap() {
        guarded.check(&result);
    }
}

#[test]
fn with_one_id() {
    let mut guarded = Guarded::new();
    let specs = ["", "app"].map(|user| {
        let root = guarded.tree.overlay(&format!("as{user}"));
        guarded.spec(root, user, &["supervised", "own-pids", "no-network"])
    });
    for result in run_as_user(&guarded.tree, &specs, "").unwrap() {
        guarded.check(&result);
    }
}
