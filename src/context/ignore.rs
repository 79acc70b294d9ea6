//! Which paths of a context an ignore file leaves out; the patterns of `--exclude` and `--parents` too.
//!
//! The semantics are those of moby's patternmatcher: the last pattern that matches wins, `!` takes back in, a pattern that
//! matches a directory matches all below it, `*` and `?` stop at `/`, `**` does not, everything is anchored at the root.

use super::pattern::{Matcher, PatternError};
use fs_err as fs;
use std::io;
use std::path::{Path, PathBuf};

/// An ignore file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// A pattern is malformed.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A `!` without a pattern behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneBang,
    /// An ignore file holds a malformed pattern.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The ignore file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<IgnoreError>,
    },
    /// An ignore file cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// One pattern of a list.
#[derive(Debug, Clone)]
struct Pattern {
    text: Vec<u8>,
    /// Whether it takes paths back in (`!`).
    exception: bool,
    matcher: Matcher,
}

/// A list of patterns, compiled.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    /// All exceptions start with a literal directory, so an excluded directory that none of them names can be skipped.
    literal_exceptions: bool,
}

/// What a list says about one path, kept to judge what is below it.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Whether the list matches the path: for an ignore file, whether it is left out.
    pub matched: bool,
    by_pattern: Box<[bool]>,
}

impl Patterns {
    /// Compiles a list; blank patterns count for nothing.
    pub fn new(patterns: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Patterns, IgnoreError> {
        let mut out = Vec::new();
        for pattern in patterns {
            let trimmed = trim(pattern.as_ref());
            if trimmed.is_empty() {
                continue;
            }
            let text = clean(trimmed);
            let exception = text.starts_with(b"!");
            let bare = text.strip_prefix(b"!").unwrap_or(&text);
            if bare.is_empty() {
                return Err(IgnoreError::LoneBang);
            }
            out.push(Pattern { matcher: Matcher::read(bare)?, text: bare.to_vec(), exception });
        }
        let literal =
            |p: &Pattern| !p.exception || !without_trailing_glob(&p.text).iter().any(|b| b"*[]?^".contains(b));
        let literal_exceptions = out.iter().all(literal);
        Ok(Patterns { patterns: out, literal_exceptions })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Judges `path`, given the verdict on the directory that holds it (`None` for the root's own entries).
    ///
    /// As in patternmatcher's walk, a pattern that could not change the verdict is not looked at, and then does not
    /// count for what is below either.
    pub fn judge(&self, path: &[u8], parent: Option<&Verdict>) -> Verdict {
        let mut by_pattern = Vec::with_capacity(self.patterns.len());
        let matched = self.decide(path, parent, |hit| by_pattern.push(hit));
        Verdict { matched, by_pattern: by_pattern.into() }
    }

    /// What [`Patterns::judge`] says of `path` itself, where nothing is below it.
    pub fn is_match(&self, path: &[u8], parent: Option<&Verdict>) -> bool {
        self.decide(path, parent, |_| {})
    }

    fn decide(&self, path: &[u8], parent: Option<&Verdict>, mut tell: impl FnMut(bool)) -> bool {
        let mut matched = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.is_some_and(|parent| parent.by_pattern[index]);
            let hit = inherited || (pattern.exception == matched && pattern.matcher.matches(path));
            if hit {
                matched = !pattern.exception;
            }
            tell(hit);
        }
        matched
    }

    /// Judges a path and all directories above it.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.judge_all(path).matched
    }

    /// Whether the list matches a path and has no exception that might take back something below it.
    pub fn matches_for_good(&self, path: &[u8]) -> bool {
        !self.patterns.iter().any(|pattern| pattern.exception) && self.matches(path)
    }

    fn judge_all(&self, path: &[u8]) -> Verdict {
        let above = path.iter().rposition(|b| *b == b'/').map(|at| clean(&path[..=at])).filter(|dir| dir != b".");
        let above = above.and_then(|dir| {
            // A leading slash makes the empty path a parent, as it does for Go.
            let ends = dir.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([dir.len()]);
            ends.fold(None, |verdict, end| Some(self.judge(&dir[..end], verdict.as_ref())))
        });
        self.judge(path, above.as_ref())
    }

    /// The pattern that has the last word about `path`, in the words of the list; `None` where nothing matches it.
    pub fn decisive(&self, path: &[u8]) -> Option<String> {
        let verdict = self.judge_all(path);
        let index = verdict.by_pattern.iter().rposition(|hit| *hit)?;
        let pattern = &self.patterns[index];
        Some(format!("{}{}", if pattern.exception { "!" } else { "" }, String::from_utf8_lossy(&pattern.text)))
    }

    /// Whether something below the excluded directory `path` may be taken back in.
    pub fn may_hold_exception(&self, path: &[u8]) -> bool {
        let exceptions = || self.patterns.iter().filter(|p| p.exception);
        if !self.literal_exceptions {
            return exceptions().next().is_some();
        }
        exceptions().any(|pattern| {
            let text = without_trailing_glob(&pattern.text);
            text.starts_with(path) && (text.len() == path.len() || text[path.len()] == b'/')
        })
    }
}

fn without_trailing_glob(pattern: &[u8]) -> &[u8] {
    let pattern = pattern.strip_suffix(b"/**").unwrap_or(pattern);
    pattern.strip_suffix(b"/*").unwrap_or(pattern)
}

/// Reads the text of an ignore file into patterns, as they stand after cleaning; `Patterns::new` compiles them.
pub fn parse_file(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let patterns = lines.filter(|line| !line.starts_with(b"#")).map(trim).filter(|line| !line.is_empty());
    patterns
        .map(|line| {
            let (mark, rest): (&[u8], _) = match line.strip_prefix(b"!") {
                Some(rest) => (b"!", trim(rest)),
                None => (b"", line),
            };
            if rest.is_empty() {
                return mark.to_vec();
            }
            let cleaned = clean(rest);
            let relative = cleaned.strip_prefix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
            [mark, relative].concat()
        })
        .collect()
}

/// White space off both ends; Unicode's where the text is Unicode.
fn trim(text: &[u8]) -> &[u8] {
    std::str::from_utf8(text).map_or(text.trim_ascii(), |text| text.trim().as_bytes())
}

/// The shortest equal path, as Go's `filepath.Clean` writes it: no `.`, no `//`, no `x/..`; `.` for nothing.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// An ignore file that was read.
#[derive(Debug, Clone)]
pub struct IgnoreFile {
    /// Where it stands.
    pub path: PathBuf,
    /// Its patterns.
    pub patterns: Patterns,
}

impl IgnoreFile {
    /// Finds and reads the ignore file of the context directory `context`: `DOCKERFILE.dockerignore` beside the Dockerfile
    /// wins over `.dockerignore` in the context's root, as `docker build` has it; where neither is there, Buildah's
    /// `.containerignore` counts.
    pub fn find(context: &Path, dockerfile: Option<&Path>) -> Result<Option<IgnoreFile>, IgnoreError> {
        let beside = dockerfile.map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".dockerignore");
            PathBuf::from(name)
        });
        let in_root = [".dockerignore", ".containerignore"].map(|name| context.join(name));
        for path in beside.into_iter().chain(in_root) {
            match fs::read(&path) {
                Ok(text) => {
                    let patterns = Patterns::new(parse_file(&text))
                        .map_err(|source| IgnoreError::File { path: path.clone(), source: Box::new(source) })?;
                    return Ok(Some(IgnoreFile { path, patterns }));
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_pattern_decided() {
        let patterns = Patterns::new(["*.log", "!keep.log", "dir"]).unwrap();
        assert_eq!(patterns.decisive(b"a.log").as_deref(), Some("*.log"));
        assert_eq!(patterns.decisive(b"keep.log").as_deref(), Some("!keep.log"));
        assert_eq!(patterns.decisive(b"dir/x/y").as_deref(), Some("dir"));
        assert_eq!(patterns.decisive(b"other"), None);
    }

    #[test]
    fn skips_directories_that_no_exception_names() {
        let literal = Patterns::new(["*", "!a/b/*"]).unwrap();
        assert!(literal.may_hold_exception(b"a"));
        assert!(literal.may_hold_exception(b"a/b"));
        assert!(!literal.may_hold_exception(b"ab"));
        assert!(Patterns::new(["*", "!**/x"]).unwrap().may_hold_exception(b"anything"));
        assert!(!Patterns::new(["*"]).unwrap().may_hold_exception(b"a"));
    }

    #[test]
    fn finds_the_nearest_ignore_file() {
        let dir = tempfile::tempdir().unwrap();
        let find = |dockerfile: Option<&Path>| {
            IgnoreFile::find(dir.path(), dockerfile).unwrap().map(|f| f.path.file_name().unwrap().to_owned())
        };
        assert_eq!(find(None), None);
        for name in [".containerignore", ".dockerignore", "D.dockerignore"] {
            std::fs::write(dir.path().join(name), "x\n").unwrap();
            assert_eq!(find(Some(&dir.path().join("D"))).unwrap(), name);
        }
        assert_eq!(find(Some(&dir.path().join("Other"))).unwrap(), ".dockerignore");
        std::fs::write(dir.path().join(".dockerignore"), "[\n").unwrap();
        let error = IgnoreFile::find(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains(".dockerignore: syntax error in pattern '['"), "{error}");
    }
}
