//! A context that did not change is not read again.

use super::workshop::{Log, Workshop, options, place};
use dockless::build::copy::{CopyRequest, selection_digest};
use dockless::build::{BuildOptions, Built};
use dockless::context::{ContextDir, Stats};
use dockless::store::Store;
use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Bytes that this process has asked of files so far: proc_pid_io(5).
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

fn build(workshop: &Workshop, store: &Store, wanted: &BuildOptions) -> (Built, usize) {
    let log = Log::default();
    let built = workshop.build(store, wanted, &log).unwrap();
    (built, log.steps().0.len())
}

#[test]
fn what_did_not_change_is_not_read_and_what_did_is() {
    let (dir, workshop) = (place(), Workshop::new("stat cache"));
    let (root, context) = (dir.path().join("store"), dir.path().join("context"));
    fs::create_dir(&context).unwrap();
    let big = context.join("big");
    fs::write(&big, vec![b'x'; 8 << 20]).unwrap();
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY big /big\n").unwrap();
    let store = Store::open(&root).unwrap();
    let wanted = options(&context);
    build(&workshop, &store, &wanted);
    // It has just changed: it is read again, and remembered once it is old enough.
    std::thread::sleep(Duration::from_millis(3100)); // the grain of the clock, which is what is tested
    build(&workshop, &store, &wanted);
    let before = bytes_read();
    assert_eq!(build(&workshop, &store, &wanted).1, 0);
    let read = bytes_read() - before;
    assert!(read < 4 << 20, "{read} bytes were read of a context that did not change");
    // Other bytes of the same number, at the same time.
    let time = fs::metadata(&big).unwrap().modified().unwrap();
    fs::write(&big, vec![b'y'; 8 << 20]).unwrap();
    File::open(&big).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    assert_eq!(build(&workshop, &store, &wanted).1, 1);
    // What is remembered is damaged.
    for entry in fs::read_dir(root.join("records/context-stats")).unwrap() {
        fs::write(entry.unwrap().path(), "nonsense").unwrap();
    }
    assert_eq!(build(&workshop, &store, &wanted).1, 0);
    let uncached = BuildOptions { no_cache: true, ..wanted };
    assert_eq!(build(&workshop, &store, &uncached).1, 1);
}

/// A context of 20,000 files.
fn many_files(dir: &Path) {
    for number in 0..20_000 {
        let sub = dir.join(format!("d{}/e{}", number % 20, number % 400));
        if number < 400 {
            fs::create_dir_all(&sub).unwrap();
        }
        let file = sub.join(format!("file-{number}.js"));
        fs::write(&file, format!("module.exports = {number};\n").repeat(20)).unwrap();
    }
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement")]
fn twenty_thousand_files() {
    let dir = tempfile::tempdir().unwrap();
    many_files(dir.path());
    std::thread::sleep(Duration::from_secs(4));
    let hash = |stats: Stats| {
        let context = ContextDir::open(dir.path(), None).unwrap();
        context.bring(stats);
        let sources = [".".to_string()];
        let request = CopyRequest { sources: &sources, ..CopyRequest::PLAIN };
        let start = Instant::now();
        let digest = selection_digest(&request, &context).unwrap();
        let took = start.elapsed();
        (digest, took, context.stats().and_then(Stats::encode))
    };
    let (digest, cold, bytes) = hash(Stats::default());
    let bytes = bytes.unwrap();
    let start = Instant::now();
    let stats = Stats::decode(&bytes);
    let decoding = start.elapsed();
    let (again, warm, _) = hash(stats);
    assert_eq!(digest, again);
    let now = SystemTime::now();
    eprintln!("20,000 files: cold {cold:?}, unchanged {warm:?} and {decoding:?} to read what is known ({now:?})");
}
