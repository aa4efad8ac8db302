//! Commands out of bytes: the requests of RESP and the inline commands of telnet.
//!
//! Owns a connection's read buffer and the place in it. Knows nothing of what commands mean, and
//! of no socket. Invariant: the same bytes give the same commands however they are cut, and no
//! memory is taken on the word of a length that was not checked and admitted.
//!
//! A small command: no copy and no allocation; its arguments are ranges of the read buffer. An
//! argument over [`COPIED_BYTES_MAX`] that is not here yet gets a buffer of its own, for which
//! the caller pays first ([`Next::Admit`]); the socket fills it directly.

use bytes::BytesMut;

use crate::server::resp::inline::split_line;
use crate::server::resp::number::parse_integer;
use crate::transport::COPIED_BYTES_MAX;

/// The longest line: a count, a length, or an inline command.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The most arguments of a command.
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// The longest argument.
pub const ARGUMENT_BYTES_MAX: usize = 512 << 20;

/// How many arguments the next command finds room for.
const ARGUMENTS_KEPT: usize = 1024;

/// The most bytes of a command beside its large arguments.
const COMMAND_BYTES_MAX: usize = 1 << 30;

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

    /// The first argument of each small command that is here whole and was not looked at yet: for
    /// most commands, a key that will be used soon.
    pub fn keys_ahead(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = match self.phase {
            Phase::Idle => self.begin,
            Phase::Done => self.begin + self.at,
            _ => self.buffer.len(),
        };
        let bytes = &self.buffer[..];
        std::iter::from_fn(move || {
            loop {
                let (count, lengths) = short_line(bytes, at, b'*')?;
                let mut key = None;
                at = lengths;
                for index in 0..count.min(STRANGER_ARGUMENTS_MAX) {
                    let (len, start) = short_line(bytes, at, b'$')?;
                    at = start + len + 2;
                    if index == 1 {
                        key = bytes.get(start..start + len);
                    }
                }
                if at > bytes.len() || count > STRANGER_ARGUMENTS_MAX {
                    return None;
                }
                if key.is_some() {
                    return key;
                }
            }
        })
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

    /// Takes a command of few small arguments that is here whole, in one pass: nearly every
    /// command is. False leaves everything as it was, for the steps, which also know the errors.
    fn whole(&mut self) -> bool {
        let bytes = &self.buffer[self.begin..];
        let Some((count @ 1..=STRANGER_ARGUMENTS_MAX, mut at)) = short_line(bytes, 0, b'*') else {
            return false;
        };
        for _ in 0..count {
            let Some((len @ ..=STRANGER_ARGUMENT_BYTES_MAX, start)) = short_line(bytes, at, b'$')
            else {
                break;
            };
            at = start + len + 2;
            if at > bytes.len() {
                break;
            }
            let narrow = |at: usize| u32::try_from(at).expect("few and small: far below u32::MAX");
            self.arguments.push(Range::Here { start: narrow(start), len: narrow(len) });
        }
        if self.arguments.len() < count {
            self.arguments.clear();
            return false;
        }
        self.at = at;
        self.phase = Phase::Done;
        self.had_large = false;
        true
    }

    fn first_line(&mut self) -> Result<Option<Next>, Broken> {
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

    fn length_line(&mut self) -> Result<Option<Next>, Broken> {
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

    fn bulk(&mut self, len: usize) -> Option<Next> {
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

    fn large_is_full(&mut self) {
        let Phase::Large { large, .. } = std::mem::replace(&mut self.phase, Phase::End) else {
            return;
        };
        let index = u32::try_from(self.large.len()).expect("fewer than arguments");
        self.large.push(large);
        self.arguments.push(Range::Large(index));
    }

    fn end(&mut self) -> Option<Next> {
        if self.buffer.len() - self.begin - self.at < 2 {
            return Some(Next::More);
        }
        self.at += 2;
        self.after_argument()
    }

    fn after_argument(&mut self) -> Option<Next> {
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

    fn inline_line(&mut self) -> Result<Option<Next>, Broken> {
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

/// Where bytes from the socket go.
#[derive(Debug)]
pub enum Room<'a> {
    /// The shared buffer.
    Small(&'a mut BytesMut),
    /// The rest of an argument's own buffer; say how much with [`Input::filled`].
    Large(&'a mut [u8]),
}

/// The number of up to five digits in the line at `at` that begins with `sign`, and where the line
/// behind it begins. `None` for anything else, which is not always wrong.
#[inline]
fn short_line(bytes: &[u8], at: usize, sign: u8) -> Option<(usize, usize)> {
    let line = bytes.get(at..)?;
    let [first, digit, rest @ ..] = line else { return None };
    if *first != sign || !digit.is_ascii_digit() {
        return None;
    }
    let mut number = usize::from(digit - b'0');
    for (more, byte) in rest.iter().take(5).enumerate() {
        match byte {
            // The byte behind it is here and is not looked at, as in Redis.
            b'\r' if rest.len() > more + 1 => return Some((number, at + more + 4)),
            b'0'..=b'9' if number > 0 => number = number * 10 + usize::from(byte - b'0'),
            _ => return None,
        }
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The rest of a refused command passes by, whatever phase it was refused in.
    #[test]
    fn a_refused_command_leaves_nothing_behind() {
        let large =
            [&b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$20000\r\n"[..], &[7; 20_000], b"\r\n"].concat();
        let stream = [&large[..], b"*1\r\n$4\r\nping\r\n"].concat();
        for refused_at in (1..20_020).step_by(13) {
            let mut input: Input<Vec<u8>> = Input::new(BytesMut::new());
            input.set_trusted(true);
            let mut seen = Vec::new();
            for (at, byte) in stream.iter().enumerate() {
                match input.room() {
                    Room::Small(buffer) => buffer.extend_from_slice(&[*byte]),
                    Room::Large(rest) => {
                        rest[0] = *byte;
                        input.filled(1, b"");
                    }
                }
                loop {
                    match input.parse().unwrap() {
                        Next::More => break,
                        Next::Admit(len) => input.admit(vec![0; len]),
                        Next::Refused => seen.push(0),
                        Next::Command => seen.push(input.argument_count()),
                    }
                }
                if at == refused_at && input.is_inside() {
                    input.refuse();
                }
            }
            // Before anything of it could be told from an inline command, nothing is refused.
            let expected = if refused_at < 3 { [3, 1] } else { [0, 1] };
            assert_eq!(seen, expected, "refused behind {refused_at} bytes");
            assert!(!input.is_inside());
        }
    }

    #[test]
    fn lengths_are_checked_before_anything_is_taken() {
        for (stream, expected) in [
            (&b"*1048577\r\n"[..], Broken::Text("Protocol error: invalid multibulk length")),
            (b"*1\r\n$536870913\r\n", Broken::Text("Protocol error: invalid bulk length")),
            (b"*1\r\n+x\r\n", Broken::NoBulk(b'+')),
        ] {
            let mut input: Input<Vec<u8>> = Input::new(BytesMut::from(stream));
            input.set_trusted(true);
            assert_eq!(input.parse().unwrap_err(), expected);
        }
        let mut input: Input<Vec<u8>> = Input::new(BytesMut::from(&b"*1048576\r\n"[..]));
        input.set_trusted(true);
        assert_eq!(input.parse(), Ok(Next::More));
        assert!(input.held_bytes() < 100, "{}", input.held_bytes());
    }

    #[test]
    fn keys_are_seen_ahead_in_whole_commands_only() {
        let stream = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n\
            *3\r\n$3\r\nSET\r\n$2\r\nbb\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$1\r\nc\r\n";
        let keys: [&[u8]; 3] = [b"a", b"bb", b"c"];
        let mut input: Input<Vec<u8>> = Input::new(BytesMut::from(&stream[..]));
        assert_eq!(input.keys_ahead().collect::<Vec<_>>(), keys);
        assert_eq!(input.parse(), Ok(Next::Command));
        assert_eq!(input.keys_ahead().collect::<Vec<_>>(), keys[1..]);
        for cut in 0..stream.len() {
            let input: Input<Vec<u8>> = Input::new(BytesMut::from(&stream[..cut]));
            let whole = [20, 62, stream.len()].iter().filter(|end| **end <= cut).count();
            assert_eq!(input.keys_ahead().collect::<Vec<_>>(), keys[..whole], "cut at {cut}");
        }
        for stream in
            ["*99999\r\n$99999\r\n", "*2\r\n$99999\r\n$1\r\n", "get a\r\n", "*2\r\n*1\r\n"]
        {
            let input: Input<Vec<u8>> = Input::new(BytesMut::from(stream));
            assert_eq!(input.keys_ahead().count(), 0, "{stream:?}");
        }
    }

    /// The commands and the end of a stream whose bytes arrive in pieces of `piece` bytes.
    fn parse(bytes: &[u8], piece: usize) -> (Vec<Vec<Vec<u8>>>, Option<Broken>) {
        let mut input: Input<Vec<u8>> = Input::new(BytesMut::new());
        let mut commands = Vec::new();
        for piece in bytes.chunks(piece) {
            match input.room() {
                Room::Small(buffer) => buffer.extend_from_slice(piece),
                Room::Large(_) => panic!("no argument here is large"),
            }
            loop {
                match input.parse() {
                    Ok(Next::Command) => {
                        let argument = |index| match input.argument(index) {
                            Argument::Here(bytes) => bytes.to_vec(),
                            Argument::Large(_) => panic!("no argument here is large"),
                        };
                        commands.push((0..input.argument_count()).map(argument).collect());
                    }
                    Ok(Next::More) => break,
                    Ok(other) => panic!("{other:?}"),
                    Err(broken) => return (commands, Some(broken)),
                }
            }
        }
        (commands, None)
    }

    #[test]
    fn a_command_that_is_here_whole_is_the_one_that_comes_in_pieces() {
        let streams: [&[u8]; 14] = [
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n",
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*1\r\n$4\r\nPI",
            b"*0\r\n*1\r\n$4\r\nPING\r\nPING\r\n",
            b"*-1\r\n*1\r\n$4\r\nPING\r\n",
            b"*01\r\n$4\r\nPING\r\n",
            b"*1\r\n$04\r\nPING\r\n",
            b"*1\r\n$\r\nPING\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n+4\r\nPING\r\n",
            b"*1x\r\n$4\r\nPING\r\n",
            b"*1\rx$4\rxPINGxx*1\r\n$4\r\nPING\r\n",
            b"*11\r\n$1\r\na\r\n",
            b"*1\r\n$16385\r\n",
            b"*1\r\n$123456\r\n",
        ];
        for stream in streams {
            let shown = stream.escape_ascii();
            let expected = parse(stream, 1);
            for piece in [2, 3, 7, stream.len()] {
                assert_eq!(parse(stream, piece), expected, "{shown} by {piece}");
            }
        }
    }
}
