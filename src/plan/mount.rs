//! `RUN --mount=`.

use super::model::TreeSource;

/// One `--mount=` of a RUN, expanded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute and clean; `None` for a secret that is given as a variable alone and for an ssh socket without a target.
    pub target: Option<String>,
    /// What is mounted there.
    pub kind: MountKind,
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
        /// What the cache starts with, and the path below it; `None` for an empty directory.
        seed: Option<(TreeSource, String)>,
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

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Anybody.
    Shared,
    /// One at a time; the next one gets a cache of its own.
    Private,
    /// One at a time; the next one waits.
    Locked,
}
