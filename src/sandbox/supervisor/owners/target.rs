//! A file as a worker reaches it, and its extended attributes.

use std::ffi::CString;
use std::sync::Arc;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

/// A file as a worker reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// An absolute path of this process, which may begin with another's `/proc/PID/cwd`.
    pub path: CString,
    /// Whether a link at its end is followed.
    pub follow: bool,
    /// What the path leads through by its number.
    held: Option<Arc<OwnedFd>>,
}

impl Target {
    /// The file at `path`; a nul in it is `ENOENT`, since no file has one.
    pub(crate) fn new(path: impl Into<Vec<u8>>, follow: bool) -> Result<Target, Errno> {
        Ok(Target { path: CString::new(path).map_err(|_| Errno::NOENT)?, follow, held: None })
    }

    /// The same for a path that leads through the descriptor `held` of this process.
    pub(crate) fn through(held: OwnedFd, path: impl Into<Vec<u8>>) -> Result<Target, Errno> {
        Ok(Target { held: Some(Arc::new(held)), ..Target::new(path, false)? })
    }

    /// The same but for a link at its end, which is meant then.
    pub(crate) fn unfollowed(self) -> Target {
        Target { follow: false, ..self }
    }

    pub(super) fn at_flags(&self) -> AtFlags {
        if self.follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }
    }

    /// What the file system says of it.
    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::statat(CWD, &self.path, self.at_flags())
    }

    pub(crate) fn get_xattr(&self, name: impl rustix::path::Arg) -> Result<Vec<u8>, Errno> {
        let read = |buffer: &mut [u8]| match self.follow {
            true => rustix::fs::getxattr(&self.path, &*name.as_cow_c_str()?, buffer),
            false => rustix::fs::lgetxattr(&self.path, &*name.as_cow_c_str()?, buffer),
        };
        let mut small = [0; 128];
        match read(&mut small) {
            Ok(length) => Ok(small[..length].to_vec()),
            Err(Errno::RANGE) => {
                let mut large = vec![0; 1 << 16]; // XATTR_SIZE_MAX
                let length = read(&mut large)?;
                large.truncate(length);
                Ok(large)
            }
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn set_xattr(&self, name: impl rustix::path::Arg, value: &[u8], flags: XattrFlags) -> Result<(), Errno> {
        match self.follow {
            true => rustix::fs::setxattr(&self.path, name, value, flags),
            false => rustix::fs::lsetxattr(&self.path, name, value, flags),
        }
    }

    pub(crate) fn remove_xattr(&self, name: impl rustix::path::Arg) -> Result<(), Errno> {
        match self.follow {
            true => rustix::fs::removexattr(&self.path, name),
            false => rustix::fs::lremovexattr(&self.path, name),
        }
    }

    /// The names of its xattrs, each with a nul behind it.
    pub(crate) fn list_xattrs(&self) -> Result<Vec<u8>, Errno> {
        let mut list = vec![0; 1 << 16]; // XATTR_LIST_MAX
        let length = match self.follow {
            true => rustix::fs::listxattr(&self.path, &mut list)?,
            false => rustix::fs::llistxattr(&self.path, &mut list)?,
        };
        list.truncate(length);
        Ok(list)
    }

    /// The kernel's name for it: a path without links.
    pub(crate) fn name(&self) -> Result<Vec<u8>, Errno> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !self.follow);
        let fd = rustix::fs::open(&self.path, flags, Mode::empty())?;
        let link = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
        if link.as_bytes().starts_with(b"/") { Ok(link.into_bytes()) } else { Err(Errno::NOENT) }
    }

    /// The directory that it is in and its name there; `None` where it ends in `.` or `..`, or is a root.
    pub(crate) fn split(&self) -> Option<(Target, &[u8])> {
        let path = self.path.as_bytes();
        let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
        let start = path[..end].iter().rposition(|byte| *byte == b'/')? + 1;
        let name = &path[start..end];
        let dir = if start > 1 { &path[..start] } else { b"/" };
        let target = Target { held: self.held.clone(), ..Target::new(dir, true).ok()? };
        (name != b"." && name != b"..").then_some((target, name))
    }
}
