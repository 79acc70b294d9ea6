//! Questions to a person at a terminal.

use rustix::process::Signal;
use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::io::{self, BufRead, Read, Write};

use crate::sys::SignalSet;

/// An answer is a line, not a file.
const LONGEST: u64 = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody could be asked.
    #[error("standard input is no terminal, so nobody can be asked")]
    NoTerminal,
    /// The terminal failed.
    #[error("cannot ask at the terminal")]
    Terminal(#[from] io::Error),
    /// This signal came instead: Ctrl-C, for one.
    #[error("ended by signal {0}")]
    Signal(i32),
}

/// Asks on standard error and gives the line that is typed. A `hidden` one is not shown on the terminal, whatever ends the
/// question. To be called before the process has other threads, which would get the signals.
pub fn ask(question: &str, hidden: bool) -> Result<String, AskError> {
    if !isatty(stdin()) {
        return Err(AskError::NoTerminal);
    }
    // By default they would end the process, and leave the terminal without echo.
    let signals = SignalSet::block(&[Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].map(Signal::as_raw))?;
    let answer = read_line(question, hidden, &signals);
    signals.unblock();
    answer
}

fn read_line(question: &str, hidden: bool, signals: &SignalSet) -> Result<String, AskError> {
    let quiet = if hidden { Some(Quiet::new()?) } else { None };
    let said = |text: &str| io::stderr().write_all(text.as_bytes());
    said(question)?;
    let caught = signals.wait(Some(stdin()))?;
    let mut line = String::new();
    if caught.is_none() {
        io::stdin().lock().take(LONGEST).read_line(&mut line)?;
    }
    drop(quiet);
    // The line end that was typed was not shown either.
    if hidden || caught.is_some() {
        said("\n")?;
    }
    match caught {
        Some(caught) => Err(AskError::Signal(caught.signal)),
        None => Ok(line.trim_end_matches(['\r', '\n']).to_string()),
    }
}

/// The terminal without echo, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn new() -> io::Result<Quiet> {
        let before = tcgetattr(stdin())?;
        let mut without = before.clone();
        without.local_modes.remove(LocalModes::ECHO);
        // What was typed ahead was shown; it is no answer to this question.
        tcsetattr(stdin(), OptionalActions::Flush, &without)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0); // a terminal that is gone needs no echo
    }
}
