//! The log of a container: what it wrote, byte by byte, each piece with its time and stream.
//!
//! A piece is a line `TIME STREAM LENGTH`, so many bytes, and a newline; STREAM is `o` or `e`. A piece is appended by one
//! write, so a reader that finds one cut short has come too early.

use super::RunError;
use crate::progress::Stream;
use fs_err as fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A log that is written to.
#[derive(Debug)]
pub(super) struct Log(fs::File);

impl Log {
    /// The log at `path`; what is in it stays.
    pub(super) fn open(path: &Path) -> io::Result<Log> {
        fs::OpenOptions::new().create(true).append(true).open(path).map(Log)
    }

    /// Adds what was written.
    pub(super) fn add(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let stream = if stream == Stream::Stdout { 'o' } else { 'e' };
        let mut piece = format!("{} {stream} {}\n", super::container::now(), bytes.len()).into_bytes();
        piece.extend_from_slice(bytes);
        piece.push(b'\n');
        (&self.0).write_all(&piece)
    }
}

/// What of a log is wanted.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on as long as the container runs.
    pub follow: bool,
    /// At most so many lines from the end.
    pub tail: Option<usize>,
    /// Each line with its time.
    pub timestamps: bool,
    /// Only what was written at or after this, and before that.
    pub since: Option<SystemTime>,
    /// See `since`.
    pub until: Option<SystemTime>,
}

/// One piece of a log: a line, or the part of one that was written at once.
#[derive(Debug)]
struct Line {
    time: String,
    stream: Stream,
    bytes: Vec<u8>,
}

/// How often a log that is followed is looked at.
const PERIOD: Duration = Duration::from_millis(50);

/// Gives the log at `path` to `out`, line by line; `runs` tells whether more may come.
pub fn show(
    path: &Path,
    options: &LogOptions,
    runs: &dyn Fn() -> Result<bool, RunError>,
    out: &mut dyn FnMut(Stream, &[u8]) -> io::Result<()>,
) -> Result<(), RunError> {
    let mut file = match fs::File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !options.follow => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Log::open(path)?;
            fs::File::open(path)?
        }
        other => other?,
    };
    let (mut first, mut at_start) = (true, [true; 2]);
    loop {
        // Asked before reading: what was written until the end is read then.
        let more = options.follow && runs()?;
        let mut lines = read_lines(&mut file)?;
        lines.retain(|line| within(line, options));
        if let (true, Some(tail)) = (first, options.tail) {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        first = false;
        for line in lines {
            let start = &mut at_start[usize::from(line.stream == Stream::Stderr)];
            let mut bytes = Vec::new();
            if options.timestamps && *start {
                bytes.extend_from_slice(line.time.as_bytes());
                bytes.push(b' ');
            }
            *start = line.bytes.ends_with(b"\n");
            bytes.extend_from_slice(&line.bytes);
            match out(line.stream, &bytes) {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
        if !more {
            return Ok(());
        }
        std::thread::sleep(PERIOD);
    }
}

fn within(line: &Line, options: &LogOptions) -> bool {
    let Ok(time) = humantime::parse_rfc3339(&line.time) else { return true };
    options.since.is_none_or(|since| time >= since) && options.until.is_none_or(|until| time < until)
}

/// The whole pieces from where `file` stands, cut into lines; it stands behind them afterwards.
fn read_lines(file: &mut fs::File) -> io::Result<Vec<Line>> {
    let start = file.stream_position()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (mut lines, mut at) = (Vec::new(), 0);
    while let Some((line, end)) = piece(&bytes[at..]) {
        for part in line.bytes.split_inclusive(|b| *b == b'\n') {
            lines.push(Line { time: line.time.clone(), stream: line.stream, bytes: part.to_vec() });
        }
        at += end;
    }
    file.seek(SeekFrom::Start(start + at as u64))?;
    Ok(lines)
}

/// The first piece of `bytes`, and where the next begins.
fn piece(bytes: &[u8]) -> Option<(Line, usize)> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let header = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut words = header.split(' ');
    let (time, stream, length) = (words.next()?, words.next()?, words.next()?.parse::<usize>().ok()?);
    let stream = if stream == "o" { Stream::Stdout } else { Stream::Stderr };
    let next = end.checked_add(length)?.checked_add(2)?;
    let bytes = bytes.get(end + 1..end + 1 + length).filter(|_| bytes.len() >= next)?.to_vec();
    Some((Line { time: time.to_string(), stream, bytes }, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &Path, options: &LogOptions) -> String {
        let mut text = String::new();
        show(path, options, &|| Ok(false), &mut |stream, bytes| {
            text += if stream == Stream::Stdout { ">" } else { "!" };
            text += &String::from_utf8_lossy(bytes);
            Ok(())
        })
        .unwrap();
        text
    }

    #[test]
    fn gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::open(&path).unwrap();
        log.add(Stream::Stdout, b"one\ntwo\n").unwrap();
        log.add(Stream::Stderr, b"bad\nno end").unwrap();
        log.add(Stream::Stdout, b"x 1 2\n").unwrap();
        assert_eq!(shown(&path, &LogOptions::default()), ">one\n>two\n!bad\n!no end>x 1 2\n");
        assert_eq!(shown(&path, &LogOptions { tail: Some(1), ..Default::default() }), ">x 1 2\n");
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(shown(&path, &LogOptions { since: Some(later), ..Default::default() }), "");
        // A piece that is not whole yet is not shown.
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        assert_eq!(shown(&path, &LogOptions::default()), ">one\n>two\n!bad\n!no end");
    }
}
