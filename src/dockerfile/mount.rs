//! `RUN --mount=` and `--device=`: comma-separated `key=value` fields, keys in any case.
//!
//! Values are expanded field by field, after the fields were split, so that no value can bring a field with it. What
//! the fields mean together with the stage (defaults of targets and ids, where `from` leads) is for the plan to say.

use super::expand::ExpandError;
use super::suggest;
use super::value::{boolean, csv, number};

/// What a mount gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// Files of a stage, an image or the context.
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret as a file or a variable.
    Secret,
    /// An SSH agent's socket.
    Ssh,
}

impl MountKind {
    const NAMES: [(&'static str, MountKind); 5] = [
        ("bind", MountKind::Bind),
        ("cache", MountKind::Cache),
        ("secret", MountKind::Secret),
        ("ssh", MountKind::Ssh),
        ("tmpfs", MountKind::Tmpfs),
    ];

    /// The word after `type=`.
    pub fn name(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Cache => "cache",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Secret => "secret",
            MountKind::Ssh => "ssh",
        }
    }
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// Another user gets a cache of their own.
    Private,
    /// Another user waits.
    Locked,
}

/// One `--mount=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `type=`; bind where it is not given.
    pub kind: MountKind,
    /// `from=`
    pub from: Option<String>,
    /// `source=`, `src=`
    pub source: Option<String>,
    /// `target=`, `dst=`, `destination=`
    pub target: Option<String>,
    /// `id=`
    pub id: Option<String>,
    /// `ro`, `readonly`, `rw`, `readwrite`; by default everything but caches and tmpfs is read-only.
    pub read_only: bool,
    /// `required`, of secrets and ssh.
    pub required: bool,
    /// `sharing=`, of caches.
    pub sharing: Option<Sharing>,
    /// `size=` in bytes, of tmpfs.
    pub size: Option<u64>,
    /// `uid=`, of caches, secrets and ssh.
    pub uid: Option<u32>,
    /// `gid=`, as `uid=`.
    pub gid: Option<u32>,
    /// `mode=`, octal, as `uid=`.
    pub mode: Option<u32>,
    /// `env=`, of secrets: the variable to put it into.
    pub env: Option<String>,
}

/// A mount or device that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not comma-separated fields: quotes do not match, or there is nothing.
    #[error("failed to parse csv fields of {0:?}")]
    Csv(String),
    /// A field without `=` that needs a value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A key that does not exist.
    #[error("unexpected key '{key}' in '{field}'{}", did_you_mean(near))]
    Key {
        /// The key.
        key: String,
        /// The field.
        field: String,
        /// The nearest key.
        near: Option<String>,
    },
    /// A key that exists for other types.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyForType {
        /// The key.
        key: String,
        /// The type, as far as it was given before the key.
        kind: &'static str,
    },
    /// A value that does not fit its key.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A type that does not exist.
    #[error("unsupported mount type {value:?}{}", did_you_mean(near))]
    Kind {
        /// The type.
        value: String,
        /// The nearest type.
        near: Option<String>,
    },
    /// A sharing mode that does not exist.
    #[error("unsupported sharing value {value:?}{}", did_you_mean(near))]
    Sharing {
        /// The mode.
        value: String,
        /// The nearest mode.
        near: Option<String>,
    },
    /// A key whose values go together with other types only.
    #[error("{key} not allowed for \"{kind}\" type mounts")]
    NotAllowed {
        /// The key.
        key: &'static str,
        /// The type.
        kind: &'static str,
    },
    /// A secret with `from=` or `sharing=`.
    #[error("secret mount should not have a {0}")]
    SecretKey(&'static str),
    /// A secret without id, source and target.
    #[error("invalid secret mount. one of source, target required")]
    SecretName,
    /// A secret with both.
    #[error("both source and id can't be set")]
    SourceAndId,
    /// A variable in `from=`.
    #[error("'from' doesn't support variable expansion, define alias stage instead (FROM … AS name)")]
    VariableInFrom,
    /// A value that cannot be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
}

fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
}

/// What can be known of a mount while its values are not expanded yet: that it has fields, and no variable in `from`.
pub(super) fn check_before_expansion(value: &str) -> Result<(), MountError> {
    let fields = csv(value).ok_or_else(|| MountError::Csv(value.to_string()))?;
    let variable = |field: &String| {
        let from = field.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("from"));
        from.and_then(|(_, value)| value.split_once('$')).is_some_and(|(_, name)| !name.is_empty())
    };
    if fields.iter().any(variable) { Err(MountError::VariableInFrom) } else { Ok(()) }
}

/// What `from=` names; it cannot hold a variable, so that it is known before any value is.
///
/// # Errors
/// [`MountError`]: no fields, or a variable in `from`.
pub fn from_name(value: &str) -> Result<Option<String>, MountError> {
    check_before_expansion(value)?;
    let fields = csv(value).unwrap_or_default();
    let from =
        fields.iter().filter_map(|field| field.split_once('=')).rfind(|(key, _)| key.eq_ignore_ascii_case("from"));
    Ok(from.map(|(_, name)| name.to_string()).filter(|name| !name.is_empty()))
}

impl Mount {
    /// Reads the value of a `--mount=`; `expand` is given the value of every field.
    ///
    /// # Errors
    /// [`MountError`]; a key that belongs to a type must stand behind `type=`.
    pub fn parse(value: &str, mut expand: impl FnMut(&str) -> Result<String, ExpandError>) -> Result<Self, MountError> {
        check_before_expansion(value)?;
        let mut mount = Mount {
            kind: MountKind::Bind,
            from: None,
            source: None,
            target: None,
            id: None,
            read_only: false,
            required: false,
            sharing: None,
            size: None,
            uid: None,
            gid: None,
            mode: None,
            env: None,
        };
        let mut read_only = None;
        for field in csv(value).unwrap_or_default() {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), expand(value)?),
                None => {
                    let key = field.to_lowercase();
                    if !matches!(key.as_str(), "ro" | "readonly" | "rw" | "readwrite" | "required") {
                        return Err(MountError::NoValue(field));
                    }
                    (key, "true".to_string())
                }
            };
            match key.as_str() {
                "ro" | "readonly" => read_only = Some(truth(&key, &value)?),
                "rw" | "readwrite" => read_only = Some(!truth(&key, &value)?),
                _ => mount.set(&key, value, &field)?,
            }
        }
        let writable = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
        mount.read_only = read_only.unwrap_or(!writable);
        mount.check()?;
        Ok(mount)
    }

    fn set(&mut self, key: &str, value: String, field: &str) -> Result<(), MountError> {
        let secret = matches!(self.kind, MountKind::Secret | MountKind::Ssh);
        let other_type = || MountError::KeyForType { key: key.to_string(), kind: self.kind.name() };
        match key {
            "type" => self.kind = kind(&value)?,
            "from" => self.from = Some(value),
            "source" | "src" => self.source = Some(value),
            "target" | "dst" | "destination" => self.target = Some(value),
            "id" => self.id = Some(value),
            "required" if secret => self.required = truth(key, &value)?,
            "size" if self.kind == MountKind::Tmpfs => self.size = Some(size(&value)?),
            "env" if self.kind == MountKind::Secret => self.env = Some(value),
            "required" | "size" | "env" => return Err(other_type()),
            "sharing" => self.sharing = Some(sharing(&value)?),
            "mode" => self.mode = Some(number(&value, 8).ok_or_else(|| bad(key, &value))?),
            "uid" => self.uid = Some(number(&value, 10).ok_or_else(|| bad(key, &value))?),
            "gid" => self.gid = Some(number(&value, 10).ok_or_else(|| bad(key, &value))?),
            _ => {
                const KEYS: [&str; 19] = [
                    "type",
                    "from",
                    "source",
                    "target",
                    "readonly",
                    "id",
                    "sharing",
                    "required",
                    "size",
                    "mode",
                    "uid",
                    "gid",
                    "src",
                    "dst",
                    "destination",
                    "ro",
                    "rw",
                    "readwrite",
                    "env",
                ];
                let near = suggest::nearest(key, KEYS).map(str::to_string);
                return Err(MountError::Key { key: key.to_string(), field: field.to_string(), near });
            }
        }
        Ok(())
    }

    /// What the fields may not be together.
    fn check(&self) -> Result<(), MountError> {
        let kind = self.kind.name();
        if matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            let owner = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
            if let Some((key, _)) = owner.into_iter().find(|(_, value)| value.is_some()) {
                return Err(MountError::NotAllowed { key, kind });
            }
        }
        if self.kind == MountKind::Secret {
            let given = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
            if given(&self.from) {
                return Err(MountError::SecretKey("from"));
            }
            if self.sharing.is_some() {
                return Err(MountError::SecretKey("sharing"));
            }
            if !given(&self.source) && !given(&self.target) && !given(&self.id) {
                return Err(MountError::SecretName);
            }
            if given(&self.source) && given(&self.id) {
                return Err(MountError::SourceAndId);
            }
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(MountError::NotAllowed { key: "sharing", kind });
        }
        Ok(())
    }
}

fn bad(key: &str, value: &str) -> MountError {
    MountError::Value { key: key.to_string(), value: value.to_string() }
}

fn truth(key: &str, value: &str) -> Result<bool, MountError> {
    boolean(value).ok_or_else(|| bad(key, value))
}

fn kind(value: &str) -> Result<MountKind, MountError> {
    let lower = value.to_lowercase();
    MountKind::NAMES.iter().find(|(name, _)| *name == lower).map(|(_, kind)| *kind).ok_or_else(|| {
        let near = suggest::nearest(value, MountKind::NAMES.iter().map(|(name, _)| *name)).map(str::to_string);
        MountError::Kind { value: value.to_string(), near }
    })
}

fn sharing(value: &str) -> Result<Sharing, MountError> {
    match value.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => {
            let near = suggest::nearest(value, ["locked", "private", "shared"]).map(str::to_string);
            Err(MountError::Sharing { value: value.to_string(), near })
        }
    }
}

/// A number with an optional fraction, then `b`, or one of `k m g t p` in any case with an optional `b` or `ib`.
/// Units are powers of 1024.
fn size(value: &str) -> Result<u64, MountError> {
    let invalid = || bad("size", value);
    let end = value.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)? + 1;
    let (amount, suffix) = value.split_at(end);
    let amount: f64 = amount.strip_suffix(' ').unwrap_or(amount).parse().map_err(|_| invalid())?;
    let suffix = suffix.to_lowercase();
    let unit = suffix.strip_suffix("ib").filter(|unit| !unit.is_empty());
    let unit = unit.or_else(|| suffix.strip_suffix('b')).unwrap_or(&suffix);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid()),
    };
    let bytes = amount * 1024f64.powi(power);
    if !bytes.is_finite() || bytes < 0.0 || bytes >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(bytes as u64)
}

/// One `--device=`: a CDI name, or fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `vendor/class` or `vendor/class=name`.
    pub name: String,
    /// Fails where there is no such device.
    pub required: bool,
}

impl Device {
    /// Reads the value of a `--device=`.
    ///
    /// # Errors
    /// [`MountError`], as for mounts.
    pub fn parse(value: &str) -> Result<Self, MountError> {
        let fields = csv(value).ok_or_else(|| MountError::Csv(value.to_string()))?;
        let mut device = Device { name: String::new(), required: false };
        for field in &fields {
            let (key, given) = field.split_once('=').map_or((field.as_str(), None), |(key, v)| (key, Some(v)));
            let lower = key.to_lowercase();
            match (lower.as_str(), given) {
                ("name", Some(name)) => device.name = name.to_string(),
                ("required", given) => device.required = truth(&lower, given.unwrap_or("true"))?,
                // A qualified name has a slash in front of its own equals sign.
                _ if key.contains('/') && fields[0] == *field => device.name = field.clone(),
                (_, None) => return Err(MountError::NoValue(field.clone())),
                (_, Some(_)) => {
                    let near = suggest::nearest(&lower, ["name", "required"]).map(str::to_string);
                    return Err(MountError::Key { key: lower, field: field.clone(), near });
                }
            }
        }
        Ok(device)
    }
}
