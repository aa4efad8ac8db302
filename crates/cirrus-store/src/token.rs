//! The secret that a client shows a node.
//!
//! Owns comparing it and keeping it out of logs. Invariant: `Debug` never prints it.

use std::fmt;

use bytes::Bytes;

/// A secret of a client and a node; empty where none is asked for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token(Bytes);

impl Token {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What goes over the wire.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `shown` is this secret. Compared in full, wherever the first difference is.
    pub(crate) fn admits(&self, shown: &[u8]) -> bool {
        let differs = self.0.len() != shown.len()
            || self.0.iter().zip(shown).fold(0, |acc, (a, b)| acc | (a ^ b)) != 0;
        self.is_empty() || !differs
    }
}

impl<T: Into<Bytes>> From<T> for Token {
    fn from(secret: T) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "no token" } else { "a token" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_are_admitted_and_nothing_shows_them() {
        let token = Token::from("right");
        for (shown, expected) in [("right", true), ("wrong", false), ("righ", false), ("", false)] {
            assert_eq!(token.admits(shown.as_bytes()), expected, "{shown}");
        }
        assert!(Token::default().admits(b"anything"));
        assert!(!format!("{token:?}").contains("right"));
    }
}
