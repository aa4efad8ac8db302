//! What goes back to the client: RESP2 and RESP3, and the bytes that wait to leave.
//!
//! Owns a connection's output. Knows nothing of what was asked. Per small reply: one copy into
//! one buffer that stays; a value over [`COPIED_BYTES_MAX`] is shared. Per wake-up one write,
//! vectored only if something is shared. Invariant: bytes leave whole and in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::server::memory::Reservation;
use crate::server::resp::number::Decimal;
use crate::transport::COPIED_BYTES_MAX;

/// The kernel takes up to 1,024 pieces at once; more than this does not pay.
const PIECES_MAX: usize = 64;

/// What a connection's buffer keeps between two writes. A larger one goes back to its thread, for
/// whoever writes next.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// The longest buffer that a thread keeps, and how many.
const SPARE_BYTES_MAX: usize = 256 * 1024;
const SPARE_BUFFERS_MAX: usize = 4;

/// The heads of lengths up to this are copied out of a table.
const SHORT_LEN_MAX: usize = 128;

/// A length as a line: room for its kind, digits, the line's end; and how many bytes that is.
static SHORT_LINES: [([u8; 8], usize); SHORT_LEN_MAX + 1] = {
    let mut lines = [([0; 8], 0); SHORT_LEN_MAX + 1];
    let mut len = 0;
    while len <= SHORT_LEN_MAX {
        let (line, end) = &mut lines[len];
        *end = 1;
        let mut unit = 100;
        while unit > 0 {
            if len >= unit || unit == 1 {
                #[expect(clippy::cast_possible_truncation, reason = "a digit")]
                let digit = (len / unit % 10) as u8;
                line[*end] = b'0' + digit;
                *end += 1;
            }
            unit /= 10;
        }
        (line[*end], line[*end + 1]) = (b'\r', b'\n');
        *end += 2;
        len += 1;
    }
    lines
};

thread_local! {
    static SPARE_BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The version of RESP that a connection speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Dialect {
    #[default]
    Resp2,
    Resp3,
}

/// Replies that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) dialect: Dialect,
    small: Vec<u8>,
    /// Values that are shared, each behind so many bytes of `small`.
    shared: VecDeque<(usize, Bytes)>,
    shared_bytes: usize,
    /// Pays for long replies until they have left.
    paid: Vec<Reservation>,
}

/// A point to which the output can be taken back, before anything is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    small: usize,
    shared: usize,
}

impl Output {
    /// Makes room for many replies, if the thread has some to spare.
    pub(super) fn make_room(&mut self) {
        if self.small.is_empty()
            && let Some(spare) = SPARE_BUFFERS.with_borrow_mut(Vec::pop)
        {
            self.small = spare;
        }
    }

    /// Bytes that wait for [`Output::flush`].
    pub(super) fn queued_bytes(&self) -> usize {
        self.small.len() + self.shared_bytes
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { small: self.small.len(), shared: self.shared.len() }
    }

    /// Takes back what came after `mark`.
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.small.truncate(mark.small);
        while self.shared.len() > mark.shared {
            let taken = self.shared.pop_back();
            self.shared_bytes -= taken.map_or(0, |(_, bytes)| bytes.len());
        }
    }

    /// Takes over what pays for a long reply.
    pub(super) fn pay(&mut self, paid: Reservation) {
        self.paid.push(paid);
    }

    /// `+OK`.
    pub(super) fn ok(&mut self) {
        self.small.extend_from_slice(b"+OK\r\n");
    }

    /// A short text without line ends.
    pub(super) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: its code, then words. Bytes that end a line become spaces, and nothing at its end.
    pub(super) fn error(&mut self, text: impl AsRef<[u8]>) {
        self.small.push(b'-');
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let text = text.as_ref();
        let len = text.iter().rposition(|byte| !is_end(byte)).map_or(0, |last| last + 1);
        self.small.extend(text[..len].iter().map(|b| if is_end(b) { b' ' } else { *b }));
        self.small.extend_from_slice(b"\r\n");
    }

    pub(super) fn integer(&mut self, value: i64) {
        // The most frequent ones in one copy.
        match value {
            0 => self.small.extend_from_slice(b":0\r\n"),
            1 => self.small.extend_from_slice(b":1\r\n"),
            _ => self.line(b':', Decimal::of(value).as_bytes()),
        }
    }

    /// A count, which an `i64` holds.
    pub(super) fn count(&mut self, value: u64) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.small.reserve(bytes.len() + 32);
        self.head(b'$', bytes.len());
        self.small.extend_from_slice(bytes);
        self.small.extend_from_slice(b"\r\n");
    }

    /// A bulk whose bytes are shared if they are many.
    pub(super) fn bulk_shared(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPIED_BYTES_MAX {
            return self.bulk(bytes);
        }
        self.head(b'$', bytes.len());
        self.shared_bytes += bytes.len();
        self.shared.push_back((self.small.len(), bytes.clone()));
        self.small.extend_from_slice(b"\r\n");
    }

    /// A text for people: RESP3 says that it is one.
    pub(super) fn verbatim(&mut self, text: &[u8]) {
        match self.dialect {
            Dialect::Resp2 => self.bulk(text),
            Dialect::Resp3 => {
                self.head(b'=', text.len() + 4);
                self.small.extend_from_slice(b"txt:");
                self.small.extend_from_slice(text);
                self.small.extend_from_slice(b"\r\n");
            }
        }
    }

    pub(super) fn null(&mut self) {
        self.small.extend_from_slice(match self.dialect {
            Dialect::Resp2 => b"$-1\r\n",
            Dialect::Resp3 => b"_\r\n",
        });
    }

    /// The null where an array was expected.
    pub(super) fn null_array(&mut self) {
        self.small.extend_from_slice(match self.dialect {
            Dialect::Resp2 => b"*-1\r\n",
            Dialect::Resp3 => b"_\r\n",
        });
    }

    /// The head of an array; so many replies follow.
    pub(super) fn array(&mut self, len: usize) {
        self.head(b'*', len);
    }

    /// The head of a map; so many pairs of replies follow.
    pub(super) fn map(&mut self, pairs: usize) {
        match self.dialect {
            Dialect::Resp2 => self.head(b'*', pairs * 2),
            Dialect::Resp3 => self.head(b'%', pairs),
        }
    }

    /// The head of a set; so many replies follow.
    pub(super) fn set(&mut self, len: usize) {
        match self.dialect {
            Dialect::Resp2 => self.head(b'*', len),
            Dialect::Resp3 => self.head(b'~', len),
        }
    }

    fn head(&mut self, kind: u8, len: usize) {
        if let Some((line, end)) = SHORT_LINES.get(len) {
            let mut line = *line;
            line[0] = kind;
            return self.small.extend_from_slice(&line[..*end]);
        }
        self.line(kind, Decimal::of_unsigned(len as u64).as_bytes());
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.small.push(kind);
        self.small.extend_from_slice(text);
        self.small.extend_from_slice(b"\r\n");
    }

    /// Writes out what is queued. Dropping the future leaves the stream cut somewhere: it must not
    /// be written to again.
    pub(super) async fn flush<W: AsyncWrite + Unpin>(&mut self, link: &mut W) -> io::Result<()> {
        if self.shared.is_empty() {
            link.write_all(&self.small).await?;
        } else {
            self.flush_vectored(link).await?;
        }
        self.small.clear();
        self.paid.clear();
        Ok(())
    }

    /// Gives back what an idle connection does not need; nothing may be queued.
    pub(super) fn release(&mut self) {
        if self.small.capacity() > KEPT_BYTES_MAX {
            keep_spare(std::mem::take(&mut self.small));
            self.shared = VecDeque::new();
        }
    }

    async fn flush_vectored<W: AsyncWrite + Unpin>(&mut self, link: &mut W) -> io::Result<()> {
        let mut small_written = 0;
        let mut shared_written = 0;
        while small_written < self.small.len() || !self.shared.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let (mut pieces, mut at, mut skip) = (0, small_written, shared_written);
            for (behind, bytes) in self.shared.iter().take(PIECES_MAX / 2 - 1) {
                slices[pieces] = IoSlice::new(&self.small[at..*behind]);
                slices[pieces + 1] = IoSlice::new(&bytes[skip..]);
                (pieces, at, skip) = (pieces + 2, *behind, 0);
            }
            let end = self.shared.get(PIECES_MAX / 2 - 1).map_or(self.small.len(), |next| next.0);
            slices[pieces] = IoSlice::new(&self.small[at..end]);
            let mut written = link.write_vectored(&slices[..=pieces]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            while written > 0 {
                let next = self.shared.front().map(|(behind, bytes)| (*behind, bytes.len()));
                let behind = next.map_or(self.small.len(), |(behind, _)| behind);
                let here = written.min(behind - small_written);
                small_written += here;
                written -= here;
                if let (true, Some((_, len))) = (small_written == behind, next) {
                    let here = written.min(len - shared_written);
                    shared_written += here;
                    written -= here;
                    if shared_written == len {
                        self.shared.pop_front();
                        self.shared_bytes -= len;
                        shared_written = 0;
                    }
                }
            }
        }
        Ok(())
    }
}

fn keep_spare(buffer: Vec<u8>) {
    SPARE_BUFFERS.with_borrow_mut(|spare| {
        if buffer.capacity() <= SPARE_BYTES_MAX && spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// Takes a few bytes at a time.
    struct Narrow(Vec<u8>, usize);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut left = self.1;
            for slice in slices {
                let taken = slice.len().min(left);
                self.0.extend_from_slice(&slice[..taken]);
                left -= taken;
            }
            Poll::Ready(Ok(self.1 - left))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn written(mut output: Output) -> Vec<u8> {
        let mut link = Narrow(Vec::new(), usize::MAX);
        futures_util::FutureExt::now_or_never(output.flush(&mut link)).unwrap().unwrap();
        link.0
    }

    #[test]
    fn each_dialect_has_its_own_heads() {
        for (dialect, expected) in [
            (Dialect::Resp2, "$-1\r\n*-1\r\n*2\r\n*4\r\n*3\r\n$2\r\nhi\r\n"),
            (Dialect::Resp3, "_\r\n_\r\n*2\r\n%2\r\n~3\r\n=6\r\ntxt:hi\r\n"),
        ] {
            let mut output = Output { dialect, ..Output::default() };
            output.null();
            output.null_array();
            output.array(2);
            output.map(2);
            output.set(3);
            output.verbatim(b"hi");
            assert_eq!(String::from_utf8(written(output)).unwrap(), expected);
        }
    }

    #[test]
    fn every_length_is_written_in_decimal() {
        for len in 0..2000 {
            let mut output = Output::default();
            output.array(len);
            output.bulk(&vec![b'x'; len]);
            let expected = format!("*{len}\r\n${len}\r\n{}\r\n", "x".repeat(len));
            assert_eq!(String::from_utf8(written(output)).unwrap(), expected);
        }
    }

    #[test]
    fn an_error_is_one_line() {
        let mut output = Output::default();
        output.error(b"ERR a\r\nb\r\r\n");
        output.integer(-7);
        output.simple("PONG");
        assert_eq!(written(output), b"-ERR a  b\r\n:-7\r\n+PONG\r\n");
    }

    #[test]
    fn shared_values_leave_in_their_places_however_little_is_taken() {
        for taken in [7, 1000, 16 * 1024, 1 << 20] {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for index in 0..60_usize {
                let value = vec![u8::try_from(index).unwrap(); index * 700];
                output.bulk_shared(&Bytes::from(value.clone()));
                expected.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
                expected.extend_from_slice(&value);
                expected.extend_from_slice(b"\r\n");
                let mark = output.mark();
                output.bulk_shared(&Bytes::from(vec![1; 20_000]));
                output.rewind(mark);
            }
            assert_eq!(output.queued_bytes(), expected.len());
            let mut link = Narrow(Vec::new(), taken);
            futures_util::FutureExt::now_or_never(output.flush(&mut link)).unwrap().unwrap();
            assert_eq!(link.0, expected);
            assert_eq!(output.queued_bytes(), 0);
        }
    }
}
