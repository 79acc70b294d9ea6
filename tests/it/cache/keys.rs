//! What is in a step's key, and what is not.

use super::workshop::{Busybox, Log, Workshop, name, options};
use dockless::build::BuildOptions;
use dockless::sandbox::{Limit, Resource};
use dockless::secret::SecretBytes;
use dockless::store::Store;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A context, a store with a base, and who builds.
struct Place {
    dir: TempDir,
    store: Store,
    workshop: Workshop,
    busybox: Busybox,
}

impl Place {
    fn new(what: &str) -> Place {
        let (dir, workshop, busybox) = (super::workshop::place(), Workshop::new(what), Busybox::read());
        let store = Store::open(&dir.path().join("store")).unwrap();
        let place = Place { dir, store, workshop, busybox };
        place.base(&[]);
        place.context();
        place
    }

    /// Says what `base` is.
    fn base(&self, files: &[(&str, &str)]) {
        let base = self.busybox.put(&self.store, files);
        self.store.tag(&name("docker.io/library/base:latest"), &base).unwrap();
    }

    /// Makes the context as it is at the beginning.
    fn context(&self) {
        let _ = fs::remove_dir_all(self.path("context")); // the first time there is none
        for (path, text) in [("a", "1"), ("dir/x", "2"), ("dir/y", "3"), ("other", "4")] {
            let path = self.path("context").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Builds; the steps that were carried out and those that were found.
    #[track_caller]
    fn steps(&self, dockerfile: &str, change: &dyn Fn(&mut BuildOptions)) -> (Vec<String>, Vec<String>) {
        self.steps_in(&self.path("context"), dockerfile, change)
    }

    #[track_caller]
    fn steps_in(
        &self,
        context: &Path,
        dockerfile: &str,
        change: &dyn Fn(&mut BuildOptions),
    ) -> (Vec<String>, Vec<String>) {
        fs::write(self.path("Dockerfile"), dockerfile).unwrap();
        let mut wanted = options(context);
        wanted.dockerfile = options(self.dir.path()).dockerfile;
        change(&mut wanted);
        let log = Log::default();
        if let Err(error) = self.workshop.build(&self.store, &wanted, &log) {
            panic!("{dockerfile}\n{error}: {error:?}");
        }
        log.steps()
    }
}

type Change<'a> = (&'a str, &'a dyn Fn(&mut BuildOptions));
const AS_IT_IS: &dyn Fn(&mut BuildOptions) = &|_| ();

/// Builds every one of `inputs`, which differ, and looks at the command in it: it may not be found, since nothing like it was
/// made before; but when all is built again, each is.
fn each_has_a_key_of_its_own(place: &Place, inputs: &[Change<'_>]) {
    for (text, change) in inputs {
        let (done, _) = place.steps(text, change);
        assert!(done.iter().any(|step| step.contains("RUN")), "{text} was found in the cache");
    }
    for (text, change) in inputs {
        assert_eq!(place.steps(text, change).0, [""; 0], "{text}");
    }
}

#[test]
fn every_input_of_a_command_is_in_its_key() {
    let place = Place::new("a table of keys");
    if !place.workshop.runs() {
        return;
    }
    let with = |set: fn(&mut BuildOptions)| -> Box<dyn Fn(&mut BuildOptions)> { Box::new(set) };
    let shm = with(|o| o.steps.shm_size = Some(1 << 20));
    let limit = with(|o| o.steps.limits = vec![Limit { resource: Resource::Nofile, soft: Some(100), hard: Some(100) }]);
    let arg = with(|o| o.build_args = vec![("V".into(), Some("2".into()))]);
    let host = with(|o| o.build_args = vec![("BUILDKIT_SANDBOX_HOSTNAME".into(), Some("own".into()))]);
    let network = with(|o| o.network = Some("none".into()));
    let epoch = with(|o| o.source_date_epoch = Some(1));
    let clamp = with(|o| (o.source_date_epoch, o.rewrite_timestamp) = (Some(1), true));
    let inputs: Vec<Change<'_>> = vec![
        ("FROM base\nRUN true", AS_IT_IS),
        ("FROM base\nRUN true ", &*shm),
        ("FROM base\nRUN true ", &*limit),
        ("FROM base\nRUN true ", &*host),
        ("FROM base\nRUN true ", &*network),
        ("FROM base\nRUN true ", &*epoch),
        ("FROM base\nRUN true ", &*clamp),
        ("FROM base\nRUN true true", AS_IT_IS),
        ("FROM base\nRUN [\"true\"]", AS_IT_IS),
        ("FROM base\nRUN [\"true\", \"\"]", AS_IT_IS),
        ("FROM base\nRUN [\"true\", \"a\", \"b\"]", AS_IT_IS),
        ("FROM base\nRUN [\"true\", \"a b\"]", AS_IT_IS),
        ("FROM base\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN true", AS_IT_IS),
        ("FROM base\nENV A=1\nRUN true", AS_IT_IS),
        ("FROM base\nENV A=1=\nRUN true", AS_IT_IS),
        ("FROM base\nENV A=1 B=\nRUN true", AS_IT_IS),
        ("FROM base\nARG V\nRUN true", AS_IT_IS),
        ("FROM base\nARG V=\nRUN true", AS_IT_IS),
        ("FROM base\nARG V=1\nRUN true", AS_IT_IS),
        ("FROM base\nARG V\nRUN true", &*arg),
        ("FROM base\nENV V=1\nRUN true", AS_IT_IS),
        ("FROM base\nUSER 5\nRUN true", AS_IT_IS),
        ("FROM base\nUSER 5:6\nRUN true", AS_IT_IS),
        ("FROM base\nWORKDIR /tmp\nRUN true", AS_IT_IS),
        ("FROM scratch\nCOPY a /\nFROM base\nCOPY a /\nRUN true", AS_IT_IS),
        ("FROM base\nRUN <<EOF\ntrue\nEOF\nRUN <<EOF\n#!/bin/sh\ntrue\nEOF\nRUN true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=tmpfs,target=/m true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=tmpfs,target=/n true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=tmpfs,target=/m,size=4096 true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=tmpfs,target=/m --mount=type=tmpfs,target=/n true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=cache,target=/m true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=cache,target=/m,mode=700 true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=cache,target=/m,uid=1 true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=cache,target=/m,gid=1 true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=cache,target=/m,ro true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=cache,target=/m,from=base true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=cache,target=/m,from=base,source=/bin true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=secret,id=s true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=secret,id=t true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=secret,id=s,env=S true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=secret,id=s,mode=444 true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=secret,id=s,uid=7 true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=ssh true", AS_IT_IS),
        ("FROM base\nRUN --mount=type=ssh,id=o true", AS_IT_IS),
        ("FROM base\nRUN --mount=target=/m true", AS_IT_IS),
        ("FROM base\nRUN --mount=target=/m,rw true", AS_IT_IS),
        ("FROM base\nRUN --mount=target=/m,source=dir true", AS_IT_IS),
        ("FROM base\nRUN --mount=target=/m,source=dir/x true", AS_IT_IS),
        ("FROM base\nRUN --mount=target=/m,from=base true", AS_IT_IS),
        ("FROM base\nRUN --mount=target=/m,from=base,source=/bin true", AS_IT_IS),
    ];
    each_has_a_key_of_its_own(&place, &inputs);
    place.base(&[("more", "")]);
    each_has_a_key_of_its_own(&place, &[("FROM base\nRUN true", AS_IT_IS)]);
    // What a mount shows.
    let mounts = "FROM base\nRUN --mount=target=/m,source=dir true";
    for change in ["2", "other"] {
        fs::write(place.path("context/dir/x"), change).unwrap();
        each_has_a_key_of_its_own(&place, &[(mounts, AS_IT_IS)]);
    }
}

#[test]
fn every_input_of_a_copy_is_in_its_key() {
    let place = Place::new("a table of keys");
    let unchanged = "FROM base\nCOPY dir /to/\n";
    let inputs: Vec<Change<'_>> = [
        unchanged,
        "FROM base\nCOPY dir/ /to\nCOPY dir /to/",
        "FROM base\nADD dir /to/",
        "FROM base\nCOPY dir /to/x",
        "FROM base\nWORKDIR /tmp\nCOPY dir to/",
        "FROM base\nCOPY dir/x dir/y /to/",
        "FROM base\nCOPY dir/y dir/x a /to/",
        "FROM base\nCOPY --chmod=700 dir /to/",
        "FROM base\nCOPY --chmod=u+x dir /to/",
        "FROM base\nCOPY --chown=1 dir /to/",
        "FROM base\nCOPY --chown=1:2 dir /to/",
        "FROM base\nCOPY --link dir /to/",
        "FROM base\nCOPY --parents dir /to/",
        "FROM base\nCOPY --exclude=x dir /to/",
        "FROM base\nCOPY --exclude=nothing dir /to/",
        "FROM scratch\nCOPY dir /to/",
        "FROM base\nCOPY <<x <<y /to/\n1\nx\n2\ny",
        "FROM base\nCOPY <<x <<y /to/\n1\n2\nx\ny",
        "FROM base\nWORKDIR /to",
        "FROM base\nUSER 3\nWORKDIR /to",
        "FROM base\nWORKDIR /to/x",
    ]
    .map(|text| (text, AS_IT_IS))
    .to_vec();
    // A step is told by its words: the last line of a here-document has none.
    for (text, change) in &inputs {
        assert!(!place.steps(text, change).0.is_empty(), "{text} was found in the cache");
    }
    for (text, change) in &inputs {
        assert_eq!(place.steps(text, change).0, [""; 0], "{text}");
    }
    // What is selected.
    let x = place.path("context/dir/x");
    let edits: [(&str, &dyn Fn()); 8] = [
        ("bytes", &|| fs::write(&x, "9").unwrap()),
        ("the mode", &|| fs::set_permissions(&x, Permissions::from_mode(0o755)).unwrap()),
        ("a directory's mode", &|| {
            fs::set_permissions(x.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
            fs::create_dir(x.with_file_name("sub")).unwrap();
        }),
        ("the name", &|| fs::rename(&x, x.with_file_name("z")).unwrap()),
        ("a link in place of a file", &|| symlink("z", &x).unwrap()),
        ("where the link leads", &|| {
            fs::remove_file(&x).unwrap();
            symlink("y", &x).unwrap();
        }),
        ("one file of two names", &|| {
            fs::remove_file(x.with_file_name("y")).unwrap();
            fs::hard_link(x.with_file_name("z"), x.with_file_name("y")).unwrap();
        }),
        ("what is left out", &|| fs::write(place.path("context/.dockerignore"), "dir/z").unwrap()),
    ];
    for (what, edit) in edits {
        edit();
        assert!(!place.steps(unchanged, AS_IT_IS).0.is_empty(), "{what}: found in the cache");
        assert_eq!(place.steps(unchanged, AS_IT_IS).0, [""; 0], "{what}");
    }
}

#[test]
fn what_is_knowingly_left_out_changes_nothing() {
    let place = Place::new("what is left out of keys");
    let run = if place.workshop.runs() {
        "RUN --mount=type=secret,id=s --mount=type=cache,target=/c,id=one,sharing=locked echo 1 > /o; date >> /c/log\n"
    } else {
        ""
    };
    let text = format!("FROM base\nCOPY dir /to/\n{run}COPY --from=base /bin/sh /sh\n");
    let (first, _) = place.steps(&text, AS_IT_IS);
    assert_eq!(first.len(), text.lines().count() - 1, "{first:?}");
    let nothing = [""; 0];
    let same: [Change<'_>; 6] = [
        ("nothing", AS_IT_IS),
        ("a secret", &|o| drop(o.steps.secrets.insert("s".into(), SecretBytes::new(b"hush".to_vec())))),
        ("a host", &|o| o.add_hosts = vec![("a".into(), "127.0.0.1".into())]),
        ("a proxy", &|o| o.build_args = vec![("HTTP_PROXY".into(), Some("http://p:1".into()))]),
        ("an authority", &|o| o.steps.authorities = Some(b"-----BEGIN".to_vec())),
        ("a label", &|o| o.labels = vec![("l".into(), "1".into())]),
    ];
    for (what, change) in same {
        assert_eq!(place.steps(&text, change).0, nothing, "{what}");
    }
    // Times, what is not selected, and where the context lies.
    let x = File::open(place.path("context/dir/x")).unwrap();
    x.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))).unwrap();
    fs::write(place.path("context/other"), "changed").unwrap();
    fs::write(place.path("context/.dockerignore"), "a").unwrap();
    assert_eq!(place.steps(&text, AS_IT_IS).0, nothing, "times");
    fs::rename(place.path("context"), place.path("elsewhere")).unwrap();
    assert_eq!(place.steps_in(&place.path("elsewhere"), &text, AS_IT_IS).0, nothing, "the path");
    let caches = text.replace("id=one,sharing=locked", "id=two");
    let found = place.steps_in(&place.path("elsewhere"), &caches, AS_IT_IS);
    assert_eq!(found.0, nothing, "which cache");
}

#[test]
fn lookups_go_on_after_a_miss() {
    let place = Place::new("lookups after a miss");
    let run =
        |n: u8| if place.workshop.runs() { format!("RUN echo {n} > /r{n}\n") } else { format!("WORKDIR /r{n}\n") };
    let text = format!(
        "FROM base AS one\nCOPY a dir /x/\n{}COPY other /y\n\
         FROM base AS two\nCOPY other /z\n{}\
         FROM base AS unneeded\nCOPY nothing-like-it /\n\
         FROM one\nCOPY --from=two /z /z\nCOPY --from=one /x/x /one-x\n",
        run(1),
        run(2),
    );
    assert_eq!(place.steps(&text, AS_IT_IS).0.len(), 7);
    // An early COPY that selects more, but writes what it wrote: only it is carried out again.
    let again = text.replace("COPY a dir /x/", "COPY a dir/x dir/y /x/");
    let (done, cached) = place.steps(&again, AS_IT_IS);
    assert_eq!((done.len(), cached.len()), (1, 6), "{done:?}");
    assert!(done[0].contains("COPY a dir/x"), "{done:?}");
    // One with another result: what stands on it, and what reads what changed; the other stage is not touched.
    fs::write(place.path("context/a"), "changed").unwrap();
    let (done, cached) = place.steps(&text, AS_IT_IS);
    assert!(cached.iter().any(|step| step.contains("COPY other /z")), "{cached:?}");
    assert!(done.iter().all(|step| !step.contains("[two")), "{done:?}");
    // A stage read by COPY --from whose tree changed elsewhere than where it is read.
    fs::write(place.path("context/other"), "4\n").unwrap();
    let reads = "FROM base AS one\nCOPY a other /x/\nFROM base\nCOPY --from=one /x/a /a\n";
    place.steps(reads, AS_IT_IS);
    fs::write(place.path("context/other"), "5\n").unwrap();
    let (done, cached) = place.steps(reads, AS_IT_IS);
    assert_eq!((done.len(), cached.len()), (1, 1), "{done:?}");
    // A comment, a moved line, another name of a stage.
    let same = reads.replace("one", "uno").replace("COPY a", "# said\n\nCOPY   a");
    assert_eq!(place.steps(&same, AS_IT_IS).0, [""; 0]);
}

#[test]
fn what_is_told_not_to_be_taken_from_the_cache_is_made_again() {
    let place = Place::new("--no-cache");
    let text =
        "FROM base AS one\nCOPY a /a\nFROM base AS two\nCOPY other /o\nFROM one\nCOPY --from=two /o /o\nWORKDIR /w\n";
    let count = |change: &dyn Fn(&mut BuildOptions)| {
        let (done, cached) = place.steps(text, change);
        (done.len(), cached.len())
    };
    assert_eq!(count(AS_IT_IS), (4, 0));
    assert_eq!(count(&|o| o.no_cache = true), (4, 0));
    assert_eq!(count(AS_IT_IS), (0, 4), "what was made so is kept");
    let (done, cached) = place.steps(text, &|o| o.no_cache_stages = vec!["TWO".into()]);
    assert_eq!((done.len(), cached.len()), (1, 3), "{done:?}");
    assert!(done[0].contains("COPY other /o"), "{done:?}");
    assert_eq!(count(&|o| o.no_cache_stages = vec!["one".into(), "two".into()]), (2, 2));
    // A cache that was filled by `--no-cache` alone.
    let other = Place::new("--no-cache");
    other.steps(text, &|o| o.no_cache = true);
    assert_eq!(other.steps(text, AS_IT_IS).0, [""; 0]);
}
