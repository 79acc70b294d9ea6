//! Progress on a terminal: what ended stays as one line, what runs is redrawn below with its time and last output.

use super::Look;
use super::steps::{Change, Steps, bytes, seconds};
use crate::progress::Outcome;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Last output lines shown under a running step.
const SHOWN: usize = 4;

/// The part of the screen that moves.
pub(super) struct Board {
    multi: MultiProgress,
    total: ProgressBar,
    rows: HashMap<usize, Row>,
    width: usize,
    colour: bool,
    explain: bool,
    planned: usize,
}

struct Row {
    bar: ProgressBar,
    moved: String,
    lines: VecDeque<String>,
}

impl Board {
    /// A board that draws on `target`, which is `width` columns wide.
    pub(super) fn new(target: ProgressDrawTarget, width: usize, look: Look) -> Self {
        let Look { colour, explain, .. } = look;
        let multi = MultiProgress::with_draw_target(target);
        let total = multi.add(ProgressBar::new_spinner());
        total.set_style(style("{spinner} {msg} {elapsed}"));
        total.set_message("building");
        total.enable_steady_tick(Duration::from_millis(120));
        Board { multi, total, rows: HashMap::new(), width, colour, explain, planned: 0 }
    }

    /// Draws one change; `steps` is the state after it.
    pub(super) fn draw(&mut self, change: &Change, steps: &Steps) {
        match change {
            Change::Nothing => {}
            Change::Planned(count) => self.planned = *count,
            Change::Started { number, name, .. } => self.start(*number, name),
            Change::Lines { number, lines, .. } => self.show(*number, lines),
            Change::Moved { number, done, total, .. } => {
                let total = total.map(|total| format!(" / {}", bytes(total))).unwrap_or_default();
                self.moved(*number, format!(" {}{total}", bytes(*done)));
            }
            Change::Note { number: Some(number), text } | Change::Part { number, text } => {
                self.show(*number, std::slice::from_ref(text));
            }
            Change::Missed { number, why } if self.explain => {
                let name = self.rows.get(number).map(|row| row.bar.prefix()).unwrap_or_default();
                self.print(&self.dim(&format!("    miss {}: {why}", name.trim())));
            }
            Change::Missed { .. } => {}
            Change::Note { number: None, text } => self.print(&self.dim(text)),
            Change::Warning(text) => self.print(&format!("warning: {text}")),
            Change::Ended { number, name, bytes: moved, outcome, elapsed, .. } => {
                if let Some(row) = self.rows.remove(number) {
                    row.bar.finish_and_clear();
                    self.multi.remove(&row.bar);
                }
                self.print(&self.ended(name, *moved, outcome, *elapsed));
            }
        }
        let count = if self.planned > 0 { format!("/{}", self.planned) } else { String::new() };
        self.total.set_message(format!("{}{count} steps", steps.done));
    }

    /// Clears what moves; what ended stays.
    pub(super) fn close(&mut self) {
        for (_, row) in self.rows.drain() {
            row.bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }

    fn start(&mut self, number: usize, name: &str) {
        let bar = self.multi.insert_before(&self.total, ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {prefix} {elapsed}{msg}"));
        // Room for the spinner and the time.
        bar.set_prefix(shorten(name, self.width.saturating_sub(10)));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.rows.insert(number, Row { bar, moved: String::new(), lines: VecDeque::new() });
    }

    fn show(&mut self, number: usize, lines: &[String]) {
        let width = self.width.saturating_sub(4);
        let Some(row) = self.rows.get_mut(&number) else { return };
        for line in lines.iter().rev().take(SHOWN).rev() {
            if row.lines.len() == SHOWN {
                row.lines.pop_front();
            }
            row.lines.push_back(shorten(line, width));
        }
        self.redraw(number);
    }

    fn moved(&mut self, number: usize, text: String) {
        let Some(row) = self.rows.get_mut(&number) else { return };
        row.moved = text;
        self.redraw(number);
    }

    fn redraw(&self, number: usize) {
        let Some(row) = self.rows.get(&number) else { return };
        let lines: String = row.lines.iter().map(|line| format!("\n    {}", self.dim(line))).collect();
        row.bar.set_message(format!("{}{lines}", row.moved));
    }

    fn ended(&self, name: &str, moved: u64, outcome: &Outcome, elapsed: Duration) -> String {
        let name = shorten(name, self.width.saturating_sub(9));
        let size = if moved > 0 { format!(" {}", bytes(moved)) } else { String::new() };
        match outcome {
            Outcome::Done => format!("{:>8} {name}{size}", seconds(elapsed)),
            Outcome::Cached(_) => self.dim(&format!("{:>8} {name}", "cached")),
            Outcome::Failed => self.paint("31", &format!("{:>8} {name}", "failed")),
            Outcome::Cancelled => format!("{:>8} {name}", "stopped"),
        }
    }

    fn print(&self, text: &str) {
        // A terminal that is gone is no reason to end a build.
        let _ = self.multi.println(text);
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; a wrong one falls back to indicatif's own.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()).tick_chars("|/-\\ ")
}

/// `text` cut to `width` characters, with `...` where something is left out; tabs as spaces, for they have no fixed width.
fn shorten(text: &str, width: usize) -> String {
    let text = text.replace('\t', " ");
    let width = width.max(10);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Event, StepId, Stream};
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    /// A terminal that keeps what is written to it.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<String>>);

    impl indicatif::TermLike for Paper {
        fn width(&self) -> u16 {
            60
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn drawn(colour: bool, events: Vec<Event>) -> String {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(paper.clone()), 255);
        let (mut board, mut steps) =
            (Board::new(target, 60, Look { mode: crate::ui::Mode::Tty, colour, explain: true }), Steps::default());
        for event in events {
            let change = steps.take(event, Instant::now());
            board.draw(&change, &steps);
        }
        board.close();
        paper.0.lock().unwrap().clone()
    }

    fn story(outcome: Outcome) -> Vec<Event> {
        let id = StepId(3);
        vec![
            Event::Planned { steps: 1 },
            Event::Started { id, name: "[1/1] RUN make".into(), line: Some(2) },
            Event::Output { id, stream: Stream::Stdout, data: b"compiling\n".to_vec() },
            Event::Finished { id, outcome, elapsed: Duration::from_millis(1250) },
        ]
    }

    #[test]
    fn what_ended_stays() {
        assert!(drawn(false, story(Outcome::Done)).contains("    1.2s [1/1] RUN make"));
        assert!(drawn(false, story(Outcome::Cached("local".into()))).contains("  cached [1/1] RUN make"));
        assert!(drawn(true, story(Outcome::Failed)).contains("\x1b[31m  failed [1/1] RUN make\x1b[0m"));
        assert!(!drawn(false, story(Outcome::Failed)).contains('\x1b'));
    }

    #[test]
    fn long_names_are_shortened() {
        assert_eq!(shorten("short", 10), "short");
        assert_eq!(shorten("a\tname that is long", 12), "a name th...");
        assert_eq!(shorten("anything at all", 0), "anythin...");
    }
}
