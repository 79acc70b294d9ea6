//! Everything that a person sees: progress, diagnostics, exit codes.
//!
//! Progress and diagnostics go to standard error, results (a digest, a table) to standard output, and nothing else in
//! the crate prints. `ui` reads no environment: [`Terminal`] says what the caller found.
//!
//! A [`Screen`] is made in the process that does the work, takes its [`Event`]s as [`Progress`], and is closed by
//! [`Screen::succeed`] or [`Screen::fail`], which say again what must not be missed: warnings, and the last output of the
//! step that failed.

mod ask;
mod diagnostic;
mod errors;
mod json;
mod lines;
mod lint;
mod outline;
mod plain;
mod steps;
mod streams;
mod table;
pub mod template;
mod tty;
mod when;

pub use ask::{AskError, ask};
pub use diagnostic::{Diagnostic, Kind, Snippet};
pub use errors::{build_failure, images_push_failure, login_failure, no_sandbox, push_failure};
pub use lines::clean;
pub use lint::{lint_json, lint_sarif, lint_text};
pub use outline::{outline_json, outline_text, targets_json, targets_text};
pub use steps::{bytes, bytes_in};
pub use streams::{stdout_file, stdout_size, streams};
pub use table::table;
pub use when::since;

use crate::progress::{Event, Progress};
use indicatif::ProgressDrawTarget;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// `tty` on a terminal outside CI, else `plain`.
    #[default]
    Auto,
    /// Lines of text.
    Plain,
    /// A board that moves; `plain` where standard error is no terminal that can do it.
    Tty,
    /// JSON lines.
    RawJson,
    /// Nothing but what failed.
    Quiet,
}

/// What is known of standard error.
#[derive(Debug, Clone, Default)]
pub struct Terminal {
    /// It is a terminal.
    pub is_terminal: bool,
    /// `TERM`.
    pub term: Option<String>,
    /// `CI` is set and not false: a log, even where it pretends to be a terminal.
    pub ci: bool,
    /// `NO_COLOR` is set and not empty (no-color.org).
    pub no_color: bool,
    /// `CLICOLOR` is `0`.
    pub clicolor_off: bool,
    /// `CLICOLOR_FORCE` is set and not `0`.
    pub clicolor_force: bool,
}

/// Whether standard error is a terminal.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// How progress is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// See [`Choice::Plain`].
    Plain,
    /// See [`Choice::Tty`].
    Tty,
    /// See [`Choice::RawJson`].
    RawJson,
    /// See [`Choice::Quiet`].
    Quiet,
}

/// How everything is drawn; travels into the process that does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Progress.
    pub mode: Mode,
    /// Colours are wanted.
    pub colour: bool,
    /// Say on a terminal too why steps were not in the cache; logs say it always.
    pub explain: bool,
}

impl Look {
    /// Decides from the flag and the terminal.
    pub fn choose(choice: Choice, terminal: &Terminal) -> Look {
        let capable = terminal.is_terminal && terminal.term.as_deref().is_some_and(|term| term != "dumb");
        let mode = match choice {
            Choice::Auto if capable && !terminal.ci => Mode::Tty,
            Choice::Tty if capable => Mode::Tty,
            Choice::Auto | Choice::Plain | Choice::Tty => Mode::Plain,
            Choice::RawJson => Mode::RawJson,
            Choice::Quiet => Mode::Quiet,
        };
        let colour = !terminal.no_color && (terminal.clicolor_force || (capable && !terminal.clicolor_off));
        Look { mode, colour, explain: false }
    }
}

/// Draws one operation. Shared by the threads that work on it.
pub struct Screen {
    look: Look,
    since: Instant,
    clock: fn() -> Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    steps: steps::Steps,
    board: Option<tty::Board>,
    out: Box<dyn Write + Send>,
}

impl Screen {
    /// A screen on standard error.
    pub fn stderr(look: Look) -> Screen {
        let screen = Screen::on(look, Box::new(io::stderr()), Instant::now);
        if look.mode == Mode::Tty {
            let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col));
            let width = if width == 0 { 80 } else { width };
            screen.lock().board = Some(tty::Board::new(ProgressDrawTarget::stderr(), width, look));
        }
        screen
    }

    /// A screen that writes to `out` and takes the time from `clock`; in mode `tty` it draws no board.
    pub fn on(look: Look, out: Box<dyn Write + Send>, clock: fn() -> Instant) -> Screen {
        let inner = Inner { steps: steps::Steps::default(), board: None, out };
        Screen { look, since: clock(), clock, inner: Mutex::new(inner) }
    }

    /// Ends an operation that did its work.
    pub fn succeed(&self) {
        let mut inner = self.close();
        let (done, cached) = (inner.steps.done, inner.steps.cached);
        let text = match self.look.mode {
            Mode::RawJson => json::success(done, cached, self.at()),
            Mode::Quiet => String::new(),
            Mode::Plain | Mode::Tty => {
                let mut text = warnings(&inner.steps.warnings);
                if done > 0 {
                    let _ = writeln!(text, "done: {done} steps, {cached} cached, {}", steps::seconds(self.at()));
                }
                text
            }
        };
        inner.write(&text);
    }

    /// Ends an operation that failed: the last output of the step, the warnings, the failure itself.
    pub fn fail(&self, diagnostic: &Diagnostic) {
        let mut inner = self.close();
        let text = match self.look.mode {
            Mode::RawJson => json::failure(diagnostic, self.at()),
            Mode::Quiet | Mode::Plain | Mode::Tty => {
                let mut text: String = inner.steps.failures.iter().map(last_output).collect();
                text += &warnings(&inner.steps.warnings);
                text += &diagnostic.draw(self.look.colour);
                text
            }
        };
        inner.write(&text);
    }

    fn close(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        if let Some(mut board) = inner.board.take() {
            board.close();
        }
        inner
    }

    fn at(&self) -> Duration {
        (self.clock)().saturating_duration_since(self.since)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked while it drew leaves at worst a line unsaid.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Screen {
    fn emit(&self, event: Event) {
        let now = (self.clock)();
        let mut inner = self.lock();
        let change = inner.steps.take(event, now);
        let text = match self.look.mode {
            Mode::RawJson => json::text(&change, now.saturating_duration_since(self.since)),
            Mode::Quiet => String::new(),
            Mode::Plain => plain::text(&change),
            Mode::Tty => {
                let Inner { steps, board, .. } = &mut *inner;
                if let Some(board) = board {
                    board.draw(&change, steps);
                }
                String::new()
            }
        };
        inner.write(&text);
    }
}

impl Inner {
    fn write(&mut self, text: &str) {
        if !text.is_empty() {
            // Nobody listens any more: the operation goes on, its exit code will tell.
            let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        }
    }
}

fn warnings(warnings: &[String]) -> String {
    match warnings.len() {
        0 => String::new(),
        1 => format!("1 warning:\n  {}\n", warnings[0]),
        count => format!("{count} warnings:\n  {}\n", warnings.join("\n  ")),
    }
}

fn last_output(failure: &steps::Failure) -> String {
    if failure.tail.is_empty() {
        return String::new();
    }
    let mut text = format!("------\nlast output of #{} {}:\n", failure.number, failure.name);
    failure.tail.iter().for_each(|line| {
        let _ = writeln!(text, "{line}");
    });
    text + "------\n"
}

/// Prints a failure outside of any operation, on standard error.
pub fn report(look: Look, diagnostic: &Diagnostic) {
    let text = match look.mode {
        Mode::RawJson => json::failure(diagnostic, Duration::ZERO),
        Mode::Plain | Mode::Tty | Mode::Quiet => diagnostic.draw(look.colour),
    };
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints one line that a person should know of, on standard error, outside of any operation.
pub fn notice(look: Look, text: &str) {
    if look.mode == Mode::Quiet {
        return;
    }
    let text = match look.mode {
        Mode::RawJson => json::text(&steps::Change::Warning(clean(text.as_bytes())), Duration::ZERO),
        Mode::Plain | Mode::Tty | Mode::Quiet => format!("warning: {}\n", clean(text.as_bytes())),
    };
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints text that is worded and drawn already, on standard error.
pub fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Lets `write` write a result to standard output.
pub fn with_stdout<T>(write: impl FnOnce(&mut dyn Write) -> T) -> T {
    write(&mut io::stdout().lock())
}

/// Writes bytes to standard output, or to standard error, at once.
pub fn write_to(error: bool, bytes: &[u8]) -> io::Result<()> {
    match error {
        true => io::stderr().write_all(bytes),
        false => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
    }
}

/// Writes a result to standard output as it is. A reader that went away is no failure.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;
