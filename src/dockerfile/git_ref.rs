//! Git repositories as ADD and build contexts name them: a URL, `user@host:path` or `github.com/…`, with a query
//! (`?ref=`, `tag=`, `branch=`, `commit=`, `subdir=`, …) and a fragment (`#ref:subdir`).

use super::value::boolean;

/// What `mtime=` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mtime {
    /// The time of the checkout.
    Checkout,
    /// The time of the commit.
    Commit,
}

impl Mtime {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Mtime::Checkout => "checkout",
            Mtime::Commit => "commit",
        }
    }
}

/// A repository and what of it is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitRef {
    /// Where the repository is, without query and fragment. May hold a password: do not print it.
    pub remote: String,
    /// Last part of the path, without `.git`.
    pub short_name: String,
    /// Branch, tag or commit; tags and branches that were asked for as such begin with `refs/`.
    pub reference: Option<String>,
    /// The commit that `reference` must be.
    pub checksum: Option<String>,
    /// Directory in the repository.
    pub subdir: Option<String>,
    /// Written as `github.com/…`, which could be a path as well: accepted for build contexts only.
    pub indistinguishable_from_local: bool,
    /// `http://` and `git://`
    pub unencrypted: bool,
    /// `keep-git-dir=`
    pub keep_git_dir: Option<bool>,
    /// `submodules=`
    pub submodules: Option<bool>,
    /// `fetch-by-commit=`: fetch the commit itself instead of `reference`.
    pub fetch_by_commit: bool,
    /// `mtime=`
    pub mtime: Option<Mtime>,
}

/// Why a text names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitRefError {
    /// No protocol that says so: some path or name.
    #[error("unknown protocol")]
    UnknownProtocol,
    /// A protocol that git builds do not use.
    #[error("{0}: invalid protocol")]
    InvalidProtocol(String),
    /// A relative path, or a URL that does not end in `.git`: something else than a repository.
    #[error("invalid argument: not a git repository")]
    NotGit,
    /// A query key that does not exist.
    #[error("unexpected query {0:?}")]
    Key(String),
    /// A query key without a value.
    #[error("query {0:?} has no value")]
    NoValue(String),
    /// A query key that is given twice.
    #[error("query {0:?} has multiple values")]
    ManyValues(String),
    /// A value that does not fit its key.
    #[error("invalid {key} value: {value:?}{}", if key == "mtime" { " (must be \"checkout\" or \"commit\")" } else { "" })]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Two different wishes.
    #[error("{what} conflicts: {first:?} vs {second:?}")]
    Conflict {
        /// `ref` or `subdir`.
        what: &'static str,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Both a branch and a tag.
    #[error("branch conflicts with tag")]
    BranchAndTag,
}

impl GitRefError {
    /// Whether the text does name a repository, but wrongly; otherwise it is something else.
    pub fn is_git(&self) -> bool {
        !matches!(self, GitRefError::UnknownProtocol | GitRefError::InvalidProtocol(_) | GitRefError::NotGit)
    }
}

/// Reads the name of a repository.
///
/// # Errors
/// [`GitRefError`]; [`GitRefError::is_git`] tells a wrong repository from something else.
pub fn parse(text: &str) -> Result<GitRef, GitRefError> {
    if text.starts_with("./") || text.starts_with("../") {
        return Err(GitRefError::NotGit);
    }
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (remote, query) = before.split_once('?').unwrap_or((before, ""));
    let mut found = GitRef { remote: remote.to_string(), ..GitRef::default() };
    if remote.starts_with("github.com/") {
        found.indistinguishable_from_local = true;
    } else if let Some((scheme, rest)) = scheme(remote) {
        let lower = scheme.to_lowercase();
        if !matches!(lower.as_str(), "http" | "https" | "ssh" | "git") {
            return Err(GitRefError::InvalidProtocol(lower));
        }
        found.unencrypted = matches!(lower.as_str(), "http" | "git");
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        if lower.starts_with("http") && !path.ends_with(".git") {
            return Err(GitRefError::NotGit);
        }
        found.remote = format!("{lower}://{rest}");
    } else if !is_scp(remote) {
        return Err(GitRefError::UnknownProtocol);
    }
    let last = found.remote.rsplit('/').next().unwrap_or_default();
    found.short_name = last.strip_suffix(".git").unwrap_or(last).to_string();
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    found.reference = Some(reference.to_string()).filter(|text| !text.is_empty());
    found.subdir = Some(subdir.to_string()).filter(|text| !text.is_empty());
    found.read_query(query)?;
    Ok(found)
}

/// `scheme://rest`
fn scheme(remote: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = remote.split_once("://")?;
    (!scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric())).then_some((scheme, rest))
}

/// `user@host:path`
fn is_scp(remote: &str) -> bool {
    let Some((user, rest)) = remote.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    word(user, "-_") && word(host, "-.")
}

impl GitRef {
    fn read_query(&mut self, query: &str) -> Result<(), GitRefError> {
        let (mut tag, mut branch) = (None, None);
        let mut seen: Vec<String> = Vec::new();
        for field in query.split('&').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let (key, value) = (percent_decode(key), percent_decode(value));
            if seen.contains(&key) {
                return Err(GitRefError::ManyValues(key));
            }
            seen.push(key.clone());
            let switch = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !switch {
                return Err(GitRefError::NoValue(key));
            }
            match key.as_str() {
                "ref" => agree("ref", &mut self.reference, value)?,
                "subdir" => agree("subdir", &mut self.subdir, value)?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "checksum" | "commit" => self.checksum = Some(value),
                "keep-git-dir" => self.keep_git_dir = Some(truth(&key, &value)?),
                "submodules" => self.submodules = Some(truth(&key, &value)?),
                "fetch-by-commit" => self.fetch_by_commit = truth(&key, &value)?,
                "mtime" => {
                    self.mtime = Some(match value.as_str() {
                        "checkout" => Mtime::Checkout,
                        "commit" => Mtime::Commit,
                        _ => return Err(GitRefError::Value { key, value }),
                    });
                }
                _ => return Err(GitRefError::Key(key)),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err(GitRefError::BranchAndTag);
        }
        for (name, prefix) in [(tag, "refs/tags/"), (branch, "refs/heads/")] {
            if let Some(name) = name {
                let full = if name.starts_with(prefix) { name } else { format!("{prefix}{name}") };
                agree("ref", &mut self.reference, full)?;
            }
        }
        Ok(())
    }
}

/// Sets what is not set yet to something else.
fn agree(what: &'static str, slot: &mut Option<String>, value: String) -> Result<(), GitRefError> {
    match slot {
        Some(first) if *first != value => Err(GitRefError::Conflict { what, first: first.clone(), second: value }),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// A switch; on where it has no value.
fn truth(key: &str, value: &str) -> Result<bool, GitRefError> {
    let text = if value.is_empty() { "true" } else { value };
    boolean(text).ok_or_else(|| GitRefError::Value { key: key.to_string(), value: value.to_string() })
}

/// `%2F` and `+`, as queries have them; what is no escape stays.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let hex = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
        let decoded = after.first().and_then(hex).zip(after.get(1).and_then(hex)).map(|(high, low)| high << 4 | low);
        match (byte, decoded) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
