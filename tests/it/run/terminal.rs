//! Containers with a terminal of their own.

use super::{Host, in_every_tier};
use std::fs;
use std::process::Command;

/// Runs a script at a terminal; what was shown there.
fn at_a_terminal(host: &Host, script: &str) -> String {
    let call = host.command(&[]);
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().expect("text").replace('\'', "'\\''"));
    let words: Vec<String> = std::iter::once(call.get_program()).chain(call.get_args()).map(quoted).collect();
    let path = host.place.path("out/script");
    fs::write(&path, format!("dockless() {{ {} \"$@\"; }}\n{script}", words.join(" "))).unwrap();
    // Other than a shell, script(1) gives the terminal a size and a session.
    let mut shown = Command::new("script");
    shown.args(["-qec", &format!("sh {}", path.display()), "/dev/null"]).current_dir(host.place.path(""));
    shown.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("SHELL", "/bin/sh");
    shown.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = shown.spawn().expect("script(1) is installed");
    // Its end would be typed in.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    fs::remove_file(path).unwrap();
    String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n")
}

#[test]
fn has_a_terminal_of_its_own() {
    in_every_tier("terminals of containers", |host| {
        // Without one of the caller's.
        let shown =
            host.prints(&["run", "--rm", "-t", "app", "sh", "-c", "tty | grep -c '^/dev/pts/[0-9]'; echo $TERM"]);
        assert_eq!(shown, "1\r\nxterm\r\n", "{}", host.what(&[]));
        let script = "stty rows 33 cols 99; stty -a > out/before
            dockless run --rm -it app sh -c 'stty size; test -t 0 && test -t 1 && test -t 2 && echo all; stty -a | grep -c \" echo \"'
            echo \"code $?\"; stty -a > out/after; cmp out/before out/after && echo restored
            dockless run --rm app sh -c 'test -t 1 || echo none'";
        let shown = at_a_terminal(host, script);
        assert_eq!(shown, "33 99\nall\n1\ncode 0\nrestored\nnone\n", "{}", host.what(&[]));
        for name in ["out/before", "out/after"] {
            fs::remove_file(host.place.path(name)).unwrap();
        }
        host.prints(&[
            "run",
            "-dt",
            "--name",
            "bg",
            "app",
            "sh",
            "-c",
            "tty; trap 'exit 0' TERM; while :; do sleep 0.05; done",
        ]);
        let shown = host.prints(&["exec", "-t", "bg", "sh", "-c", "test -t 1 && echo yes"]);
        assert_eq!(shown, "yes\r\n", "{}", host.what(&[]));
        host.gives(&["rm", "-f", "bg"], 0, "bg\n");
        host.call(&["ps"]).succeeded();
    });
}
