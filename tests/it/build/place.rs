//! Where a build takes place: a context, a state directory and somebody who calls the binary.

use crate::support::registry::Registry;
use dockless::oci::Digest;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Who calls the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Who runs the tests: root in continuous integration.
    Own,
    /// An ordinary user with subordinate ids.
    Ranges,
    /// An ordinary user without.
    OneId,
}

/// Everybody that can be played on this machine: who runs the tests, and for root two ordinary users.
pub fn callers(test: &str) -> Vec<Caller> {
    if is_root(&format!("{test} for the other users")) {
        vec![Caller::Own, Caller::Ranges, Caller::OneId]
    } else {
        vec![Caller::Own]
    }
}

/// Whether the tests run as root; says what is left out where they do not.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "{what} needs root, and CI must not skip it");
        eprintln!("SKIPPED: {what} needs root");
    }
    root
}

/// The ordinary user, in a mount namespace where `/etc/passwd`, `/etc/subuid` and `/etc/subgid` are the test's.
const BECOME: &str = "mount --bind $0/passwd /etc/passwd && mount --bind $0/subid /etc/subuid &&
    mount --bind $0/subid /etc/subgid && exec setpriv --reuid 61235 --regid 61235 --clear-groups \"$@\"";
const USER: u32 = 61235;

/// A context and a state directory; both vanish with it, and nothing may be left running or mounted then.
pub struct Place {
    dir: TempDir,
    caller: Caller,
}

/// How a call ended.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    #[track_caller]
    pub fn succeeded(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// It failed with `code`, printed no result, and said each of `words`.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Ran {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.text(), "", "a result of a failure");
        for word in words {
            assert!(self.stderr.contains(word), "no '{word}' in:\n{}", self.stderr);
        }
        let errors = self.stderr.lines().filter(|line| line.starts_with("error:")).count();
        assert_eq!(errors, 1, "not one message:\n{}", self.stderr);
        self
    }
}

impl Place {
    pub fn new(caller: Caller) -> Place {
        let dir = tempfile::Builder::new().prefix("dockless-e2e-").tempdir().expect("a directory");
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("own directory");
        // The checkout may be where an ordinary user may not go.
        let place = Place { dir, caller };
        // By another process: a descriptor of ours would be open for writing in what other tests fork meanwhile, and what
        // is open for writing cannot be executed (execve(2), ETXTBSY).
        let copy = Command::new("cp").arg(env!("CARGO_BIN_EXE_dockless")).arg(place.path("dockless")).status();
        assert!(copy.expect("cp starts").success(), "a copy of the binary");
        for name in ["context", "out", "tmp"] {
            fs::create_dir(place.path(name)).expect("own directory");
        }
        if caller != Caller::Own {
            let passwd = fs::read_to_string("/etc/passwd").expect("a user database");
            let own = format!("dlbuild:x:{USER}:{USER}::/:/bin/sh\n");
            fs::write(place.path("passwd"), passwd + &own).expect("own directory");
            let ranges = if caller == Caller::Ranges { "dlbuild:655360:65536\n" } else { "" };
            fs::write(place.path("subid"), ranges).expect("own directory");
            for name in ["", "out", "tmp"] {
                std::os::unix::fs::chown(place.path(name), Some(USER), Some(USER)).expect("root");
            }
        }
        place
    }

    /// Who the caller is, where that is not who runs the tests.
    pub fn uid(&self) -> Option<u32> {
        (self.caller != Caller::Own).then_some(USER)
    }

    pub fn caller(&self) -> Caller {
        self.caller
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file of the context.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Place {
        let path = self.path("context").join(name);
        fs::create_dir_all(path.parent().expect("in the context")).expect("own directory");
        fs::write(path, content).expect("own directory");
        self
    }

    /// The binary with `words` and `more`, called in this place, with nothing else in its environment than a PATH, the
    /// state directory and a home that is not there.
    pub fn command<S: AsRef<OsStr>>(&self, words: &str, more: impl IntoIterator<Item = S>) -> Command {
        let mut command = match self.caller {
            Caller::Own => Command::new(self.path("dockless")),
            Caller::Ranges | Caller::OneId => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", BECOME]).arg(self.dir.path()).arg(self.path("dockless"));
                command
            }
        };
        command.args(words.split_whitespace()).args(more).current_dir(self.dir.path()).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DOCKLESS_HOME", self.state());
        command.env("TMPDIR", self.path("tmp")).env("HOME", self.path("nowhere"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Calls the binary and waits; nothing may be left of it.
    #[track_caller]
    pub fn call<S: AsRef<OsStr>>(&self, words: &str, more: impl IntoIterator<Item = S>) -> Ran {
        self.finish(self.command(words, more).output().expect("the binary starts"))
    }

    /// [`Place::call`] with words alone.
    #[track_caller]
    pub fn dockless(&self, words: &str) -> Ran {
        self.call(words, [""; 0])
    }

    /// What came of a call, after which nothing may be left.
    #[track_caller]
    pub fn finish(&self, output: Output) -> Ran {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(self.left(), Vec::<String>::new(), "processes that still see this place\n{stderr}");
        assert_eq!(self.unfinished(), Vec::<PathBuf>::new(), "half-written things\n{stderr}");
        Ran { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// Processes that run this place's binary, have files of this place open, or have something of it mounted: their command
    /// lines.
    pub fn left(&self) -> Vec<String> {
        let here = self.dir.path().to_str().expect("a plain path");
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").expect("proc").flatten() {
            let proc = entry.path();
            // Processes come and go while this looks at them.
            let mounted = fs::read_to_string(proc.join("mountinfo")).is_ok_and(|text| text.contains(here));
            let runs = fs::read_link(proc.join("exe")).is_ok_and(|exe| exe.starts_with(here));
            let opened = list(&proc.join("fd")).any(|fd| fs::read_link(fd).is_ok_and(|file| file.starts_with(here)));
            if mounted || runs || opened {
                left.push(fs::read_to_string(proc.join("cmdline")).unwrap_or_default().replace('\0', " "));
            }
        }
        left
    }

    /// What an operation that is over should not have left in the store: scratch files, blobs that are not what they say.
    fn unfinished(&self) -> Vec<PathBuf> {
        let mut wrong: Vec<PathBuf> = list(&self.state().join("tmp")).filter(|p| !p.ends_with("lock")).collect();
        wrong.extend(list(&self.path("tmp")));
        for blob in list(&self.state().join("blobs/sha256")) {
            let bytes = fs::read(&blob).expect("a blob");
            if blob.file_name() != Some(OsStr::new(Digest::sha256(&bytes).hex())) {
                wrong.push(blob);
            }
        }
        wrong
    }

    /// Names of everything that the store keeps: blobs, layers, records.
    pub fn kept(&self) -> BTreeSet<PathBuf> {
        let dirs = ["blobs/sha256", "blobs/sha512", "layers", "records/steps", "records/blob-source"];
        dirs.iter().flat_map(|dir| list(&self.state().join(dir)).collect::<Vec<_>>()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if rustix::process::geteuid().is_root() {
            dockless::sys::remove_tree(&self.state()).expect("root removes everything");
        } else {
            // Files of subordinate ids can be removed by their namespace's root alone.
            let mut remove = Command::new("unshare");
            remove.args(["--map-auto", "--map-root-user", "rm", "-rf"]).arg(self.state());
            assert!(remove.status().expect("unshare").success());
        }
    }
}

fn list(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether anything was pushed to a repository.
pub fn was_pushed(registry: &Registry, repository: &str) -> bool {
    registry.data().join("docker/registry/v2/repositories").join(repository).join("_manifests").exists()
}

/// Runs somebody else's tool, which must succeed; what it printed comes back.
#[track_caller]
pub fn tool(program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let mut command = Command::new(program);
    let output = command.args(args).output().unwrap_or_else(|error| panic!("{program} is not installed: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
