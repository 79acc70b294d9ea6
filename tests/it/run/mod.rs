//! Containers, in every tier that can be had here.

mod background;
mod changes;
mod foreground;
mod mounts;
mod terminal;

use crate::build::place::{Caller, Place, Ran, callers};
use crate::support::bases;
use std::process::{Command, Output, Stdio};

/// The image that all tests start.
const DOCKERFILE: &str = r#"FROM base
ENV A=1 B="two words"
RUN echo "app:x:1000:1000::/home/app:/bin/sh" >> /etc/passwd
RUN mkdir /seed && echo seeded > /seed/file && chown 5:6 /seed/file && chmod 750 /seed
WORKDIR /w
CMD ["sh", "-c", "echo default"]
"#;

/// A place with an image `app`, and the tier that its containers are in.
struct Host {
    place: Place,
    tier: &'static str,
}

/// Calls `test` for each caller and tier; `name` is what is said where some cannot be had.
fn in_every_tier(name: &str, test: impl Fn(&Host)) {
    for caller in callers(name) {
        let tiers: &[&str] = match caller {
            Caller::Own if rustix::process::geteuid().is_root() => &["namespaces", "chroot"],
            Caller::Own => &["namespaces", "emulated"],
            Caller::Ranges => &["namespaces"],
            Caller::OneId => &["namespaces", "emulated"],
        };
        for tier in tiers {
            let host = Host::new(caller, tier);
            test(&host);
        }
    }
}

impl Host {
    fn new(caller: Caller, tier: &'static str) -> Host {
        let place = Place::new(caller);
        place.file("Dockerfile", DOCKERFILE);
        let host = Host { place, tier };
        let base = format!("base=oci-layout://{}", bases::layout("busybox").display());
        host.call(&["build", "-q", "-t", "app", "--build-context", &base, "context"]).succeeded();
        host
    }

    /// What is said with a failure: who and where.
    fn what(&self, words: &[&str]) -> String {
        format!("{:?}, {}: {words:?}", self.place.caller(), self.tier)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.place.command("", words);
        command.env("DOCKLESS_ISOLATION", self.tier);
        command
    }

    /// Calls the binary, and nothing may be left of it then.
    #[track_caller]
    fn call(&self, words: &[&str]) -> Ran {
        self.place.finish(self.output(words))
    }

    fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the binary starts")
    }

    /// What a call prints that succeeds, which may leave something running.
    #[track_caller]
    fn prints(&self, words: &[&str]) -> String {
        let output = self.output(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}\n{stderr}", self.what(words));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Compares what a call prints to standard output, and its exit code.
    #[track_caller]
    fn gives(&self, words: &[&str], code: i32, stdout: &str) {
        let output = self.output(words);
        let got = (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(got, (Some(code), stdout.to_string()), "{}\n{stderr}", self.what(words));
    }

    /// The same with something on standard input.
    #[track_caller]
    fn given(&self, input: &str, words: &[&str], stdout: &str) {
        use std::io::Write;
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("piped");
        // While its output is read, and it may not read.
        let input = input.to_string();
        let writing = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().expect("the binary ends");
        writing.join().expect("the writer ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{}", self.what(words));
    }
}
