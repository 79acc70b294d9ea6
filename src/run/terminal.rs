//! The caller's terminal while it is a container's.

use crate::sandbox::TerminalSize;
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A terminal that hands over every byte as it is, until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Sets `terminal` so; `None` where it is none.
    pub fn set(terminal: BorrowedFd<'_>) -> io::Result<Option<RawMode>> {
        let Ok(before) = tcgetattr(terminal) else { return Ok(None) };
        let mut raw = before.clone();
        raw.make_raw();
        let terminal = rustix::io::fcntl_dupfd_cloexec(terminal, 3)?;
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Some(RawMode { terminal, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// The size of `terminal`, where it is one that knows it.
pub fn size_of(terminal: BorrowedFd<'_>) -> Option<TerminalSize> {
    let size = tcgetwinsize(terminal).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0)?;
    Some(TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// Gives the container's terminal the size of the caller's.
pub fn pass_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    if let Some(TerminalSize { rows, columns }) = size_of(from) {
        // Where nobody has it open any more its size does not matter.
        let _ = tcsetwinsize(to, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 });
    }
}

/// Copies until the end, or until a side fails: of a terminal that nobody has open any more reading does.
pub(super) fn copy(from: &impl AsFd, mut to: impl FnMut(&[u8]) -> io::Result<()>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(from, &mut *buffer)) {
            Ok(0) | Err(_) => return,
            Ok(got) => {
                if to(&buffer[..got]).is_err() {
                    return;
                }
            }
        }
    }
}

/// Writes all of it.
pub(super) fn write_all(to: &impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(to, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}
