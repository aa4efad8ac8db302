//! Large values in parts, from and to the caller's own thread.
//!
//! Owns the blocking forms of `upload` and `download`; their modules have the reasons. Invariant:
//! theirs.

use std::io::Read;
use std::time::Instant;

use bytes::Bytes;

use crate::checksum::{Summing, Sums};
use crate::client::attempt::Attempts;
use crate::client::blocking::BlockingClient;
use crate::client::download::{PART_BYTES, changed, is_whole};
use crate::client::upload::{CHUNK_BYTES, probe};
use crate::client::{NEVER, PutOptions, payload_len, unexpected};
use crate::error::{Error, Kind, Result};
use crate::key::{Key, Version};
use crate::wire::{Delivery, Reply, Request};

impl BlockingClient {
    /// Stores the next `len` bytes that `reader` gives, as one object. A reader that ends before
    /// gives [`Kind::Invalid`]; otherwise as [`Client::put_stream`](crate::Client::put_stream). The
    /// client's `request_timeout` bounds each chunk of 256 KiB and the answer.
    pub fn put_reader(
        &mut self,
        key: &Key,
        len: u64,
        reader: &mut impl Read,
        options: PutOptions,
    ) -> Result<Version> {
        let payload_len = payload_len(key, len)?;
        if payload_len == 0 {
            return self.put_with(key, Bytes::new(), options);
        }
        // Finds out, before the reader is asked, whether the node is there and holds the slot.
        match self.stat(key) {
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let session = self.session.clone();
        let names = session.begin(1);
        let PutOptions { condition, expires_at } = options;
        let request = Request::Put {
            key: key.clone(),
            write: names.names(false)(),
            condition,
            expires_at: expires_at.unwrap_or(NEVER),
            value: Bytes::new(),
            sums: Sums::default(),
        };
        let id = self.connect(Instant::now() + self.options.request_timeout)?;
        let Some(greeting) = self.open.as_ref().map(|socket| socket.greeting) else {
            return Err(Error::new(Kind::Closed, "no connection"));
        };
        let mut sent = false;
        let error = match self.upload(id, &request, payload_len, reader, &mut sent) {
            Ok(Reply::Written { version }) => return Ok(version),
            Ok(Reply::Failed(fault)) => return Err(request.fault(fault)),
            Ok(_) => return Err(unexpected(key)),
            Err(error) => error,
        };
        self.open = None;
        if !sent {
            return Err(error);
        }
        let attempts = Attempts::in_doubt_about(greeting);
        match self.carry_out(probe(key), &names, attempts, self.options.request_timeout) {
            Ok(answer) => match answer.reply {
                Reply::Written { version } => Ok(version),
                _ => Err(unexpected(key)),
            },
            Err(refused) if refused.kind() == Kind::WrongVersion => Err(error),
            Err(unknown) => Err(unknown.with_source(error)),
        }
    }

    fn upload(
        &mut self,
        id: u64,
        request: &Request,
        payload_len: u32,
        reader: &mut impl Read,
        sent: &mut bool,
    ) -> Result<Reply> {
        let limit = self.options.request_timeout;
        let Self { open: Some(socket), buffers, head, .. } = self else {
            return Err(Error::new(Kind::Closed, "no connection"));
        };
        head.clear();
        request.put_head(id, 0, payload_len, head);
        socket.write([head, &[], &[]], Instant::now() + limit)?;
        let mut summing = Summing::new(0);
        let mut left = payload_len as usize;
        let mut chunk = vec![0; CHUNK_BYTES.min(left)];
        while left > 0 {
            let chunk = &mut chunk[..CHUNK_BYTES.min(left)];
            reader.read_exact(chunk).map_err(|error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => Kind::Invalid,
                    _ => Kind::Closed,
                };
                let text = format!("the source of a value of {payload_len} bytes failed");
                Error::new(kind, text).with_source(error)
            })?;
            summing.update(chunk);
            socket.write([chunk, &[], &[]], Instant::now() + limit)?;
            left -= chunk.len();
        }
        *sent = true;
        let table = summing.finish().to_table();
        socket.write([&table, &[], &[]], Instant::now() + limit)?;
        socket.answer(id, buffers, Instant::now() + limit)
    }

    /// Writes the object's value to `writer`, a part at a time, each checked before; its version.
    /// [`Kind::WrongVersion`] when it is written while it is read, [`Kind::Closed`] when `writer`
    /// fails; what was written by then stays there.
    pub fn get_to(&mut self, key: &Key, writer: &mut impl std::io::Write) -> Result<Version> {
        let mut offset = 0;
        let mut first: Option<(Version, u64)> = None;
        loop {
            let (len, newer_than, inline_bytes_max) = (PART_BYTES, Version(0), u32::MAX);
            let name = key.clone();
            let request = Request::Get {
                key: name,
                offset,
                len,
                newer_than,
                inline_bytes_max,
                delivery: Delivery::Inline,
            };
            let (version, size, value) = match self.call(request)? {
                Reply::Value { version, size, value, .. } => (version, size, value),
                _ => return Err(unexpected(key)),
            };
            let before = *first.get_or_insert((version, size));
            if before != (version, size) {
                return Err(changed(key, before.0, version));
            }
            if !is_whole(&value, offset, size) {
                return Err(unexpected(key));
            }
            writer.write_all(&value).map_err(|error| {
                Error::new(Kind::Closed, "the value's writer failed").with_source(error)
            })?;
            offset += value.len() as u64;
            if offset >= size {
                return Ok(version);
            }
        }
    }
}
