//! What the supervisor reaches outside the step's root. Where there is no mount namespace its own process has the step's
//! root, so that paths mean to it what they mean to the step; the rest is reached by these descriptors alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Directories outside the step's root.
#[derive(Debug)]
pub(crate) struct Outside {
    root: OwnedFd,
    proc: OwnedFd,
}

impl Outside {
    /// Those of this process, whose root is still the one outside.
    pub(crate) fn open() -> Result<Outside, Errno> {
        let open = |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Outside { root: open(Path::new("/"))?, proc: open(Path::new("/proc"))? })
    }

    /// The root directory.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The real /proc.
    pub(crate) fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    /// Opens `path` below the real /proc; magic links lead where they do for this process.
    pub(crate) fn open_proc(&self, path: impl Arg, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(&self.proc, path, flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// The bytes of a file below the real /proc.
    pub(crate) fn read_proc(&self, path: impl Arg) -> Result<Vec<u8>, Errno> {
        // By hand: `read_to_end` would first ask for a size, which files in /proc have not.
        let file = self.open_proc(path, OFlags::RDONLY)?;
        let mut out = vec![0; 4096];
        let mut length = 0;
        loop {
            match rustix::io::read(&file, &mut out[length..])? {
                0 => break,
                got => length += got,
            }
            if length == out.len() {
                out.resize(2 * length, 0);
            }
        }
        out.truncate(length);
        Ok(out)
    }

    /// How many threads a process has now: its directory of them has so many links on top of its own two
    /// (`proc_task_getattr` in `fs/proc/base.c`).
    pub(crate) fn count_threads(&self, process: i32) -> Result<u64, Errno> {
        let stat = statat(&self.proc, format!("{process}/task"), AtFlags::empty())?;
        Ok((stat.st_nlink as u64).saturating_sub(2))
    }

    /// The numbers that name entries of a directory below the real /proc.
    pub(crate) fn list_proc(&self, path: impl Arg) -> Result<Vec<i32>, Errno> {
        let dir = self.open_proc(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        let mut out = Vec::new();
        while let Some(entry) = entries.next() {
            out.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
        }
        Ok(out)
    }
}
