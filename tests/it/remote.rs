//! What comes from elsewhere, by the binary: downloads, contexts on standard input and by URL, git, named contexts.

use crate::support::web::{Page, Web};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Builds in a directory of its own.
struct Place(tempfile::TempDir);

/// A path of the result: mode, time, and content or link target.
type Found = (u32, u64, String);

/// The owner of all members of the archives here.
const STRANGER: u64 = 1234;

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Place {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, content).expect("a file");
        self
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockless"));
        command.env_clear().env("DOCKLESS_HOME", self.path().join("home")).current_dir(self.path());
        command.args(["build", "--progress=plain"]).args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        // Not everything need be read.
        let feed = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("ends");
        feed.join().expect("no panic");
        output
    }

    /// The files of the image that comes out; all must belong to root.
    #[track_caller]
    fn files(&self, arguments: &[&str], input: &[u8]) -> BTreeMap<String, Found> {
        self.files_of(arguments, input, &[0])
    }

    /// As [`Place::files`], with these owners.
    #[track_caller]
    fn files_of(&self, arguments: &[&str], input: &[u8], owners: &[u64]) -> BTreeMap<String, Found> {
        let output = self.run(&[&["-o", "type=tar,dest=-"], arguments].concat(), input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut archive = tar::Archive::new(&output.stdout[..]);
        let entries = archive.entries().expect("a tar").map(|entry| {
            let mut entry = entry.expect("an entry");
            let (mode, mtime) = (entry.header().mode().expect("a mode"), entry.header().mtime().expect("a time"));
            let owner = (entry.header().uid().expect("an owner"), entry.header().gid().expect("a group"));
            assert!(owner.0 == owner.1 && owners.contains(&owner.0), "{owner:?}");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            let link = entry.link_name().expect("a link").map(|link| format!("-> {}", link.display()));
            let content = link.unwrap_or_else(|| String::from_utf8_lossy(&content).into_owned());
            let path = entry.path().expect("a path").to_string_lossy().trim_end_matches('/').to_string();
            (path, (mode, mtime, content))
        });
        entries.collect()
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], input: &[u8], text: &str) -> String {
        let output = self.run(arguments, input);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(text), "{stderr}");
        stderr
    }
}

fn page(body: impl AsRef<[u8]>) -> Page {
    Page { body: body.as_ref().to_vec(), ..Page::default() }
}

fn contents(files: &BTreeMap<String, Found>) -> Vec<(&str, &str)> {
    files.iter().map(|(path, (_, _, content))| (path.as_str(), content.as_str())).collect()
}

/// A tar of files, each path with its content; `name -> target` is a link, a name with `/` at its end a directory.
fn tarball(members: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_uid(STRANGER);
        header.set_gid(STRANGER);
        header.set_mtime(1_500_000_000);
        let (name, link) = name.split_once(" -> ").map_or((*name, None), |(name, link)| (name, Some(link)));
        if let Some(link) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name(link).expect("a link");
        } else if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o750);
        }
        // Not `set_path`: it refuses what a hostile archive has.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).expect("appended");
    }
    tar.into_inner().expect("a tar")
}

#[test]
fn add_of_a_url() {
    let dated = Page { headers: vec!["Last-Modified: Wed, 02 Jan 2019 03:04:05 GMT".into()], ..page("remote") };
    let web = Web::pages([("/f.txt", dated), ("/t.tar", page(tarball(&[("d/x", "hi")]))), ("/b%20c", page("named"))]);
    let (place, url) = (Place::new(), format!("http://{}", web.address()));
    let text = format!(
        "FROM scratch\nADD {url}/f.txt?q=1 {url}/b%20c /x/\nADD --unpack=true {url}/t.tar /u/\nADD {url}/t.tar /\n"
    );
    let files = place.files_of(&["-"], text.as_bytes(), &[0, STRANGER]);
    assert_eq!(files["x/f.txt"], (0o600, 1_546_398_245, "remote".into()));
    assert_eq!(files["x/b c"], (0o600, 0, "named".into()));
    assert_eq!(files["u/d/x"].2, "hi");
    assert!(files["t.tar"].2.starts_with("d/x"));
    let sums = [
        "sha384:a8fb4bc354232cdd8c4350bf726022d8e3a561594dedf97b36f319473d2b6d5239ca0ea70860a409ad054fc69086e444",
        "sha512:5d409a2f417a97674eb922e128c61ad830c2e8198b481d971ba8a91dde9aeca061329807438520784fac6919c8e0e90698ccbf315772d03a60228000769d0575",
    ];
    for sum in sums {
        let add = |sum: &str| format!("FROM scratch\nADD --checksum={sum} {url}/f.txt /x\n");
        assert_eq!(place.files(&["-"], add(sum).as_bytes())["x"].2, "remote");
        let wrong = format!("{}{}", &sum[..sum.len() - 2], "00");
        place.fails(&["-"], add(&wrong).as_bytes(), &format!("digest mismatch {sum}: {wrong}"));
    }
}

#[test]
fn a_url_that_fails_is_named_without_its_password() {
    let web = Web::pages([("/f", page("x"))]);
    let (place, at) = (Place::new(), web.address());
    let text = format!("FROM scratch\nADD http://me:hunter2@{at}/missing?sig=hunter2 /x\n");
    let stderr = place.fails(&["-"], text.as_bytes(), &format!("GET http://{at}/missing: 404"));
    // The query stands in the Dockerfile's line as it was written; the password does not.
    assert!(!stderr.contains("me:hunter2"), "{stderr}");
    let text = format!("FROM scratch\nADD http://me:hunter2@{at}/f /x\n");
    let output = place.run(&["-", "-o", "type=oci,dest=-"], text.as_bytes());
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
    let image = String::from_utf8_lossy(&output.stdout);
    assert!(image.contains("xxxxx:xxxxx@") && !image.contains("hunter2"), "history");
    assert_eq!(web.seen().last().unwrap()["authorization"], "Basic bWU6aHVudGVyMg==");
}

#[test]
fn a_download_is_cached_by_its_content() {
    let web = Web::pages([("/f", page("x"))]);
    let (place, text) = (Place::new(), format!("FROM scratch\nADD http://{}/f /x\n", web.address()));
    place.files(&["-"], text.as_bytes());
    let output = place.run(&["-"], text.as_bytes());
    assert!(String::from_utf8_lossy(&output.stderr).contains("CACHED"));
}

/// A server that says that nothing changed sends nothing, until a step needs the bytes.
#[test]
fn an_unchanged_download_is_not_sent_again() {
    let tagged = Page { headers: vec!["ETag: \"v1\"".into()], ..page("x") };
    let web = Web::pages([("/f", tagged)]);
    let (place, url) = (Place::new(), format!("http://{}/f", web.address()));
    let asked = |from: usize| -> Vec<bool> {
        web.seen()[from..].iter().map(|head| head.contains_key("if-none-match")).collect()
    };
    let text = format!("FROM scratch\nADD {url} /x\n");
    assert_eq!(contents(&place.files(&["-"], text.as_bytes())), [("x", "x")]);
    assert_eq!(asked(0), [false]);
    assert_eq!(contents(&place.files(&["-"], text.as_bytes())), [("x", "x")]);
    assert_eq!(asked(1), [true]);
    let other = format!("FROM scratch\nADD {url} /y\n");
    assert_eq!(contents(&place.files(&["-"], other.as_bytes())), [("y", "x")]);
    assert_eq!(asked(2), [true, false], "the step is new and reads the bytes");
    // Of another checksum the server's word is not enough.
    let wrong = format!("FROM scratch\nADD --checksum=sha256:{} {url} /x\n", "0".repeat(64));
    place.fails(&["-"], wrong.as_bytes(), "digest mismatch");
}

#[test]
fn contexts_on_standard_input() {
    let place = Place::new();
    let members = [
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("d/", ""),
        ("d/x", "1"),
        ("l -> d/x", ""),
        ("y", "2"),
        (".dockerignore", "y\nDockerfile"),
    ];
    let plain = tarball(&members);
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
    xz.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for (name, input) in [
        ("plain", plain.clone()),
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zstd", zstd),
    ] {
        let files = place.files(&["-"], &input);
        let expected = [(".dockerignore", "y\nDockerfile"), ("d", ""), ("d/x", "1"), ("l", "-> d/x")];
        assert_eq!(contents(&files), expected, "{name}");
        assert_eq!((files["d"].0, files["d/x"].0, files["d/x"].1), (0o750, 0o640, 1_500_000_000), "{name}");
    }
    let other =
        tarball(&[("sub/other", "FROM scratch\nCOPY x /\n"), ("x", "1"), ("sub/other.dockerignore", "nothing")]);
    assert_eq!(contents(&place.files(&["-f", "sub/other", "-"], &other)), [("x", "1")]);
    place.fails(&["-"], &other, "there is no Dockerfile");
    place.fails(&["-f", "x", "-"], b"FROM scratch\n", "given twice");
    assert_eq!(place.run(&["-f", "-", "-"], b"").status.code(), Some(2));
}

#[test]
fn a_context_archive_stays_in_its_directory() {
    let place = Place::new();
    place.write("secret", "hunter2");
    let secret = place.path().join("secret").display().to_string();
    let (up, file) = ("../".repeat(12), "FROM scratch\nCOPY . /\n");
    let files = place.files(
        &["-"],
        &tarball(&[
            ("Dockerfile", file),
            (&format!("{up}tmp/../up"), "1"),
            ("/abs", "2"),
            (&format!("out -> {up}{}", &place.path().display().to_string()[1..]), ""),
            ("in -> d", ""),
            ("d/", ""),
            ("in/x", "3"),
        ]),
    );
    assert_eq!((files["up"].2.as_str(), files["abs"].2.as_str(), files["d/x"].2.as_str()), ("1", "2", "3"));
    let through =
        tarball(&[("Dockerfile", file), (&format!("out -> {}", place.path().display()), ""), ("out/planted", "x")]);
    drop(place.run(&["-"], &through));
    assert!(!place.path().join("planted").exists());
    // Neither the Dockerfile nor the ignore file is read through a link that leads out.
    let linked = tarball(&[(&format!("Dockerfile -> {secret}"), ""), ("x", "")]);
    let stderr = place.fails(&["-"], &linked, "there is no Dockerfile");
    assert!(!stderr.contains("hunter2"));
    place.write("bad", "[hunter2");
    let ignore = format!(".dockerignore -> {}", place.path().join("bad").display());
    assert_eq!(
        contents(
            &place.files(&["-"], &tarball(&[("Dockerfile", "FROM scratch\nCOPY x /\n"), (&ignore, ""), ("x", "")]))
        ),
        [("x", "")]
    );
}

#[test]
fn contexts_by_url() {
    let archive = tarball(&[("Dockerfile", "FROM scratch\nCOPY d /\n"), ("d/x", "1")]);
    let web = Web::pages([("/c.tar", page(&archive)), ("/file", page("FROM scratch\nCOPY context /copied\n"))]);
    let (place, at) = (Place::new(), web.address());
    assert_eq!(contents(&place.files(&[&format!("http://{at}/c.tar")], b"")), [("x", "1")]);
    let files = place.files(&[&format!("http://{at}/file")], b"");
    assert_eq!(contents(&files), [("copied", "FROM scratch\nCOPY context /copied\n")]);
    let files = place.files(&["-f", "-", &format!("http://{at}/c.tar")], b"FROM scratch\nCOPY d/x /y\n");
    assert_eq!(contents(&files), [("y", "1")]);
    let stderr = place.fails(&[&format!("http://me:hunter2@{at}/no")], b"", "cannot load the build context");
    assert!(stderr.contains("404") && !stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn named_contexts_of_every_kind() {
    let web = Web::pages([("/c.tar", page(tarball(&[("t", "tar")])))]);
    let place = Place::new();
    place.write("ctx/x", "1").write("dir/p", "P").write("dir/q", "Q").write("dir/.dockerignore", "q\n");
    place.write("ctx/Dockerfile", "FROM scratch\nCOPY x /from-image\n");
    assert!(place.run(&["-t", "base:1", "-o", "type=oci,dest=layout.tar", "ctx"], b"").status.success());
    std::fs::create_dir(place.path().join("layout")).unwrap();
    let unpacked = Command::new("tar").args(["-xf", "layout.tar", "-C", "layout"]).current_dir(place.path()).status();
    assert!(unpacked.unwrap().success());
    let text = "FROM dir AS whole\nCOPY x /own\nFROM lay\nCOPY --from=dir . /dir\nCOPY --from=tar t /\nCOPY --from=img / /img\nCOPY --from=whole / /whole\n";
    place.write("ctx/Dockerfile", text);
    let tar = format!("tar=http://{}/c.tar", web.address());
    let named = ["dir=dir", "lay=oci-layout://layout", &tar, "img=docker-image://base:1"];
    let arguments: Vec<&str> = named.iter().flat_map(|named| ["--build-context", named]).chain(["ctx"]).collect();
    let files = place.files(&arguments, b"");
    let held: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "dir",
        "dir/.dockerignore",
        "dir/p",
        "from-image",
        "img",
        "img/from-image",
        "t",
        "whole",
        "whole/.dockerignore",
        "whole/own",
        "whole/p",
        "whole/q",
    ];
    assert_eq!(held, expected);
    place.write("ctx/Dockerfile", "FROM lay\n");
    place.fails(&["--build-context", "lay=oci-layout://layout:none", "ctx"], b"", "holds no image 'none'");
}

/// Repositories `main.git` (two commits, tag v1 on the first, branch dev, a submodule) and `sub.git` below `root`.
fn repositories(root: &Path) -> String {
    let git = |dir: &Path, line: &str| {
        let mut command = Command::new("git");
        command.args(line.split(' ')).current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "n").env(format!("GIT_{who}_EMAIL"), "e");
            command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
        }
        let output = command.output().expect("git");
        assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_string()
    };
    let (main, sub) = (root.join("work/main"), root.join("work/sub"));
    for dir in [&main, &sub] {
        std::fs::create_dir_all(dir.join("d")).unwrap();
        git(dir, "init -q -b trunk");
    }
    std::fs::write(sub.join("s"), "sub").unwrap();
    git(&sub, "add .");
    git(&sub, "commit -q -m s");
    let lines: String = (0..3000).map(|n| format!("{n}\n")).collect();
    for (name, text) in
        [("Dockerfile", "FROM scratch\nCOPY . /\n"), ("d/Dockerfile", "FROM scratch\nCOPY x /\n"), ("d/x", "1")]
    {
        std::fs::write(main.join(name), text).unwrap();
    }
    std::fs::set_permissions(main.join("d/x"), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Two that are alike, so that one of them comes as a delta.
    std::fs::write(main.join("big"), &lines).unwrap();
    std::fs::write(main.join("big2"), format!("{lines}end\n")).unwrap();
    std::os::unix::fs::symlink("d/x", main.join("link")).unwrap();
    git(&main, "-c protocol.file.allow=always submodule --quiet add ../sub lib/sub");
    let modules = "[submodule \"lib/sub\"]\n\tpath = lib/sub\n\turl = ../sub.git\n";
    std::fs::write(main.join(".gitmodules"), modules).unwrap();
    git(&main, "add .");
    git(&main, "commit -q -m one");
    git(&main, "tag -a v1 -m v1");
    let first = git(&main, "rev-parse HEAD");
    git(&main, "branch dev");
    std::fs::write(main.join("two"), "2").unwrap();
    git(&main, "add .");
    git(&main, "commit -q -m two");
    git(root, "clone -q --bare work/main main.git");
    git(root, "clone -q --bare work/sub sub.git");
    first
}

#[test]
fn git_contexts() {
    let root = tempfile::tempdir().unwrap();
    let first = repositories(root.path());
    for old in [false, true] {
        let (web, place) = (Web::git(root.path(), old), Place::new());
        let url = format!("http://{}/main.git", web.address());
        let files = place.files(&[&url], b"");
        let all = [
            ".gitmodules",
            "Dockerfile",
            "big",
            "big2",
            "d",
            "d/Dockerfile",
            "d/x",
            "lib",
            "lib/sub",
            "lib/sub/s",
            "link",
            "two",
        ];
        assert_eq!(files.keys().collect::<Vec<_>>(), all);
        assert_eq!((files["d/x"].0, files["big"].0, files["d"].0), (0o755, 0o644, 0o755));
        assert_eq!((files["link"].2.as_str(), files["lib/sub/s"].2.as_str()), ("-> d/x", "sub"));
        assert!(files["big2"].2.ends_with("2999\nend\n") && files["big"].2.ends_with("2999\n"));
        for reference in ["#v1", "#refs/tags/v1", "#dev", "?branch=dev", "?tag=v1", &format!("?ref=v1&commit={first}")]
        {
            assert!(!place.files(&[&format!("{url}{reference}")], b"").contains_key("two"), "{reference}");
        }
        assert_eq!(contents(&place.files(&[&format!("{url}#dev:d")], b"")), [("x", "1")]);
        let plain = place.files(&[&format!("{url}?submodules=false&mtime=commit")], b"");
        assert!(!plain.contains_key("lib/sub/s"));
        assert_eq!(plain["two"].1, 1_700_000_000);
    }
}

#[test]
fn git_sources_of_add() {
    let root = tempfile::tempdir().unwrap();
    let first = repositories(root.path());
    let (web, place) = (Web::git(root.path(), false), Place::new());
    let url = format!("http://{}/main.git", web.address());
    let add = |flags: &str, reference: &str| format!("FROM scratch\nADD {flags} {url}{reference} /r\n");
    let files = place.files(&["-"], add(&format!("--checksum={first}"), "#v1").as_bytes());
    assert_eq!(files["r/lib/sub/s"].2, "sub");
    assert!(!files.keys().any(|path| path.starts_with("r/.git/")));
    let by_commit = place.files(&["-"], add("", &format!("#{first}")).as_bytes());
    assert!(!by_commit.contains_key("r/two"));
    place.fails(&["-"], add(&format!("--checksum={first}"), "").as_bytes(), "is at commit");
    place.fails(&["-"], add("", "#nothing").as_bytes(), "has no branch, tag or ref 'nothing'");
    place.fails(&["-"], add("", &format!("#{}", &first[..8])).as_bytes(), "all of its 40 digits");
    place.fails(&["-"], add("", "#v1:none").as_bytes(), "has no directory 'none'");
    let text = add("--keep-git-dir=true", "#v1");
    place.write("ctx/Dockerfile", &text);
    let output = place.run(&["-o", "type=local,dest=out", "ctx"], b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(place.path().join("out/r")).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.args([] as [&str; 0]).output().expect("git");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert_eq!(git(&["rev-parse", "HEAD"]).trim(), first);
    assert_eq!(git(&["rev-parse", "v1^{commit}"]).trim(), first);
    assert_eq!(git(&["status", "--porcelain"]), "");
    assert_eq!(git(&["fsck", "--strict"]), "");
}

/// `SOURCE_DATE_EPOCH` may name a source; then it has that one's time, in ARG too.
#[test]
fn the_time_of_a_source() {
    let dated = Page { headers: vec!["Last-Modified: Wed, 02 Jan 2019 03:04:05 GMT".into()], ..page("remote") };
    let root = tempfile::tempdir().unwrap();
    repositories(root.path());
    let git = Web::git(root.path(), false);
    let context =
        tarball(&[("Dockerfile", "FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY <<E /e\n$SOURCE_DATE_EPOCH\nE\n")]);
    let web = Web::pages([
        ("/f", dated.clone()),
        ("/t.tar", page(tarball(&[("d/x", "hi")]))),
        ("/plain", page("plain")),
        ("/c.tar", page(context.clone())),
        ("/dated.tar", Page { body: context, ..dated }),
    ]);
    let (place, url) = (Place::new(), format!("http://{}", web.address()));
    let text = |add: &str| {
        format!(
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nARG AT={url}\n{add}\n\
             FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY <<E /e\n$SOURCE_DATE_EPOCH\nE\n"
        )
    };
    let epoch = |files: &BTreeMap<String, Found>| (files["e"].1, files["e"].2.trim().to_string());
    for (add, seconds) in [
        ("ADD $AT/f /".to_string(), 1_546_398_245),
        ("ADD $AT/t.tar /".to_string(), 1_500_000_000),
        (format!("ADD http://{}/main.git#v1 /", git.address()), 1_700_000_000),
    ] {
        let files = place.files(&["-"], text(&add).as_bytes());
        assert_eq!(epoch(&files), (seconds, seconds.to_string()), "{add}");
    }
    let files = place.files(&["-"], text("ADD $AT/plain /").as_bytes());
    assert!(files["e"].1 > 1_700_000_000 && files["e"].2.trim().is_empty(), "{files:?}");
    for (add, message) in [
        ("ADD f /", "contain exactly one remote ADD, of one source"),
        ("ADD $AT/f $AT/plain /", "contain exactly one remote ADD, of one source"),
        ("ADD $AT/f /\nADD $AT/plain /", "contain exactly one remote ADD, of one source"),
        ("RUN x", "unsupported RUN instruction"),
    ] {
        place.fails(&["-"], text(add).as_bytes(), message);
    }
    for (path, seconds) in [("c.tar", 1_500_000_000), ("dated.tar", 1_546_398_245)] {
        let files = place.files(&["--build-arg=SOURCE_DATE_EPOCH=context", &format!("{url}/{path}")], b"");
        assert_eq!(epoch(&files), (seconds, seconds.to_string()), "{path}");
    }
}

/// ssh by a stand-in that runs the command here, as sshd would there.
#[test]
fn git_over_ssh() {
    let root = tempfile::tempdir().unwrap();
    repositories(root.path());
    let place = Place::new();
    let script = "#!/bin/sh\nprintf '%s\\n' \"$SSH_AUTH_SOCK\" \"$@\" > \"$HOME/said\"\n\
                  for last; do :; done\nexec sh -c \"$last\"\n";
    place.write("bin/ssh", script).write("home/.ssh/config", "").write("home/said", "");
    std::fs::set_permissions(place.path().join("bin/ssh"), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = place.path().join("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let run = |arguments: &[&str], path: &str, agent: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockless"));
        command.env_clear().env("DOCKLESS_HOME", place.path().join("store")).current_dir(place.path());
        command.env("PATH", path).env("HOME", place.path().join("home"));
        if agent {
            command.env("SSH_AUTH_SOCK", &socket);
        }
        let output = command.args(["build", "-o", "type=tar,dest=-"]).args(arguments).output().expect("starts");
        (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let path = format!("{}:/usr/bin:/bin", place.path().join("bin").display());
    let url = format!("ssh://git@host.invalid:2222{}/main.git", root.path().display());
    let (ok, tar, stderr) = run(&[&url], &path, true);
    assert!(ok, "{stderr}");
    assert!(String::from_utf8_lossy(&tar).contains("lib/sub/s"), "with its submodule");
    let said = std::fs::read_to_string(place.path().join("home/said")).unwrap();
    let said: Vec<&str> = said.lines().collect();
    // The last call was the submodule's.
    assert_eq!(said[0], socket.to_str().unwrap());
    assert!(said.windows(2).any(|two| two == ["-p", "2222"]), "{said:?}");
    let command = format!("git-upload-pack '{}/sub.git'", root.path().display());
    assert_eq!(said[said.len() - 3..], ["--", "git@host.invalid", &command]);
    // ADD has an agent only where it is given one.
    let text = format!("FROM scratch\nADD git@host.invalid:{}/main.git#v1 /r\n", root.path().display());
    place.write("ctx/Dockerfile", &text);
    assert!(run(&["ctx"], &path, true).0);
    assert!(std::fs::read_to_string(place.path().join("home/said")).unwrap().starts_with('\n'), "no agent");
    assert!(run(&["--ssh", "default", "--no-cache", "ctx"], &path, true).0);
    assert!(std::fs::read_to_string(place.path().join("home/said")).unwrap().starts_with(socket.to_str().unwrap()));
    // Failures say whose they are.
    place.write("bin/ssh", "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n");
    let (ok, _, stderr) = run(&[&url], &path, true);
    assert!(!ok && stderr.contains("ssh says: Permission denied (publickey)."), "{stderr}");
    let (ok, _, stderr) = run(&[&url], "/nowhere", true);
    assert!(!ok && stderr.contains("cannot start ssh"), "{stderr}");
}
