use super::super::capability::{FileCapabilities, decode, encode};
use super::*;
use rustix::thread::CapabilitySet;

fn docker() -> Capabilities {
    let set = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETPCAP | CapabilitySet::CHOWN;
    set.into()
}

fn root() -> Credentials {
    Credentials::new(0, 0, &[0], docker())
}

fn app() -> Credentials {
    Credentials::new(1000, 1001, &[50, 4], docker())
}

fn ids(real: u32, effective: u32, saved: u32, fs: u32) -> Ids {
    Ids { real, effective, saved, fs }
}

const NO: u32 = u32::MAX;

#[test]
fn user_ids() {
    type Change = fn(&mut Credentials) -> Result<(), Errno>;
    // A set-user-ID program of the user 5 that the user 7 has started.
    let started = || {
        let mut made = Credentials::new(7, 7, &[], docker());
        made.uid = ids(7, 5, 5, 5);
        made
    };
    let table: [(&str, Credentials, Change, Result<Ids, Errno>); 20] = [
        ("setuid of root", root(), |c| c.set_uid(5), Ok(Ids::all(5))),
        ("setuid -1", root(), |c| c.set_uid(NO), Err(Errno::INVAL)),
        ("setuid of another", app(), |c| c.set_uid(0), Err(Errno::PERM)),
        ("setuid of itself", app(), |c| c.set_uid(1000), Ok(Ids::all(1000))),
        ("setuid to real", started(), |c| c.set_uid(7), Ok(ids(7, 7, 5, 7))),
        ("setreuid of root", root(), |c| c.set_reuid(5, 6), Ok(ids(5, 6, 6, 6))),
        ("setreuid, only real", root(), |c| c.set_reuid(5, NO), Ok(ids(5, 0, 0, 0))),
        ("setreuid, only effective", root(), |c| c.set_reuid(NO, 6), Ok(ids(0, 6, 6, 6))),
        ("setreuid, nothing", started(), |c| c.set_reuid(NO, NO), Ok(ids(7, 5, 5, 5))),
        ("setreuid, swapped", started(), |c| c.set_reuid(5, 7), Ok(ids(5, 7, 7, 7))),
        ("setreuid, back to real", started(), |c| c.set_reuid(NO, 7), Ok(ids(7, 7, 5, 7))),
        ("setreuid, real to saved", started(), |c| c.set_reuid(6, NO), Err(Errno::PERM)),
        ("setreuid, effective to other", started(), |c| c.set_reuid(NO, 6), Err(Errno::PERM)),
        ("setresuid of root", root(), |c| c.set_resuid([1, 2, 3]), Ok(ids(1, 2, 3, 2))),
        ("setresuid, some", root(), |c| c.set_resuid([NO, 2, NO]), Ok(ids(0, 2, 0, 2))),
        ("setresuid, swapped", started(), |c| c.set_resuid([5, 7, 7]), Ok(ids(5, 7, 7, 7))),
        ("setresuid, other", started(), |c| c.set_resuid([5, 7, 6]), Err(Errno::PERM)),
        ("setfsuid of root", root(), |c| (c.set_fsuid(9) == 0).then_some(()).ok_or(Errno::IO), Ok(ids(0, 0, 0, 9))),
        ("setfsuid of another", app(), |c| (c.set_fsuid(0) == 1000).then_some(()).ok_or(Errno::IO), Ok(Ids::all(1000))),
        ("setfsuid to real", started(), |c| (c.set_fsuid(7) == 5).then_some(()).ok_or(Errno::IO), Ok(ids(7, 5, 5, 7))),
    ];
    for (name, mut credentials, change, expected) in table {
        let before = credentials.clone();
        let result = change(&mut credentials);
        assert_eq!(result.map(|()| credentials.uid), expected, "{name}");
        if expected.is_err() {
            assert_eq!(credentials, before, "{name}");
        }
    }
}

#[test]
fn group_ids() {
    let mut app = app();
    assert_eq!(app.set_gid(0), Err(Errno::PERM));
    assert_eq!(app.set_regid(1001, 4), Err(Errno::PERM));
    assert_eq!(app.set_resgid([1001, 1001, 4]), Err(Errno::PERM));
    assert_eq!(app.set_groups(&[]), Err(Errno::PERM));
    assert_eq!(app.set_fsgid(50), 1001);
    assert_eq!(app.gid, Ids::all(1001));
    let mut root = root();
    assert_eq!(root.set_groups(&[9, 3, 9]), Ok(()));
    assert_eq!(*root.groups, [3, 9, 9]);
    assert_eq!(root.set_groups(&[1, NO]), Err(Errno::INVAL));
    assert_eq!(root.may_set_groups(MAX_GROUPS + 1), Err(Errno::INVAL));
    assert_eq!(root.set_resgid([1, 2, 3]), Ok(()));
    assert_eq!(root.gid, ids(1, 2, 3, 2));
    assert_eq!(root.set_fsgid(9), 2);
    assert!(root.in_group(9) && root.in_group(3) && !root.in_group(2));
    // The group does not touch capabilities.
    assert_eq!(root.effective, docker());
}

#[test]
fn capabilities_follow_user_ids() {
    let mut left = root();
    left.set_resuid([5, 5, 5]).unwrap();
    assert_eq!((left.effective, left.permitted), (Capabilities::NONE, Capabilities::NONE));
    let mut back = root();
    back.set_resuid([0, 5, 0]).unwrap();
    assert_eq!((back.effective, back.permitted), (Capabilities::NONE, docker()));
    back.set_resuid([NO, 0, NO]).unwrap();
    assert_eq!(back.effective, docker());
    let mut kept = root();
    kept.keep_capabilities(1).unwrap();
    kept.set_uid(5).unwrap();
    assert_eq!((kept.effective, kept.permitted), (Capabilities::NONE, docker()));
    assert_eq!(kept.set_capabilities(docker(), docker(), Capabilities::NONE), Ok(()));
    assert_eq!((kept.keep_capabilities(2), kept.keeps_capabilities()), (Err(Errno::INVAL), true));
    let mut files = root();
    files.set_fsuid(5);
    assert_eq!(files.effective, docker().without(Capability::CHOWN.into()));
    files.set_fsuid(0);
    assert_eq!(files.effective, docker());
}

#[test]
fn capability_sets() {
    let (chown, setuid) = (Capability::CHOWN.into(), Capability::SETUID.into());
    let none = Capabilities::NONE;
    let mut user = app();
    assert_eq!(user.set_capabilities(none, none, none), Ok(()));
    assert_eq!(user.set_capabilities(chown, none, none), Err(Errno::PERM));
    assert_eq!(user.set_capabilities(none, none, chown), Err(Errno::PERM));
    let mut less = root();
    assert_eq!(less.set_capabilities(setuid, chown, none), Err(Errno::PERM));
    assert_eq!(less.set_capabilities(chown, chown, setuid), Ok(()));
    assert_eq!(less.raise_ambient(Capability::CHOWN), Err(Errno::PERM));
    assert_eq!(less.drop_bounding(Capability::CHOWN), Err(Errno::PERM));
    let mut ambient = root();
    ambient.set_capabilities(docker(), docker(), chown).unwrap();
    assert_eq!(ambient.raise_ambient(Capability::CHOWN), Ok(()));
    assert_eq!(ambient.drop_bounding(Capability::SETUID), Ok(()));
    assert!(!ambient.bounding.contains(Capability::SETUID));
    ambient.keep_capabilities(1).unwrap();
    let mut stays = ambient.clone();
    stays.set_secure_bits(u64::from(secure::NO_SETUID_FIXUP)).unwrap();
    stays.set_uid(5).unwrap();
    let exec = stays.after_exec(&Privilege::default()).unwrap();
    assert_eq!((exec.effective, exec.permitted, exec.ambient), (chown, chown, chown));
    ambient.lower_ambient(Capability::CHOWN);
    assert_eq!(ambient.ambient, none);
}

#[test]
fn secure_bits() {
    let mut root = root();
    assert_eq!(root.set_secure_bits(0x100), Err(Errno::PERM));
    assert_eq!(root.set_secure_bits(u64::from(secure::KEEP_CAPS_LOCKED)), Ok(()));
    assert_eq!(root.keep_capabilities(1), Err(Errno::PERM));
    assert_eq!(root.set_secure_bits(u64::from(secure::KEEP_CAPS | secure::KEEP_CAPS_LOCKED)), Err(Errno::PERM));
    assert_eq!(root.set_secure_bits(0), Err(Errno::PERM));
    assert_eq!(app().set_secure_bits(0), Err(Errno::PERM));
}

#[test]
fn exec() {
    let none = Capabilities::NONE;
    let sudo = Privilege { set_uid: Some(0), ..Privilege::default() };
    let user = app().after_exec(&sudo).unwrap();
    assert_eq!((user.uid, user.gid), (ids(1000, 0, 0, 0), Ids::all(1001)));
    assert_eq!((user.effective, user.permitted), (docker(), docker()));
    let mail = Privilege { set_gid: Some(8), ..Privilege::default() };
    let user = app().after_exec(&mail).unwrap();
    assert_eq!((user.gid, user.effective), (ids(1001, 8, 8, 8), none));
    let of_file = |permitted, effective| {
        let file = FileCapabilities { permitted, inheritable: none, effective };
        Privilege { capabilities: Some(file), ..Privilege::default() }
    };
    let chown = Capabilities::from(Capability::CHOWN);
    let user = app().after_exec(&of_file(chown, true)).unwrap();
    assert_eq!((user.effective, user.permitted), (chown, chown));
    let user = app().after_exec(&of_file(chown, false)).unwrap();
    assert_eq!((user.effective, user.permitted), (none, chown));
    let kill = Capability::KILL.into();
    assert_eq!(app().after_exec(&of_file(kill, true)), Err(Errno::PERM));
    assert_eq!(app().after_exec(&of_file(kill, false)).unwrap().permitted, none);
    // Root stays root, however little it had in use.
    let mut less = root();
    less.set_capabilities(none, none, none).unwrap();
    assert_eq!(less.after_exec(&Privilege::default()).unwrap(), root());
    // A set-user-ID root file with capabilities gives these, not all.
    let both = Privilege { set_uid: Some(0), ..of_file(chown, true) };
    assert_eq!(app().after_exec(&both).unwrap().effective, chown);
    let mut bound = app();
    bound.no_new_privs = true;
    for file in [sudo, mail, of_file(chown, true)] {
        assert_eq!(bound.after_exec(&file), Ok(bound.clone()));
    }
    // The saved id follows the effective one.
    let mut half = root();
    half.set_resuid([0, 1000, 0]).unwrap();
    assert_eq!(half.after_exec(&Privilege::default()).unwrap().uid, ids(0, 1000, 1000, 1000));
}

#[test]
fn signals_and_real_ids() {
    let started = app().after_exec(&Privilege { set_uid: Some(0), ..Privilege::default() }).unwrap();
    let other = Credentials::new(7, 7, &[], docker());
    for (from, to, allowed) in [
        (app(), app(), true),
        (app(), root(), false),
        (app(), started.clone(), true),
        (other.clone(), app(), false),
        (other, started.clone(), false),
    ] {
        assert_eq!(from.may_signal(&to), allowed, "{:?} to {:?}", from.uid, to.uid);
    }
    let real = started.real();
    assert_eq!((real.uid.fs, real.effective), (1000, Capabilities::NONE));
    assert_eq!(root().real(), root());
}

/// One thing that a process does to its credentials.
#[derive(Debug, Clone, Copy)]
enum Op {
    SetUid(u32),
    SetResUid([u32; 3]),
    SetGid(u32),
    SetResGid([u32; 3]),
    SetGroups(u32, u32),
    CapSet(u64, u64, u64),
    KeepCaps(bool),
    SecureBits(u32),
    DropBounding(u8),
    Ambient(u8, bool),
}

impl Op {
    fn random(next: &mut impl FnMut() -> u64) -> Op {
        fn id(next: &mut impl FnMut() -> u64) -> u32 {
            [0, 0, 1, 2, 1000, NO][next() as usize % 6]
        }
        fn three(next: &mut impl FnMut() -> u64) -> [u32; 3] {
            [id(next), id(next), id(next)]
        }
        let number = |value: u64| (value % 12) as u8;
        match next() % 14 {
            0 => Op::SetUid(id(next)),
            1..=3 => Op::SetResUid(three(next)),
            4 => Op::SetGid(id(next)),
            5 => Op::SetResGid(three(next)),
            6 => Op::SetGroups(id(next), id(next)),
            7 | 8 => Op::CapSet(next() | next(), next() | next() | next(), next() & next()),
            9 => Op::KeepCaps(next() & 1 == 0),
            10 => Op::SecureBits((next() & next() & next() & 0xff) as u32),
            11 => Op::DropBounding(number(next())),
            _ => Op::Ambient(number(next()), !next().is_multiple_of(3)),
        }
    }

    fn emulated(self, credentials: &mut Credentials) -> Result<(), Errno> {
        let set = |bits: u64| decode(&encode([CapabilitySet::from_bits_retain(bits).into(); 3], 2))[0];
        let numbered = |number: u8| Capability::from_number(number.into()).unwrap();
        match self {
            Op::SetUid(id) => credentials.set_uid(id),
            Op::SetResUid(ids) => credentials.set_resuid(ids),
            Op::SetGid(id) => credentials.set_gid(id),
            Op::SetResGid(ids) => credentials.set_resgid(ids),
            Op::SetGroups(a, b) => credentials.set_groups(&[a, b]),
            Op::CapSet(e, p, i) => credentials.set_capabilities(set(e), set(p), set(i)),
            Op::KeepCaps(keep) => credentials.keep_capabilities(keep.into()),
            Op::SecureBits(bits) => credentials.set_secure_bits(bits.into()),
            Op::DropBounding(number) => credentials.drop_bounding(numbered(number)),
            Op::Ambient(number, true) => credentials.raise_ambient(numbered(number)),
            Op::Ambient(number, false) => {
                credentials.lower_ambient(numbered(number));
                Ok(())
            }
        }
    }

    /// The same on this thread. rustix makes the bare system calls, which change the calling thread only.
    fn real(self) -> Result<(), Errno> {
        use rustix::thread::*;
        let (uid, gid) = (Uid::from_raw_unchecked, Gid::from_raw_unchecked);
        let one = |number: u8| CapabilitySet::from_bits_retain(1 << number);
        match self {
            Op::SetUid(id) => set_thread_uid(uid(id)),
            Op::SetResUid([r, e, s]) => set_thread_res_uid(uid(r), uid(e), uid(s)),
            Op::SetGid(id) => set_thread_gid(gid(id)),
            Op::SetResGid([r, e, s]) => set_thread_res_gid(gid(r), gid(e), gid(s)),
            Op::SetGroups(a, b) => set_thread_groups(&[gid(a), gid(b)]),
            Op::CapSet(e, p, i) => {
                let [effective, permitted, inheritable] = [e, p, i].map(CapabilitySet::from_bits_retain);
                set_capabilities(None, CapabilitySets { effective, permitted, inheritable })
            }
            Op::KeepCaps(keep) => set_keep_capabilities(keep),
            Op::SecureBits(bits) => set_capabilities_secure_bits(CapabilitiesSecureBits::from_bits_retain(bits)),
            Op::DropBounding(number) => remove_capability_from_bounding_set(one(number)),
            Op::Ambient(number, raise) => configure_capability_in_ambient_set(one(number), raise),
        }
    }
}

/// What `/proc` says of this thread's credentials, in the lines that the emulation replaces.
fn lines(text: &[u8]) -> Vec<String> {
    let names = ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let text = String::from_utf8_lossy(text);
    text.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).map(str::to_string).collect()
}

/// Random changes, done by the kernel to a thread and by the emulation: both must tell the same at each step.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn does_as_the_kernel_does() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "needs root, and CI must not skip it");
        eprintln!("SKIPPED: comparing credentials with the kernel's needs root");
        return;
    }
    for seed in 1..=200u64 {
        let compared = std::thread::spawn(move || {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33 | (state >> 20) << 31
            };
            let own = rustix::thread::capabilities(None).unwrap();
            rustix::thread::set_thread_groups(&[]).unwrap();
            let mut emulated = Credentials::new(0, 0, &[], own.permitted.into());
            emulated.inheritable = own.inheritable.into();
            for _ in 0..40 {
                let op = Op::random(&mut next);
                let before = emulated.clone();
                assert_eq!(op.emulated(&mut emulated), op.real(), "seed {seed}: {op:?} of {before:?}");
                let text = fs_err::read("/proc/thread-self/status").unwrap();
                let told = super::super::status::with_credentials(&text, &emulated);
                assert_eq!(lines(&told), lines(&text), "seed {seed}: {op:?} of {before:?}");
            }
        });
        compared.join().unwrap();
    }
}
