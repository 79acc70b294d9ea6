use super::*;
use std::collections::BTreeMap;

/// A view of a few paths.
struct Fake(BTreeMap<&'static str, Node>);

impl View for Fake {
    fn look(&mut self, path: &ViewPath) -> Result<Node, Errno> {
        let path = std::str::from_utf8(path.as_bytes()).unwrap();
        if path == "/secret/x" {
            return Err(Errno::ACCESS);
        }
        self.0.get(path).cloned().ok_or(Errno::NOENT)
    }
}

fn view() -> Fake {
    let link = |to: &str| Node::Link(to.as_bytes().to_vec());
    let at = |path: &str| Node::Magic(Ok(ViewPath::without_links(path.as_bytes())));
    Fake(BTreeMap::from([
        ("/etc", Node::Directory),
        ("/etc/mtab", link("../proc/self/mounts")),
        ("/etc/passwd", Node::Other),
        ("/etc/up", link("..")),
        ("/etc/slash", link("/")),
        ("/etc/self", link("self")),
        ("/etc/empty", link("")),
        ("/etc/dangling", link("new")),
        ("/etc/dir", link("sub/")),
        ("/etc/sub", Node::Directory),
        ("/secret", Node::Directory),
        ("/dev", Node::Directory),
        ("/dev/fd", link("/proc/self/fd")),
        ("/dev/stdin", link("/proc/self/fd/0")),
        ("/proc", Node::Directory),
        ("/proc/self", link("42")),
        ("/proc/mounts", link("self/mounts")),
        ("/proc/42", Node::Directory),
        ("/proc/42/mounts", Node::Other),
        ("/proc/42/cwd", at("/etc")),
        ("/proc/42/root", at("/")),
        ("/proc/42/exe", at("/etc/passwd")),
        ("/proc/42/fd", Node::Directory),
        ("/proc/42/fd/0", Node::Magic(Err(Errno::NOTDIR))),
        ("/proc/42/fd/3", at("/etc/sub")),
    ]))
}

fn walked(start: &str, path: &str, last: Last) -> Result<Walked, Errno> {
    walk(&mut view(), &ViewPath::without_links(start.as_bytes()), path.as_bytes(), last)
}

#[test]
fn leads_where_the_kernel_would() {
    use End::*;
    use Found::*;
    let cases: &[(&str, &str, Last, &str, Found, End)] = &[
        ("/", "/", Last::Follow, "/", Directory, Root),
        ("/etc", ".", Last::Follow, "/etc", Directory, Dot),
        ("/etc", "..", Last::Follow, "/", Directory, DotDot),
        ("/", "../../..", Last::Follow, "/", Directory, DotDot),
        ("/etc", "sub/../passwd", Last::Follow, "/etc/passwd", Other, Name),
        ("/etc", "//etc///passwd", Last::Follow, "/etc/passwd", Other, Name),
        ("/", "etc/mtab", Last::Follow, "/proc/42/mounts", Other, Name),
        ("/", "etc/mtab", Last::Keep, "/etc/mtab", Link, Name),
        ("/", "etc/dir", Last::Keep, "/etc/dir", Link, Name),
        ("/", "etc/dir/", Last::Keep, "/etc/sub", Directory, Name),
        ("/", "etc/dir/", Last::Entry, "/etc/dir", Link, Name),
        ("/", "etc/up/etc/up/etc", Last::Follow, "/etc", Directory, Name),
        ("/", "etc/slash", Last::Follow, "/", Directory, Root),
        ("/", "etc/slash/etc", Last::Follow, "/etc", Directory, Name),
        ("/", "etc/dangling", Last::Follow, "/etc/new", Missing, Name),
        ("/", "etc/dangling", Last::Entry, "/etc/dangling", Link, Name),
        ("/", "etc/new/", Last::Entry, "/etc/new", Missing, Name),
        ("/", "/dev/fd", Last::Follow, "/proc/42/fd", Directory, Name),
        ("/", "/dev/stdin", Last::Follow, "/proc/42/fd/0", Magic, Name),
        ("/", "/dev/fd/3", Last::Follow, "/proc/42/fd/3", Magic, Name),
        ("/", "/dev/fd/3", Last::Keep, "/proc/42/fd/3", Magic, Name),
        ("/", "/dev/fd/3/", Last::Follow, "/etc/sub", Directory, Name),
        ("/", "/dev/fd/3/..", Last::Follow, "/etc", Directory, DotDot),
        ("/", "/proc/self/cwd/passwd", Last::Follow, "/etc/passwd", Other, Name),
        ("/", "/proc/self/root/etc/passwd", Last::Follow, "/etc/passwd", Other, Name),
        ("/", "/proc/self/root/proc/mounts", Last::Follow, "/proc/42/mounts", Other, Name),
        ("/proc/42", "../../etc/passwd", Last::Follow, "/etc/passwd", Other, Name),
        ("/proc/42", "fd/../../../../etc/passwd", Last::Follow, "/etc/passwd", Other, Name),
        ("/proc/42", "/etc/passwd", Last::Follow, "/etc/passwd", Other, Name),
    ];
    for (start, path, last, wanted, found, end) in cases {
        let got = walked(start, path, *last).unwrap_or_else(|error| panic!("{start} {path}: {error}"));
        let wanted = ViewPath::without_links(wanted.as_bytes());
        assert_eq!((got.path, got.found, got.end), (wanted, *found, *end), "{start} {path} {last:?}");
    }
}

#[test]
fn fails_as_the_kernel_would() {
    let long = "a".repeat(256);
    let longest = "/".repeat(4096);
    let cases: &[(&str, Last, Errno)] = &[
        ("", Last::Follow, Errno::NOENT),
        ("/none/x", Last::Follow, Errno::NOENT),
        ("/etc/passwd/", Last::Follow, Errno::NOTDIR),
        ("/etc/passwd/x", Last::Entry, Errno::NOTDIR),
        ("/etc/passwd/.", Last::Follow, Errno::NOTDIR),
        ("/etc/passwd/..", Last::Follow, Errno::NOTDIR),
        ("/etc/self", Last::Follow, Errno::LOOP),
        ("/etc/self/x", Last::Keep, Errno::LOOP),
        ("/etc/empty", Last::Follow, Errno::NOENT),
        ("/proc/self/fd/0/x", Last::Follow, Errno::NOTDIR),
        ("/proc/self/fd/0/", Last::Follow, Errno::NOTDIR),
        ("/proc/self/exe/x", Last::Follow, Errno::NOTDIR),
        ("/secret/x", Last::Keep, Errno::ACCESS),
        (&long, Last::Entry, Errno::NAMETOOLONG),
        (&longest, Last::Follow, Errno::NAMETOOLONG),
    ];
    for (path, last, wanted) in cases {
        assert_eq!(walked("/", path, *last), Err(*wanted), "{path} {last:?}");
    }
}

#[test]
fn follows_forty_links_and_no_more() {
    struct Chain;
    impl View for Chain {
        fn look(&mut self, path: &ViewPath) -> Result<Node, Errno> {
            let number: usize = std::str::from_utf8(path.relative()).unwrap().parse().unwrap();
            Ok(if number == 0 { Node::Other } else { Node::Link((number - 1).to_string().into_bytes()) })
        }
    }
    assert!(walk(&mut Chain, &ViewPath::root(), b"40", Last::Follow).is_ok());
    assert_eq!(walk(&mut Chain, &ViewPath::root(), b"41", Last::Follow), Err(Errno::LOOP));
}

#[test]
fn remembers_the_slash() {
    for (path, wanted) in [("/etc/new/", true), ("/etc/new", false), ("/etc/sub//", true), ("/etc/passwd", false)] {
        assert_eq!(walked("/", path, Last::Follow).unwrap().slash, wanted, "{path}");
    }
}

#[test]
fn takes_paths_apart() {
    let path = |text: &str| ViewPath::without_links(text.as_bytes());
    assert_eq!(path("/a/./b//../c").as_bytes(), b"/a/c");
    assert_eq!(path("/..").as_bytes(), b"/");
    assert_eq!(path("/a/b").below(&path("/a")), Some(&b"b"[..]));
    assert_eq!(path("/a").below(&path("/a")), Some(&b""[..]));
    assert_eq!(path("/ab").below(&path("/a")), None);
    assert_eq!(path("/a").below(&path("/")), Some(&b"a"[..]));
    assert_eq!(path("/a").split(), Some((path("/"), &b"a"[..])));
    assert_eq!(path("/").split(), None);
    assert_eq!(path("/a").join(b"b/c").relative(), b"a/b/c");
}

#[test]
fn keeps_within_bounds() {
    let (beneath, in_root) = (Rules { beneath: true, ..Rules::default() }, Rules { in_root: true, ..Rules::default() });
    let (no_links, no_magic) =
        (Rules { no_links: true, ..Rules::default() }, Rules { no_magic: true, ..Rules::default() });
    let cases: &[(&str, &str, Rules, Result<&str, Errno>)] = &[
        ("/etc", "passwd", beneath, Ok("/etc/passwd")),
        ("/etc", "sub/../passwd", beneath, Ok("/etc/passwd")),
        ("/etc", "../etc/passwd", beneath, Err(Errno::XDEV)),
        ("/etc", "/etc/passwd", beneath, Err(Errno::XDEV)),
        ("/etc", "slash", beneath, Err(Errno::XDEV)),
        ("/etc", "../../passwd", in_root, Ok("/etc/passwd")),
        ("/etc", "/passwd", in_root, Ok("/etc/passwd")),
        ("/etc", "slash", in_root, Ok("/etc")),
        ("/proc", "self/cwd/passwd", in_root, Err(Errno::XDEV)),
        ("/proc", "self/mounts", no_links, Err(Errno::LOOP)),
        ("/proc", "self/mounts", no_magic, Ok("/proc/42/mounts")),
        ("/proc", "self/exe", no_magic, Err(Errno::LOOP)),
        ("/proc", "self/cwd/passwd", no_magic, Err(Errno::LOOP)),
    ];
    for (start, path, rules, wanted) in cases {
        let start = ViewPath::without_links(start.as_bytes());
        let got = walk_within(&mut view(), &ViewPath::root(), &start, path.as_bytes(), Last::Follow, *rules)
            .map(|walked| walked.path);
        let wanted = wanted.map(|path| ViewPath::without_links(path.as_bytes()));
        assert_eq!(got, wanted, "{path} {rules:?}");
    }
}
