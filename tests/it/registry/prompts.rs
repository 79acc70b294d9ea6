//! `dockless login` as a person uses it, at a terminal.

use super::verbs::User;
use crate::support::registry::{Options, Registry};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};

/// A terminal, and `dockless` at it.
struct Terminal {
    /// The person's end.
    person: File,
    /// The program's end, kept open so that its modes can be looked at.
    program: File,
    child: Child,
    /// What was said so far on standard error.
    said: String,
}

impl Terminal {
    fn start(user: &User, arguments: &[&str]) -> Terminal {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        let program = File::options().read(true).write(true).open(name).unwrap();
        let mut command = user.command(arguments);
        let command = command.stdin(program.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        Terminal { person: person.into(), program, child, said: String::new() }
    }

    /// Reads until `text` was said.
    fn wait_for(&mut self, text: &str) {
        let mut byte = [0];
        while !self.said.ends_with(text) {
            let got = self.child.stderr.as_mut().unwrap().read(&mut byte).unwrap();
            assert_eq!(got, 1, "'{text}' was not asked: {}", self.said);
            self.said.push(byte[0] as char);
        }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.program).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Exit code, standard output, and what the terminal showed of what was typed.
    fn end(mut self) -> (Option<i32>, String, String) {
        let mut stdout = String::new();
        self.child.stdout.as_mut().unwrap().read_to_string(&mut stdout).unwrap();
        let code = self.child.wait().unwrap().code();
        assert!(self.echoes(), "the terminal is left without echo");
        // With the program's end closed a read ends with EIO.
        drop(self.program);
        let mut shown = Vec::new();
        let _ = self.person.read_to_end(&mut shown);
        (code, stdout, String::from_utf8_lossy(&shown).into_owned())
    }
}

fn locked() -> Registry {
    Registry::start_with(Options { login: Some(("me".into(), "hunter2".into())), ..Options::default() })
}

#[test]
fn login_asks_for_user_and_password() {
    let registry = locked();
    let user = User::new();
    for (arguments, password, expected) in [
        (&["login", registry.host()][..], "wrong", (Some(1), "")),
        (&["login", registry.host()], "hunter2", (Some(0), "Login Succeeded\n")),
        (&["login", "-u", "me", registry.host()], "hunter2", (Some(0), "Login Succeeded\n")),
    ] {
        let mut terminal = Terminal::start(&user, arguments);
        if !arguments.contains(&"-u") {
            terminal.wait_for("Username: ");
            terminal.person.write_all(b"me\n").unwrap();
        }
        terminal.wait_for("Password: ");
        assert!(!terminal.echoes());
        terminal.person.write_all(format!("{password}\n").as_bytes()).unwrap();
        let asks_user = !arguments.contains(&"-u");
        let (code, stdout, shown) = terminal.end();
        assert_eq!((code, stdout.as_str()), expected);
        assert!(shown.contains("me") == asks_user && !shown.contains(password), "{shown:?}");
    }
    user.ok(&["pull", "-q", &registry.put_base("busybox")]);
}

/// A signal while nothing is shown: the terminal is as it was, and the exit code says what happened.
#[test]
fn an_interrupted_question_leaves_the_terminal_as_it_was() {
    let user = User::new();
    let mut terminal = Terminal::start(&user, &["login", "-u", "me", "127.0.0.1:1"]);
    terminal.wait_for("Password: ");
    kill_process(Pid::from_child(&terminal.child), Signal::INT).unwrap();
    let (code, stdout, _) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(130), ""));
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let user = User::new();
    for (arguments, missing) in [
        (&["login", "127.0.0.1:1"][..], "the user is missing"),
        (&["login", "-u", "me", "127.0.0.1:1"], "the password"),
    ] {
        let told = user.run(arguments);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""));
        for words in [missing, "standard input is no terminal", "--password-stdin"] {
            assert!(told.stderr.contains(words), "{words}: {}", told.stderr);
        }
    }
}
