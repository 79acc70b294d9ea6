//! Cache mounts from job to job.

use super::{Job, Project};
use crate::build::place::tool;
use crate::support::registry::Registry;
use std::path::Path;

fn project(base: &str, command: &str) -> Project {
    let run = format!("FROM {base}\nRUN --mount=type=cache,target=/kept,sharing=locked {command}\n");
    Project::default().with("Dockerfile", run)
}

fn bytes(dir: &Path) -> u64 {
    tool("du", ["-sb", dir.to_str().unwrap()]).split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn what_steps_keep_goes_from_job_to_job() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let shared = tempfile::tempdir().unwrap();
    let cache = format!("{}/cache", registry.host());
    let dir = shared.path().join("cache");
    let blobs = registry.data().join("docker/registry/v2/blobs");
    let first = "head -c 9000000 /dev/urandom > /kept/large; echo one > /kept/small; chown 7:8 /kept/small; ln -s small /kept/link";
    let second = "test $(wc -c < /kept/large) = 9000000 && grep one /kept/link && test $(stat -c %u:%g /kept/small) = 7:8 && \
                  echo two > /kept/small";
    let third = "grep two /kept/link > /found";
    for (place, kept) in [
        (format!("type=registry,ref={cache}"), blobs.clone()),
        (format!("type=local,{{}}={}", dir.display()), dir.clone()),
    ] {
        let flags = |more: &str| {
            format!("--cache-from {} --cache-to {}{more}", place.replace("{}", "src"), place.replace("{}", "dest"))
        };
        Job::new(&project(&base, first)).build(&flags(""));
        let before = bytes(&kept);
        let log = Job::new(&project(&base, second)).build(&flags(""));
        log.says("a cache mount begins with what");
        let more = bytes(&kept).saturating_sub(before);
        // At most two pieces of at most 4 MiB hold what changed, and there are no other large things.
        assert!(more < 9_000_000 && before > 9_000_000, "{before} and {more} more");
        Job::new(&project(&base, third)).build(&flags(""));
        // A step that is found in the cache uses no mount, and the mount stays there nevertheless.
        Job::new(&project(&base, third)).build(&flags(""));
        Job::new(&project(&base, &format!("{third}er"))).build(&flags(""));
        // There is no room for it: the build goes on, and the next one finds none.
        let log = Job::new(&project(&base, "head -c 2000000 /dev/urandom > /kept/more")).build(&flags(",size=1m"));
        log.says("a cache mount is not exported: it has more than 524288 bytes");
    }
}

/// What is wrong with the pieces is a warning, and the mount begins empty.
#[test]
fn a_damaged_mount_begins_empty() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let shared = tempfile::tempdir().unwrap();
    let dir = shared.path().join("cache");
    let flags = format!("--cache-from type=local,src={0} --cache-to type=local,dest={0}", dir.display());
    Job::new(&project(&base, "head -c 3000000 /dev/urandom > /kept/large")).build(&flags);
    for entry in std::fs::read_dir(dir.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        if std::fs::read(&path).unwrap().starts_with(b"dockless/piece") {
            std::fs::write(&path, "garbage").unwrap();
        }
    }
    let log = Job::new(&project(&base, "test ! -e /kept/large")).build(&flags);
    log.says("warning: what a cache mount held is not used");
}
