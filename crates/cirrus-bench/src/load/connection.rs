//! One connection of the load generator.
//!
//! Owns a non-blocking socket, its encoded batch of requests and how far the replies have come.
//! Per batch: one write, one read, no allocation, no copy beside the kernel's. Invariant: a batch
//! is done when the last byte of its last reply was found right.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::load::keys::{DIGITS, Keys, write_digits};
use crate::load::script::Script;

/// How much of a wrong reply is shown.
const SHOWN_BYTES: usize = 60;

/// What came of a read or a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All replies of the batch are here.
    Done,
    /// Replies are missing.
    Reading,
    /// The socket takes no more for now.
    Writing,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// When the batch in flight began, or should have.
    pub(super) started: Instant,
    pub(super) is_busy: bool,
    requests: Vec<u8>,
    sent: usize,
    numbers: Vec<u32>,
    answered: usize,
    /// How much of the next reply has come.
    reply_at: usize,
}

impl Connection {
    pub(super) fn open(address: SocketAddr, script: &Script, pipeline: usize) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .with_context(|| format!("cannot connect to {address}; is the server up?"))?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        stream.set_nonblocking(true).context("O_NONBLOCK")?;
        Ok(Self {
            stream,
            started: Instant::now(),
            is_busy: false,
            requests: script.request.repeat(pipeline),
            sent: 0,
            numbers: vec![0; pipeline],
            answered: 0,
            reply_at: 0,
        })
    }

    /// Sends the next batch.
    pub(super) fn start(
        &mut self,
        script: &Script,
        keys: &mut Keys,
        started: Instant,
    ) -> Result<Step> {
        let request_bytes = script.request.len();
        for (number, request) in
            self.numbers.iter_mut().zip(self.requests.chunks_exact_mut(request_bytes))
        {
            *number = keys.next();
            for at in &script.request_keys_at {
                write_digits(*number, &mut request[*at..]);
            }
        }
        (self.sent, self.answered, self.reply_at) = (0, 0, 0);
        (self.started, self.is_busy) = (started, true);
        self.write()
    }

    /// Sends what is left of the batch.
    pub(super) fn write(&mut self) -> Result<Step> {
        while self.sent < self.requests.len() {
            match self.stream.write(&self.requests[self.sent..]) {
                Ok(0) => bail!("the server takes no more bytes"),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Writing),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot write to the server"),
            }
        }
        Ok(Step::Reading)
    }

    /// Whether part of the batch still has to be sent.
    pub(super) fn is_writing(&self) -> bool {
        self.sent < self.requests.len()
    }

    /// Reads once and checks what came. `reply` is scratch: the reply with some key's number.
    pub(super) fn read(
        &mut self,
        script: &Script,
        reply: &mut [u8],
        buffer: &mut [u8],
    ) -> Result<Step> {
        let read = match self.stream.read(buffer) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => read,
            Err(error) if is_transient(&error) => return Ok(Step::Reading),
            Err(error) => return Err(error).context("cannot read from the server"),
        };
        let mut came = &buffer[..read];
        while !came.is_empty() {
            let Some(number) = self.numbers.get(self.answered) else {
                bail!("more came than was asked for: {}", came[..].escape_ascii());
            };
            if let Some(at) = script.reply_key_at {
                write_digits(*number, &mut reply[at..at + DIGITS]);
            }
            let expected = &reply[self.reply_at..];
            let here = expected.len().min(came.len());
            if came[..here] != expected[..here] {
                let show =
                    |bytes: &[u8]| bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii().to_string();
                bail!("expected {:?}, the server said {:?}", show(expected), show(came));
            }
            came = &came[here..];
            self.reply_at += here;
            if self.reply_at == reply.len() {
                (self.answered, self.reply_at) = (self.answered + 1, 0);
            }
        }
        match self.answered == self.numbers.len() {
            true => {
                self.is_busy = false;
                Ok(Step::Done)
            }
            false => Ok(Step::Reading),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
