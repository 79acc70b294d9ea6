//! Emulated credentials of a process: user and group ids, capabilities, secure bits. Pure.
//!
//! Every rule is Linux's own, as credentials(7) and capabilities(7) tell it and `kernel/sys.c`, `kernel/capability.c` and
//! `security/commoncap.c` do it, for a process in the first user namespace that there is for it. Ids are never mapped here.

use std::sync::Arc;

use rustix::io::Errno;

use super::capability::{Capabilities, Capability, FileCapabilities};

/// Most supplementary groups that a process may have (NGROUPS_MAX).
pub(crate) const MAX_GROUPS: usize = 65536;

/// In a call of the set*id family: leave this id as it is.
const LEAVE: u32 = u32::MAX;

/// Bits of `PR_SET_SECUREBITS`; each has a lock bit above it.
mod secure {
    pub(super) const NO_ROOT: u32 = 1 << 0;
    pub(super) const NO_SETUID_FIXUP: u32 = 1 << 2;
    pub(super) const KEEP_CAPS: u32 = 1 << 4;
    pub(super) const KEEP_CAPS_LOCKED: u32 = 1 << 5;
    pub(super) const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    pub(super) const ALL_BITS: u32 = 0x55;
    pub(super) const ALL_LOCKS: u32 = 0xaa;
}

/// The user ids, or the group ids, of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ids {
    /// Whose process it is.
    pub real: u32,
    /// Whose rights it uses.
    pub effective: u32,
    /// Whose rights it may take up again.
    pub saved: u32,
    /// Whose rights it uses on files.
    pub fs: u32,
}

impl Ids {
    /// All four alike.
    pub fn all(id: u32) -> Ids {
        Ids { real: id, effective: id, saved: id, fs: id }
    }

    /// `setuid(2)`, `setgid(2)`.
    fn set(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if id == LEAVE {
            return Err(Errno::INVAL);
        }
        if privileged {
            (self.real, self.saved) = (id, id);
        } else if id != self.real && id != self.saved {
            return Err(Errno::PERM);
        }
        (self.effective, self.fs) = (id, id);
        Ok(())
    }

    /// `setreuid(2)`, `setregid(2)`.
    fn set_two(&mut self, real: u32, effective: u32, privileged: bool) -> Result<(), Errno> {
        let old = *self;
        let may_be_real = real == LEAVE || real == old.real || real == old.effective;
        let may_be_effective = effective == LEAVE || [old.real, old.effective, old.saved].contains(&effective);
        let allowed = may_be_real && may_be_effective;
        if !privileged && !allowed {
            return Err(Errno::PERM);
        }
        if real != LEAVE {
            self.real = real;
        }
        if effective != LEAVE {
            self.effective = effective;
        }
        if real != LEAVE || (effective != LEAVE && effective != old.real) {
            self.saved = self.effective;
        }
        self.fs = self.effective;
        Ok(())
    }

    /// `setresuid(2)`, `setresgid(2)`.
    fn set_three(&mut self, ids: [u32; 3], privileged: bool) -> Result<(), Errno> {
        let old = [self.real, self.effective, self.saved];
        if !privileged && ids.iter().any(|id| *id != LEAVE && !old.contains(id)) {
            return Err(Errno::PERM);
        }
        for (own, id) in [&mut self.real, &mut self.effective, &mut self.saved].into_iter().zip(ids) {
            if id != LEAVE {
                *own = id;
            }
        }
        self.fs = self.effective;
        Ok(())
    }

    /// `setfsuid(2)`, `setfsgid(2)`: gives the old one and never fails.
    fn set_fs(&mut self, id: u32, privileged: bool) -> u32 {
        let old = self.fs;
        if id != LEAVE && (privileged || [self.real, self.effective, self.saved, self.fs].contains(&id)) {
            self.fs = id;
        }
        old
    }

    /// What `/proc/PID/status` shows.
    pub fn listed(&self) -> [u32; 4] {
        [self.real, self.effective, self.saved, self.fs]
    }
}

/// The credentials of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Credentials {
    /// User ids.
    pub uid: Ids,
    /// Group ids.
    pub gid: Ids,
    /// Supplementary groups, in order.
    pub groups: Arc<[u32]>,
    /// Capabilities in use.
    pub effective: Capabilities,
    /// Capabilities that can be used.
    pub permitted: Capabilities,
    /// Capabilities that files may pass on.
    pub inheritable: Capabilities,
    /// Capabilities that can be had at all.
    pub bounding: Capabilities,
    /// Capabilities that outlive an exec.
    pub ambient: Capabilities,
    /// `PR_SET_SECUREBITS`, `PR_SET_KEEPCAPS`.
    pub secure_bits: u32,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
}

/// What of a program's file counts in an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Privilege {
    /// The owner of a set-user-ID file.
    pub set_uid: Option<u32>,
    /// The group of a set-group-ID file that its group may execute.
    pub set_gid: Option<u32>,
    /// Its `security.capability`.
    pub capabilities: Option<FileCapabilities>,
}

impl Privilege {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Privilege::default()
    }
}

impl Credentials {
    /// Root in every id, with all the capabilities that there are for it: an exec changes nothing, unless the program is
    /// another user's.
    pub(super) fn is_whole_root(&self) -> bool {
        let ids = [self.uid.listed(), self.gid.listed()];
        let sets = [self.effective, self.permitted];
        ids == [[0; 4]; 2]
            && sets == [self.bounding; 2]
            && (self.inheritable, self.ambient) == (Capabilities::NONE, Capabilities::NONE)
            && self.secure_bits == 0
    }

    /// Those that a step starts with: root has all of `bounding`, others have nothing.
    pub fn new(uid: u32, gid: u32, groups: &[u32], bounding: Capabilities) -> Credentials {
        let held = if uid == 0 { bounding } else { Capabilities::NONE };
        Credentials {
            uid: Ids::all(uid),
            gid: Ids::all(gid),
            groups: sorted(groups),
            effective: held,
            permitted: held,
            inheritable: Capabilities::NONE,
            bounding,
            ambient: Capabilities::NONE,
            secure_bits: 0,
            no_new_privs: false,
        }
    }

    /// Whether `capability` is in use.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective.contains(capability)
    }

    /// Whether files of the group `gid` are its group's (`in_group_p`).
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid.fs == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// `setuid(2)`.
    pub fn set_uid(&mut self, uid: u32) -> Result<(), Errno> {
        let privileged = self.has(Capability::SETUID);
        self.change_uid(|ids| ids.set(uid, privileged))
    }

    /// `setreuid(2)`; `u32::MAX` leaves an id as it is.
    pub fn set_reuid(&mut self, real: u32, effective: u32) -> Result<(), Errno> {
        let privileged = self.has(Capability::SETUID);
        self.change_uid(|ids| ids.set_two(real, effective, privileged))
    }

    /// `setresuid(2)`; `u32::MAX` leaves an id as it is.
    pub fn set_resuid(&mut self, ids: [u32; 3]) -> Result<(), Errno> {
        let privileged = self.has(Capability::SETUID);
        self.change_uid(|own| own.set_three(ids, privileged))
    }

    /// `setfsuid(2)`: gives the old id.
    pub fn set_fsuid(&mut self, uid: u32) -> u32 {
        let old = self.uid.set_fs(uid, self.has(Capability::SETUID));
        if !self.is_secure(secure::NO_SETUID_FIXUP) {
            let files = Capabilities::OF_FILES;
            match (old == 0, self.uid.fs == 0) {
                (true, false) => self.effective = self.effective.without(files),
                (false, true) => self.effective = self.effective.with(self.permitted.and(files)),
                _ => {}
            }
        }
        old
    }

    /// `setgid(2)`.
    pub fn set_gid(&mut self, gid: u32) -> Result<(), Errno> {
        let privileged = self.has(Capability::SETGID);
        self.gid.set(gid, privileged)
    }

    /// `setregid(2)`; `u32::MAX` leaves an id as it is.
    pub fn set_regid(&mut self, real: u32, effective: u32) -> Result<(), Errno> {
        let privileged = self.has(Capability::SETGID);
        self.gid.set_two(real, effective, privileged)
    }

    /// `setresgid(2)`; `u32::MAX` leaves an id as it is.
    pub fn set_resgid(&mut self, ids: [u32; 3]) -> Result<(), Errno> {
        let privileged = self.has(Capability::SETGID);
        self.gid.set_three(ids, privileged)
    }

    /// `setfsgid(2)`: gives the old id.
    pub fn set_fsgid(&mut self, gid: u32) -> u32 {
        self.gid.set_fs(gid, self.has(Capability::SETGID))
    }

    /// Whether `setgroups(2)` is allowed; to be asked before the list is read.
    pub fn may_set_groups(&self, count: usize) -> Result<(), Errno> {
        match (self.has(Capability::SETGID), count <= MAX_GROUPS) {
            (false, _) => Err(Errno::PERM),
            (true, false) => Err(Errno::INVAL),
            (true, true) => Ok(()),
        }
    }

    /// `setgroups(2)`.
    pub fn set_groups(&mut self, groups: &[u32]) -> Result<(), Errno> {
        self.may_set_groups(groups.len())?;
        if groups.contains(&LEAVE) {
            return Err(Errno::INVAL);
        }
        self.groups = sorted(groups);
        Ok(())
    }

    /// `capset(2)` of the process itself.
    pub fn set_capabilities(
        &mut self,
        effective: Capabilities,
        permitted: Capabilities,
        inheritable: Capabilities,
    ) -> Result<(), Errno> {
        let capped = !self.has(Capability::SETPCAP);
        let refused = (capped && !inheritable.is_in(self.inheritable.with(self.permitted)))
            || !inheritable.is_in(self.inheritable.with(self.bounding))
            || !permitted.is_in(self.permitted)
            || !effective.is_in(permitted);
        if refused {
            return Err(Errno::PERM);
        }
        (self.effective, self.permitted, self.inheritable) = (effective, permitted, inheritable);
        self.ambient = self.ambient.and(permitted).and(inheritable);
        Ok(())
    }

    /// `PR_CAPBSET_DROP`.
    pub fn drop_bounding(&mut self, capability: Capability) -> Result<(), Errno> {
        if !self.has(Capability::SETPCAP) {
            return Err(Errno::PERM);
        }
        self.bounding = self.bounding.without(capability.into());
        Ok(())
    }

    /// `PR_CAP_AMBIENT_RAISE`.
    pub fn raise_ambient(&mut self, capability: Capability) -> Result<(), Errno> {
        let held = self.permitted.and(self.inheritable).contains(capability);
        if !held || self.is_secure(secure::NO_CAP_AMBIENT_RAISE) {
            return Err(Errno::PERM);
        }
        self.ambient = self.ambient.with(capability.into());
        Ok(())
    }

    /// `PR_CAP_AMBIENT_LOWER`.
    pub fn lower_ambient(&mut self, capability: Capability) {
        self.ambient = self.ambient.without(capability.into());
    }

    /// `PR_SET_SECUREBITS`.
    pub fn set_secure_bits(&mut self, bits: u64) -> Result<(), Errno> {
        let bits = u32::try_from(bits).map_err(|_| Errno::PERM)?;
        let locked = (self.secure_bits & secure::ALL_LOCKS) >> 1;
        let refused = locked & (self.secure_bits ^ bits) != 0
            || self.secure_bits & secure::ALL_LOCKS & !bits != 0
            || bits & !(secure::ALL_LOCKS | secure::ALL_BITS) != 0
            || !self.has(Capability::SETPCAP);
        if refused {
            return Err(Errno::PERM);
        }
        self.secure_bits = bits;
        Ok(())
    }

    /// `PR_GET_KEEPCAPS`.
    pub fn keeps_capabilities(&self) -> bool {
        self.is_secure(secure::KEEP_CAPS)
    }

    /// `PR_SET_KEEPCAPS`.
    pub fn keep_capabilities(&mut self, keep: u64) -> Result<(), Errno> {
        if keep > 1 {
            return Err(Errno::INVAL);
        }
        if self.is_secure(secure::KEEP_CAPS_LOCKED) {
            return Err(Errno::PERM);
        }
        self.secure_bits &= !secure::KEEP_CAPS;
        if keep == 1 {
            self.secure_bits |= secure::KEEP_CAPS;
        }
        Ok(())
    }

    /// The credentials after an exec of a file with this privilege; fails with `EPERM` where the file's capabilities are
    /// meant for a program that does not know of them, and cannot all be had.
    pub fn after_exec(&self, file: &Privilege) -> Result<Credentials, Errno> {
        let file = if self.no_new_privs { &Privilege::default() } else { file };
        let mut new = self.clone();
        new.uid.effective = file.set_uid.unwrap_or(self.uid.effective);
        new.gid.effective = file.set_gid.unwrap_or(self.gid.effective);
        let mut effective = false;
        new.permitted = Capabilities::NONE;
        if let Some(of_file) = &file.capabilities {
            new.permitted = self.bounding.and(of_file.permitted).with(self.inheritable.and(of_file.inheritable));
            effective = of_file.effective;
            if effective && !of_file.permitted.is_in(new.permitted) {
                return Err(Errno::PERM);
            }
        }
        let suid_root = new.uid.real != 0 && new.uid.effective == 0;
        let of_file_alone = file.capabilities.is_some() && suid_root;
        if !self.is_secure(secure::NO_ROOT) && !of_file_alone {
            if new.uid.effective == 0 || new.uid.real == 0 {
                new.permitted = self.bounding.with(self.inheritable);
            }
            effective |= new.uid.effective == 0;
        }
        let set_id = new.uid.effective != self.uid.real || new.gid.effective != self.gid.real;
        if self.no_new_privs && (set_id || !new.permitted.is_in(self.permitted.with(self.ambient))) {
            (new.uid.effective, new.gid.effective) = (new.uid.real, new.gid.real);
            new.permitted = new.permitted.and(self.permitted);
        }
        (new.uid.saved, new.uid.fs) = (new.uid.effective, new.uid.effective);
        (new.gid.saved, new.gid.fs) = (new.gid.effective, new.gid.effective);
        if file.capabilities.is_some() || set_id {
            new.ambient = Capabilities::NONE;
        }
        new.permitted = new.permitted.with(new.ambient);
        new.effective = if effective { new.permitted } else { new.ambient };
        new.secure_bits &= !secure::KEEP_CAPS;
        Ok(new)
    }

    /// Those that access(2) asks with: the real ids, and for root's what it may use.
    pub fn real(&self) -> Credentials {
        let mut real = self.clone();
        (real.uid.fs, real.gid.fs) = (self.uid.real, self.gid.real);
        if !self.is_secure(secure::NO_SETUID_FIXUP) {
            real.effective = if self.uid.real == 0 { self.permitted } else { Capabilities::NONE };
        }
        real
    }

    /// Whether it may send signals to a process with the credentials `target` (`kill_ok_by_cred`).
    pub fn may_signal(&self, target: &Credentials) -> bool {
        let mine = [self.uid.effective, self.uid.real];
        self.has(Capability::KILL) || mine.iter().any(|id| [target.uid.saved, target.uid.real].contains(id))
    }

    fn is_secure(&self, bit: u32) -> bool {
        self.secure_bits & bit != 0
    }

    /// Changes user ids, and with them the capabilities (`cap_emulate_setxuid`).
    fn change_uid(&mut self, change: impl FnOnce(&mut Ids) -> Result<(), Errno>) -> Result<(), Errno> {
        let old = self.uid;
        change(&mut self.uid)?;
        if self.is_secure(secure::NO_SETUID_FIXUP) {
            return Ok(());
        }
        let any_root = |ids: &Ids| [ids.real, ids.effective, ids.saved].contains(&0);
        if any_root(&old) && !any_root(&self.uid) {
            if !self.is_secure(secure::KEEP_CAPS) {
                (self.permitted, self.effective) = (Capabilities::NONE, Capabilities::NONE);
            }
            self.ambient = Capabilities::NONE;
        }
        match (old.effective == 0, self.uid.effective == 0) {
            (true, false) => self.effective = Capabilities::NONE,
            (false, true) => self.effective = self.permitted,
            _ => {}
        }
        Ok(())
    }
}

/// As the kernel keeps them (`groups_sort`).
fn sorted(groups: &[u32]) -> Arc<[u32]> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups.into()
}

#[cfg(test)]
mod tests;
