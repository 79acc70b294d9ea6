//! The kernel's `struct stat` and `struct statx` with owner, mode and device number put right. Pure.

use super::access::Owned;

/// What a stat call is to tell otherwise than the kernel would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Owner, group, type and permissions.
    pub owned: Owned,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
}

/// Where a `struct stat` has its fields.
#[cfg(target_arch = "x86_64")]
mod at {
    pub(super) const MODE: usize = 24;
    pub(super) const UID: usize = 28;
    pub(super) const GID: usize = 32;
    pub(super) const RDEV: usize = 40;
}

/// Where a `struct stat` has its fields: the layout of all newer architectures.
#[cfg(not(target_arch = "x86_64"))]
mod at {
    pub(super) const MODE: usize = 16;
    pub(super) const UID: usize = 24;
    pub(super) const GID: usize = 28;
    pub(super) const RDEV: usize = 32;
}

/// The mode in a `struct stat`.
pub(crate) fn mode(stat: &[u8]) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|byte| stat[at::MODE + byte]))
}

/// Device and inode in a `struct stat`.
pub(crate) fn file_id(stat: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| stat[at + byte]));
    (word(0), word(8))
}

/// The same and the mode in a `struct statx`, where they are there.
pub(crate) fn statx_file(statx: &[u8]) -> Option<((u64, u64), u32)> {
    let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|byte| statx[at + byte]));
    let wanted = libc::STATX_INO | libc::STATX_TYPE | libc::STATX_MODE;
    let inode = u64::from_ne_bytes(std::array::from_fn(|byte| statx[32 + byte]));
    let mode = u32::from(u16::from_ne_bytes([statx[28], statx[29]]));
    let device = rustix::fs::makedev(word(136), word(140));
    (word(0) & wanted == wanted).then_some(((device, inode), mode))
}

/// Puts `shown` into a `struct stat`.
pub(crate) fn correct_stat(stat: &mut [u8], shown: &Shown) {
    put(stat, at::MODE, shown.owned.mode);
    put(stat, at::UID, shown.owned.uid);
    put(stat, at::GID, shown.owned.gid);
    if let Some((major, minor)) = shown.device {
        let number = rustix::fs::makedev(major, minor);
        stat[at::RDEV..at::RDEV + 8].copy_from_slice(&number.to_ne_bytes());
    }
}

/// Puts `shown` into a `struct statx`.
pub(crate) fn correct_statx(statx: &mut [u8], shown: &Shown) {
    put(statx, 20, shown.owned.uid);
    put(statx, 24, shown.owned.gid);
    statx[28..30].copy_from_slice(&(shown.owned.mode as u16).to_ne_bytes());
    if let Some((major, minor)) = shown.device {
        put(statx, 128, major);
        put(statx, 132, minor);
    }
}

/// In a `struct stat`, gives root what is of `own` ids.
pub(crate) fn own_stat(stat: &mut [u8], own: (u32, u32)) {
    give_root(stat, (at::UID, own.0), (at::GID, own.1));
}

/// The same in a `struct statx`.
pub(crate) fn own_statx(statx: &mut [u8], own: (u32, u32)) {
    give_root(statx, (20, own.0), (24, own.1));
}

fn give_root(out: &mut [u8], user: (usize, u32), group: (usize, u32)) {
    for (at, own) in [user, group] {
        if out[at..at + 4] == own.to_ne_bytes() {
            put(out, at, 0);
        }
    }
}

fn put(out: &mut [u8], at: usize, value: u32) {
    out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    const SHOWN: Shown =
        Shown { owned: Owned { uid: 0x11223344, gid: 0x55667788, mode: 0o020_640 }, device: Some((259, 70_000)) };

    #[test]
    fn fields_of_stat() {
        assert_eq!(
            (at::MODE, at::UID, at::GID, at::RDEV),
            (
                offset_of!(libc::stat, st_mode),
                offset_of!(libc::stat, st_uid),
                offset_of!(libc::stat, st_gid),
                offset_of!(libc::stat, st_rdev)
            )
        );
        assert_eq!((offset_of!(libc::stat, st_dev), offset_of!(libc::stat, st_ino)), (0, 8));
        let mut stat = [0xee; crate::sys::STAT_SIZE];
        correct_stat(&mut stat, &SHOWN);
        assert_eq!(stat[at::RDEV..at::RDEV + 8], libc::makedev(259, 70_000).to_ne_bytes());
        assert_eq!(stat.iter().filter(|byte| **byte == 0xee).count(), stat.len() - 20);
        assert_eq!(mode(&stat), SHOWN.owned.mode);
    }

    #[test]
    fn fields_of_statx() {
        let offsets = (
            offset_of!(libc::statx, stx_uid),
            offset_of!(libc::statx, stx_gid),
            offset_of!(libc::statx, stx_mode),
            offset_of!(libc::statx, stx_rdev_major),
            offset_of!(libc::statx, stx_rdev_minor),
        );
        assert_eq!(offsets, (20, 24, 28, 128, 132));
        let offsets = (
            offset_of!(libc::statx, stx_ino),
            offset_of!(libc::statx, stx_dev_major),
            offset_of!(libc::statx, stx_dev_minor),
        );
        assert_eq!(offsets, (32, 136, 140));
        let here = crate::sys::statx_bytes(c"/", 0, libc::STATX_BASIC_STATS).unwrap();
        let stat = rustix::fs::stat("/").unwrap();
        assert_eq!(statx_file(&here), Some(((stat.st_dev, stat.st_ino), stat.st_mode)));
        let stat = crate::sys::stat_bytes(c"/", 0).unwrap();
        assert_eq!(statx_file(&here).map(|(file, _)| file), Some(file_id(&stat)));
        let mut statx = [0xee; crate::sys::STATX_SIZE];
        correct_statx(&mut statx, &Shown { device: None, ..SHOWN });
        assert_eq!(statx[28..30], 0o020_640u16.to_ne_bytes());
        assert_eq!(statx.iter().filter(|byte| **byte == 0xee).count(), statx.len() - 10);
    }
}
