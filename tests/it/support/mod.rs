//! What the tests share: registries, bases, temporary stores.

pub mod bases;
pub mod faulty;
pub mod registry;
pub mod server;
pub mod standin;
pub mod throttle;
pub mod token;
pub mod web;

/// Makes a test of each of these functions for each tier in which the supervisor stands between.
macro_rules! in_each_tier {
    ($($name:ident),* $(,)?) => {
        mod chroot {
            $(#[test] fn $name() { super::$name(dockless::sandbox::Tier::Chroot); })*
        }
        mod emulated {
            $(#[test] fn $name() { super::$name(dockless::sandbox::Tier::Emulated); })*
        }
    };
}

/// Runs `spec`, whose root is a directory in one of its own, in `tier`. The emulated one is an ordinary user's: that owns
/// the directory then, and the program is started as that user, in a role too.
pub fn trial_of(tier: dockless::sandbox::Tier, spec: dockless::sandbox::RunSpec) -> dockless::sandbox::TrialResult {
    use dockless::sandbox::{Root, Tier, trial_in};
    let exe = env!("CARGO_BIN_EXE_dockless");
    let Root::Dir(root) = &spec.root else { panic!("{spec:?}") };
    let own = root.parent().unwrap().to_path_buf();
    if tier != Tier::Emulated {
        return trial_in(std::path::Path::new(exe), &[spec], tier.alone()).unwrap().remove(0);
    }
    let give = std::process::Command::new("chown").args(["-RhP", "61234:61234"]).arg(&own).status().unwrap();
    assert!(give.success());
    let script = own.join("dockless-as-user");
    let become_user = "exec /usr/bin/setpriv --reuid 61234 --regid 61234 --clear-groups";
    let text = format!("#!/bin/sh\n[ $(/usr/bin/id -u) != 0 ] || {become_user} {exe} \"$@\"\nexec {exe} \"$@\"\n");
    // By another process: one that a test forks meanwhile would hold the script open for writing (ETXTBSY).
    let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let written = std::process::Command::new("/bin/sh").args(["-c", write]).arg(&script).arg(text).status().unwrap();
    assert!(written.success());
    let result = trial_in(&script, &[spec], tier.alone()).unwrap().remove(0);
    fs_err::remove_file(&script).unwrap(); // nothing but the tree's own is to be found there
    result
}
