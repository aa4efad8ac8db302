//! The blocking client's socket: bytes out, frames in, each within a deadline.
//!
//! Owns a plain `TcpStream`. Knows nothing of what is asked. Per exchange of small frames: one write
//! and one read; the kernel is told of a deadline only where it differs from what it was told
//! before. Invariant: no read or write outlasts its deadline by more than a 32nd of the time that
//! was left.

use std::io::{ErrorKind, IoSlice, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::checksum::{Summing, Sums};
use crate::client::ClientOptions;
use crate::client::attempt::Greeting;
use crate::client::greeting::{LIMITS, accepted, hello};
use crate::client::session::Session;
use crate::error::{Error, Kind, Result};
use crate::transport::{Buffers, COPIED_BYTES_MAX, tune};
use crate::wire::{BODY_BYTES_MAX, FixedHead, Reply, ServerHello};

const READ_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    pub(super) greeting: Greeting,
    verifies: bool,
    read_timeout: Duration,
    write_timeout: Duration,
}

impl Socket {
    /// Connects and greets.
    pub(super) fn open(
        address: &str,
        session: &Session,
        options: &ClientOptions,
        deadline: Instant,
    ) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(Kind::Closed, format!("cannot connect to {address}")).with_source(error)
        };
        let limit = options.connect_timeout.min(left(deadline)?);
        let deadline = Instant::now() + limit;
        let mut opened = Err(ErrorKind::AddrNotAvailable.into());
        for resolved in address.to_socket_addrs().map_err(failed)? {
            opened = TcpStream::connect_timeout(&resolved, left(deadline)?);
            if opened.is_ok() {
                break;
            }
        }
        let stream = opened.map_err(failed)?;
        tune(&stream);
        let mut socket = Self {
            stream,
            buffer: Vec::with_capacity(READ_BYTES),
            greeting: Greeting { incarnation: 0, session_life: 0 },
            verifies: options.verifies,
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
        };
        let mut bytes = BytesMut::new();
        hello(session.id, &options.token).put(&mut bytes);
        socket.write([&bytes, &[], &[]], deadline)?;
        let mut bytes = BytesMut::new();
        let answer = loop {
            socket.fill(deadline)?;
            bytes.extend_from_slice(&socket.buffer);
            socket.buffer.clear();
            if let Some(answer) = ServerHello::take(&mut bytes)? {
                break answer;
            }
        };
        socket.buffer.extend_from_slice(&bytes);
        socket.greeting = accepted(address, &answer)?;
        Ok(socket)
    }

    /// Writes the pieces in as few system calls as the kernel takes them in.
    pub(super) fn write(&mut self, mut pieces: [&[u8]; 3], deadline: Instant) -> Result<()> {
        while pieces.iter().any(|piece| !piece.is_empty()) {
            let left = left(deadline)?;
            if differs(self.write_timeout, left) {
                self.stream.set_write_timeout(Some(left)).map_err(broken)?;
                self.write_timeout = left;
            }
            let mut written = match self.stream.write_vectored(&pieces.map(IoSlice::new)) {
                Ok(0) => return Err(gone()),
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            for piece in &mut pieces {
                let here = written.min(piece.len());
                *piece = &piece[here..];
                written -= here;
            }
        }
        Ok(())
    }

    /// The answer to request `id`, the only one that is under way.
    pub(super) fn answer(
        &mut self,
        id: u64,
        buffers: &Buffers,
        deadline: Instant,
    ) -> Result<Reply> {
        let head = loop {
            match FixedHead::peek(&self.buffer, LIMITS)? {
                Some(head) => break head,
                None => self.fill(deadline)?,
            }
        };
        if head.request_id != id {
            return Err(Error::new(Kind::Protocol, "an answer to another request"));
        }
        let (start, tail, payload_len) = (head.len(), head.tail_bytes(), head.payload_bytes());
        if tail > COPIED_BYTES_MAX {
            return self.large_answer(head, buffers, deadline);
        }
        while self.buffer.len() < start + tail {
            self.fill(deadline)?;
        }
        if self.buffer.len() > start + tail {
            return Err(Error::new(Kind::Protocol, "more than an answer came"));
        }
        let (payload, table) = self.buffer[start..].split_at(payload_len);
        let sums = Sums::copied(table);
        if self.verifies {
            sums.check(head.phase, payload)?;
        }
        let payload = Bytes::copy_from_slice(payload);
        let reply = Reply::of(&head, &self.buffer[head.body()], payload, sums);
        self.buffer.clear();
        reply
    }

    fn large_answer(
        &mut self,
        head: FixedHead,
        buffers: &Buffers,
        deadline: Instant,
    ) -> Result<Reply> {
        let mut body = [0; BODY_BYTES_MAX];
        body[..head.body_len].copy_from_slice(&self.buffer[head.body()]);
        let (len, payload_len) = (head.tail_bytes(), head.payload_bytes());
        let mut tail = buffers.take(len);
        tail.extend_from_slice(&self.buffer[head.len()..]);
        self.buffer.clear();
        let mut summing = Summing::new(head.phase);
        let mut summed = 0;
        loop {
            if self.verifies {
                let here = tail.len().min(payload_len);
                summing.update(&tail[summed..here]);
                summed = here;
            }
            if tail.len() >= len {
                break;
            }
            self.read(deadline, &mut tail)?;
        }
        if tail.len() > len {
            return Err(Error::new(Kind::Protocol, "more than an answer came"));
        }
        let sums = Sums::copied(&tail[payload_len..]);
        if self.verifies {
            sums.expect(&summing.finish(), payload_len)?;
        }
        tail.truncate(payload_len);
        Reply::of(&head, &body[..head.body_len], buffers.share(tail), sums)
    }

    fn fill(&mut self, deadline: Instant) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.reserve(READ_BYTES / 4);
        let read = self.read(deadline, &mut buffer);
        self.buffer = buffer;
        read
    }

    /// Reads once, behind what is in `buffer`, which has room.
    fn read(&mut self, deadline: Instant, buffer: &mut Vec<u8>) -> Result<()> {
        let left = left(deadline)?;
        if differs(self.read_timeout, left) {
            self.stream.set_read_timeout(Some(left)).map_err(broken)?;
            self.read_timeout = left;
        }
        match rustix::io::read(&self.stream, rustix::buffer::spare_capacity(buffer)) {
            Ok(0) => Err(gone()),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(broken(error.into())),
        }
    }
}

/// Whether the kernel has to be told of another timeout.
fn differs(told: Duration, left: Duration) -> bool {
    told > left + left / 32 || told + told / 32 < left
}

fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(Error::new(Kind::Timeout, "the deadline passed")),
        false => Ok(left),
    }
}

fn gone() -> Error {
    Error::new(Kind::Closed, "the node closed the connection")
}

fn broken(error: std::io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Kind::Timeout,
        _ => Kind::Closed,
    };
    Error::new(kind, "the connection failed").with_source(error)
}
