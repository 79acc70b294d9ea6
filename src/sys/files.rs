//! Calls about files whose answers are handed on in the kernel's own layout, or that no safe crate has.
//!
//! A file is named by a descriptor, which may be one of `O_PATH`.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sizes of the structures.
const STAT: usize = size_of::<libc::stat>();
const STATX: usize = size_of::<libc::statx>();
const STATFS: usize = size_of::<libc::statfs>();

fn check(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct stat` of a file, with its owner replaced where `owner` is given.
pub fn stat_object(file: BorrowedFd<'_>, owner: Option<(u32, u32)>) -> io::Result<[u8; STAT]> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: the path is a string, and the kernel writes one struct stat, whose layout is the C library's on the
    // architectures this is built for.
    let done = unsafe { libc::syscall(libc::SYS_newfstatat, file.as_raw_fd(), c"".as_ptr(), stat.as_mut_ptr(), flags) };
    check(done)?;
    // SAFETY: integers, all zero before and written by the kernel now.
    let mut stat = unsafe { stat.assume_init() };
    if let Some((uid, gid)) = owner {
        (stat.st_uid, stat.st_gid) = (uid, gid);
    }
    // SAFETY: the size is the same and any byte of the structure, padding among them, has been zeroed.
    Ok(unsafe { std::mem::transmute::<libc::stat, [u8; STAT]>(stat) })
}

/// What of a `struct statx` is replaced.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replaced {
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// The id of the mount, and whether that begins at the file.
    pub mount: Option<(u64, bool)>,
}

/// `struct statx` of a file, asked for with these flags (of `AT_STATX_*`) and this mask.
pub fn statx_object(file: BorrowedFd<'_>, flags: i32, mask: u32, replaced: Replaced) -> io::Result<[u8; STATX]> {
    let mut statx = MaybeUninit::<libc::statx>::zeroed();
    let flags = flags | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a string, and the kernel writes one struct statx.
    let done =
        unsafe { libc::syscall(libc::SYS_statx, file.as_raw_fd(), c"".as_ptr(), flags, mask, statx.as_mut_ptr()) };
    check(done)?;
    // SAFETY: integers, all zero before and written by the kernel now.
    let mut statx = unsafe { statx.assume_init() };
    if let Some((uid, gid)) = replaced.owner {
        (statx.stx_uid, statx.stx_gid) = (uid, gid);
    }
    if let Some((mount, begins)) = replaced.mount {
        let root = libc::STATX_ATTR_MOUNT_ROOT as u64;
        statx.stx_attributes_mask |= root;
        statx.stx_attributes &= !root;
        statx.stx_attributes |= if begins { root } else { 0 };
        // A unique id (STATX_MNT_ID_UNIQUE) has no like among those that are made up.
        if statx.stx_mask & libc::STATX_MNT_ID != 0 {
            statx.stx_mnt_id = mount;
        }
    }
    // SAFETY: the size is the same and every byte of the structure has been zeroed.
    Ok(unsafe { std::mem::transmute::<libc::statx, [u8; STATX]>(statx) })
}

/// `struct statfs` of a file.
pub fn statfs_bytes(file: BorrowedFd<'_>) -> io::Result<[u8; STATFS]> {
    let mut out = [0; STATFS];
    // SAFETY: the kernel writes one struct statfs, which has the size of `out`; any bytes are valid there.
    check(unsafe { libc::syscall(libc::SYS_fstatfs, file.as_raw_fd(), out.as_mut_ptr()) })?;
    Ok(out)
}

/// Whether the file system ids and capabilities of the calling thread allow `mode` (bits as in access(2)) of a file.
pub fn may_access(file: BorrowedFd<'_>, mode: i32) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_EACCESS;
    // SAFETY: the path is a string; nothing is written.
    check(unsafe { libc::syscall(libc::SYS_faccessat2, file.as_raw_fd(), c"".as_ptr(), mode, flags) })
}

/// Whether something is at `path`, seen from the directory `from`, and allows `mode` (as in [`may_access`]), or the error of
/// getting there. A link at its end is followed only if `follow` says so.
pub fn find(from: BorrowedFd<'_>, path: &CStr, mode: i32, follow: bool) -> io::Result<()> {
    let flags = libc::AT_EACCESS | if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    // SAFETY: the path is a string; nothing is written.
    check(unsafe { libc::syscall(libc::SYS_faccessat2, from.as_raw_fd(), path.as_ptr(), mode, flags) })
}

/// `truncate(2)`.
pub fn truncate(path: &CStr, length: i64) -> io::Result<()> {
    // SAFETY: the path is a string; nothing is written.
    check(unsafe { libc::syscall(libc::SYS_truncate, path.as_ptr(), length) })
}

/// Most bytes of a file handle, see name_to_handle_at(2).
const MAX_HANDLE: usize = 128;

/// `name_to_handle_at(2)` of a file: the `struct file_handle` with room for `room` bytes, as the kernel leaves it, and the
/// result with the id of the mount.
pub fn name_to_handle(file: BorrowedFd<'_>, room: u32, flags: i32) -> (Vec<u8>, io::Result<u64>) {
    let mut handle = vec![0; 8 + MAX_HANDLE];
    handle[..4].copy_from_slice(&room.min(MAX_HANDLE as u32).to_ne_bytes());
    let mut mount = 0u64; // the kernel writes four or eight bytes of it, as the flags say
    let (flags, name) = (flags | libc::AT_EMPTY_PATH, c"".as_ptr());
    // SAFETY: the handle has room for what its first field says, and the mount id lives through the call.
    let done = unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, file.as_raw_fd(), name, handle.as_mut_ptr(), &raw mut mount, flags)
    };
    (handle, check(done).map(|()| mount))
}

/// `inotify_add_watch(2)`.
pub fn watch(inotify: BorrowedFd<'_>, path: &CStr, mask: u32) -> io::Result<i32> {
    // SAFETY: the path is a string; nothing is written.
    let done = unsafe { libc::syscall(libc::SYS_inotify_add_watch, inotify.as_raw_fd(), path.as_ptr(), mask) };
    check(done).map(|()| done as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn gives_what_the_kernel_gives() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let bytes = stat_object(file.as_file().as_fd(), Some((7, 8))).unwrap();
        let field = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(field(std::mem::offset_of!(libc::stat, st_ino)), metadata.ino() as u32);
        assert_eq!(field(std::mem::offset_of!(libc::stat, st_uid)), 7);
        assert_eq!(field(std::mem::offset_of!(libc::stat, st_gid)), 8);
        let replaced = Replaced { owner: None, mount: Some((99, true)) };
        let bytes = statx_object(file.as_file().as_fd(), 0, libc::STATX_BASIC_STATS | libc::STATX_MNT_ID, replaced);
        let bytes = bytes.unwrap();
        let field = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(field(std::mem::offset_of!(libc::statx, stx_mnt_id)), 99);
        assert_eq!(field(std::mem::offset_of!(libc::statx, stx_uid)), metadata.uid());
    }

    #[test]
    fn finds_without_following() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        let fd = fs_err::File::open(dir.path()).unwrap();
        let fd = fd.file().as_fd();
        assert!(find(fd, c"loop", libc::F_OK, false).is_ok());
        assert_eq!(find(fd, c"loop", libc::F_OK, true).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(find(fd, c"none", libc::F_OK, false).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
