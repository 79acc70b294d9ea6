//! ssh, by the program of that name.
//!
//! Keys come from the agent that the caller names, as BuildKit has it. A server that the user's `known_hosts` knows must have
//! the key that stands there; one that it does not know is believed, and nothing is written down (BuildKit asks the server
//! for its key and believes that).
//!
//! Spec: ssh(1), ssh_config(5); git's gitprotocol-pack, "SSH Transport".

use super::GitError;
use crate::dockerfile::redact::redact;
use crate::http::Url;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

/// As much of what ssh says as an error shows.
const SAID: u64 = 4096;

/// What ssh works with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// Where programs are looked for: `PATH`.
    pub path: String,
    /// The user's home: `.ssh/config` and `.ssh/known_hosts` are read.
    pub home: Option<PathBuf>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
}

/// A running `git-upload-pack` on the other side.
pub(super) struct Session {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    said: Option<JoinHandle<String>>,
    remote: String,
}

/// Where a repository is, by ssh.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// `user@host`, or `host`.
    host: String,
    port: Option<u16>,
    path: String,
}

impl Address {
    /// Reads `ssh://[user@]host[:port]/path` or `[user@]host:path`.
    fn parse(remote: &str) -> Option<Address> {
        let address = if remote.contains("://") {
            let url = Url::parse(remote).ok()?;
            let user = if url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
            let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
            let path = url.path();
            // `/~name/` is a home on the other side.
            let path = path.strip_prefix('/').filter(|path| path.starts_with('~')).unwrap_or(path);
            Address { host: format!("{user}{host}"), port: url.port(), path: path.to_string() }
        } else {
            let (host, path) = remote.split_once(':')?;
            Address { host: host.to_string(), port: None, path: path.to_string() }
        };
        // What looks like an option would be one to ssh, or to the program on the other side.
        let harmless = |text: &str| !text.is_empty() && !text.starts_with('-');
        (harmless(&address.host) && harmless(&address.path)).then_some(address)
    }

    /// What the other side's shell runs.
    fn command(&self) -> String {
        format!("git-upload-pack '{}'", self.path.replace('\'', "'\\''").replace('!', "'\\!'"))
    }
}

impl Session {
    /// Starts ssh to the repository at `remote`.
    pub(super) fn start(ssh: &Ssh, remote: &str) -> Result<Session, GitError> {
        let address = Address::parse(remote).ok_or_else(|| GitError::Url { remote: remote.to_string() })?;
        let mut command = Command::new("ssh");
        command.env_clear().env("PATH", &ssh.path).env("GIT_PROTOCOL", "version=2");
        let mut known = "/dev/null".to_string();
        if let Some(home) = &ssh.home {
            command.env("HOME", home);
            let config = home.join(".ssh/config");
            if config.is_file() {
                command.arg("-F").arg(config);
            }
            // New keys go to the first file, nowhere.
            known.push_str(&format!(" \"{}\"", home.join(".ssh/known_hosts").display()));
        }
        if let Some(agent) = &ssh.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        for option in [
            "BatchMode=yes",
            "SendEnv=GIT_PROTOCOL",
            "ConnectTimeout=20",
            "ServerAliveInterval=15",
            "LogLevel=ERROR",
            "StrictHostKeyChecking=accept-new",
            &format!("UserKnownHostsFile={known}"),
        ] {
            command.args(["-o", option]);
        }
        if let Some(port) = address.port {
            command.arg("-p").arg(port.to_string());
        }
        command.args(["--", &address.host, &address.command()]);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.map_err(|source| GitError::SshProgram { source })?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(GitError::SshProgram { source: io::ErrorKind::BrokenPipe.into() });
        };
        let said = std::thread::spawn(move || {
            let mut text = Vec::new();
            // The rest is read and dropped, so that ssh never waits for a reader.
            let mut errors = errors;
            let _ = errors.by_ref().take(SAID).read_to_end(&mut text);
            let _ = io::copy(&mut errors, &mut io::sink());
            String::from_utf8_lossy(&text).trim().to_string()
        });
        Ok(Session { child, input, output, said: Some(said), remote: remote.to_string() })
    }

    /// What ssh itself says of a connection that ended in `error`, if it says anything.
    pub(super) fn explain(&mut self, error: GitError) -> GitError {
        self.end();
        match self.said.take().and_then(|said| said.join().ok()).filter(|said| !said.is_empty()) {
            Some(said) => GitError::Ssh { remote: self.remote.clone(), said: redact(&said) },
            None => error,
        }
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

impl Read for Session {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Write for Session {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let read = |text: &str| Address::parse(text).map(|found| (found.host.clone(), found.port, found.command()));
        let upload = |path: &str| format!("git-upload-pack '{path}'");
        let of = |host: &str, port, path: &str| Some((host.to_string(), port, upload(path)));
        for (text, expected) in [
            ("git@h:a/b.git", of("git@h", None, "a/b.git")),
            ("ssh://git@h/a/b.git", of("git@h", None, "/a/b.git")),
            ("ssh://h:2222/a", of("h", Some(2222), "/a")),
            ("ssh://h/~me/a", of("h", None, "~me/a")),
            ("ssh://git@[::1]:22/a", of("git@::1", Some(22), "/a")),
            ("git@h:it's", of("git@h", None, "it'\\''s")),
            ("ssh://-oProxyCommand=x/a", None),
            ("git@h:-x", None),
            ("git@h:", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
