//! Tests of the context and of COPY and ADD, against what `docker build` was recorded to do.

use dockless::build::copy::{Change, Changes, CopyError, CopyRequest, Heredoc, copy, selection_digest};
use dockless::context::ignore::{IgnoreFile, Patterns, parse_file};
use dockless::context::{ContextDir, EmptyTree, SourceTree};
use dockless::oci::layer::{Kind, Metadata};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Time of what a step makes; no recorded file has it.
const NOW: i64 = 4_000_000_000;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/conformance/dockerfile")
}

fn cases(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(data().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
}

#[test]
fn ignore_files_read_as_recorded() {
    for case in cases("ignore_file.jsonl") {
        let found = parse_file(case["input"]["content"].as_str().unwrap().as_bytes());
        let found: Vec<String> = found.into_iter().map(|p| String::from_utf8(p).unwrap()).collect();
        assert_eq!(found, texts(&case["expect"]["patterns"]), "{case}");
    }
}

#[test]
fn ignore_patterns_match_as_recorded() {
    let mut wrong = Vec::new();
    let all = cases("ignore_match.jsonl");
    for case in &all {
        let path = case["input"]["path"].as_str().unwrap();
        let found = Patterns::new(texts(&case["input"]["patterns"])).map(|p| p.matches(path.as_bytes()));
        let same = match (&found, case["expect"]["excluded"].as_bool()) {
            (Ok(found), Some(expected)) => *found == expected,
            (Err(_), None) => true,
            _ => false,
        };
        if !same {
            wrong.push(format!("{found:?}: {case}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

/// A tree in memory: what the layers of a stage add up to.
#[derive(Debug, Default, Clone)]
struct MemTree {
    files: BTreeMap<Vec<u8>, (Metadata, Vec<u8>)>,
    /// Second names, and the first name of the same file.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemTree {
    fn get(&self, path: &[u8]) -> Option<&(Metadata, Vec<u8>)> {
        self.files.get(self.links.get(path).map_or(path, |to| to))
    }

    fn remove(&mut self, path: &[u8]) {
        let below = |other: &[u8]| other == path || other.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"));
        self.files.retain(|other, _| !below(other));
        self.links.retain(|other, _| !below(other));
    }

    fn dir(mtime: i64) -> Metadata {
        Metadata { kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }
}

impl SourceTree for MemTree {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        if path.is_empty() {
            return Ok(Some(MemTree::dir(0)));
        }
        Ok(self.get(path).map(|(meta, _)| meta.clone()))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let names = self.files.keys().chain(self.links.keys()).filter_map(|p| p.strip_prefix(&prefix[..]));
        let names: BTreeSet<&[u8]> = names.filter(|rest| !rest.contains(&b'/')).collect();
        Ok(names.into_iter().map(<[u8]>::to_vec).collect())
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        let (_, bytes) = self.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        let first = self.links.get(path).map_or(path, |to| &to[..]);
        let shared = self.links.values().any(|to| to == first);
        let index = self.files.keys().position(|p| p == first).unwrap_or_default();
        Ok(shared.then_some((0, index as u64)))
    }
}

/// Does one step, applies it to `dest` and gives the layer's paths.
fn step(request: &CopyRequest<'_>, source: &dyn SourceTree, dest: &mut MemTree) -> Result<Vec<String>, CopyError> {
    let spool = tempfile::tempdir().unwrap();
    let changes = copy(request, source, dest, spool.path())?;
    let mut next = dest.clone();
    let mut paths = Vec::new();
    for (path, change) in changes.iter() {
        let shown = String::from_utf8_lossy(path);
        match change {
            Change::Entry { meta, data } => {
                let merged = meta.is_dir() && next.get(path).is_some_and(|(meta, _)| meta.is_dir());
                if !merged {
                    next.remove(path);
                }
                let mut bytes = Vec::new();
                changes.open(data, source, dest).unwrap().read_to_end(&mut bytes).unwrap();
                if let Kind::File { size } = meta.kind {
                    assert_eq!(size, bytes.len() as u64);
                }
                next.files.insert(path.to_vec(), (meta.clone(), bytes));
            }
            Change::Hardlink { to } => {
                assert!(to[..] < *path && next.files.contains_key(to), "a link comes after what it names");
                next.remove(path);
                next.links.insert(path.to_vec(), to.clone());
            }
            Change::Whiteout => {
                next.remove(path);
                let (dir, name) = shown.rsplit_once('/').unwrap_or(("", &shown));
                paths.push(format!("/{dir}/.wh.{name}"));
                continue;
            }
            Change::Opaque => {
                paths.push(format!("/{shown}/.wh..wh..opq"));
                continue;
            }
        }
        paths.push(format!("/{shown}"));
    }
    *dest = next;
    Ok(paths)
}

const PLAIN: CopyRequest<'static> = CopyRequest { created_mtime: NOW, ..CopyRequest::PLAIN };

fn lay_out(dir: &Path, files: &Value) {
    let files = files.as_array().unwrap();
    for file in files {
        let path = dir.join(file["path"].as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match file["type"].as_str().unwrap() {
            "dir" => fs::create_dir_all(&path).unwrap(),
            "symlink" => symlink(file["target"].as_str().unwrap(), &path).unwrap(),
            "hardlink" => fs::hard_link(dir.join(file["target"].as_str().unwrap()), &path).unwrap(),
            "file" => fs::write(&path, bytes_of(file)).unwrap(),
            other => panic!("a {other} in a context"),
        }
        if file["type"] != "symlink"
            && let Some(mode) = file["mode"].as_str()
        {
            let mode = u32::from_str_radix(mode, 8).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    set_times(dir, b"", files);
}

/// Times last and from the leaves up, as making files sets those of directories.
fn set_times(root: &Path, path: &[u8], files: &[Value]) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let full = if path.is_empty() { root.to_path_buf() } else { root.join(std::ffi::OsStr::from_bytes(path)) };
    if full.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(&full).unwrap() {
            let name = entry.unwrap().file_name().into_vec();
            let inner = if path.is_empty() { name } else { [path, b"/", &name].concat() };
            set_times(root, &inner, files);
        }
    }
    let own = files.iter().find(|file| file["path"].as_str().unwrap().as_bytes() == path);
    let time = Timespec { tv_sec: own.and_then(|f| f["mtime"].as_i64()).unwrap_or(1_600_000_000), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, &full, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn bytes_of(file: &Value) -> Vec<u8> {
    use base64::Engine;
    match file["content_b64"].as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        None => file["content"].as_str().unwrap().as_bytes().to_vec(),
    }
}

/// What a recorded build did, redone step by step.
struct Replay {
    context: ContextDir,
    stages: Vec<(String, MemTree)>,
    layers: Vec<Vec<String>>,
    workdir: String,
}

impl Replay {
    fn line(&mut self, line: &str) -> Result<(), CopyError> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap();
        match word.to_ascii_uppercase().as_str() {
            "FROM" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let parent = self.stages.iter().find(|(name, _)| name == words[0]).map(|(_, tree)| tree.clone());
                self.stages.push((words.get(2).unwrap_or(&"").to_lowercase(), parent.unwrap_or_default()));
                self.layers = Vec::new();
                self.workdir = "/".to_string();
            }
            "WORKDIR" => {
                self.workdir = rest.trim().to_string();
                let tree = &mut self.stages.last_mut().unwrap().1;
                assert!(self.workdir.starts_with('/') && !self.workdir[1..].contains('/'), "a plain working directory");
                tree.files.insert(self.workdir.as_bytes()[1..].to_vec(), (MemTree::dir(NOW), Vec::new()));
                self.layers.push(vec![self.workdir.clone()]);
            }
            "COPY" | "ADD" => self.copy(word.eq_ignore_ascii_case("ADD"), rest)?,
            other => panic!("{other} in a case that was picked for having none"),
        }
        Ok(())
    }

    fn copy(&mut self, is_add: bool, mut rest: &str) -> Result<(), CopyError> {
        let (mut request, mut exclude, mut from) = (CopyRequest { is_add, ..PLAIN }, Vec::new(), None);
        while let Some(flag) = rest.trim_start().strip_prefix("--") {
            let (flag, behind) = flag.split_once(' ').unwrap();
            rest = behind;
            let (name, value) = flag.split_once('=').unwrap_or((flag, "true"));
            let value = value.trim_matches(['\'', '"']);
            match name {
                "from" => from = Some(value.to_lowercase()),
                "chown" => request.chown = Some(value),
                "chmod" => request.chmod = Some(value),
                "link" => request.link = value == "true",
                "parents" => request.parents = value == "true",
                "unpack" => request.unpack = Some(value == "true"),
                "exclude" => exclude.push(value.to_string()),
                other => panic!("--{other} in a case that was picked for having none"),
            }
        }
        let mut words: Vec<String> = match serde_json::from_str(rest.trim()) {
            Ok(words) => words,
            Err(_) => rest.split_whitespace().map(str::to_string).collect(),
        };
        let dest = words.pop().unwrap();
        let workdir = self.workdir.clone();
        let request = CopyRequest { sources: &words, dest: &dest, workdir: &workdir, exclude: &exclude, ..request };
        let other = from.map(|from| match from.parse::<usize>() {
            Ok(index) => self.stages[index].1.clone(),
            Err(_) => self.stages.iter().find(|(name, _)| *name == from).unwrap().1.clone(),
        });
        let source: &dyn SourceTree = other.as_ref().map_or(&self.context, |tree| tree);
        let paths = step(&request, source, &mut self.stages.last_mut().unwrap().1)?;
        self.layers.push(paths);
        Ok(())
    }
}

fn replay(case: &Value) -> Result<Replay, CopyError> {
    let tree = |local: &str| &case["input"]["contexts"][case["input"]["locals"][local].as_str().unwrap()];
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path(), tree("context"));
    let dockerfiles = tempfile::tempdir().unwrap();
    lay_out(dockerfiles.path(), tree("dockerfile"));
    let dockerfile = dockerfiles.path().join(case["input"]["opts"]["filename"].as_str().unwrap_or("Dockerfile"));
    let ignore = IgnoreFile::find(dir.path(), Some(&dockerfile))?;
    let context = ContextDir::open(dir.path(), ignore)?;
    let mut replay = Replay { context, stages: Vec::new(), layers: Vec::new(), workdir: "/".to_string() };
    for line in fs::read_to_string(&dockerfile).unwrap().lines().map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            replay.line(line)?;
        }
    }
    Ok(replay)
}

fn compare_file(tree: &MemTree, expected: &Value, wrong: &mut Vec<String>) {
    let path = expected["path"].as_str().unwrap();
    let key = &path.as_bytes()[1..];
    let found = tree.get(key);
    if expected["type"] == "whiteout" {
        if found.is_some() {
            wrong.push(format!("{path} is still there"));
        }
        return;
    }
    let Some((meta, bytes)) = found else { return wrong.push(format!("{path} is missing")) };
    let (kind, target) = match &meta.kind {
        Kind::File { .. } => ("file", None),
        Kind::Dir => ("dir", None),
        Kind::Symlink { target } => ("symlink", Some(String::from_utf8_lossy(target).into_owned())),
        _ => ("other", None),
    };
    let mtime = expected["mtime"].as_i64().unwrap_or(NOW);
    let mode = expected["mode"].as_str().map_or(meta.mode, |mode| u32::from_str_radix(mode, 8).unwrap());
    let number = |key: &str| expected[key].as_u64().unwrap_or(0) as u32;
    let told = (expected["type"].as_str().unwrap(), mode, number("uid"), number("gid"), mtime);
    let seen = (kind, meta.mode, meta.uid, meta.gid, meta.mtime);
    if told != seen || target.as_deref() != expected["target"].as_str().filter(|_| kind == "symlink") {
        wrong.push(format!("{path}: expected {told:?}, found {seen:?} {target:?}"));
    }
    let link = tree.links.get(key).map(|to| format!("/{}", String::from_utf8_lossy(to)));
    if link.as_deref() != expected["hardlink"].as_str() {
        wrong.push(format!("{path}: another name of {link:?}"));
    }
    let sha = expected["sha256"].as_str();
    if sha.is_some_and(|sha| dockless::oci::Digest::sha256(bytes).hex() != sha) {
        wrong.push(format!("{path}: other bytes"));
    }
    let has_content = expected["content"].is_string() || expected["content_b64"].is_string();
    if kind == "file" && has_content && *bytes != bytes_of(expected) {
        wrong.push(format!("{path}: other content"));
    }
}

const SEVERAL_MISSING: [&str; 2] =
    ["bh-conf-dockerignore-allowlist-alternating-other", "bh-conf-copy-multiple-some-missing"];

fn compare(case: &Value) -> Vec<String> {
    let expect = &case["expect"];
    let replay = match (replay(case), expect["ok"].as_bool().unwrap()) {
        (Ok(replay), true) => replay,
        (Ok(_), false) => return vec![format!("should have failed: {}", expect["error"])],
        (Err(error), true) => return vec![format!("failed: {error}")],
        (Err(error), false) => {
            let told = expect["error"].as_str().unwrap().replace("@MNT@", "");
            let gist = error.to_string();
            let gist = gist.split(": it is excluded").next().unwrap().split(" (--chown").next().unwrap();
            let same = match error {
                // BuildKit shows what the kernel said there, without the archive.
                CopyError::Member { .. } => true,
                // Where several sources are missing BuildKit, which looks for them in parallel, may name another.
                _ if SEVERAL_MISSING.contains(&case["id"].as_str().unwrap()) => told.ends_with("not found"),
                _ => told.contains(gist),
            };
            return if same { Vec::new() } else { vec![format!("{gist} instead of {told}")] };
        }
    };
    let (mut wrong, image) = (Vec::new(), &expect["images"][0]);
    let told: Vec<Vec<String>> = image["layer_paths"].as_array().unwrap().iter().map(texts).collect();
    let mut found = replay.layers.clone();
    // Recorded by the bytes of the whole path; a layer's order is by component.
    found.iter_mut().for_each(|layer| layer.sort());
    if told != found {
        wrong.push(format!("layers: expected {told:?}\n            found {found:?}"));
    }
    let tree = &replay.stages.last().unwrap().1;
    for file in image["files"].as_array().unwrap() {
        compare_file(tree, file, &mut wrong);
    }
    wrong
}

/// Whether a case is one that `Replay` understands: what it leaves to the parser and the planner is tested with them.
fn is_about_copying(case: &Value) -> bool {
    let locals = &case["input"]["locals"];
    let opts = case["input"]["opts"].as_object().unwrap();
    let plain = case["needs"].as_array().unwrap().is_empty() && opts.keys().all(|key| key == "filename");
    if !plain || locals.as_object().unwrap().len() != 2 {
        return false;
    }
    let name = opts.get("filename").map_or("Dockerfile", |name| name.as_str().unwrap());
    let files = case["input"]["contexts"][locals["dockerfile"].as_str().unwrap_or_default()].as_array();
    let dockerfile = files.into_iter().flatten().find(|file| file["path"] == name);
    let Some(text) = dockerfile.and_then(|file| file["content"].as_str()) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let mut stages = vec!["scratch".to_string()];
    let understood = lines.iter().all(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let flags = words.iter().filter_map(|word| word.strip_prefix("--")?.split_once('='));
        match words[0].to_ascii_uppercase().as_str() {
            "FROM" => {
                let known = stages.iter().any(|stage| stage == words[1]);
                stages.extend(words.get(3).map(|name| name.to_lowercase()));
                known
            }
            "WORKDIR" => true,
            "COPY" | "ADD" => flags.into_iter().all(|(name, value)| match name {
                "from" => stages.contains(&value.to_lowercase()) || value == "0",
                name => ["chown", "chmod", "exclude", "unpack"].contains(&name),
            }),
            _ => false,
        }
    });
    let copies = lines.iter().any(|line| ["COPY ", "ADD "].iter().any(|word| line.starts_with(word)));
    understood && copies && !text.contains(['$', '\\']) && !text.contains("<<")
}

/// Builds that were recorded and consist of COPY, ADD and WORKDIR on scratch.
#[test]
fn copies_as_recorded() {
    let (mut count, mut failed) = (0, Vec::new());
    for entry in fs::read_dir(data().join("build")).unwrap() {
        let case: Value = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        if !is_about_copying(&case) {
            continue;
        }
        count += 1;
        let wrong = compare(&case);
        if !wrong.is_empty() {
            failed.push(format!("{}\n    {}", case["id"], wrong.join("\n    ")));
        }
    }
    assert!(count > 100, "only {count} cases were understood");
    assert!(failed.is_empty(), "{} of {count} differ:\n{}", failed.len(), failed.join("\n"));
}

/// A context directory of these files; a name that ends in `/` is a directory, `a -> b` a link.
fn context_of(files: &[(&str, &str)]) -> (tempfile::TempDir, ContextDir) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let (name, target) = name.split_once(" -> ").map_or((*name, None), |(name, target)| (name, Some(target)));
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match target {
            Some(target) => symlink(target, &path).unwrap(),
            None if name.ends_with('/') => fs::create_dir_all(&path).unwrap(),
            None => fs::write(&path, content).unwrap(),
        }
    }
    let ignore = IgnoreFile::find(dir.path(), None).unwrap();
    let context = ContextDir::open(dir.path(), ignore).unwrap();
    (dir, context)
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

/// An image with these directories, files and links.
fn image_of(files: &[(&str, &str)]) -> MemTree {
    let (_dir, context) = context_of(files);
    let mut tree = MemTree::default();
    step(&CopyRequest { sources: &strings(&["."]), ..PLAIN }, &context, &mut tree).unwrap();
    tree
}

fn copied(sources: &[&str], dest: &str, context: &ContextDir, tree: &MemTree) -> Result<Vec<String>, CopyError> {
    step(&CopyRequest { sources: &strings(sources), dest, ..PLAIN }, context, &mut tree.clone())
}

#[test]
fn links_on_the_destination_path_are_followed_inside_the_image() {
    let image = image_of(&[
        ("real/file", "old"),
        ("ln -> /real", ""),
        ("gone -> /nowhere/deep", ""),
        ("f -> real/file", ""),
        ("up -> ../../../real", ""),
    ]);
    let (_dir, context) = context_of(&[("a", "A"), ("d/file", "new")]);
    for (sources, dest, expected) in [
        (&["a"][..], "/ln/", &["/real", "/real/a"][..]),
        (&["a"], "/ln", &["/real", "/real/a"]),
        (&["d"], "/ln", &["/real", "/real/file"]),
        (&["a"], "/f", &["/real", "/real/file"]),
        (&["a"], "/up/", &["/real", "/real/a"]),
        (&["a"], "/gone/", &["/nowhere", "/nowhere/deep", "/nowhere/deep/a"]),
        (&["a"], "/ln/../x", &["/x"]),
    ] {
        assert_eq!(copied(sources, dest, &context, &image).unwrap(), expected, "{sources:?} {dest}");
    }
    let looping = image_of(&[("x -> y", ""), ("y -> x", "")]);
    assert!(matches!(copied(&["a"], "/x", &context, &looping), Err(CopyError::LinkLoop { .. })));
    let request = CopyRequest { sources: &strings(&["a"]), dest: "/ln/", link: true, ..PLAIN };
    assert_eq!(step(&request, &context, &mut image.clone()).unwrap(), ["/ln", "/ln/a"], "--link looks at nothing");
}

#[test]
fn what_cannot_be_copied_says_so() {
    let files = [
        (".dockerignore", "*.log\n!keep.log\n"),
        ("a.log", ""),
        ("keep.log", ""),
        ("f", ""),
        ("d/x", ""),
        ("l -> a.log", ""),
    ];
    let (_dir, context) = context_of(&files);
    let image = image_of(&[("f/x", ""), ("d", "")]);
    for (source, dest, expected) in [
        ("missing", "/", "\"/missing\": not found"),
        ("a.log", "/", "\"/a.log\": not found: it is excluded by pattern '*.log' of "),
        ("l", "/", "\"/l\": not found: it is excluded by pattern '*.log' of "),
        ("d", "/", "cannot replace to directory /x with file"),
        ("f", "/f/x/y", "cannot copy to non-directory: /f/x"),
        ("d", "/d", "cannot copy to non-directory: /d"),
        ("[", "/", "syntax error in pattern '['"),
    ] {
        let mut image = image.clone();
        image.files.insert(b"x".to_vec(), (MemTree::dir(0), Vec::new()));
        let error = copied(&[source], dest, &context, &image).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{source} {dest}: {error}");
    }
    assert_eq!(copied(&["keep.log", "*.log"], "/n/", &context, &image).unwrap(), ["/n", "/n/keep.log"]);
}

#[test]
fn names_of_one_file_stay_one_file() {
    let (dir, context) = context_of(&[("d/z", "content")]);
    for name in ["d/a", "d/sub"] {
        fs::hard_link(dir.path().join("d/z"), dir.path().join(name)).unwrap();
    }
    let mut tree = MemTree::default();
    step(&CopyRequest { sources: &strings(&["d"]), dest: "/d", ..PLAIN }, &context, &mut tree).unwrap();
    assert_eq!(tree.links.len(), 2);
    assert!(tree.links.values().all(|to| to == b"d/a"), "{:?}", tree.links);
    let separate = step(&CopyRequest { sources: &strings(&["d/a", "d/z"]), dest: "/e/", ..PLAIN }, &context, &mut tree);
    assert_eq!(separate.unwrap().len(), 3);
    assert_eq!(tree.links.len(), 2, "two sources share nothing");
}

#[test]
fn the_time_of_a_directory_alone_makes_no_layer() {
    let (dir, context) = context_of(&[("d/sub/f", "same")]);
    set_times(dir.path(), b"", &[]);
    let mut tree = MemTree::default();
    let request = CopyRequest { sources: &strings(&["."]), ..PLAIN };
    assert_eq!(step(&request, &context, &mut tree).unwrap(), ["/d", "/d/sub", "/d/sub/f"]);
    tree.files.get_mut(&b"d/sub"[..]).unwrap().0.mtime = 5;
    assert_eq!(step(&request, &context, &mut tree).unwrap(), [""; 0]);
    tree.files.get_mut(&b"d/sub/f"[..]).unwrap().0.mtime = 5;
    assert_eq!(step(&request, &context, &mut tree).unwrap(), ["/d", "/d/sub", "/d/sub/f"]);
}

#[test]
fn here_documents_follow_the_sources() {
    let (_dir, context) = context_of(&[("a", "A")]);
    let heredocs = [Heredoc { name: "run.sh", body: b"hi\n" }, Heredoc { name: "two", body: b"2" }];
    let sources = strings(&["a"]);
    let request = CopyRequest { sources: &sources, heredocs: &heredocs, dest: "h/", workdir: "/w", ..PLAIN };
    let mut tree = MemTree::default();
    let paths = step(&CopyRequest { chmod: Some("u+x"), chown: Some("5:6"), ..request }, &context, &mut tree).unwrap();
    assert_eq!(paths, ["/w", "/w/h", "/w/h/a", "/w/h/run.sh", "/w/h/two"]);
    let (meta, bytes) = tree.get(b"w/h/run.sh").unwrap();
    assert_eq!((meta.mode, meta.uid, meta.gid, meta.mtime, &bytes[..]), (0o744, 5, 6, NOW, &b"hi\n"[..]));
}

fn tar_of(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_500_000_000);
        // By hand, as the builder refuses the names that the test is about.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let bytes = if link { "" } else { content };
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The same bytes in all forms that ADD knows.
fn packed(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    use std::io::Write;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(tar).unwrap();
    let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz2.write_all(tar).unwrap();
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    xz.write_all(tar).unwrap();
    vec![
        ("plain", tar.to_vec()),
        ("gzip", gz.finish().unwrap()),
        ("bzip2", bz2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zstd", zstd::encode_all(tar, 1).unwrap()),
    ]
}

#[test]
fn archives_are_unpacked_whatever_packed_them() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let tar = tar_of(&[
        ("d/", Directory, ""),
        ("d/f", Regular, "content"),
        ("d/a", Link, "d/f"),
        ("l", Symlink, "d"),
        ("l/through", Regular, "t"),
        ("../../esc", Regular, "e"),
        ("d/f2", Regular, "first"),
        ("d/f2", Regular, "second"),
    ]);
    for (name, bytes) in packed(&tar) {
        let (dir, context) = context_of(&[]);
        fs::write(dir.path().join("archive"), bytes).unwrap();
        let mut tree = MemTree::default();
        let request = CopyRequest { sources: &strings(&["archive"]), dest: "/x", is_add: true, ..PLAIN };
        let paths = step(&request, &context, &mut tree).unwrap();
        assert_eq!(paths, ["/x", "/x/d", "/x/d/a", "/x/d/f", "/x/d/f2", "/x/d/through", "/x/esc", "/x/l"], "{name}");
        let (meta, bytes) = tree.get(b"x/d/f").unwrap();
        assert_eq!((meta.mode, meta.uid, &bytes[..]), (0o640, 7, &b"content"[..]), "{name}");
        assert_eq!(tree.get(b"x/d/f2").unwrap().1, b"second");
        assert_eq!(tree.get(b"x/d").unwrap().0.mtime, 1_500_000_000);
        let plain = CopyRequest { unpack: Some(false), dest: "/x/", ..request };
        assert_eq!(step(&plain, &context, &mut MemTree::default()).unwrap(), ["/x", "/x/archive"]);
    }
}

#[test]
fn unpacking_replaces_what_stands_in_the_way() {
    use tar::EntryType::{Directory, Regular};
    let (dir, context) = context_of(&[]);
    let image = image_of(&[("d/old", ""), ("keep/me", "")]);
    let added = |members: &[(&str, tar::EntryType, &str)]| {
        fs::write(dir.path().join("t"), tar_of(members)).unwrap();
        let mut tree = image.clone();
        let paths =
            step(&CopyRequest { sources: &strings(&["t"]), is_add: true, ..PLAIN }, &context, &mut tree).unwrap();
        (paths, tree)
    };
    let (paths, tree) = added(&[("d", Regular, "file now")]);
    assert_eq!(paths, ["/d"]);
    assert!(tree.get(b"d/old").is_none());
    let (paths, _) = added(&[("d", Regular, ""), ("d", Directory, ""), ("d/new", Regular, "")]);
    assert_eq!(paths, ["/d", "/d/.wh..wh..opq", "/d/new"]);
    let (paths, tree) = added(&[("keep", Directory, "")]);
    assert_eq!(paths, ["/keep"]);
    assert!(tree.get(b"keep/me").is_some(), "directories are merged");
}

#[test]
fn a_damaged_archive_is_an_error() {
    let (dir, context) = context_of(&[]);
    let tar = tar_of(&[("a", tar::EntryType::Regular, &"x".repeat(5000))]);
    fs::write(dir.path().join("t"), &tar[..2000]).unwrap();
    let request = CopyRequest { sources: &strings(&["t"]), is_add: true, ..PLAIN };
    let error = step(&request, &context, &mut MemTree::default()).unwrap_err();
    assert!(error.to_string().starts_with("archive /t: "), "{error}");
}

#[test]
fn the_selection_counts_and_times_do_not() {
    let files = [("d/a", "A"), ("d/sub/b", "B"), ("d/l -> a", ""), ("other", "")];
    let (dir, context) = context_of(&files);
    let digest = |sources: &[&str]| {
        selection_digest(&CopyRequest { sources: &strings(sources), dest: "/x/", ..PLAIN }, &context).unwrap()
    };
    let before = digest(&["d"]);
    set_times(dir.path(), b"", &[]);
    fs::write(dir.path().join("other"), "changed").unwrap();
    assert_eq!(digest(&["d"]), before);
    assert_ne!(digest(&["d/a"]), digest(&["d/sub/b"]));
    assert_ne!(digest(&["d/a", "other"]), digest(&["other", "d/a"]), "the last one wins, so the order counts");
    type Edit = fn(&Path);
    let edits: [Edit; 4] = [
        |d| fs::write(d.join("d/a"), "Z").unwrap(),
        |d| fs::set_permissions(d.join("d/a"), fs::Permissions::from_mode(0o600)).unwrap(),
        |d| fs::rename(d.join("d/sub/b"), d.join("d/sub/c")).unwrap(),
        |d| {
            fs::remove_file(d.join("d/l")).unwrap();
            symlink("sub", d.join("d/l")).unwrap();
        },
    ];
    let mut seen = vec![before];
    for edit in edits {
        edit(dir.path());
        let digest = digest(&["d"]);
        assert!(!seen.contains(&digest));
        seen.push(digest);
    }
}

#[test]
fn many_files_hash_the_same_by_any_number_of_threads() {
    let (dir, context) = context_of(&[]);
    for index in 0..500 {
        fs::write(dir.path().join(format!("f{index}")), format!("{index}")).unwrap();
    }
    let request = CopyRequest { sources: &strings(&["."]), ..PLAIN };
    assert_eq!(selection_digest(&request, &context).unwrap(), selection_digest(&request, &context).unwrap());
    let changes: Changes = copy(&request, &context, &EmptyTree, dir.path()).unwrap();
    assert_eq!(changes.iter().count(), 500);
}

#[test]
fn what_is_there_already_is_no_change_names_of_one_file_included() {
    let (dir, context) = context_of(&[("d/a", "A"), ("b", "B")]);
    fs::hard_link(dir.path().join("d/a"), dir.path().join("d/z")).unwrap();
    let (other, before) = context_of(&[]);
    let request = CopyRequest { sources: &strings(&["."]), dest: "/", ..PLAIN };
    let paths = |dest: &dyn SourceTree| -> Vec<String> {
        let changes = copy(&request, &context, dest, other.path()).unwrap();
        changes.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect()
    };
    assert_eq!(paths(&before), ["b", "d", "d/a", "d/z"]);
    assert_eq!(paths(&context), [""; 0]);
    // Two files of the same content are not two names of one.
    let (apart, two) = context_of(&[("d/a", "A"), ("b", "B")]);
    fs::write(apart.path().join("d/z"), "A").unwrap();
    set_times(apart.path(), b"", &[]);
    set_times(dir.path(), b"", &[]);
    assert_eq!(paths(&two), ["d", "d/a", "d/z"]);
}
