//! What goes between a process and the role it started: length-prefixed frames, and descriptors, over a socket pair.
//!
//! The socket is the role's standard input, because that is the one way to hand a descriptor to a child that neither
//! leaks it to other children started at the same time nor needs code between fork and exec. The real standard input
//! travels over it (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest frame: far above any job, far below what a stray peer could make us allocate.
const MAX_FRAME: u64 = 256 << 20;

/// One end of the socket pair.
#[derive(Debug)]
pub struct Control(OwnedFd);

/// A frame and the descriptors that came with it.
pub type Frame = (Vec<u8>, Vec<OwnedFd>);

impl Control {
    /// Both ends, each close-on-exec.
    pub fn pair() -> io::Result<(Control, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Control(ours), theirs))
    }

    /// In a role: the end that is standard input. Standard input itself stays what it was until it is replaced.
    pub fn from_stdin() -> io::Result<Control> {
        let stdin = rustix::stdio::stdin();
        rustix::net::sockopt::socket_type(stdin)?;
        Ok(Control(rustix::io::fcntl_dupfd_cloexec(stdin, 3)?))
    }

    /// The end that `fd` is.
    pub fn of(fd: OwnedFd) -> Control {
        Control(fd)
    }

    /// Sends one frame with `fds`.
    pub fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Eight bytes into a stream socket go at once or not at all.
        sendmsg(&self.0, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match send(&self.0, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives one frame; `None` at the end of the stream.
    pub fn receive_bytes(&self) -> io::Result<Option<Frame>> {
        let mut length = [0u8; 8];
        let (mut filled, mut fds) = (0, Vec::new());
        while filled < length.len() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut length[filled..])];
            let got = match recvmsg(&self.0, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => continue,
                // The peer ended with something of ours unread: an end like any other.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => other?.bytes,
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
            match got {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => filled += got,
            }
        }
        let length = u64::from_le_bytes(length);
        if length > MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::io::read(&self.0, &mut bytes[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => filled += got,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some((bytes, fds)))
    }

    /// Sends a message.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_bytes(&serde_json::to_vec(message)?, fds)
    }

    /// Receives a message; `None` at the end of the stream.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        match self.receive_bytes()? {
            Some((bytes, fds)) => Ok(Some((serde_json::from_slice(&bytes)?, fds))),
            None => Ok(None),
        }
    }

    /// The other end is gone.
    pub fn hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&now)), Ok(1..)) && fds[0].revents().contains(PollFlags::HUP)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_frames_and_descriptors() {
        let (ours, theirs) = Control::pair().unwrap();
        let theirs = Control(theirs);
        let big = vec![7u8; 1 << 20];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ours.send_bytes(&big, &[]).unwrap();
                ours.send(&("x", 5), &[rustix::stdio::stdout()]).unwrap();
                assert!(!theirs.hung_up());
            });
            assert_eq!(theirs.receive_bytes().unwrap().unwrap().0, big);
            let ((text, number), fds) = theirs.receive::<(String, u32)>().unwrap().unwrap();
            assert_eq!((text.as_str(), number, fds.len()), ("x", 5, 1));
        });
        drop(ours);
        assert!(theirs.hung_up());
        assert!(theirs.receive_bytes().unwrap().is_none());
    }

    #[test]
    fn refuses_a_frame_that_is_cut_or_too_long() {
        let (ours, theirs) = Control::pair().unwrap();
        rustix::io::write(&ours.0, &u64::MAX.to_le_bytes()).unwrap();
        assert_eq!(Control(theirs).receive_bytes().unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (ours, theirs) = Control::pair().unwrap();
        rustix::io::write(&ours.0, &[9, 0, 0]).unwrap();
        drop(ours);
        assert_eq!(Control(theirs).receive_bytes().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
