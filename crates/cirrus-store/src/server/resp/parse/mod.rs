//! Commands out of bytes: the requests of RESP and the inline commands of telnet.
//!
//! Owns a connection's read buffer and the place in it. Knows nothing of what commands mean, and
//! of no socket. Invariant: the same bytes give the same commands however they are cut, and no
//! memory is taken on the word of a length that was not checked and admitted.
//!
//! A small command: no copy and no allocation; its arguments are ranges of the read buffer. An
//! argument over 16 KiB that is not here yet gets a buffer of its own, for which
//! the caller pays first ([`Next::Admit`]); the socket fills it directly.

use bytes::BytesMut;

mod steps;
#[cfg(test)]
mod tests;
mod whole;

/// The most arguments of a command.
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// The longest argument.
pub const ARGUMENT_BYTES_MAX: usize = 512 << 20;

/// How many arguments the next command finds room for.
const ARGUMENTS_KEPT: usize = 1024;

/// The head of a command with a large argument, or most of one.
pub const HEAD_BYTES: usize = 256;

/// What a client may send before it has shown the token.
const STRANGER_ARGUMENTS_MAX: usize = 10;
const STRANGER_ARGUMENT_BYTES_MAX: usize = 16 * 1024;

/// What the bytes that are here amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet: read more into [`Input::room`].
    More,
    /// A whole command: [`Input::arguments`].
    Command,
    /// The rest of a command that was refused has passed by.
    Refused,
    /// The next argument has this many bytes: answer with [`Input::admit`] or [`Input::refuse`].
    Admit(usize),
}

/// Why the stream cannot be read on: the text of the last error that the client gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// A text that is always the same.
    Text(&'static str),
    /// Something else stood where `$` must stand.
    NoBulk(u8),
}

/// An argument of a whole command.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// Its bytes.
    Here(&'a [u8]),
    /// Which of [`Input::take_large`] it is.
    Large(usize),
}

#[derive(Debug, Clone, Copy)]
enum Range {
    /// In the command's own bytes.
    Here { start: u32, len: u32 },
    /// In a buffer of its own.
    Large(u32),
}

#[derive(Debug)]
enum Phase<L> {
    /// Between two commands.
    Idle,
    /// Before a line with the length of an argument.
    Length,
    /// Before an argument of this many bytes.
    Bulk(usize),
    /// An argument of this many bytes waits for a buffer.
    Asked(usize),
    /// So many bytes of an argument are in a buffer of its own.
    Large { large: L, filled: usize },
    /// The line's end behind such an argument.
    End,
    /// This many bytes of a refused command are to be dropped.
    Drop(usize),
    /// A whole command, until the next call.
    Done,
}

/// A connection's bytes that have arrived and are not carried out yet.
#[derive(Debug)]
pub struct Input<L> {
    buffer: BytesMut,
    /// Where the command under way begins.
    begin: usize,
    /// How far it is parsed, from its beginning.
    at: usize,
    /// Arguments still to come.
    left: usize,
    phase: Phase<L>,
    arguments: Vec<Range>,
    large: Vec<L>,
    /// The arguments of an inline command without their quotes.
    inline: Vec<u8>,
    is_inline: bool,
    is_refused: bool,
    is_trusted: bool,
    /// The last command had an argument with a buffer of its own, so the next may.
    had_large: bool,
}

impl<L: AsMut<[u8]>> Input<L> {
    /// Starts with what is in `buffer` already.
    pub fn new(buffer: BytesMut) -> Self {
        Self {
            buffer,
            begin: 0,
            at: 0,
            left: 0,
            phase: Phase::Idle,
            arguments: Vec::new(),
            large: Vec::new(),
            inline: Vec::new(),
            is_inline: false,
            is_refused: false,
            is_trusted: false,
            had_large: false,
        }
    }

    /// Whether the client has shown the token, and may send commands of any size.
    pub fn set_trusted(&mut self, is_trusted: bool) {
        self.is_trusted = is_trusted;
    }

    /// Bytes that have arrived and are not carried out.
    pub fn waiting_bytes(&self) -> usize {
        self.buffer.len() - self.begin
    }

    /// Whether a command has begun and is not whole.
    pub fn is_inside(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Done) || self.waiting_bytes() > 0
    }

    /// Whether an argument's own buffer is being filled.
    pub fn is_filling(&self) -> bool {
        matches!(self.phase, Phase::Large { .. })
    }

    /// Bytes of the command under way as far as its lengths have come.
    pub fn expected_bytes(&mut self) -> usize {
        let argument = match &mut self.phase {
            Phase::Bulk(len) | Phase::Asked(len) | Phase::Drop(len) => *len,
            Phase::Large { large, .. } => large.as_mut().len(),
            Phase::Idle | Phase::Length | Phase::End | Phase::Done => 0,
        };
        let large: usize = self.large.iter_mut().map(|large| large.as_mut().len()).sum();
        self.waiting_bytes() + argument + large
    }

    /// Memory that the command under way holds beside its admitted arguments, to be paid for
    /// when it is large.
    pub fn held_bytes(&self) -> usize {
        self.waiting_bytes() + self.arguments.capacity() * size_of::<Range>()
    }

    /// Where the next bytes go. The buffer may have no room: whoever reads into it makes some.
    pub fn room(&mut self) -> Room<'_> {
        if let Phase::Large { large, filled } = &mut self.phase {
            return Room::Large(&mut large.as_mut()[*filled..]);
        }
        if self.begin > 0 {
            let (done, whole) = (self.begin, self.buffer.len());
            // Cheap: between two commands nothing is left to move.
            if done == whole {
                self.buffer.clear();
            } else {
                bytes::Buf::advance(&mut self.buffer, done);
            }
            self.begin = 0;
        }
        Room::Small(&mut self.buffer)
    }

    /// How much to read into [`Room::Small`] at once. Where a large argument is to be expected it
    /// is little: what comes of such an argument beside its head has to be copied.
    pub fn small_bytes_max(&self) -> usize {
        if self.had_large && self.waiting_bytes() == 0 { HEAD_BYTES } else { usize::MAX }
    }

    /// So many bytes were written to [`Room::Large`]; these came behind them, if it is full.
    pub fn filled(&mut self, bytes: usize, behind: &[u8]) {
        if let Phase::Large { filled, .. } = &mut self.phase {
            *filled += bytes;
            self.buffer.extend_from_slice(behind);
        }
    }

    /// Looks at the bytes that are here. After [`Next::Command`] the next call moves on.
    pub fn parse(&mut self) -> Result<Next, Broken> {
        if matches!(self.phase, Phase::Done) {
            self.finish();
        }
        if matches!(self.phase, Phase::Idle) && self.whole() {
            return Ok(Next::Command);
        }
        loop {
            let step = match &mut self.phase {
                Phase::Idle => self.first_line()?,
                Phase::Length => self.length_line()?,
                Phase::Bulk(len) => {
                    let len = *len;
                    self.bulk(len)
                }
                Phase::Asked(len) => Some(Next::Admit(*len)),
                Phase::Large { large, filled } => {
                    if *filled < large.as_mut().len() {
                        Some(Next::More)
                    } else {
                        self.large_is_full();
                        None
                    }
                }
                Phase::End => self.end(),
                Phase::Drop(bytes) => {
                    let here = (*bytes).min(self.buffer.len() - self.begin);
                    *bytes -= here;
                    self.begin += here;
                    if *bytes > 0 { Some(Next::More) } else { self.after_argument() }
                }
                Phase::Done => Some(Next::Command),
            };
            if let Some(next) = step {
                return Ok(next);
            }
        }
    }

    /// The buffer for the argument that was asked about, of exactly its length.
    pub fn admit(&mut self, mut large: L) {
        let Phase::Asked(len) = self.phase else { return };
        let from = self.begin + self.at;
        // Not all of it is here, or it had stayed where it is; but its line's end may be cut.
        let filled = (self.buffer.len() - from).min(len);
        large.as_mut()[..filled].copy_from_slice(&self.buffer[from..from + filled]);
        // What is here of the line's end, one byte at most, moves up.
        let rest = self.buffer.get(from + filled).copied();
        self.buffer.truncate(from);
        self.buffer.extend(rest);
        self.phase = Phase::Large { large, filled };
        self.had_large = true;
    }

    /// The command under way is not wanted: what has come of it is dropped, and the rest as it
    /// comes.
    pub fn refuse(&mut self) {
        if matches!(self.phase, Phase::Idle | Phase::Done) {
            return;
        }
        self.is_refused = true;
        self.arguments = Vec::new();
        self.large.clear();
        self.begin += self.at;
        self.at = 0;
        match &self.phase {
            Phase::Asked(len) | Phase::Bulk(len) => self.phase = Phase::Drop(len + 2),
            Phase::End => self.phase = Phase::Drop(2),
            // Its buffer was paid for: it is the last to be filled.
            Phase::Large { .. } => {}
            Phase::Idle | Phase::Length | Phase::Drop(_) | Phase::Done => {}
        }
    }

    /// How many arguments the command has, its name included.
    pub fn argument_count(&self) -> usize {
        self.arguments.len()
    }

    /// An argument of the whole command; `index` is below the count.
    pub fn argument(&self, index: usize) -> Argument<'_> {
        match self.arguments[index] {
            Range::Here { start, len } => {
                let own =
                    if self.is_inline { &self.inline[..] } else { &self.buffer[self.begin..] };
                Argument::Here(&own[start as usize..][..len as usize])
            }
            Range::Large(large) => Argument::Large(large as usize),
        }
    }

    /// Whether an argument has a buffer of its own.
    pub fn has_large(&self) -> bool {
        !self.large.is_empty()
    }

    /// Takes out the buffers of the arguments that have one of their own, in their order.
    pub fn take_large(&mut self) -> Vec<L> {
        std::mem::take(&mut self.large)
    }

    fn finish(&mut self) {
        self.arguments.clear();
        // A command of many arguments must not leave their room behind.
        if self.arguments.capacity() > ARGUMENTS_KEPT {
            self.arguments.shrink_to(ARGUMENTS_KEPT);
        }
        self.large.clear();
        self.begin += self.at;
        self.at = 0;
        self.is_inline = false;
        self.is_refused = false;
        self.phase = Phase::Idle;
    }
}

/// Where bytes from the socket go.
#[derive(Debug)]
pub enum Room<'a> {
    /// The shared buffer.
    Small(&'a mut BytesMut),
    /// The rest of an argument's own buffer; say how much with [`Input::filled`].
    Large(&'a mut [u8]),
}
