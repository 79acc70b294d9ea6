//! Owner, mode and extended attributes of files whose owners are recorded.

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use super::{Asked, Recorded};
use crate::overrides::{PRIVATE, SHELVED};
use crate::sandbox::supervisor::access::{self, Owned, Want};
use crate::sandbox::supervisor::call::{PathArgument, XattrCall};
use crate::sandbox::supervisor::capability::Capability;
use crate::sandbox::supervisor::owners::{Look, Target};
use crate::sandbox::supervisor::{Answer, Caller};

/// Longest name of an xattr, with its nul (XATTR_NAME_MAX).
const MAX_NAME: usize = 256;
/// Largest value (XATTR_SIZE_MAX).
const MAX_VALUE: usize = 1 << 16;

/// Xattrs that hold ids, which the file system may refuse: they are shelved then.
const WITH_IDS: [&[u8]; 3] = [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];
const CAPABILITY: &[u8] = WITH_IDS[0];
const ACCESS_LIST: &[u8] = WITH_IDS[1];

/// What `security.capability` of a program is.
pub(super) fn capability(target: &Target) -> Result<Option<Vec<u8>>, Errno> {
    match target.get_xattr(CAPABILITY) {
        Err(Errno::NODATA | Errno::NOTSUP) => {}
        other => return other.map(Some),
    }
    match target.get_xattr(shelved(CAPABILITY)) {
        Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => Ok(None),
        other => other.map(Some),
    }
}

fn shelved(name: &[u8]) -> Vec<u8> {
    [SHELVED.as_bytes(), name].concat()
}

impl Recorded {
    pub(super) fn chown(&self, asked: &Asked<'_>, path: &PathArgument, uid: u32, gid: u32) -> Result<Answer, Errno> {
        if asked.is_root && asked.places.is_none() && [uid, gid].iter().all(|id| matches!(*id, 0 | u32::MAX)) {
            let target = self.reach(asked, path)?.target;
            // It is root's and stays root's, which the kernel knows.
            if !matches!(self.records.told_otherwise(&target), Ok(Some(_))) {
                return Ok(Answer::Continue);
            }
        }
        let (target, look) = self.find_own(asked, path)?;
        let wanted = |id: u32| (id != u32::MAX).then_some(id);
        let new = access::chown(&asked.who, &look.owned, wanted(uid), wanted(gid))?;
        let mut look = look;
        if !new.is_dir() {
            // Set-id bits and capabilities go, whoever it is given to.
            self.records.touch_owner(&target)?;
            if FileType::from_raw_mode(look.native.st_mode) == FileType::RegularFile {
                self.records.drop_capabilities(&target);
                look.native.st_mode = target.stat()?.st_mode;
            }
        }
        self.records.give(&target, &look, new)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn chmod(&self, asked: &Asked<'_>, path: &PathArgument, mode: u32) -> Result<Answer, Errno> {
        if asked.is_root && asked.places.is_none() {
            let target = self.reach(asked, path)?.target;
            if !self.records.has_table() && matches!(self.records.recorded(&target), Ok(None) | Err(_)) {
                return Ok(Answer::Continue);
            }
        }
        let (target, look) = self.find_own(asked, path)?;
        let new = access::chmod(&asked.who, &look.owned, mode)?;
        let is_plain = asked.places.is_none()
            && look.record.is_none()
            && (new.uid, new.gid) == (0, 0)
            && new.mode & 0o7777 == mode & 0o7777;
        if FileType::from_raw_mode(look.native.st_mode) == FileType::Symlink && asked.places.is_some() {
            return Err(Errno::OPNOTSUPP);
        }
        if is_plain || FileType::from_raw_mode(look.native.st_mode) == FileType::Symlink {
            return Ok(Answer::Continue);
        }
        self.records.give(&target, &look, new)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn xattr(&self, asked: &Asked<'_>, path: &PathArgument, what: XattrCall) -> Result<Answer, Errno> {
        let caller = asked.caller;
        match what {
            XattrCall::List { list, size } => {
                let (target, _) = self.find(asked, path)?;
                give_bytes(caller, &shown_names(&target.list_xattrs()?), list, size)
            }
            XattrCall::Get { name, value, size } => {
                let name = read_name(caller, name)?;
                if name.starts_with(PRIVATE.as_bytes()) {
                    return Err(Errno::NODATA);
                }
                if !WITH_IDS.contains(&name.as_slice()) {
                    return self.check_unless_root(asked, path, Want::READ, &name);
                }
                let (target, _) = self.find(asked, path)?;
                match target.get_xattr(shelved(&name)) {
                    Ok(held) => give_bytes(caller, &held, value, size),
                    Err(_) => Ok(Answer::Continue),
                }
            }
            XattrCall::Set { name, value, size, flags } => {
                let name = read_name(caller, name)?;
                if name.starts_with(PRIVATE.as_bytes()) {
                    return Err(Errno::PERM);
                }
                if !WITH_IDS.contains(&name.as_slice()) {
                    return self.check_unless_root(asked, path, Want::WRITE, &name);
                }
                let size = usize::try_from(size).ok().filter(|size| *size <= MAX_VALUE).ok_or(Errno::TOOBIG)?;
                let mut bytes = vec![0; size];
                caller.read(value, &mut bytes)?;
                self.set_with_ids(asked, path, &name, &bytes, XattrFlags::from_bits_retain(flags as u32))
            }
            XattrCall::Remove { name } => {
                let name = read_name(caller, name)?;
                if name.starts_with(PRIVATE.as_bytes()) {
                    return Err(Errno::NODATA);
                }
                if !WITH_IDS.contains(&name.as_slice()) {
                    return self.check_unless_root(asked, path, Want::WRITE, &name);
                }
                let (target, look) = self.find_own(asked, path)?;
                may_set_ids(asked, &look, &name)?;
                match target.remove_xattr(shelved(&name)) {
                    Ok(()) => Ok(Answer::Value(0)),
                    Err(_) => Ok(Answer::Continue),
                }
            }
        }
    }

    /// [`Recorded::find`] for a change. Where the step has the machine's own devices, as nobody could make others, these are
    /// not its to change.
    fn find_own(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<(Target, Look), Errno> {
        let (target, look) = self.find(asked, path)?;
        let kind = FileType::from_raw_mode(look.native.st_mode);
        let is_machines = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        if asked.places.is_some() && is_machines { Err(Errno::PERM) } else { Ok((target, look)) }
    }

    /// Xattrs of users need the permission to read or write; of the others the kernel knows.
    fn check_unless_root(
        &self,
        asked: &Asked<'_>,
        path: &PathArgument,
        want: Want,
        name: &[u8],
    ) -> Result<Answer, Errno> {
        if asked.is_root {
            return Ok(Answer::Continue);
        }
        let (_, look) = self.find(asked, path)?;
        if name.starts_with(b"user.") {
            access::check(&asked.who, &look.owned, want)?;
        }
        Ok(Answer::Continue)
    }

    fn set_with_ids(
        &self,
        asked: &Asked<'_>,
        path: &PathArgument,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<Answer, Errno> {
        let (target, look) = self.find_own(asked, path)?;
        may_set_ids(asked, &look, name)?;
        match target.set_xattr(name, value, flags) {
            Ok(()) => {
                let _ = target.remove_xattr(shelved(name)); // what was shelved has been replaced; mostly nothing was
            }
            Err(Errno::INVAL | Errno::PERM | Errno::NOTSUP) if is_shelvable(name, value, &look) => {
                target.set_xattr(shelved(name), value, flags)?;
                if name == ACCESS_LIST
                    && let Some(mode) = mode_of_list(value)
                {
                    let new = Owned { mode: look.owned.mode & !0o777 | mode, ..look.owned };
                    self.records.give(&target, &look, new)?;
                }
            }
            Err(errno) => return Err(errno),
        }
        Ok(Answer::Value(0))
    }
}

/// Whether a refusal was for the ids in it, and not because it makes no sense.
fn is_shelvable(name: &[u8], value: &[u8], look: &Look) -> bool {
    let can_have_xattrs =
        matches!(FileType::from_raw_mode(look.native.st_mode), FileType::RegularFile | FileType::Directory);
    can_have_xattrs && (name == CAPABILITY && (12..=24).contains(&value.len()) || mode_of_list(value).is_some())
}

fn may_set_ids(asked: &Asked<'_>, look: &Look, name: &[u8]) -> Result<(), Errno> {
    let allowed =
        if name == CAPABILITY { asked.who.has(Capability::SETFCAP) } else { access::is_owner(&asked.who, &look.owned) };
    if allowed { Ok(()) } else { Err(Errno::PERM) }
}

/// The mode's nine bits that an access list (`posix_acl_xattr_entry`, acl(5)) stands for; `None` where it is none.
fn mode_of_list(value: &[u8]) -> Option<u32> {
    const USER: u16 = 0x01;
    const GROUP: u16 = 0x04;
    const MASK: u16 = 0x10;
    const OTHER: u16 = 0x20;
    let entries = value.strip_prefix(&2u32.to_le_bytes())?;
    if entries.len() % 8 != 0 {
        return None;
    }
    let find = |tag: u16| {
        let entry = entries.chunks_exact(8).find(|entry| entry[..2] == tag.to_le_bytes())?;
        Some(u32::from(u16::from_le_bytes([entry[2], entry[3]]) & 7))
    };
    Some(find(USER)? << 6 | find(MASK).or(find(GROUP))? << 3 | find(OTHER)?)
}

fn read_name(caller: &Caller<'_>, address: u64) -> Result<Vec<u8>, Errno> {
    match caller.read_string(address, MAX_NAME) {
        Err(Errno::TOOBIG) => Err(Errno::RANGE),
        Ok(name) if name.is_empty() => Err(Errno::RANGE),
        other => other,
    }
}

/// The names of a list as the step is to see them: ours are none, and shelved ones are what they stand for.
fn shown_names(list: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.len());
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let shown = match name.strip_prefix(SHELVED.as_bytes()) {
            Some(rest) => rest,
            None if name.starts_with(PRIVATE.as_bytes()) => continue,
            None => name,
        };
        out.extend_from_slice(shown);
        out.push(0);
    }
    out
}

/// Gives `bytes` as getxattr(2) and listxattr(2) do: to a buffer of no size only the length.
fn give_bytes(caller: &Caller<'_>, bytes: &[u8], address: u64, size: u64) -> Result<Answer, Errno> {
    if size > 0 {
        if (size as usize) < bytes.len() {
            return Err(Errno::RANGE);
        }
        caller.write(address, bytes)?;
    }
    Ok(Answer::Value(bytes.len() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_shown() {
        let list = b"user.a\0user.dockless.override\0user.dockless.xattr.security.capability\0security.x\0";
        assert_eq!(shown_names(list), b"user.a\0security.capability\0security.x\0");
        assert_eq!(shown_names(b""), b"");
    }

    #[test]
    fn modes_of_access_lists() {
        let entry =
            |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
        let list = |entries: &[Vec<u8>]| [2u32.to_le_bytes().to_vec(), entries.concat()].concat();
        let none = u32::MAX;
        let short = list(&[entry(1, 6, none), entry(4, 4, none), entry(0x20, 0, none)]);
        assert_eq!(mode_of_list(&short), Some(0o640));
        let named =
            [entry(1, 7, none), entry(2, 7, 1000), entry(4, 4, none), entry(0x10, 5, none), entry(0x20, 1, none)];
        assert_eq!(mode_of_list(&list(&named)), Some(0o751));
        for wrong in [&b""[..], &short[..7], &short[..12], &short[1..]] {
            assert_eq!(mode_of_list(wrong), None);
        }
    }
}
