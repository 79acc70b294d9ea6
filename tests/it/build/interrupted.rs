//! Builds that are told to stop.

use super::place::{Place, callers, was_pushed};
use crate::support::registry::Registry;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

/// Whether a process with `word` in its command line runs anywhere.
fn running(word: &str) -> bool {
    let lines =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.into_iter().any(|line| line.split(|b| *b == 0).any(|argument| argument == word.as_bytes()))
}

#[test]
fn a_signal_ends_a_build_and_leaves_nothing() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    for (nth, caller) in callers("interrupted builds").into_iter().enumerate() {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL] {
            let place = Place::new(caller);
            // A number that no other process has as an argument.
            let long = format!("{}{nth}", 4_000_000 + std::process::id());
            let steps = "RUN echo first > /first\nRUN echo half > /half; sleep 9 & echo started; sleep";
            place.file("Dockerfile", format!("FROM {base}\n{steps} {long}\n"));
            let words = format!("build --progress=plain -t {}/app --push context", registry.host());
            let mut child = place.command(&words, [""; 0]).spawn().unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap());
            let mut said = String::new();
            while !said.ends_with("started\n") {
                assert_ne!(lines.read_line(&mut said).unwrap(), 0, "it ended by itself: {said}");
            }
            // The shell says so before it starts the last command.
            let deadline = Instant::now() + Duration::from_secs(60);
            while !running(&long) {
                assert!(Instant::now() < deadline, "the command does not start: {said}");
                std::thread::yield_now();
            }
            kill_process(Pid::from_child(&child), signal).unwrap();
            lines.read_to_string(&mut said).unwrap();
            let mut stdout = String::new();
            child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
            let status = child.wait().unwrap();
            assert!(!status.success() && stdout.is_empty(), "{caller:?} {signal:?}: {status} {said}");
            // SIGKILL gives nobody the time to wait for the others, which end by themselves.
            let deadline = Instant::now() + Duration::from_secs(60);
            while signal == Signal::KILL && (running(&long) || !place.left().is_empty()) && Instant::now() < deadline {
                std::thread::yield_now();
            }
            assert!(!running(&long), "{caller:?} {signal:?}: the command still runs: {said}");
            assert_eq!(place.left(), Vec::<String>::new(), "{caller:?} {signal:?}");
            assert!(!was_pushed(&registry, "app"));
            // The next build starts clean, with the steps that were done.
            place.file("Dockerfile", format!("FROM {base}\nRUN echo first > /first\nRUN test ! -e /half\n"));
            let next = place.dockless("build --progress=plain context").succeeded();
            assert!(next.stderr.contains("CACHED"), "{}", next.stderr);
        }
    }
}

#[test]
fn a_stage_that_fails_ends_the_others() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    for (nth, caller) in callers("stages that fail").into_iter().enumerate() {
        let place = Place::new(caller);
        let word = format!("slow-{}-{nth}", std::process::id());
        let slow = format!("FROM {base} AS slow\nRUN sh -c 'sleep 120; echo fin\"\"ished' {word}\n");
        let broken = format!("FROM {base} AS broken\nRUN exit 3\n");
        let last = "FROM scratch\nCOPY --from=slow /etc /slow\nCOPY --from=broken /etc /broken\n";
        place.file("Dockerfile", [&slow, &broken, last].concat());
        let ran = place.dockless("build --progress=plain context").failed(1, &["exit code 3", "RUN exit 3"]);
        assert!(!ran.stderr.contains("finished"), "{caller:?}: {}", ran.stderr);
        assert!(!running(&word), "{caller:?}: the other stage's command still runs");
    }
}
