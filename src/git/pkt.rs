//! pkt-lines: pieces of git's protocols, each with its length in four hexadecimal digits.

use super::GitError;
use std::io::{self, Read};

/// One piece.
#[derive(Debug, PartialEq, Eq)]
pub enum Pkt {
    /// Content; a text line has its newline.
    Data(Vec<u8>),
    /// 0000: the end of a message.
    Flush,
    /// 0001: the end of a section.
    Delimiter,
    /// 0002: the end of an answer.
    End,
}

impl Pkt {
    /// The text of a line, without its newline.
    pub fn text(&self) -> Option<String> {
        match self {
            Pkt::Data(bytes) => Some(String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(bytes)).into_owned()),
            _ => None,
        }
    }
}

/// Reads one piece. What the server says instead of an answer (`ERR …`) is an error.
pub fn read(from: &mut dyn Read) -> Result<Pkt, GitError> {
    let mut length = [0; 4];
    exactly(from, &mut length)?;
    let length = std::str::from_utf8(&length).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
    match length {
        Some(0) => Ok(Pkt::Flush),
        Some(1) => Ok(Pkt::Delimiter),
        Some(2) => Ok(Pkt::End),
        Some(length) if length >= 4 => {
            let mut bytes = vec![0; length - 4];
            exactly(from, &mut bytes)?;
            match bytes.strip_prefix(b"ERR ") {
                Some(message) => Err(GitError::Refused(String::from_utf8_lossy(message).trim_end().to_string())),
                None => Ok(Pkt::Data(bytes)),
            }
        }
        _ => Err(GitError::Protocol("not a pkt-line")),
    }
}

fn exactly(from: &mut dyn Read, buffer: &mut [u8]) -> Result<(), GitError> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => GitError::Protocol("it ends too early"),
        _ => GitError::Io(error),
    })
}

/// Appends a text line.
pub fn line(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
}

/// Appends the end of a section.
pub fn delimiter(to: &mut Vec<u8>) {
    to.extend_from_slice(b"0001");
}

/// Appends the end of a message.
pub fn flush(to: &mut Vec<u8>) {
    to.extend_from_slice(b"0000");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_there_and_back() {
        let mut bytes = Vec::new();
        line(&mut bytes, "want x");
        delimiter(&mut bytes);
        flush(&mut bytes);
        assert_eq!(bytes, b"000bwant x\n00010000");
        let mut from = &bytes[..];
        assert_eq!(read(&mut from).unwrap().text().as_deref(), Some("want x"));
        assert_eq!(read(&mut from).unwrap(), Pkt::Delimiter);
        assert_eq!(read(&mut from).unwrap(), Pkt::Flush);
        assert!(matches!(read(&mut from), Err(GitError::Protocol(_))));
    }

    #[test]
    fn what_is_no_line_is_an_error() {
        for bytes in ["zzzz", "0003", "0009ab", "00"] {
            assert!(matches!(read(&mut bytes.as_bytes()), Err(GitError::Protocol(_))), "{bytes}");
        }
        let refused = read(&mut &b"000cERR no!\n"[..]).unwrap_err();
        assert_eq!(refused.to_string(), "the git server says: no!");
    }
}
