//! Containers in the foreground: what their command finds, and how they end.

use super::in_every_tier;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};

#[test]
fn runs_the_image_as_docker_does() {
    in_every_tier("containers in the foreground", |host| {
        host.gives(&["run", "--rm", "app"], 0, "default\n");
        host.gives(
            &["run", "--rm", "app", "sh", "-c", "echo \"$A $B $PWD $0 $1\"", "x", "y z"],
            0,
            "1 two words /w x y z\n",
        );
        host.gives(
            &["run", "--rm", "-e", "A=9", "-e", "C=3", "-w", "/tmp", "app", "sh", "-c", "echo $A$C $PWD"],
            0,
            "93 /tmp\n",
        );
        host.gives(&["run", "--rm", "-u", "app", "app", "sh", "-c", "id -u; echo $HOME"], 0, "1000\n/home/app\n");
        host.gives(&["run", "--rm", "--entrypoint", "echo", "app", "a", "b"], 0, "a b\n");
        host.gives(&["run", "--rm", "-h", "box", "app", "sh", "-c", "hostname; echo $HOSTNAME"], 0, "box\nbox\n");
        host.gives(
            &["run", "--rm", "--add-host", "far:10.1.2.3", "app", "grep", "far", "/etc/hosts"],
            0,
            "10.1.2.3\tfar\n",
        );
        host.gives(&["run", "--rm", "app", "sh", "-c", "echo out; echo err >&2"], 0, "out\n");
        host.call(&["run", "--rm", "app", "true"]).succeeded();
        assert_eq!(host.prints(&["ps", "-aq"]), "");
    });
}

#[test]
fn ends_with_the_codes_of_docker() {
    in_every_tier("exit codes of containers", |host| {
        for (command, code) in [
            (&["sh", "-c", "exit 3"][..], 3),
            (&["sh", "-c", "kill -9 $$"], 137),
            (&["nosuch"], 127),
            (&["/nosuch"], 127),
            (&["/seed"], 126),
            (&["/etc/passwd"], 126),
        ] {
            host.gives(&[&["run", "--rm", "app"], command].concat(), code, "");
        }
        host.gives(&["run", "--rm", "--pull", "never", "nosuch"], 125, "");
        host.gives(&["run", "--nosuch", "app"], 125, "");
        host.gives(&["run", "--rm", "-u", "nobody-here", "app", "true"], 125, "");
        host.call(&["run", "--rm", "app", "true"]).succeeded();
    });
}

#[test]
fn hands_input_on_where_it_is_asked_to() {
    in_every_tier("input of containers", |host| {
        host.given("in\n", &["run", "--rm", "-i", "app", "cat"], "in\n");
        host.given("in\n", &["run", "--rm", "app", "cat"], "");
        // More than pipes hold, so that both ends have to be served at once.
        let long = "x".repeat(1 << 20);
        host.given(&long, &["run", "--rm", "-i", "app", "cat"], &long);
    });
}

#[test]
fn passes_signals_on() {
    in_every_tier("signals to containers", |host| {
        let script = "trap 'echo term; exit 7' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done";
        let mut child = host.command(&["run", "--rm", "app", "sh", "-c", script]).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut next = || lines.next().expect("a line").expect("text");
        assert_eq!(next(), "ready");
        let pid = Pid::from_raw(child.id() as i32).expect("a pid");
        kill_process(pid, Signal::USR1).expect("it runs");
        assert_eq!(next(), "usr1");
        kill_process(pid, Signal::TERM).expect("it runs");
        assert_eq!(next(), "term");
        assert_eq!(child.wait().expect("it ends").code(), Some(7), "{}", host.what(&[]));
        host.call(&["ps"]).succeeded();
    });
}

#[test]
fn a_container_stays_until_it_is_removed() {
    in_every_tier("containers that have ended", |host| {
        host.gives(
            &["run", "--name", "one", "app", "sh", "-c", "echo out; echo err >&2; echo x > /kept; exit 4"],
            4,
            "out\n",
        );
        host.gives(&["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.State}}"], 0, "one app exited\n");
        host.gives(&["logs", "one"], 0, "out\n");
        host.gives(&["wait", "one"], 0, "4\n");
        host.gives(&["run", "--name", "one", "app"], 125, "");
        host.gives(&["start", "-a", "one"], 4, "out\n");
        host.gives(&["logs", "-n", "2", "one"], 0, "out\n");
        host.gives(
            &["container", "inspect", "-f", "{{.State.ExitCode}} {{.Config.Cmd}}", "one"],
            0,
            "4 [sh -c echo out; echo err >&2; echo x > /kept; exit 4]\n",
        );
        host.gives(&["rename", "one", "two"], 0, "");
        host.gives(&["cp", "two:/kept", "out/kept"], 0, "");
        assert_eq!(std::fs::read_to_string(host.place.path("out/kept")).unwrap(), "x\n");
        host.gives(&["rm", "two"], 0, "two\n");
        host.gives(&["rm", "two"], 1, "");
        let id = host.prints(&["create", "--name", "three", "app"]);
        assert_eq!(id, host.prints(&["ps", "-aq", "--no-trunc"]));
        // What a loss of power may leave is no container, and goes with the next prune.
        let damaged = host.place.state().join("containers/damaged");
        std::fs::create_dir(&damaged).unwrap();
        std::fs::write(damaged.join("config.json"), "").unwrap();
        std::os::unix::fs::chown(&damaged, host.place.uid(), host.place.uid()).unwrap();
        let pruned = host.prints(&["container", "prune", "--force"]);
        assert!(pruned.starts_with(&format!("Deleted Containers:\n{id}\nTotal reclaimed space: ")), "{pruned}");
        assert!(!damaged.exists(), "{}", host.what(&[]));
        assert_eq!(host.prints(&["ps", "-aq"]), "");
        host.call(&["ps"]).succeeded();
    });
}
