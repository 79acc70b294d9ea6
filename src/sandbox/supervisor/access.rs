//! What a user may do to a file: Linux's checks of owners, groups and modes. Pure.
//!
//! Used where the file system does not hold the owners, so that the kernel cannot check them itself. POSIX ACLs do not
//! count here: a mode has the ACL's mask in its group bits, so a named user gets at most what the group gets.

use rustix::io::Errno;

use super::capability::Capability;
use super::credentials::Credentials;

/// What of a file its permissions depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owned {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
}

/// What is wanted of a file: the bits of access(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Want(pub u32);

impl Want {
    /// Read it, or list it.
    pub const READ: Want = Want(4);
    /// Write to it, or change its entries.
    pub const WRITE: Want = Want(2);
    /// Execute or search it.
    pub const EXECUTE: Want = Want(1);
    /// Change the entries of a directory.
    pub const ENTRIES: Want = Want(3);
}

const TYPE: u32 = 0o170000;
const DIRECTORY: u32 = 0o040000;
const REGULAR: u32 = 0o100000;
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

impl Owned {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & TYPE == DIRECTORY
    }

    /// What a program in this file gets from its set-id bits: owner and group (`bprm_fill_uid`).
    pub fn set_ids(&self) -> (Option<u32>, Option<u32>) {
        let set_uid = self.mode & SET_UID != 0;
        let set_gid = self.mode & (SET_GID | 0o010) == SET_GID | 0o010;
        (set_uid.then_some(self.uid), set_gid.then_some(self.gid))
    }
}

/// `generic_permission`.
pub(crate) fn check(who: &Credentials, file: &Owned, want: Want) -> Result<(), Errno> {
    let bits = if who.uid.fs == file.uid {
        file.mode >> 6
    } else if who.in_group(file.gid) {
        file.mode >> 3
    } else {
        file.mode
    };
    let executable = file.is_dir() || file.mode & 0o111 != 0;
    let reads_only = if file.is_dir() { want.0 & Want::WRITE.0 == 0 } else { want == Want::READ };
    let allowed = want.0 & !bits & 7 == 0
        || (reads_only && who.has(Capability::DAC_READ_SEARCH))
        || ((want.0 & Want::EXECUTE.0 == 0 || executable) && who.has(Capability::DAC_OVERRIDE));
    if allowed { Ok(()) } else { Err(Errno::ACCESS) }
}

/// `inode_owner_or_capable`.
pub(crate) fn is_owner(who: &Credentials, file: &Owned) -> bool {
    who.uid.fs == file.uid || who.has(Capability::FOWNER)
}

/// Whether an entry, which is `file`, may be taken out of `dir` (`may_delete`).
pub(crate) fn check_removal(who: &Credentials, dir: &Owned, file: &Owned) -> Result<(), Errno> {
    check(who, dir, Want::ENTRIES)?;
    let sticky = dir.mode & STICKY != 0;
    if sticky && who.uid.fs != file.uid && who.uid.fs != dir.uid && !who.has(Capability::FOWNER) {
        return Err(Errno::PERM);
    }
    Ok(())
}

/// Whether another name may be made for `file` (`may_linkat` with `fs.protected_hardlinks`).
pub(crate) fn check_link(who: &Credentials, file: &Owned) -> Result<(), Errno> {
    let set_group_program = file.mode & (SET_GID | 0o010) == SET_GID | 0o010;
    let safe = file.mode & TYPE == REGULAR
        && file.mode & SET_UID == 0
        && !set_group_program
        && check(who, file, Want(6)).is_ok();
    if safe || is_owner(who, file) { Ok(()) } else { Err(Errno::PERM) }
}

/// Owner and mode after chown(2), which may be refused (`chown_ok`, `chgrp_ok`, `chown_common`).
pub(crate) fn chown(who: &Credentials, file: &Owned, uid: Option<u32>, gid: Option<u32>) -> Result<Owned, Errno> {
    let capable = who.has(Capability::CHOWN);
    let owner = who.uid.fs == file.uid;
    let uid_allowed = uid.is_none_or(|uid| owner && uid == file.uid);
    let gid_allowed = gid.is_none_or(|gid| owner && (gid == file.gid || who.in_group(gid)));
    let allowed = uid_allowed && gid_allowed;
    if !capable && !allowed {
        return Err(Errno::PERM);
    }
    let mut mode = file.mode;
    if !file.is_dir() {
        mode &= !SET_UID;
        let program = mode & 0o010 != 0;
        if program || !(who.in_group(file.gid) || who.has(Capability::FSETID)) {
            mode &= !SET_GID;
        }
    }
    Ok(Owned { uid: uid.unwrap_or(file.uid), gid: gid.unwrap_or(file.gid), mode })
}

/// What a file is after it was written to: without set-id bits, where the writer may not keep them (`file_remove_privs`).
pub(crate) fn written(who: &Credentials, file: &Owned) -> Owned {
    let mut mode = file.mode;
    if mode & TYPE == REGULAR && !who.has(Capability::FSETID) {
        mode &= !SET_UID;
        if mode & 0o010 != 0 || !who.in_group(file.gid) {
            mode &= !SET_GID;
        }
    }
    Owned { mode, ..*file }
}

/// The mode after chmod(2), which may be refused (`setattr_prepare`).
pub(crate) fn chmod(who: &Credentials, file: &Owned, mode: u32) -> Result<Owned, Errno> {
    if !is_owner(who, file) {
        return Err(Errno::PERM);
    }
    let mut mode = mode & 0o7777;
    if !who.in_group(file.gid) && !who.has(Capability::FSETID) {
        mode &= !SET_GID;
    }
    Ok(Owned { mode: file.mode & TYPE | mode, ..*file })
}

/// What a file that is made in `dir` will be: owner, group and mode, of which the umask has been taken already
/// (`inode_init_owner`).
pub(crate) fn created(who: &Credentials, dir: &Owned, mode: u32) -> Owned {
    let mut made = Owned { uid: who.uid.fs, gid: who.gid.fs, mode };
    if dir.mode & SET_GID != 0 {
        made.gid = dir.gid;
        if made.is_dir() {
            made.mode |= SET_GID;
        } else if made.mode & (SET_GID | 0o010) == SET_GID | 0o010
            && !who.in_group(dir.gid)
            && !who.has(Capability::FSETID)
        {
            made.mode &= !SET_GID;
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::super::capability::Capabilities;
    use super::*;
    use rustix::thread::CapabilitySet;

    fn user(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials::new(uid, gid, groups, docker())
    }

    fn docker() -> Capabilities {
        let set = CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER | CapabilitySet::FSETID;
        set.into()
    }

    fn owned(uid: u32, gid: u32, mode: u32) -> Owned {
        Owned { uid, gid, mode }
    }

    #[test]
    fn permission_by_mode() {
        let (root, app) = (user(0, 0, &[]), user(1000, 1001, &[50]));
        let allowed = |who: &Credentials, file: Owned| -> String {
            let letter = |want: u32, letter| if check(who, &file, Want(want)).is_ok() { letter } else { '-' };
            [letter(4, 'r'), letter(2, 'w'), letter(1, 'x')].iter().collect()
        };
        for (who, file, expected) in [
            (&app, owned(1000, 0, 0o100_640), "rw-"),
            (&app, owned(0, 1001, 0o100_640), "r--"),
            (&app, owned(0, 50, 0o100_070), "rwx"),
            (&app, owned(0, 0, 0o100_755), "r-x"),
            // The owner's bits count, even where others may do more.
            (&app, owned(1000, 0, 0o100_077), "---"),
            (&app, owned(0, 1001, 0o100_707), "---"),
            (&root, owned(5, 5, 0o100_000), "rw-"),
            (&root, owned(5, 5, 0o100_001), "rwx"),
            (&root, owned(5, 5, 0o040_000), "rwx"),
        ] {
            assert_eq!(allowed(who, file), expected, "{} on {file:?}", who.uid.fs);
        }
    }

    #[test]
    fn removal_and_links() {
        let (root, app) = (user(0, 0, &[]), user(1000, 1000, &[]));
        let tmp = owned(0, 0, 0o041_777);
        let file = owned(7, 7, 0o100_644);
        assert_eq!(check_removal(&app, &tmp, &file), Err(Errno::PERM));
        assert_eq!(check_removal(&root, &tmp, &file), Ok(()));
        assert_eq!(check_removal(&app, &tmp, &owned(1000, 7, 0o100_000)), Ok(()));
        assert_eq!(check_removal(&app, &owned(1000, 0, 0o041_777), &file), Ok(()));
        assert_eq!(check_removal(&app, &owned(0, 0, 0o040_755), &file), Err(Errno::ACCESS));
        for (mode, expected) in [
            (0o100_666, Ok(())),
            (0o100_644, Err(Errno::PERM)),
            (0o104_777, Err(Errno::PERM)),
            (0o102_777, Err(Errno::PERM)),
            (0o102_767, Ok(())),
            (0o010_666, Err(Errno::PERM)),
        ] {
            assert_eq!(check_link(&app, &owned(0, 0, mode)), expected, "{mode:o}");
            assert_eq!(check_link(&root, &owned(0, 0, mode)), Ok(()));
        }
    }

    #[test]
    fn owners_and_modes_change() {
        let (root, app) = (user(0, 0, &[]), user(1000, 1000, &[50]));
        let mine = owned(1000, 1000, 0o106_755);
        assert_eq!(chown(&root, &mine, Some(5), Some(6)), Ok(owned(5, 6, 0o100_755)));
        assert_eq!(chown(&root, &mine, None, None), Ok(owned(1000, 1000, 0o100_755)));
        assert_eq!(chown(&app, &mine, None, Some(50)), Ok(owned(1000, 50, 0o100_755)));
        assert_eq!(chown(&app, &mine, Some(1000), None), Ok(owned(1000, 1000, 0o100_755)));
        assert_eq!(chown(&app, &mine, None, Some(51)), Err(Errno::PERM));
        assert_eq!(chown(&app, &mine, Some(0), None), Err(Errno::PERM));
        assert_eq!(chown(&app, &owned(0, 0, 0o100_777), None, Some(50)), Err(Errno::PERM));
        let dir = owned(1000, 8, 0o042_755);
        assert_eq!(chown(&root, &dir, Some(5), None), Ok(owned(5, 8, 0o042_755)));
        assert_eq!(chmod(&app, &dir, 0o2775), Ok(owned(1000, 8, 0o040_775)));
        assert_eq!(chmod(&root, &dir, 0o7777), Ok(owned(1000, 8, 0o047_777)));
        assert_eq!(chmod(&app, &owned(0, 0, 0o100_666), 0), Err(Errno::PERM));
    }

    #[test]
    fn writing_takes_set_id_bits_away() {
        let (root, app) = (user(0, 0, &[]), user(1000, 1000, &[50]));
        for (who, mode, after) in [
            (&app, 0o106_777, 0o100_777),
            (&app, 0o106_767, 0o100_767),
            (&app, 0o100_666, 0o100_666),
            (&app, 0o042_777, 0o042_777),
            (&root, 0o106_777, 0o106_777),
        ] {
            assert_eq!(written(who, &owned(0, 0, mode)), owned(0, 0, after), "{mode:o}");
        }
        assert_eq!(written(&app, &owned(0, 50, 0o102_666)).mode, 0o102_666, "mandatory locking, of a group of its own");
    }

    #[test]
    fn owners_of_what_is_made() {
        let app = user(1000, 1001, &[]);
        let (plain, shared) = (owned(0, 0, 0o040_755), owned(0, 8, 0o042_775));
        assert_eq!(created(&app, &plain, 0o100_644), owned(1000, 1001, 0o100_644));
        assert_eq!(created(&app, &shared, 0o100_644), owned(1000, 8, 0o100_644));
        assert_eq!(created(&app, &shared, 0o040_755), owned(1000, 8, 0o042_755));
        assert_eq!(created(&app, &shared, 0o102_755), owned(1000, 8, 0o100_755));
        assert_eq!(owned(5, 6, 0o106_755).set_ids(), (Some(5), Some(6)));
        assert_eq!(owned(5, 6, 0o102_745).set_ids(), (None, None));
    }
}
