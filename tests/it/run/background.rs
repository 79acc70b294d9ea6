//! Containers in the background, and what can be done with them while they run.

use super::{Host, in_every_tier};
use rustix::process::{Pid, Signal, kill_process};

const LOOP: &str = "trap 'echo got term; exit 7' TERM; echo up; while :; do sleep 0.05; done";

/// Starts one that runs until it is told to end, and waits until its command is at work.
fn start(host: &Host, name: &str) {
    let id = host.prints(&["run", "-d", "--name", name, "app", "sh", "-c", LOOP]);
    assert_eq!(id.trim().len(), 64, "{id}");
    // Only then is the trap set.
    while host.prints(&["logs", name]) != "up\n" {
        std::thread::yield_now();
    }
}

#[test]
fn runs_further_commands() {
    in_every_tier("further commands in containers", |host| {
        start(host, "bg");
        host.gives(&["ps", "--format", "{{.Names}} {{.State}}"], 0, "bg running\n");
        host.gives(&["exec", "bg", "sh", "-c", "echo $A $PWD; cat /seed/file"], 0, "1 /w\nseeded\n");
        host.gives(
            &["exec", "-u", "app", "-w", "/tmp", "-e", "Q=2", "bg", "sh", "-c", "id -u; echo $PWD $Q"],
            0,
            "1000\n/tmp 2\n",
        );
        host.gives(&["exec", "bg", "sh", "-c", "exit 9"], 9, "");
        host.gives(&["exec", "bg", "nosuch"], 127, "");
        host.gives(&["exec", "bg", "/seed"], 126, "");
        host.given("in\n", &["exec", "-i", "bg", "cat"], "in\n");
        host.gives(&["exec", "-d", "bg", "sh", "-c", "echo done > /detached"], 0, "");
        host.gives(&["docker", "inspect", "-f", "{{.State.Running}}", "bg"], 0, "true\n");
        host.gives(&["docker", "container", "ls", "--format", "{{.Names}}"], 0, "bg\n");
        // They see one another.
        host.gives(&["exec", "bg", "sh", "-c", "while ! [ -s /detached ]; do :; done; cat /detached"], 0, "done\n");
        host.gives(&["exec", "bg", "sh", "-c", "ps | grep -c 'got [t]erm'"], 0, "1\n");
        host.gives(&["start", "bg"], 0, "bg\n");
        host.gives(&["rm", "bg"], 1, "");
        host.gives(&["stop", "bg"], 0, "bg\n");
        host.gives(&["wait", "bg"], 0, "7\n");
        host.gives(&["logs", "bg"], 0, "up\ngot term\n");
        host.gives(&["exec", "bg", "true"], 1, "");
        host.gives(&["start", "bg"], 0, "bg\n");
        host.gives(&["exec", "bg", "cat", "/detached"], 0, "done\n");
        host.gives(&["kill", "bg"], 0, "bg\n");
        host.gives(&["wait", "bg"], 0, "137\n");
        host.gives(&["rm", "-f", "bg"], 0, "bg\n");
        host.call(&["ps", "-a"]).succeeded();
    });
}

#[test]
fn ends_with_its_keeper() {
    in_every_tier("containers whose keeper is killed", |host| {
        start(host, "bg");
        let keeper = host.prints(&["container", "inspect", "-f", "{{.State.Pid}}", "bg"]);
        let keeper = Pid::from_raw(keeper.trim().parse().expect("a pid")).expect("a pid");
        kill_process(keeper, Signal::KILL).expect("it runs");
        host.gives(&["wait", "bg"], 0, "137\n");
        host.gives(&["ps", "-a", "--format", "{{.Names}} {{.State}}"], 0, "bg exited\n");
        while !host.place.left().is_empty() {
            std::thread::yield_now(); // the kernel kills what is left of it
        }
        host.gives(&["start", "bg"], 0, "bg\n");
        host.gives(&["rm", "-f", "bg"], 0, "bg\n");
        host.call(&["ps", "-a"]).succeeded();
    });
}

#[test]
fn tells_why_it_did_not_start() {
    in_every_tier("containers that do not start", |host| {
        host.gives(&["run", "-d", "--name", "bad", "app", "nosuch"], 127, "");
        host.gives(&["ps", "-a", "--format", "{{.Names}} {{.State}}"], 0, "bad created\n");
        host.gives(&["run", "-d", "--rm", "app", "nosuch"], 127, "");
        host.gives(&["ps", "-aq", "--filter", "name=bad", "--format", "x"], 0, &host.prints(&["ps", "-aq"]));
        host.call(&["rm", "bad"]).succeeded();
    });
}

#[test]
fn follows_what_it_writes() {
    in_every_tier("logs that are followed", |host| {
        let script = "echo one; sleep 0.3; echo two; exit 3";
        host.prints(&["run", "-d", "--name", "bg", "app", "sh", "-c", script]);
        host.gives(&["logs", "-f", "bg"], 0, "one\ntwo\n");
        host.gives(&["wait", "bg"], 0, "3\n");
        let stamped = host.prints(&["logs", "-t", "--tail", "1", "bg"]);
        assert!(stamped.ends_with("Z two\n"), "{stamped}");
        host.call(&["rm", "bg"]).succeeded();
    });
}

#[test]
fn is_removed_when_it_ends() {
    in_every_tier("containers that remove themselves", |host| {
        host.prints(&["run", "-d", "--rm", "--name", "bg", "app", "sh", "-c", "cat /seed/file; sleep 1; exit 5"]);
        host.gives(&["wait", "bg"], 0, "5\n");
        while !host.prints(&["ps", "-aq"]).is_empty() || !host.place.left().is_empty() {
            std::thread::yield_now();
        }
        host.call(&["ps", "-a"]).succeeded();
    });
}
