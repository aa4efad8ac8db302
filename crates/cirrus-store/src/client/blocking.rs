//! The client for scripts: one request at a time, on the caller's own thread.
//!
//! Owns a plain socket; no runtime, no other thread. Frames, names of writes and the decision what
//! to do after a failure are those of the async client. Invariant: the socket is dropped when an
//! exchange on it has failed half way.

use std::io::{ErrorKind, IoSlice, Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::attempt::{Attempts, Greeting, Reached};
use super::connection::{accepted, hello};
use super::session::Session;
use super::{ClientOptions, PutOptions, checked, get, object, put, stat, unexpected};
use crate::checksum::Sums;
use crate::error::{Error, Kind, Result};
use crate::key::{Key, SLOTS, Version};
use crate::object::{Object, Stat};
use crate::wire::{
    Condition, Head, HeadLimits, Page, PageItem, Part, Reply, Request, ServerHello,
    VALUE_BYTES_MAX, Write,
};

const READ_BYTES: usize = 64 * 1024;

/// A client of one node that blocks the calling thread. Not shared between threads: make one each.
/// Every request ends within [`ClientOptions::request_timeout`]; a list makes one for each page.
#[derive(Debug)]
pub struct BlockingClient {
    address: String,
    options: ClientOptions,
    session: Arc<Session>,
    open: Option<Socket>,
    next_id: u64,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    buffer: BytesMut,
    greeting: Greeting,
}

impl BlockingClient {
    /// A client of the node at `address` (`HOST:PORT`). Connects at the first operation.
    pub fn new(address: &str, options: ClientOptions) -> Self {
        let address = address.to_owned();
        Self { address, options, session: Arc::new(Session::new()), open: None, next_id: 0 }
    }

    /// As [`Client::get`](super::Client::get).
    pub fn get(&mut self, key: &Key) -> Result<Object> {
        let reply = self.call(get(key, Version(0)).inline(u32::MAX))?;
        object(key, checked(key, reply)?)?.ok_or_else(|| unexpected(key))
    }

    /// As [`Client::get_range`](super::Client::get_range).
    pub fn get_range(&mut self, key: &Key, offset: u64, len: u64) -> Result<Object> {
        let (newer_than, inline_bytes_max) = (Version(0), u32::MAX);
        let request = Request::Get { key: key.clone(), offset, len, newer_than, inline_bytes_max };
        let reply = self.call(request)?;
        object(key, checked(key, reply)?)?.ok_or_else(|| unexpected(key))
    }

    /// As [`Client::put`](super::Client::put).
    pub fn put(&mut self, key: &Key, value: impl Into<Bytes>) -> Result<Version> {
        self.put_with(key, value, PutOptions::default())
    }

    /// As [`Client::put_with`](super::Client::put_with).
    pub fn put_with(
        &mut self,
        key: &Key,
        value: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<Version> {
        match self.call(put(key, value.into(), options)?)? {
            Reply::Written { version } => Ok(version),
            _ => Err(unexpected(key)),
        }
    }

    /// As [`Client::delete`](super::Client::delete).
    pub fn delete(&mut self, key: &Key) -> Result<()> {
        let (write, condition) = (Write::default(), Condition::Always);
        self.call(Request::Delete { key: key.clone(), write, condition }).map(|_| ())
    }

    /// As [`Client::stat`](super::Client::stat).
    pub fn stat(&mut self, key: &Key) -> Result<Stat> {
        let reply = self.call(Request::Stat { key: key.clone() })?;
        stat(key, reply)
    }

    /// As [`Client::add`](super::Client::add).
    pub fn add(&mut self, key: &Key, delta: i64) -> Result<i64> {
        match self.call(Request::Add { key: key.clone(), write: Write::default(), delta })? {
            Reply::Added { value, .. } => Ok(value),
            _ => Err(unexpected(key)),
        }
    }

    /// As [`Client::list`](super::Client::list).
    pub fn list(&mut self, prefix: &[u8]) -> Result<Vec<PageItem>> {
        let mut names = Vec::new();
        let mut next = (0, 0);
        while next.0 < SLOTS {
            let prefix = Bytes::copy_from_slice(prefix);
            let (slot, hash) = next;
            let page = match self.call(Request::Scan { prefix, slot, hash, limit: 4096 })? {
                Reply::Page(page) => page,
                _ => return Err(Error::new(Kind::Protocol, "a scan was answered wrongly")),
            };
            let Page { items, next: after } = page;
            names.extend(items);
            next = after;
        }
        Ok(names)
    }

    fn call(&mut self, mut request: Request) -> Result<Reply> {
        let limit = self.options.request_timeout;
        let deadline = Instant::now() + limit;
        let session = self.session.clone();
        let names = session.begin(1);
        let mut attempts = Attempts::new(request.writes() > 0);
        loop {
            request.name_writes(&mut names.names(attempts.in_doubt()));
            let mut reached = Reached::Nowhere;
            let error = match self.attempt(&request, &attempts, &mut reached, deadline) {
                Ok(Reply::Failed(fault)) => {
                    reached = Reached::Answered;
                    request.fault(fault)
                }
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    self.open = None;
                    error
                }
            };
            if error.kind() == Kind::Moved {
                // There is no other node that this client knows of.
                return Err(attempts.given_up(error));
            }
            let last = error.to_string();
            let pause = attempts.failed(error, reached)?;
            if Instant::now() + pause >= deadline {
                let last = Error::new(Kind::Closed, last);
                return Err(attempts.out_of_time(limit, Some(last)));
            }
            std::thread::sleep(pause);
        }
    }

    fn attempt(
        &mut self,
        request: &Request,
        attempts: &Attempts,
        reached: &mut Reached,
        deadline: Instant,
    ) -> Result<Reply> {
        self.next_id += 1;
        let id = self.next_id;
        let socket = match self.open.take() {
            Some(socket) => socket,
            None => Socket::open(&self.address, &self.session, &self.options, deadline)?,
        };
        let socket = self.open.insert(socket);
        attempts.check(socket.greeting)?;
        *reached = Reached::Sent(socket.greeting);
        let part = request.to_part();
        let (mut head, table) = (BytesMut::new(), part.sums.to_table());
        part.head(id, 0).put(&mut head);
        socket.write([&head, &part.payload, &table], deadline)?;
        let limits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };
        let head = socket.read(deadline, |buffer| Head::take(buffer, limits))?;
        if head.request_id != id {
            return Err(Error::new(Kind::Protocol, "an answer to another request"));
        }
        let (payload, sums) = socket.tail(&head, deadline)?;
        Reply::from_part(Part::of(head, payload, sums))
    }
}

impl Socket {
    fn open(
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
        let mut opened = Err(std::io::ErrorKind::AddrNotAvailable.into());
        for resolved in address.to_socket_addrs().map_err(failed)? {
            opened = TcpStream::connect_timeout(&resolved, left(deadline)?);
            if opened.is_ok() {
                break;
            }
        }
        let stream = opened.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let greeting = Greeting { incarnation: 0, session_life: 0 };
        let mut socket = Self { stream, buffer: BytesMut::new(), greeting };
        let mut bytes = BytesMut::new();
        hello(session.id, &options.token).put(&mut bytes);
        socket.write([&bytes, &[], &[]], deadline)?;
        let answer = socket.read(deadline, ServerHello::take)?;
        socket.greeting = accepted(address, &answer)?;
        Ok(socket)
    }

    /// Writes the pieces in as few system calls as the kernel takes them in.
    fn write(&mut self, mut pieces: [&[u8]; 3], deadline: Instant) -> Result<()> {
        while pieces.iter().any(|piece| !piece.is_empty()) {
            self.stream.set_write_timeout(Some(left(deadline)?)).map_err(broken)?;
            let mut written = match self.stream.write_vectored(&pieces.map(IoSlice::new)) {
                Ok(0) => return Err(Error::new(Kind::Closed, "the node closed the connection")),
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

    fn read<T>(
        &mut self,
        deadline: Instant,
        mut take: impl FnMut(&mut BytesMut) -> Result<Option<T>>,
    ) -> Result<T> {
        loop {
            if let Some(value) = take(&mut self.buffer)? {
                return Ok(value);
            }
            self.fill(deadline)?;
        }
    }

    fn tail(&mut self, head: &Head, deadline: Instant) -> Result<(Bytes, Sums)> {
        let len = head.tail_bytes();
        let here = len.min(self.buffer.len());
        let mut tail = vec![0; len];
        tail[..here].copy_from_slice(&self.buffer[..here]);
        self.buffer.advance(here);
        let mut at = here;
        while at < len {
            self.stream.set_read_timeout(Some(left(deadline)?)).map_err(broken)?;
            match self.stream.read(&mut tail[at..]) {
                Ok(0) => return Err(Error::new(Kind::Closed, "the node closed the connection")),
                Ok(read) => at += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        let mut tail = Bytes::from(tail);
        let table = tail.split_off(head.payload_bytes());
        Ok((tail, Sums::from_table(table)))
    }

    fn fill(&mut self, deadline: Instant) -> Result<()> {
        self.stream.set_read_timeout(Some(left(deadline)?)).map_err(broken)?;
        let len = self.buffer.len();
        self.buffer.resize(len + READ_BYTES, 0);
        let read = self.stream.read(&mut self.buffer[len..]);
        self.buffer.truncate(len + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(Error::new(Kind::Closed, "the node closed the connection")),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }
}

fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(Error::new(Kind::Timeout, "the deadline passed")),
        false => Ok(left),
    }
}

fn broken(error: std::io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Kind::Timeout,
        _ => Kind::Closed,
    };
    Error::new(kind, "the connection failed").with_source(error)
}
