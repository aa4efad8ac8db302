//! The client for scripts: one request at a time, on the caller's own thread.
//!
//! Owns the operations and the loop of attempts; `socket` owns the bytes. No runtime, no other
//! thread. Names of writes and the decision what to do after a failure are those of the async
//! client. Invariant: the socket is dropped when an exchange on it has failed half way.

mod many;
mod socket;
mod streams;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::client::attempt::{Attempts, Reached};
use crate::client::blocking::socket::Socket;
use crate::client::call::Answer;
use crate::client::session::{OpenWrites, Session};
use crate::client::{
    ClientOptions, PutOptions, WAIT_ROUND, get, object, push, put, stat, unexpected,
};
use crate::error::{Error, Kind, Result};
use crate::key::{Key, SLOTS, Version};
use crate::object::{Object, Stat};
use crate::transport::Buffers;
use crate::wire::{Condition, Delivery, Page, PageItem, Reply, Request, Write};

/// A client of one node that blocks the calling thread. Not shared between threads: make one each.
/// Every request ends within [`ClientOptions::request_timeout`]; what takes several requests (many
/// objects, a list, a value in parts) has the time for each.
#[derive(Debug)]
pub struct BlockingClient {
    address: String,
    options: ClientOptions,
    session: Arc<Session>,
    buffers: Buffers,
    open: Option<Socket>,
    next_id: u64,
    /// Heads of requests, used again.
    head: BytesMut,
}

impl BlockingClient {
    /// A client of the node at `address` (`HOST:PORT`). Connects at the first operation.
    pub fn new(address: &str, options: ClientOptions) -> Self {
        let buffers = Buffers::new(options.buffer_bytes_max);
        let (address, session) = (address.to_owned(), Arc::new(Session::new()));
        Self { address, options, session, buffers, open: None, next_id: 0, head: BytesMut::new() }
    }

    /// As [`Client::get`](super::Client::get).
    pub fn get(&mut self, key: &Key) -> Result<Object> {
        let reply = self.call(get(key, Version(0)).inlined(u32::MAX))?;
        object(key, reply)?.ok_or_else(|| unexpected(key))
    }

    /// As [`Client::get_if_newer`](super::Client::get_if_newer).
    pub fn get_if_newer(&mut self, key: &Key, version: Version) -> Result<Option<Object>> {
        let reply = self.call(get(key, version).inlined(u32::MAX))?;
        object(key, reply)
    }

    /// As [`Client::get_range`](super::Client::get_range).
    pub fn get_range(&mut self, key: &Key, offset: u64, len: u64) -> Result<Object> {
        let (newer_than, inline_bytes_max) = (Version(0), u32::MAX);
        let request = Request::Get {
            key: key.clone(),
            offset,
            len,
            newer_than,
            inline_bytes_max,
            delivery: Delivery::Inline,
        };
        let reply = self.call(request)?;
        object(key, reply)?.ok_or_else(|| unexpected(key))
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
        self.delete_with(key, Condition::Always)
    }

    /// As [`Client::delete_with`](super::Client::delete_with).
    pub fn delete_with(&mut self, key: &Key, condition: Condition) -> Result<()> {
        let write = Write::default();
        self.call(Request::Delete { key: key.clone(), write, condition }).map(|_| ())
    }

    /// As [`Client::stat`](super::Client::stat).
    pub fn stat(&mut self, key: &Key) -> Result<Stat> {
        let reply = self.call(Request::Stat { key: key.clone() })?;
        stat(key, reply)
    }

    /// As [`Client::wait`](super::Client::wait).
    pub fn wait(&mut self, key: &Key, newer_than: Version, patience: Duration) -> Result<Stat> {
        let began = Instant::now();
        loop {
            let round = patience.saturating_sub(began.elapsed()).min(WAIT_ROUND);
            let timeout_ms = u32::try_from(round.as_millis()).unwrap_or(u32::MAX);
            let request = Request::Wait { key: key.clone(), newer_than, timeout_ms };
            let limit = round.saturating_add(self.options.request_timeout);
            let is_over = began.elapsed() >= patience;
            match self.call_within(request, limit)?.reply {
                Reply::Failed(fault) if fault.kind == Kind::Timeout && !is_over => {}
                reply => return stat(key, reply),
            }
        }
    }

    /// As [`Client::add`](super::Client::add).
    pub fn add(&mut self, key: &Key, delta: i64) -> Result<i64> {
        match self.call(Request::Add { key: key.clone(), write: Write::default(), delta })? {
            Reply::Added { value, .. } => Ok(value),
            _ => Err(unexpected(key)),
        }
    }

    /// As [`Client::push`](super::Client::push).
    pub fn push(
        &mut self,
        key: &Key,
        value: impl Into<Bytes>,
        queue_bytes_max: u64,
    ) -> Result<u64> {
        match self.call(push(key, value.into(), queue_bytes_max)?)? {
            Reply::Pushed { items, .. } => Ok(items),
            _ => Err(unexpected(key)),
        }
    }

    /// As [`Client::pop`](super::Client::pop).
    pub fn pop(&mut self, key: &Key) -> Result<Bytes> {
        match self.call(Request::Pop { key: key.clone(), write: Write::default() })? {
            Reply::Popped { value, .. } => Ok(value),
            _ => Err(unexpected(key)),
        }
    }

    /// As [`Client::scan`](super::Client::scan).
    pub fn scan(&mut self, prefix: &[u8], from: (u16, u64), limit: u32) -> Result<Page> {
        if from.0 >= SLOTS {
            return Ok(Page { items: Vec::new(), next: (SLOTS, 0) });
        }
        let prefix = Bytes::copy_from_slice(prefix);
        let (slot, hash) = from;
        match self.call(Request::Scan { prefix, slot, hash, limit })? {
            Reply::Page(page) if page.next > from => Ok(page),
            _ => Err(Error::new(Kind::Protocol, "a scan was answered with something else")),
        }
    }

    /// As [`Client::list`](super::Client::list).
    pub fn list(&mut self, prefix: &[u8]) -> Result<Vec<PageItem>> {
        let mut names = Vec::new();
        let mut from = (0, 0);
        while from.0 < SLOTS {
            let page = self.scan(prefix, from, 4096)?;
            names.extend(page.items);
            from = page.next;
        }
        Ok(names)
    }

    /// The node's numbers, as JSON.
    pub fn stats(&mut self) -> Result<Bytes> {
        match self.call(Request::Stats)? {
            Reply::Stats(json) => Ok(json),
            _ => Err(Error::new(Kind::Protocol, "stats were answered with something else")),
        }
    }

    fn call(&mut self, request: Request) -> Result<Reply> {
        self.call_within(request, self.options.request_timeout).map(|answer| answer.reply)
    }

    fn call_within(&mut self, request: Request, limit: Duration) -> Result<Answer> {
        let session = self.session.clone();
        let attempts = Attempts::new(request.writes() > 0);
        let names = session.begin(request.writes());
        self.carry_out(request, &names, attempts, limit)
    }

    /// Carries out a request of which `attempts` were made already, under these names.
    fn carry_out(
        &mut self,
        mut request: Request,
        names: &OpenWrites<'_>,
        mut attempts: Attempts,
        limit: Duration,
    ) -> Result<Answer> {
        let deadline = Instant::now() + limit;
        loop {
            request.name_writes(&mut names.names(attempts.in_doubt()));
            let mut reached = Reached::Nowhere;
            let error = match self.attempt(&request, &attempts, &mut reached, deadline) {
                // The node waited as long as it was asked to: that is the answer.
                Ok(Reply::Failed(fault)) if fault.kind != Kind::Timeout => {
                    reached = Reached::Answered;
                    request.fault(fault)
                }
                Ok(reply) => return Ok(Answer { reply, in_doubt: attempts.in_doubt() }),
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
        let id = self.connect(deadline)?;
        let Self { open: Some(socket), buffers, head, .. } = self else {
            return Err(Error::new(Kind::Closed, "no connection"));
        };
        attempts.check(socket.greeting)?;
        *reached = Reached::Sent(socket.greeting);
        let (payload, sums) = request.payload_summed();
        let payload_len = u32::try_from(payload.len()).expect("payloads are at most 1 GiB");
        head.clear();
        request.put_head(id, 0, payload_len, head);
        // One block's sum fits behind a small head or value without an allocation.
        let (table, one);
        let table = match sums.len() {
            0 => &[][..],
            1 => {
                one = sums.at(0).to_le_bytes();
                &one[..]
            }
            _ => {
                table = sums.to_table();
                &table[..]
            }
        };
        socket.write([head, &payload, table], deadline)?;
        let answer = socket.answer(id, buffers, deadline);
        answer.map_err(|error| match error.kind() {
            Kind::Corrupt => {
                *reached = Reached::Answered;
                let text = match request.key() {
                    Some(key) => format!("the value of {key:?}"),
                    None => "an answer of the node".to_owned(),
                };
                Error::new(Kind::Corrupt, text).with_source(error)
            }
            _ => error,
        })
    }

    /// Opens the socket if it is not; a number for the next request.
    fn connect(&mut self, deadline: Instant) -> Result<u64> {
        if self.open.is_none() {
            let socket = Socket::open(&self.address, &self.session, &self.options, deadline)?;
            self.open = Some(socket);
        }
        self.next_id += 1;
        Ok(self.next_id)
    }
}
