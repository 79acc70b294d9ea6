//! `RUN --mount=` with its defaults filled in and its tree found.

use super::error::PlanErrorKind;
use super::model::TreeSource;
use super::text::absolute;
use crate::dockerfile::mount::{self, Sharing};

/// One `--mount=` of a RUN, expanded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute and clean; `None` for a secret that is given as a variable alone and for an ssh socket without a target.
    pub target: Option<String>,
    /// What is mounted there.
    pub kind: MountKind,
}

impl Mount {
    /// The tree that it reads.
    pub fn tree(&self) -> Option<&TreeSource> {
        match &self.kind {
            MountKind::Bind { from, .. } => Some(from),
            MountKind::Cache { seed, .. } => seed.as_ref(),
            MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
        }
    }
}

/// What a mount gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// `type=bind`: files of another tree.
    Bind {
        /// The tree.
        from: TreeSource,
        /// Path below the tree's root, absolute and clean.
        source: String,
        /// Whether writes are allowed; they are thrown away.
        writable: bool,
    },
    /// `type=cache`: a directory that outlives the build.
    Cache {
        /// `id=`, or the cleaned target.
        id: String,
        /// `sharing=`
        sharing: Sharing,
        /// The tree that the cache starts with; `None` for an empty directory.
        seed: Option<TreeSource>,
        /// `source=`, absolute and clean: path below the seed, or below the cache where it has none.
        source: String,
        /// Owner of the directory when it is made.
        uid: u32,
        /// Group of the directory when it is made.
        gid: u32,
        /// Mode of the directory when it is made.
        mode: u32,
        /// `ro`
        read_only: bool,
    },
    /// `type=tmpfs`
    Tmpfs {
        /// `size=` in bytes; `None` for no limit.
        size: Option<u64>,
    },
    /// `type=secret`
    Secret {
        /// Which secret.
        id: String,
        /// Variable that holds it.
        env: Option<String>,
        /// Fails where the secret was not given.
        required: bool,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
        /// Mode of the file.
        mode: u32,
    },
    /// `type=ssh`; without a target the agent's socket goes to `/run/buildkit/ssh_agent.N`.
    Ssh {
        /// Which agent; `default` where none is named.
        id: String,
        /// Fails where no agent was forwarded.
        required: bool,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
        /// Mode of the socket.
        mode: u32,
    },
}

/// Fills in the defaults; `from` is what `from=` leads to, `cwd` the working directory, `namespace` goes before a cache's
/// id.
pub(super) fn resolve(
    mount: mount::Mount,
    from: Option<TreeSource>,
    cwd: &str,
    namespace: Option<&str>,
) -> Result<Mount, PlanErrorKind> {
    let written = mount.target.clone().unwrap_or_default();
    let forwarded = matches!(mount.kind, mount::MountKind::Secret | mount::MountKind::Ssh);
    // What is forwarded starts at the root, measured.
    let target = absolute(if forwarded { "/" } else { cwd }, &written);
    if (written.is_empty() && !forwarded) || (target == "/" && !written.is_empty()) {
        return Err(PlanErrorKind::MountTarget(written));
    }
    let target = Some(target).filter(|_| !written.is_empty());
    let source = absolute("/", mount.source.as_deref().unwrap_or_default());
    let id = mount.id.clone().filter(|id| !id.is_empty());
    let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
    let kind = match mount.kind {
        mount::MountKind::Bind => {
            MountKind::Bind { from: from.unwrap_or(TreeSource::Context), source, writable: !mount.read_only }
        }
        mount::MountKind::Cache => {
            let id = id.unwrap_or_else(|| absolute("/", &written));
            MountKind::Cache {
                id: namespace.map(|ns| format!("{ns}/{id}")).unwrap_or(id),
                sharing: mount.sharing.unwrap_or(Sharing::Shared),
                seed: from,
                source,
                uid,
                gid,
                mode: mount.mode.unwrap_or(0o755),
                read_only: mount.read_only,
            }
        }
        mount::MountKind::Tmpfs => MountKind::Tmpfs { size: mount.size },
        mount::MountKind::Secret => return Ok(secret(mount, target)),
        mount::MountKind::Ssh => MountKind::Ssh {
            id: id.unwrap_or_else(|| "default".to_string()),
            required: mount.required,
            uid,
            gid,
            mode: mount.mode.unwrap_or(0o600),
        },
    };
    Ok(Mount { target, kind })
}

/// A secret's name is its id, else its source, else its target's last part.
fn secret(mount: mount::Mount, target: Option<String>) -> Mount {
    let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string();
    let given = [mount.id, mount.source].into_iter().flatten().find(|name| !name.is_empty());
    let id = given.unwrap_or_else(|| base(target.as_deref().unwrap_or_default()));
    let env = mount.env.map(|name| if name.is_empty() { id.clone() } else { name });
    let target = target.or_else(|| env.is_none().then(|| format!("/run/secrets/{}", base(&id))));
    let (uid, gid, mode) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0), mount.mode.unwrap_or(0o400));
    Mount { target, kind: MountKind::Secret { id, env, required: mount.required, uid, gid, mode } }
}
