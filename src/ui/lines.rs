//! Turns the raw output of a command into lines that are safe to print.
//!
//! A command may write half a line, invalid UTF-8, escape sequences that would repaint a CI log, or a progress bar of a
//! million carriage returns. What comes out are whole lines of valid text without control characters.

/// A line longer than this is cut: a command that never ends its line must not fill the memory.
const LONGEST_LINE: usize = 64 * 1024;

/// Cuts one stream, which comes in chunks, into lines.
#[derive(Debug, Default)]
pub struct LineCutter {
    pending: Vec<u8>,
    /// The last byte was a carriage return: a line end if `\n` follows, else the start of an overwrite.
    after_return: bool,
}

impl LineCutter {
    /// Takes a chunk; gives the lines that it completes.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in chunk {
            if byte == b'\n' {
                lines.push(clean(&self.pending));
                self.pending.clear();
                self.after_return = false;
                continue;
            }
            // What a terminal shows of a line that was overwritten is its last version.
            if std::mem::take(&mut self.after_return) {
                self.pending.clear();
            }
            if byte == b'\r' {
                self.after_return = true;
                continue;
            }
            self.pending.push(byte);
            if self.pending.len() >= LONGEST_LINE {
                lines.push(clean(&self.pending));
                self.pending.clear();
            }
        }
        lines
    }

    /// Gives what stands after the last line end, once the stream is over.
    pub fn finish(&mut self) -> Option<String> {
        self.after_return = false;
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| clean(&rest))
    }
}

/// `bytes` as text to print on one line: invalid UTF-8 replaced, escape sequences and control characters left out,
/// a line end turned into a space, tabs kept.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\t' => out.push('\t'),
            '\n' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Skips the rest of an escape sequence (ECMA-48: CSI and the string sequences OSC, DCS, SOS, PM, APC; else one character).
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            while let Some(c) = chars.peek().copied() {
                // A character that cannot stand in the sequence ends it and belongs to the text.
                if !(' '..='~').contains(&c) {
                    return;
                }
                chars.next();
                if ('@'..='~').contains(&c) {
                    return;
                }
            }
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    return;
                }
            }
        }
        Some(_) => {
            chars.next();
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lines_wherever_the_chunks_end() {
        let cases: &[(&[&[u8]], &[&str])] = &[
            (&[b"one\ntwo\n"], &["one", "two"]),
            (&[b"o", b"ne\ntw", b"o"], &["one", "two"]),
            (&[b"\n\n"], &["", ""]),
            (&[b"dos\r", b"\nline\r\n"], &["dos", "line"]),
            (&[b"10%\r", b"20%\r", b"100%\n"], &["100%"]),
            (&[b"10%\r20%"], &["20%"]),
            (&[b"10%\r"], &["10%"]),
            (&[b"h\xc3", b"\xa9\n"], &["hé"]),
            (&[b""], &[]),
        ];
        for (chunks, expected) in cases {
            let mut cutter = LineCutter::default();
            let mut lines: Vec<String> = chunks.iter().flat_map(|chunk| cutter.push(chunk)).collect();
            lines.extend(cutter.finish());
            assert_eq!(&lines, expected, "{chunks:?}");
        }
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut cutter = LineCutter::default();
        let lines = cutter.push(&vec![b'x'; LONGEST_LINE * 2 + 1]);
        assert_eq!(lines.len(), 2);
        assert_eq!(cutter.finish().as_deref(), Some("x"));
    }

    #[test]
    fn cleans_what_would_spoil_a_terminal() {
        let cases: &[(&[u8], &str)] = &[
            (b"plain", "plain"),
            (b"a\tb", "a\tb"),
            (b"two\nlines", "two lines"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b[2J\x1b[1;1Hgone", "gone"),
            (b"\x1b]0;title\x07text", "text"),
            (b"\x1b]8;;http://x\x1b\\link", "link"),
            (b"\x1bPdevice\x1b\\text", "text"),
            (b"\x1b[31", ""),
            (b"\x1b[3\xc3\xa9", "é"),
            (b"\x1b", ""),
            (b"bell\x07\x08\x00", "bell"),
            (b"\xc2\x9b31mx", "31mx"),
            (b"bad \xff utf", "bad \u{fffd} utf"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(clean(bytes), *expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
