//! Caches in directories.

use super::{Count, Job, Project};
use crate::support::registry::Registry;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

fn files(dir: &Path) -> BTreeMap<String, SystemTime> {
    let blobs = fs::read_dir(dir.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap());
    blobs
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().modified().unwrap()))
        .collect()
}

#[test]
fn a_directory_goes_from_job_to_job() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let dockerfile = format!("FROM {base}\nRUN head -c 300000 /dev/urandom > /lib\nCOPY late /late\n");
    let project = Project::default().with("Dockerfile", dockerfile).with("late", "1");
    let shared = tempfile::tempdir().unwrap();
    let dir = shared.path().join("cache");
    let flags = format!("--cache-from type=local,src={0} --cache-to type=local,dest={0}", dir.display());
    let app = format!("{}/app:1", registry.host());
    let first = Job::new(&project).build(&format!("{flags} -t {app} --push"));
    let written = files(&dir);
    let count = Count::of(&registry);
    let again = Job::new(&project).build(&format!("{flags} -t {app} --push"));
    assert_eq!((again.missed(), again.digest()), (vec![], first.digest()), "{}", again.0.stderr);
    assert_eq!(count.blob_bytes("library/busybox", 10_000), 0);
    assert_eq!(files(&dir), written, "nothing new: nothing is written");
    // One layer more, its list, a config and a manifest; the config and manifest before them go.
    let log = Job::new(&project.with("late", "2")).build(&format!("{flags} -t {app} --push"));
    assert_eq!(log.missed(), ["COPY late /late"]);
    assert_eq!(count.blob_bytes("library/busybox", 10_000), 0);
    let now = files(&dir);
    let kept = written.iter().filter(|(name, time)| now.get(*name) == Some(time)).count();
    assert_eq!((kept, now.len()), (written.len() - 2, written.len() + 2));
}
