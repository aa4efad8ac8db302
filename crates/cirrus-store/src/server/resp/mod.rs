//! RESP: how Redis's clients reach a node's objects.
//!
//! Owns the loop of one connection: read, carry out every whole command, write all replies at
//! once. Knows nothing of the native protocol; both meet in the keyspace. Invariant: replies leave
//! in the order of their commands, and memory for a long argument is paid for before it is taken.
//!
//! Per wake-up: one read, one write, and the objects of many commands fetched into the cache at the
//! same time; a timer only if the client does not take its replies at once. Per small command: its arguments are ranges of the read
//! buffer, its reply is copied into the output buffer; no allocation, no system call of its own.

mod blocking;
mod call;
mod clients;
mod cluster;
mod command;
mod connection;
mod dispatch;
mod expiry;
mod glob;
mod inline;
mod keys;
mod lists;
mod long_double;
mod number;
mod numbers;
pub mod parse;
mod reply;
mod rows;
mod server;
mod strings;
mod table;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::key::Key;
use crate::server::disk::Pin;
use crate::server::keyspace::{Filling, Large, Seen};
use crate::server::memory::Reservation;
use crate::server::node::{Node, unix_ms};
use crate::server::resp::call::{Failure, Result};
use crate::server::resp::connection::{Client, Replies};
use crate::server::resp::dispatch::{Request, put_failure};
use crate::server::resp::lists::{Wait, put_served};
use crate::server::resp::parse::{Broken, HEAD_BYTES, Input, Next, Room};
use crate::server::resp::reply::{Mark, Output};
use crate::transport::{Link, LinkReader, LinkWriter, read_at_most, within};
use crate::wire::Fault;

/// Replies that may pile up before they are written out.
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// What a command under way may hold before it is paid for.
const HELD_BYTES_FREE: usize = 256 * 1024;

/// What is read ahead while a client waits for an item, so that its leaving is seen.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// How long the rest of a command may take to arrive, or replies to leave, beside their bytes.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);

/// The slowest peer that is waited for, in bytes per second.
const TRANSFER_BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// What the RESP connections of a node share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) clients: clients::Clients,
    pub(super) lines: blocking::Lines,
}

/// Serves one connection, whose first bytes are `first`, until it ends or `cancel` is called.
pub(super) async fn serve(node: Arc<Node>, link: Link, first: BytesMut, cancel: CancellationToken) {
    let (peer, local) = link.reader.addresses();
    // One token says both: each is looked at whenever the connection wakes up.
    let killed = cancel.child_token();
    let entry = node.resp.clients.enter(peer, local, killed.clone());
    let is_trusted = node.options.token.is_empty();
    let mut input = Input::new(first);
    input.set_trusted(is_trusted);
    let card = entry.card.clone();
    let mut connection = Connection {
        node: &node,
        reader: link.reader,
        writer: link.writer,
        input,
        out: Output::default(),
        client: Client { card, is_trusted, replies: Replies::On, leaves: false },
        held: node.transit.nothing(),
        held_bytes: 0,
        began: None,
        wait: None,
        refusal: None,
        seen: Seen::default(),
        unsent: 0,
        held_up: None,
    };
    let ended = tokio::select! {
        biased;
        ended = connection.run() => ended,
        () = killed.cancelled() => Ok(()),
    };
    if let Some(wait) = connection.wait.take() {
        wait.abandon(&node);
    }
    if let Err(error) = ended {
        debug!(client = entry.card.id, "connection ended: {error}");
    }
}

struct Connection<'n> {
    node: &'n Arc<Node>,
    reader: LinkReader,
    writer: LinkWriter,
    input: Input<Filling>,
    out: Output,
    client: Client,
    /// Pays for a long command under way.
    held: Reservation,
    held_bytes: usize,
    /// When the command under way began to arrive, if it was not whole at once.
    began: Option<Instant>,
    wait: Option<Wait>,
    /// Why the command under way was refused.
    refusal: Option<Failure>,
    /// What the replies in `out` must wait for, on a node with a disk, and how many they are.
    seen: Seen,
    unsent: usize,
    /// What a command is held up for.
    held_up: Option<HeldUp>,
}

/// What must be there before a command goes on, on a node with a disk.
#[derive(Debug)]
enum HeldUp {
    /// Values that lie on the disk only: the command is whole.
    Cold(Vec<Key>),
    /// They are there, and the large ones stay.
    Warm(#[expect(dead_code, reason = "held until the command is done")] Vec<Pin>),
    /// Room for a long argument, which is about to come.
    Room(usize),
}

/// Why no more commands are carried out for now.
#[derive(Debug, PartialEq, Eq)]
enum Pause {
    /// More bytes are needed.
    Read,
    /// Replies have piled up.
    Write,
    /// The last command waits for an item.
    Wait,
    /// The connection is to end.
    Leave,
    /// Something must be there first: see `held_up`.
    HeldUp,
}

impl Connection<'_> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            if self.node.has_disk() {
                self.node.room(0).await;
            }
            let pause = self.carry_out();
            self.flush().await?;
            match pause {
                Pause::Write => {}
                Pause::HeldUp => match self.held_up.take() {
                    Some(HeldUp::Cold(keys)) => {
                        self.held_up = Some(HeldUp::Warm(self.node.bring(keys).await));
                    }
                    Some(HeldUp::Room(bytes)) => {
                        self.node.room(bytes).await;
                        self.held_up = Some(HeldUp::Room(bytes));
                    }
                    Some(HeldUp::Warm(_)) | None => {}
                },
                Pause::Leave => return Ok(()),
                Pause::Wait => self.await_item().await?,
                Pause::Read => {
                    if !self.read().await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Carries out every command that is here.
    fn carry_out(&mut self) -> Pause {
        let now_ms = unix_ms();
        self.out.make_room();
        let mut commands = 0;
        let pause = loop {
            match self.held_up.take() {
                None => {}
                Some(HeldUp::Room(bytes)) => self.admit(bytes),
                Some(HeldUp::Cold(_) | HeldUp::Warm(_)) => {
                    commands += 1;
                    if let Some(pause) = self.command(now_ms) {
                        break pause;
                    }
                }
            }
            if self.out.queued_bytes() > QUEUED_BYTES_MAX {
                break Pause::Write;
            }
            self.node.look_ahead(commands, self.input.keys_ahead());
            match self.input.parse() {
                Ok(Next::More) => match self.pay_for_held() {
                    Ok(()) => break Pause::Read,
                    Err(fault) => self.refuse(fault),
                },
                Ok(Next::Command) => {
                    if self.is_cold() {
                        break Pause::HeldUp;
                    }
                    commands += 1;
                    if let Some(pause) = self.command(now_ms) {
                        break pause;
                    }
                }
                Ok(Next::Admit(len)) if self.node.has_disk() => {
                    self.held_up = Some(HeldUp::Room(len));
                    break Pause::HeldUp;
                }
                Ok(Next::Admit(len)) => self.admit(len),
                Ok(Next::Refused) => {
                    self.began = None;
                    let failure = self.refusal.take().unwrap_or(Failure::WrongArity);
                    put_failure(self.node, &self.client, "", failure, &mut self.out);
                    self.unsent += 1;
                }
                Err(broken) => {
                    self.put_broken(&broken);
                    break Pause::Leave;
                }
            }
        };
        if commands > 0 {
            self.node.count_many(commands);
            self.client.card.active_ms.store(now_ms, Ordering::Relaxed);
        }
        pause
    }

    /// Takes a long argument in.
    fn admit(&mut self, len: usize) {
        match self.node.keyspace.filling(len) {
            Ok(filling) => self.input.admit(filling),
            Err(fault) => self.refuse(fault),
        }
    }

    /// Whether the command that is here needs values which lie on the disk only.
    fn is_cold(&mut self) -> bool {
        if !self.node.has_disk() || self.input.has_large() {
            return false;
        }
        let (node, input, seen) = (self.node, &self.input, &self.seen);
        let request = Request { node, input, large: &[], now_ms: 0, seen };
        let cold = node.cold(request.keys_of_values());
        let is_cold = !cold.is_empty();
        self.held_up = is_cold.then_some(HeldUp::Cold(cold));
        is_cold
    }

    /// Carries a command out; why no more are for now, if so.
    fn command(&mut self, now_ms: u64) -> Option<Pause> {
        let large: Vec<Large> = match self.input.has_large() {
            true => self.input.take_large().into_iter().map(Filling::finish_summed).collect(),
            false => Vec::new(),
        };
        let (node, input, seen) = (&**self.node, &self.input, &self.seen);
        let request = Request { node, input, large: &large, now_ms, seen };
        let (before, mark) = (self.client.replies, self.out.mark());
        self.wait = request.answer(&mut self.client, &mut self.out);
        if self.client.replies == Replies::Off {
            self.out.rewind(mark);
        } else if before == Replies::SkipNext && self.client.replies == Replies::SkipNext {
            self.client.replies = Replies::On;
            self.out.rewind(mark);
        }
        self.unsent += usize::from(self.out.mark() != mark);
        self.input.set_trusted(self.client.is_trusted);
        self.began = None;
        if self.held_bytes > 0 {
            self.held = self.node.transit.nothing();
            self.held_bytes = 0;
        }
        match (&self.wait, self.client.leaves) {
            (Some(_), _) => Some(Pause::Wait),
            (None, true) => Some(Pause::Leave),
            (None, false) => None,
        }
    }

    /// The rest of the command under way is to pass by.
    fn refuse(&mut self, fault: Fault) {
        self.input.refuse();
        self.refusal.get_or_insert(fault.into());
    }

    /// Pays for what a command under way holds, unless it is little.
    fn pay_for_held(&mut self) -> Result<(), Fault> {
        let held_bytes = self.input.held_bytes();
        if held_bytes > HELD_BYTES_FREE && held_bytes > self.held_bytes {
            // Twice, because the buffer grows by doubling.
            let more = 2 * (held_bytes - self.held_bytes) as u64;
            self.held.absorb(&mut self.node.transit.reserve(more)?);
            self.held_bytes = held_bytes;
        }
        Ok(())
    }

    fn put_broken(&mut self, broken: &Broken) {
        match broken {
            Broken::Text(text) => self.out.error(format!("ERR {text}")),
            Broken::NoBulk(byte) => {
                let mut text = b"ERR Protocol error: expected '$', got '".to_vec();
                text.extend_from_slice(&[*byte, b'\'']);
                self.out.error(text);
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if let Err(fault) = self.node.settled(self.seen.take()).await {
            // What they would say did not happen.
            self.out.rewind(Mark::default());
            for _ in 0..self.unsent {
                put_failure(self.node, &self.client, "", fault.into(), &mut self.out);
            }
        }
        self.unsent = 0;
        let bytes = self.out.queued_bytes();
        if bytes > 0 {
            within(patience(bytes), self.out.flush(&mut self.writer)).await??;
        }
        self.out.release();
        Ok(())
    }

    /// Reads once; false when the client has left.
    async fn read(&mut self) -> io::Result<bool> {
        if !self.input.is_inside() {
            // A connection may be silent for ever between two commands, but not inside one.
            return Ok(fill(&mut self.reader, &mut self.input).await? > 0);
        }
        let began = *self.began.get_or_insert_with(Instant::now);
        let until = began + patience(self.input.expected_bytes());
        let read = tokio::time::timeout_at(until, fill(&mut self.reader, &mut self.input));
        Ok(read.await?? > 0)
    }

    /// Waits for an item, the end of the wait, or the client's leaving.
    async fn await_item(&mut self) -> io::Result<()> {
        let ended = self.until_item().await;
        let Some(wait) = self.wait.take() else { return Ok(()) };
        match ended {
            Ok(Ok(())) => {
                let served = wait.end(self.node, &self.seen);
                self.unsent += 1;
                if self.client.replies != Replies::Off {
                    put_served(&mut self.out, served);
                }
                Ok(())
            }
            Ok(Err(failure)) => {
                wait.abandon(self.node);
                self.unsent += 1;
                put_failure(self.node, &self.client, "", failure, &mut self.out);
                Ok(())
            }
            Err(error) => {
                wait.abandon(self.node);
                Err(error)
            }
        }
    }

    async fn until_item(&mut self) -> io::Result<Result<(), Failure>> {
        let Self { node, reader, input, wait, .. } = self;
        let Some(wait) = wait else { return Ok(Ok(())) };
        let left = wait.deadline_ms.map(|at| Duration::from_millis(at.saturating_sub(unix_ms())));
        // A wait of centuries is one without an end.
        let until = left.and_then(|left| Instant::now().checked_add(left));
        loop {
            let may_read = input.waiting_bytes() < AHEAD_BYTES_MAX && !input.is_filling();
            tokio::select! {
                biased;
                read = fill(reader, input), if may_read => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                ended = wait.until_served(node) => return Ok(ended),
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    return Ok(Ok(()));
                }
            }
        }
    }
}

/// Reads once into the input; how many bytes came.
async fn fill(reader: &mut LinkReader, input: &mut Input<Filling>) -> io::Result<usize> {
    let small_bytes_max = input.small_bytes_max();
    let mut behind = [0; HEAD_BYTES];
    let (read, len) = match input.room() {
        Room::Small(buffer) => return read_at_most(reader, buffer, small_bytes_max).await,
        Room::Large(rest) => (reader.read_two(rest, &mut behind).await?, rest.len()),
    };
    input.filled(read.min(len), &behind[..read.saturating_sub(len)]);
    Ok(read)
}

fn patience(bytes: usize) -> Duration {
    TRANSFER_TIMEOUT + Duration::from_secs(bytes as u64 / TRANSFER_BYTES_PER_SECOND_MIN)
}
