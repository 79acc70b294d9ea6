//! Where a piece of a Dockerfile stands.

/// A range in the Dockerfile's text. Lines and columns count from 1; columns count bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First line.
    pub line: u32,
    /// Last line.
    pub end_line: u32,
    /// First byte's column in `line`; 0 when the whole lines are meant.
    pub column: u32,
    /// Column after the last byte in `end_line`; 0 when the whole lines are meant.
    pub end_column: u32,
}

impl Span {
    /// Whole lines `line..=end_line`.
    pub fn lines(line: u32, end_line: u32) -> Self {
        Span { line, end_line, column: 0, end_column: 0 }
    }
}
