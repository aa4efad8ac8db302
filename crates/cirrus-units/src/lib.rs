//! Sizes and counts, written the same way on a command line, in an annotation, and in a plan.
//!
//! Owns [`ByteSize`], [`ByteRate`] and [`Cores`] and their text forms. Knows nothing else of the
//! system: the attribute macro checks an annotation with the very code that parses a flag.

mod cores;
mod size;

pub use cores::Cores;
pub use size::{ByteRate, ByteSize};

/// Why a text is not a size or a count. Displays as one line that names the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    text: String,
    problem: &'static str,
    expected: &'static str,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` {}; expected {}", self.text, self.problem, self.expected)
    }
}

impl std::error::Error for ParseError {}
