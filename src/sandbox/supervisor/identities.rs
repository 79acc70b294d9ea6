//! Calls about the caller's ids, groups and capabilities, answered from what the supervisor keeps of it.

use rustix::io::Errno;

use super::call::{Address, IdentityCall};
use super::capability::{self, Capabilities, Capability};
use super::credentials::{Credentials, Ids, MAX_GROUPS};
use super::process::Table;
use super::{Answer, Caller};

/// What becomes of `call`.
pub(super) fn answer(call: IdentityCall, caller: &Caller<'_>, table: &Table) -> Result<Answer, Errno> {
    let id = |id: u32| Ok(Answer::Value(i64::from(id)));
    let own = || caller.process.credentials();
    match call {
        IdentityCall::GetUid => id(own().uid.real),
        IdentityCall::GetEuid => id(own().uid.effective),
        IdentityCall::GetGid => id(own().gid.real),
        IdentityCall::GetEgid => id(own().gid.effective),
        IdentityCall::GetResUid { real, effective, saved } => give_three(caller, &own().uid, [real, effective, saved]),
        IdentityCall::GetResGid { real, effective, saved } => give_three(caller, &own().gid, [real, effective, saved]),
        IdentityCall::GetGroups { size, list } => give_groups(caller, &own(), size, list),
        IdentityCall::SetGroups { size, list } => set_groups(caller, table, size, list),
        IdentityCall::SetFsUid(uid) => change(caller, table, |own| Ok(own.set_fsuid(uid).into())),
        IdentityCall::SetFsGid(gid) => change(caller, table, |own| Ok(own.set_fsgid(gid).into())),
        IdentityCall::SetUid(uid) => change(caller, table, |own| own.set_uid(uid).map(|()| 0)),
        IdentityCall::SetGid(gid) => change(caller, table, |own| own.set_gid(gid).map(|()| 0)),
        IdentityCall::SetReUid { real, effective } => {
            change(caller, table, |own| own.set_reuid(real, effective).map(|()| 0))
        }
        IdentityCall::SetReGid { real, effective } => {
            change(caller, table, |own| own.set_regid(real, effective).map(|()| 0))
        }
        IdentityCall::SetResUid { real, effective, saved } => {
            change(caller, table, |own| own.set_resuid([real, effective, saved]).map(|()| 0))
        }
        IdentityCall::SetResGid { real, effective, saved } => {
            change(caller, table, |own| own.set_resgid([real, effective, saved]).map(|()| 0))
        }
        IdentityCall::CapGet { header, data } => get_capabilities(caller, table, header, data),
        IdentityCall::CapSet { header, data } => set_capabilities(caller, table, header, data),
        IdentityCall::Prctl { option, arguments } => prctl(caller, table, option, arguments),
    }
}

/// Changes the caller's credentials. Children that have made no call yet have those from before, so they are looked up first.
fn change(
    caller: &Caller<'_>,
    table: &Table,
    change: impl FnOnce(&mut Credentials) -> Result<i64, Errno>,
) -> Result<Answer, Errno> {
    let mut new = caller.process.credentials();
    let value = change(&mut new)?;
    table.set_credentials(&caller.process, new);
    Ok(Answer::Value(value))
}

fn give_three(caller: &Caller<'_>, ids: &Ids, to: [Address; 3]) -> Result<Answer, Errno> {
    for (address, id) in to.into_iter().zip([ids.real, ids.effective, ids.saved]) {
        caller.write(address, &id.to_ne_bytes())?;
    }
    Ok(Answer::Value(0))
}

fn give_groups(caller: &Caller<'_>, own: &Credentials, size: i32, list: Address) -> Result<Answer, Errno> {
    let count = own.groups.len();
    if size < 0 || (size > 0 && (size as usize) < count) {
        return Err(Errno::INVAL);
    }
    if size > 0 {
        let bytes: Vec<u8> = own.groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
        caller.write(list, &bytes)?;
    }
    Ok(Answer::Value(count as i64))
}

fn set_groups(caller: &Caller<'_>, table: &Table, size: i32, list: Address) -> Result<Answer, Errno> {
    let count = usize::try_from(size).unwrap_or(MAX_GROUPS + 1); // negative is as wrong as too many
    caller.process.credentials().may_set_groups(count)?;
    let mut bytes = vec![0; 4 * count];
    caller.read(list, &mut bytes)?;
    let groups: Vec<u32> = words(&bytes).collect();
    change(caller, table, |own| own.set_groups(&groups).map(|()| 0))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

/// What the header of capget(2) and capset(2) says: words of each set, and whose they are.
fn read_header(caller: &Caller<'_>, header: Address) -> Result<Option<(usize, i32)>, Errno> {
    let mut bytes = [0; 8];
    caller.read(header, &mut bytes)?;
    let mut fields = words(&bytes);
    let (version, pid) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default() as i32);
    match capability::words_of_version(version) {
        Some(words) => Ok(Some((words, pid))),
        None => {
            caller.write(header, &capability::PREFERRED_VERSION.to_ne_bytes())?;
            Ok(None)
        }
    }
}

fn get_capabilities(caller: &Caller<'_>, table: &Table, header: Address, data: Address) -> Result<Answer, Errno> {
    let Some((words, pid)) = read_header(caller, header)? else {
        // Without data this only asks for the version.
        return if data == 0 { Ok(Answer::Value(0)) } else { Err(Errno::INVAL) };
    };
    let of = match pid {
        ..0 => return Err(Errno::INVAL),
        0 => caller.process.credentials(),
        pid if pid == caller.thread => caller.process.credentials(),
        pid => table.process_of(pid)?.credentials(),
    };
    if data != 0 {
        caller.write(data, &capability::encode([of.effective, of.permitted, of.inheritable], words))?;
    }
    Ok(Answer::Value(0))
}

fn set_capabilities(caller: &Caller<'_>, table: &Table, header: Address, data: Address) -> Result<Answer, Errno> {
    let (words, pid) = read_header(caller, header)?.ok_or(Errno::INVAL)?;
    if pid != 0 && pid != caller.thread {
        return Err(Errno::PERM);
    }
    let mut bytes = vec![0; 12 * words];
    caller.read(data, &mut bytes)?;
    let [effective, permitted, inheritable] = capability::decode(&bytes);
    change(caller, table, |own| own.set_capabilities(effective, permitted, inheritable).map(|()| 0))
}

fn prctl(caller: &Caller<'_>, table: &Table, option: i32, arguments: [u64; 4]) -> Result<Answer, Errno> {
    let own = || caller.process.credentials();
    let told = |value: bool| Ok(Answer::Value(value.into()));
    let [first, second, rest @ ..] = arguments;
    let capability = |number: u64| Capability::from_number(number).ok_or(Errno::INVAL);
    match option {
        // Processes stay dumpable: one that is not could not be supervised.
        libc::PR_GET_DUMPABLE => told(true),
        libc::PR_SET_DUMPABLE if first <= 1 => told(false),
        libc::PR_GET_KEEPCAPS => told(own().keeps_capabilities()),
        libc::PR_SET_KEEPCAPS => change(caller, table, |own| own.keep_capabilities(first).map(|()| 0)),
        libc::PR_CAPBSET_READ => told(own().bounding.contains(capability(first)?)),
        libc::PR_CAPBSET_DROP => change(caller, table, |own| {
            own.drop_bounding(Capability::from_number(first).ok_or(Errno::INVAL)?).map(|()| 0)
        }),
        libc::PR_GET_SECUREBITS => Ok(Answer::Value(own().secure_bits.into())),
        libc::PR_SET_SECUREBITS => change(caller, table, |own| own.set_secure_bits(first).map(|()| 0)),
        libc::PR_GET_NO_NEW_PRIVS if arguments == [0; 4] => told(own().no_new_privs),
        libc::PR_SET_NO_NEW_PRIVS if arguments == [1, 0, 0, 0] => change(caller, table, |own| {
            own.no_new_privs = true;
            Ok(0)
        }),
        libc::PR_CAP_AMBIENT if rest == [0; 2] => ambient(caller, table, first as i32, second),
        _ => Err(Errno::INVAL),
    }
}

fn ambient(caller: &Caller<'_>, table: &Table, what: i32, number: u64) -> Result<Answer, Errno> {
    if what == libc::PR_CAP_AMBIENT_CLEAR_ALL {
        if number != 0 {
            return Err(Errno::INVAL);
        }
        return change(caller, table, |own| {
            own.ambient = Capabilities::NONE;
            Ok(0)
        });
    }
    let capability = Capability::from_number(number).ok_or(Errno::INVAL)?;
    match what {
        libc::PR_CAP_AMBIENT_IS_SET => {
            Ok(Answer::Value(caller.process.credentials().ambient.contains(capability).into()))
        }
        libc::PR_CAP_AMBIENT_RAISE => change(caller, table, |own| own.raise_ambient(capability).map(|()| 0)),
        libc::PR_CAP_AMBIENT_LOWER => change(caller, table, |own| {
            own.lower_ambient(capability);
            Ok(0)
        }),
        _ => Err(Errno::INVAL),
    }
}
