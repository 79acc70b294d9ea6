//! The user's SSH agent, lent to a step: a socket of ours, with the owner and mode that the mount asks for, behind which
//! requests to list keys and to sign go on to the agent, and nothing else does.
//!
//! Protocol: draft-ietf-sshm-ssh-agent (a length, a type, the rest; one answer to each request).

use rustix::net::Shutdown;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`: a step may use keys, not add, remove or lock them.
const ALLOWED: [u8; 2] = [11, 13];
/// `SSH_AGENT_FAILURE`
const FAILURE: u8 = 5;
/// As much as OpenSSH's own agent takes.
const MAX_FRAME: u32 = 256 << 10;
const SOCKET: &str = "agent";

/// A socket that leads to an agent; closed when dropped.
#[derive(Debug)]
pub(super) struct Agent {
    path: PathBuf,
    listener: UnixListener,
}

impl Agent {
    /// Makes a socket in `dir` that leads to the agent at `socket`.
    pub(super) fn start(socket: &Path, dir: &Path) -> io::Result<Agent> {
        // An agent that is not there is said now, not to whoever asks it first.
        drop(UnixStream::connect(socket)?);
        // By the directory's descriptor: there is room for 108 bytes in a socket's address.
        let handle = std::fs::File::open(dir)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd()))?;
        let (accepting, agent) = (listener.try_clone()?, socket.to_path_buf());
        std::thread::Builder::new().name("ssh-agent".into()).spawn(move || {
            // Ends when the listener is shut down.
            while let Ok((client, _)) = accepting.accept() {
                let agent = agent.clone();
                let talk = move || {
                    if let Err(error) = serve(client, &agent) {
                        tracing::debug!(%error, "ssh agent");
                    }
                };
                if let Err(error) = std::thread::Builder::new().name("ssh-agent".into()).spawn(talk) {
                    tracing::debug!(%error, "ssh agent");
                }
            }
        })?;
        Ok(Agent { path: dir.join(SOCKET), listener })
    }

    /// The socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(self.listener.as_fd(), Shutdown::Both); // nothing to do where it fails
    }
}

/// Answers one client until it hangs up.
fn serve(mut client: UnixStream, agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent)?;
    while let Some(request) = read_frame(&mut client)? {
        let allowed = request.first().is_some_and(|kind| ALLOWED.contains(kind));
        let answer = if allowed {
            write_frame(&mut agent, &request)?;
            read_frame(&mut agent)?.ok_or(io::ErrorKind::UnexpectedEof)?
        } else {
            vec![FAILURE]
        };
        write_frame(&mut client, &answer)?;
    }
    Ok(())
}

/// A frame without its length; `None` at the end.
fn read_frame(from: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame)?;
    Ok(Some(frame))
}

fn write_frame(to: &mut UnixStream, frame: &[u8]) -> io::Result<()> {
    to.write_all(&(frame.len() as u32).to_be_bytes())?;
    to.write_all(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_can_be_used_and_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        let listener = UnixListener::bind(&own).unwrap();
        // An agent that answers every request with its own bytes reversed.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                while let Ok(Some(mut frame)) = read_frame(&mut stream) {
                    frame.reverse();
                    write_frame(&mut stream, &frame).unwrap();
                }
            }
        });
        let agent = Agent::start(&own, dir.path()).unwrap();
        let mut client = UnixStream::connect(agent.path()).unwrap();
        let mut ask = |request: &[u8]| {
            write_frame(&mut client, request).unwrap();
            read_frame(&mut client).unwrap().unwrap()
        };
        assert_eq!(ask(&[11]), [11]);
        assert_eq!(ask(&[13, 1, 2]), [2, 1, 13]);
        for refused in [17, 18, 19, 22, 25, 27, 0] {
            assert_eq!(ask(&[refused, 9]), [FAILURE], "{refused}");
        }
        let path = agent.path().to_path_buf();
        drop(agent);
        assert!(UnixStream::connect(path).is_err(), "closed");
        assert!(Agent::start(&dir.path().join("nobody"), dir.path()).is_err());
    }
}
