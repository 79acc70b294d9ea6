//! What would make a tier work that does not, in the words of whoever can change it.

use rustix::io::Errno;

use super::Tier;
use super::error::{Attempt, AttemptFailure, Failure, Step, Way};

/// What would make `tier` work, as `attempts` failed: any one of these. Nothing where the tier was not tried.
pub fn remedies(tier: Tier, attempts: &[Attempt]) -> Vec<String> {
    let own: Vec<&Attempt> = attempts.iter().filter(|attempt| tier_of(attempt.how) == tier).collect();
    let texts: Vec<&str> = match tier {
        Tier::Namespaces => own.iter().flat_map(|attempt| for_namespaces(&attempt.why)).copied().collect(),
        Tier::Chroot => own.iter().flat_map(|attempt| for_chroot(&attempt.why)).copied().collect(),
        Tier::Emulated => own.iter().flat_map(|attempt| for_emulated(&attempt.why)).copied().collect(),
    };
    let mut unique: Vec<String> = Vec::new();
    for text in texts {
        if !unique.iter().any(|known| known == text) {
            unique.push(text.to_string());
        }
    }
    unique
}

fn tier_of(way: Way) -> Tier {
    match way {
        Way::Namespaces(_) => Tier::Namespaces,
        Way::Chroot => Tier::Chroot,
        Way::Emulated => Tier::Emulated,
    }
}

fn for_namespaces(why: &AttemptFailure) -> &'static [&'static str] {
    // Ranges only make the ids more; what forbids namespaces is told by the ways that come to it.
    let AttemptFailure::Setup(Failure::Step { step, errno, .. }) = why else { return &[] };
    match (step, Errno::from_raw_os_error(*errno)) {
        (_, Errno::NOSPC) => &["kernel: raise the setting user.max_user_namespaces, which is 0 or used up"],
        (Step::Unshare(_), Errno::NOSYS | Errno::INVAL) => {
            &["kernel: one with user namespaces (CONFIG_USER_NS); gVisor and some sandboxes have none"]
        }
        (Step::Unshare(_), _) => SECCOMP,
        // A namespace that nothing can be mounted in.
        _ => APPARMOR,
    }
}

const SECCOMP: &[&str] = &[
    "Docker: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
    "Kubernetes: securityContext.seccompProfile.type: Unconfined, and where the node has AppArmor \
     securityContext.appArmorProfile.type: Unconfined",
    "GitLab Runner, Docker executor: security_opt = [\"seccomp=unconfined\", \"apparmor=unconfined\"] in [runners.docker]",
    "GitLab Runner, Kubernetes executor: the same securityContext for the container \"build\", by a patch in \
     [[runners.kubernetes.pod_spec]]",
    "outside of containers: sysctl kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0, \
     whichever the kernel has; in a chroot there are no user namespaces",
];

const APPARMOR: &[&str] = &[
    "Docker: docker run --security-opt apparmor=unconfined",
    "Kubernetes: securityContext.appArmorProfile.type: Unconfined (before 1.30 the annotation \
     container.apparmor.security.beta.kubernetes.io/CONTAINER: unconfined)",
    "GitLab Runner, Docker executor: security_opt = [\"apparmor=unconfined\"] in [runners.docker]",
    "outside of containers: sysctl kernel.apparmor_restrict_unprivileged_userns=0",
];

fn for_chroot(why: &AttemptFailure) -> &'static [&'static str] {
    if *why == AttemptFailure::OneId {
        return &["start it outside of this user namespace, or in one with a range of ids"];
    }
    let AttemptFailure::Setup(Failure::Step { step, errno, .. }) = why else { return ROOT };
    if *step == Step::Supervise { for_supervision(Errno::from_raw_os_error(*errno)) } else { ROOT }
}

fn for_supervision(errno: Errno) -> &'static [&'static str] {
    match errno {
        Errno::NOSYS | Errno::INVAL => &["kernel: Linux 5.9 or newer, with seccomp user notification; gVisor has none"],
        _ => &["container runtime: a seccomp profile that allows seccomp(2), as the default profiles do"],
    }
}

fn for_emulated(why: &AttemptFailure) -> &'static [&'static str] {
    let AttemptFailure::Setup(Failure::Step { step, errno, .. }) = why else { return &[] };
    match step {
        Step::Supervise => for_supervision(Errno::from_raw_os_error(*errno)),
        Step::Trace => &[
            "kernel: sysctl kernel.yama.ptrace_scope=2 or less (3 forbids every trace)",
            "container runtime: a seccomp profile that allows ptrace(2), as the default profiles do since Linux 4.8",
        ],
        _ => &[],
    }
}

const ROOT: &[&str] = &[
    "Docker: docker run --user 0, with the default capabilities (no --cap-drop); no privilege is needed",
    "Kubernetes: securityContext.runAsUser: 0, without dropping CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETGID, SETUID, \
     SETFCAP, SYS_CHROOT",
    "GitLab CI: an image whose user is root, or in the job image: {name: IMAGE, docker: {user: root}} or \
     image: {name: IMAGE, kubernetes: {user: 0}}",
];

#[cfg(test)]
mod tests {
    use super::super::error::Namespaces;
    use super::super::idmap::IdMapKind;
    use super::*;

    fn failed(how: Way, step: Step, errno: Errno) -> Attempt {
        let why = AttemptFailure::Setup(Failure::Step { step, path: None, errno: errno.raw_os_error() });
        Attempt { how, why }
    }

    #[test]
    fn names_what_would_help() {
        let one = Way::Namespaces(IdMapKind::OneId);
        let unshare = Step::Unshare(Namespaces::User);
        for (step, errno, expected) in [
            (unshare, Errno::PERM, "seccomp=unconfined"),
            (unshare, Errno::NOSPC, "user.max_user_namespaces"),
            (unshare, Errno::NOSYS, "CONFIG_USER_NS"),
            (Step::MakePrivate, Errno::ACCESS, "apparmor=unconfined"),
            (Step::MountTmpfs, Errno::PERM, "apparmor=unconfined"),
        ] {
            let attempts = [failed(one, step, errno), failed(Way::Chroot, Step::Chroot, Errno::PERM)];
            let text = remedies(Tier::Namespaces, &attempts).join("\n");
            assert!(text.contains(expected), "{step}, {errno}: {text}");
            assert!(remedies(Tier::Chroot, &attempts).join("\n").contains("runAsUser: 0"));
        }
        let ranges = Attempt { how: Way::Namespaces(IdMapKind::Ranges), why: AttemptFailure::NotPrivileged };
        assert!(remedies(Tier::Namespaces, &[ranges]).is_empty());
        assert!(remedies(Tier::Chroot, &[failed(one, unshare, Errno::PERM)]).is_empty());
    }
}
