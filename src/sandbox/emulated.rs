//! The emulated tier: a command of an ordinary user in a directory of its own, without chroot, namespaces and mounts.
//!
//! Nothing gives the command another root, so it has the real one, and the supervisor stands between: it makes every call
//! about a path itself, in the tree (`openat2` with `RESOLVE_IN_ROOT`), and gives the result, a descriptor too, in place
//! of the kernel's. Whose files are whose is recorded, as with one id. What only the command's own thread can do
//! (changing its directory, running a program) that thread is made to do by ptrace, with descriptors or paths that the
//! supervisor found (`supervisor::restart`, `supervisor::load`).
//!
//! The other design, a tracer that stops each such call (`SECCOMP_RET_TRACE`) and writes another path into the command's
//! memory, was left aside: the answer to a call by the listener is made in one round and by any thread, where a tracer
//! needs two stops for a result that must be changed (every `stat`, for owners), and is one thread for all; it cannot
//! give a descriptor of a file that it opened, so that /proc, terminals and access checks would need a second design; and all of
//! the supervisor of the chroot tier serves here as it is.

use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::error::{During, Failure, Step};
use super::supervisor::filter;
use super::wire::Control;
use crate::sys::{self, Fork, Traced};

/// In the process that a build lives in: checks that this tier can work, and keeps commands from looking into it.
pub(super) fn prepare_build() -> Result<(), Failure> {
    try_supervision()?;
    give_up_rights()?;
    sys::forbid_inspection().during(Step::Start)
}

/// Drops what rights this process has: commands reach the machine's own files, and root they are in name only.
pub(super) fn give_up_rights() -> Result<(), Failure> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).during(Step::Capabilities)
}

/// What the child of the trial says: nothing, or an error number.
#[derive(Debug, Serialize, Deserialize)]
struct Tried(Option<i32>);

/// Installs a filter in a process of its own, which is gone afterwards, and traces that.
fn try_supervision() -> Result<(), Failure> {
    let (ours, theirs) = Control::pair().during(Step::Fork)?;
    match sys::fork().during(Step::Fork)? {
        Fork::Child => {
            drop(ours);
            let theirs = Control::of(theirs);
            let done = rustix::thread::set_no_new_privs(true).map_err(Into::into);
            let done = done.and_then(|()| sys::install_filter(&filter::device_nodes(false)));
            let errno = done.err().map(|error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO));
            let _ = theirs.send(&Tried(errno), &[]); // then the parent finds nobody
            let _ = theirs.receive::<()>(); // until the parent has tried
            sys::exit_now(0)
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let answer = ours.receive::<Tried>().during(Step::Supervise)?;
            let traced = Traced::seize(pid.as_raw_nonzero().get(), false, false).and_then(|traced| {
                traced.interrupt()?;
                traced.wait().map(drop)
            });
            let _ = ours.send(&(), &[]); // the child ends in any case, for this end is closed next
            drop(ours);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).during(Step::Wait)?;
            match answer {
                Some((Tried(None), _)) => traced.during(Step::Trace),
                Some((Tried(Some(errno)), _)) => Err(Failure::Step { step: Step::Supervise, path: None, errno }),
                None => Err(Failure::Step { step: Step::Supervise, path: None, errno: libc::EIO }),
            }
        }
    }
}
