//! Commands step by step: lines, arguments, and every way in which they can be wrong.
//!
//! Owns the limits and the texts of errors. Each step takes what is here of one thing, or asks for
//! more. Knows nothing of sockets.

use crate::server::resp::inline::split_line;
use crate::server::resp::number::parse_integer;
use crate::server::resp::parse::{
    ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, Broken, Input, Next, Phase, Range,
    STRANGER_ARGUMENT_BYTES_MAX, STRANGER_ARGUMENTS_MAX,
};
use crate::transport::COPIED_BYTES_MAX;

/// The longest line: a count, a length, or an inline command.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The most bytes of a command beside its large arguments.
const COMMAND_BYTES_MAX: usize = 1 << 30;

impl<L: AsMut<[u8]>> Input<L> {
    pub(super) fn first_line(&mut self) -> Result<Option<Next>, Broken> {
        let rest = &self.buffer[self.begin..];
        let Some(first) = rest.first() else { return Ok(Some(Next::More)) };
        if *first != b'*' {
            return self.inline_line();
        }
        let Some(line) = line(rest) else {
            return unended(rest.len(), "Protocol error: too big mbulk count string");
        };
        let count = parse_integer(&line[1..]);
        let consumed = line.len() + 2;
        let count = match count {
            Some(count) if count <= ARGUMENTS_MAX as i64 => usize::try_from(count).unwrap_or(0),
            _ => return Err(Broken::Text("Protocol error: invalid multibulk length")),
        };
        if count > STRANGER_ARGUMENTS_MAX && !self.is_trusted {
            return Err(Broken::Text("Protocol error: unauthenticated multibulk length"));
        }
        if count == 0 {
            self.begin += consumed;
            return Ok(None);
        }
        self.left = count;
        self.at = consumed;
        self.phase = Phase::Length;
        Ok(None)
    }

    pub(super) fn length_line(&mut self) -> Result<Option<Next>, Broken> {
        let rest = &self.buffer[self.begin + self.at..];
        let Some(line) = line(rest) else {
            return unended(rest.len(), "Protocol error: too big bulk count string");
        };
        if line.first() != Some(&b'$') {
            // Of an empty line Redis names the carriage return.
            return Err(Broken::NoBulk(*line.first().unwrap_or(&b'\r')));
        }
        let len = parse_integer(&line[1..]).and_then(|len| usize::try_from(len).ok());
        let len = match len {
            Some(len) if len <= ARGUMENT_BYTES_MAX => len,
            _ => return Err(Broken::Text("Protocol error: invalid bulk length")),
        };
        if len > STRANGER_ARGUMENT_BYTES_MAX && !self.is_trusted {
            return Err(Broken::Text("Protocol error: unauthenticated bulk length"));
        }
        let consumed = line.len() + 2;
        if self.is_refused {
            self.begin += self.at + consumed;
            self.at = 0;
            self.phase = Phase::Drop(len + 2);
            return Ok(None);
        }
        if self.at + len > COMMAND_BYTES_MAX && len <= COPIED_BYTES_MAX {
            return Err(Broken::Text("Protocol error: too big command"));
        }
        self.at += consumed;
        self.phase = Phase::Bulk(len);
        Ok(None)
    }

    pub(super) fn bulk(&mut self, len: usize) -> Option<Next> {
        let here = self.buffer.len() - self.begin - self.at;
        // Redis does not look at the two bytes behind an argument either.
        if here >= len + 2 {
            let start = u32::try_from(self.at).expect("COMMAND_BYTES_MAX fits");
            let len_small = u32::try_from(len).expect("ARGUMENT_BYTES_MAX fits");
            self.arguments.push(Range::Here { start, len: len_small });
            self.at += len + 2;
            return self.after_argument();
        }
        if len <= COPIED_BYTES_MAX {
            return Some(Next::More);
        }
        self.phase = Phase::Asked(len);
        None
    }

    pub(super) fn large_is_full(&mut self) {
        let Phase::Large { large, .. } = std::mem::replace(&mut self.phase, Phase::End) else {
            return;
        };
        let index = u32::try_from(self.large.len()).expect("fewer than arguments");
        self.large.push(large);
        self.arguments.push(Range::Large(index));
    }

    pub(super) fn end(&mut self) -> Option<Next> {
        if self.buffer.len() - self.begin - self.at < 2 {
            return Some(Next::More);
        }
        self.at += 2;
        self.after_argument()
    }

    pub(super) fn after_argument(&mut self) -> Option<Next> {
        self.left -= 1;
        if self.left > 0 {
            self.phase = Phase::Length;
            return None;
        }
        if self.is_refused {
            self.finish();
            return Some(Next::Refused);
        }
        self.phase = Phase::Done;
        Some(Next::Command)
    }

    pub(super) fn inline_line(&mut self) -> Result<Option<Next>, Broken> {
        let rest = &self.buffer[self.begin..];
        let Some(end) = rest.iter().take(LINE_BYTES_MAX + 1).position(|byte| *byte == b'\n') else {
            return unended(rest.len(), "Protocol error: too big inline request");
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        self.inline.clear();
        let narrow = |at: usize| u32::try_from(at).expect("LINE_BYTES_MAX fits");
        let arguments = &mut self.arguments;
        let split = split_line(line, &mut self.inline, |start, len| {
            arguments.push(Range::Here { start: narrow(start), len: narrow(len) });
        });
        if !split {
            return Err(Broken::Text("Protocol error: unbalanced quotes in request"));
        }
        if self.arguments.is_empty() {
            self.begin += end + 1;
            return Ok(None);
        }
        self.at = end + 1;
        self.is_inline = true;
        self.phase = Phase::Done;
        Ok(Some(Next::Command))
    }
}

/// The bytes before the first `\r`, if it and one more byte are here.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    // Lengths are a few bytes long: looking byte by byte is the quickest.
    let end = bytes.iter().take(LINE_BYTES_MAX + 1).position(|byte| *byte == b'\r')?;
    (bytes.len() > end + 1).then(|| &bytes[..end])
}

/// What a line that has not ended amounts to. One that ends beyond the limit is not found, so it
/// does not matter how the bytes were cut.
fn unended(bytes: usize, text: &'static str) -> Result<Option<Next>, Broken> {
    if bytes > LINE_BYTES_MAX + 1 { Err(Broken::Text(text)) } else { Ok(Some(Next::More)) }
}
