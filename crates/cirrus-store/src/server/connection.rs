//! One client's connection, from its hello to its end.
//!
//! Owns the loop that reads requests, has the node carry them out, and writes the replies. All
//! requests that one read brought are answered by one write. Invariant: every payload is paid for
//! before a buffer for it is made, and every wait has a deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::checksum::{Summing, Sums};
use crate::error::{Error, Kind};
use crate::key::Key;
use crate::server::disk::Pin;
use crate::server::keyspace::{AHEAD_MAX, Seen};
use crate::server::memory::{Owed, Reservation};
use crate::server::node::{Admitted, Node, Paid, Parked, ParkedWait, unix_ms};
use crate::server::pins::Pins;
use crate::server::session::Session;
use crate::server::tables::Answer;
use crate::transport::{self, FrameReader, FrameWriter, Link, LinkReader, LinkWriter};
use crate::wire::{
    ClientHello, Delivery, Fault, Head, HeadLimits, Part, Reply, Request, SHARED_MEMORY,
    ServerHello, Status, VALUE_BYTES_MAX, VERSION, WholeValue,
};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Replies that may pile up before they are written out.
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// Replies that leave together at the most, though more requests are here: the client works on some
/// while the next are made.
const BATCH_REPLIES: u64 = 16;

/// How long a client may take for its hello.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the rest of a frame may take to arrive, or replies to leave, beside their bytes.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);

/// The slowest peer that is waited for, in bytes per second.
const TRANSFER_BYTES_PER_SECOND_MIN: u64 = 1 << 20;

pub(super) struct Connection {
    node: Arc<Node>,
    session: Arc<Session>,
    reader: FrameReader<LinkReader>,
    writer: FrameWriter<LinkWriter>,
    /// What the client reads in place, where it can.
    pins: Option<Pins>,
    /// What the replies in `writer` hold.
    owed: Owed,
    /// What they must wait for, on a node with a disk, and to which requests they are.
    seen: Seen,
    unsent: Vec<u64>,
    /// Requests whose answer comes later; they end with the connection.
    waits: JoinSet<(u64, Reply, Option<Reservation>)>,
}

impl Connection {
    /// Greets a client, whose first bytes are `first`; an error means that it was turned away.
    pub(super) async fn open(node: Arc<Node>, link: Link, first: BytesMut) -> Result<Self> {
        let limits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };
        let mut reader = FrameReader::starting_with(first, link.reader, limits);
        let mut writer = FrameWriter::new(link.writer);
        let hello = within(HELLO_TIMEOUT, reader.take(ClientHello::take)).await?;
        let hello = hello.ok_or_else(|| Error::new(Kind::Closed, "closed before its hello"))?;
        let welcome =
            welcome(&node, &hello).and_then(|()| node.sessions.open(hello.session, unix_ms()));
        let features = if node.sharing.is_some() { SHARED_MEMORY } else { 0 };
        let answer = ServerHello {
            version: VERSION,
            status: welcome.as_ref().map_or_else(|kind| Status::Failed(*kind), |_| Status::Ok),
            features: hello.features & features,
            session_life: welcome.as_ref().map_or(0, |session| session.life),
            incarnation: node.incarnation,
            epoch: node.epoch(),
            limits: node.options.limits,
        };
        let shares = answer.status == Status::Ok
            && answer.features & SHARED_MEMORY != 0
            && writer.link_mut().takes_files();
        let sharing = node.sharing.as_ref().filter(|_| shares);
        let pins = sharing.map(|sharing| {
            writer.link_mut().attach(sharing.file());
            sharing.pins()
        });
        writer.push_bytes(|bytes| answer.put(bytes));
        within(HELLO_TIMEOUT, writer.flush()).await?;
        let session = welcome
            .map_err(|kind| Error::new(kind, format!("a client was turned away: {kind:?}")))?;
        let (owed, seen, unsent, waits) =
            (Owed::default(), Seen::default(), Vec::new(), JoinSet::new());
        Ok(Self { node, session, reader, writer, pins, owed, seen, unsent, waits })
    }

    /// Answers until the client leaves, breaks the protocol, or `cancel` is called.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let life = self.session.life;
        let ended = tokio::select! {
            ended = self.serve() => ended,
            () = cancel.cancelled() => Err(Error::new(Kind::Closed, "the node is stopping")),
        };
        if let Err(error) = &ended {
            debug!(life, "connection ended: {error}");
        }
        tokio::select! {
            () = self.let_go() => {}
            () = cancel.cancelled() => {}
        }
    }

    /// Waits until the client's end has closed, if it may be reading in place: until then what it
    /// has pinned stays.
    async fn let_go(&mut self) {
        let Some(pins) = self.pins.as_mut().filter(|pins| !pins.is_empty()) else { return };
        // It hears that this is the end; whether it does changes nothing.
        let _ = self.writer.link_mut().shutdown().await;
        let mut unread = BytesMut::new();
        let link = self.reader.link_mut();
        while matches!(transport::read_more(link, &mut unread).await, Ok(1..)) {
            unread.clear();
        }
        pins.release();
    }

    async fn serve(&mut self) -> Result<()> {
        let mut frame_began = None;
        loop {
            let mut requests = 0;
            loop {
                self.look_ahead(requests).await?;
                let Some(head) = self.reader.buffered_head()? else { break };
                requests += 1;
                frame_began = None;
                self.request(head).await?;
                // Those that wait for the disk wait together.
                let is_batch = requests % BATCH_REPLIES == 0 && self.seen.is_empty();
                if is_batch || self.writer.queued_bytes() > QUEUED_BYTES_MAX {
                    self.flush().await?;
                }
            }
            self.flush().await?;
            // A connection may be silent for ever between two frames, but not inside one.
            let is_inside = !self.reader.is_between_frames();
            let began = is_inside.then(|| *frame_began.get_or_insert_with(Instant::now));
            let until = began.map(|began| began + TRANSFER_TIMEOUT);
            tokio::select! {
                more = self.reader.fill() => match (more?, is_inside) {
                    (true, _) => {}
                    (false, false) => return Ok(()),
                    (false, true) => return Err(Error::new(Kind::Closed, "left inside a frame")),
                },
                Some(Ok((request_id, reply, paid))) = self.waits.join_next() => {
                    paid.into_iter().for_each(|paid| self.owed.hold(paid));
                    self.answer(request_id, &reply);
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    return Err(Error::new(Kind::Timeout, "the rest of a frame did not come"));
                }
            }
        }
    }

    async fn look_ahead(&mut self, answered: u64) -> Result<()> {
        self.node.look_ahead(answered, self.reader.keys_ahead());
        if self.node.has_disk() && answered.is_multiple_of(AHEAD_MAX as u64) {
            let cold = self.node.cold(self.reader.keys_ahead().take(AHEAD_MAX));
            drop(self.bring(cold).await?);
        }
        Ok(())
    }

    async fn bring(&mut self, cold: Vec<Key>) -> Result<Vec<Pin>> {
        if cold.is_empty() {
            return Ok(Vec::new());
        }
        self.flush().await?;
        Ok(self.node.bring(cold).await)
    }

    async fn request(&mut self, head: Head) -> Result<()> {
        let request_id = head.request_id;
        let patience = transfer_timeout(head.tail_bytes());
        if self.node.has_disk() {
            self.node.room(head.tail_bytes()).await;
        }
        match self.node.admit(&head) {
            Ok(Admitted::Large(mut filling)) => {
                let mut summing = Summing::new(head.phase);
                let landed = |bytes: &[u8]| summing.update(bytes);
                let tail = self.reader.tail_into(&head, filling.bytes_mut(), landed);
                let sums = within(patience, tail).await?;
                let came = summing.finish();
                let large = filling.finish(sums);
                let (payload, sums) = (large.bytes().clone(), large.sums().clone());
                let part = Part::of(head, payload, sums);
                self.execute(request_id, part, Paid::Large(large, came)).await?;
            }
            Ok(Admitted::Small(paid)) => {
                let tail = self.reader.tail_in_place(&head);
                let (payload, sums) = within(patience, tail).await?;
                let part = Part::of(head, payload, sums);
                self.execute(request_id, part, Paid::Transit(paid)).await?;
            }
            Err(fault) => {
                within(patience, self.reader.discard(&head)).await?;
                let unread = Part::of(head, Bytes::new(), Sums::default());
                let reply = match Request::from_part(unread) {
                    Ok(request) => self.node.refuse(&self.session, request, fault),
                    Err(_) => fault.into(),
                };
                self.answer(request_id, &reply);
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if let Err(fault) = self.node.settled(self.seen.take()).await {
            // What they would say did not happen.
            self.writer.discard();
            self.pins.iter_mut().for_each(Pins::take_back);
            for request_id in std::mem::take(&mut self.unsent) {
                self.answer(request_id, &fault.into());
            }
        }
        self.unsent.clear();
        self.pins.iter_mut().for_each(Pins::sent);
        within(transfer_timeout(self.writer.queued_bytes()), self.writer.flush()).await?;
        self.owed = Owed::default();
        Ok(())
    }

    async fn execute(&mut self, request_id: u64, part: Part, paid: Paid) -> Result<()> {
        let mut request = match Request::from_part(part) {
            Ok(request) => request,
            Err(error) => {
                self.answer(request_id, &Fault::from(&error).into());
                return Ok(());
            }
        };
        let _held = match self.node.has_disk() {
            true => self.bring(self.node.cold_of(&request)).await?,
            false => Vec::new(),
        };
        if let Request::Get { delivery, inline_bytes_max, .. } = &mut request {
            if self.pins.is_none() {
                *delivery = Delivery::Inline;
            }
            let (by, inline_bytes_max) = (*delivery, *inline_bytes_max);
            self.get(request_id, request, by, inline_bytes_max);
            return Ok(());
        }
        if let Request::Unpin(given_back) = &request {
            self.pins.iter_mut().for_each(|pins| pins.unpin(given_back));
            return Ok(());
        }
        match self.node.execute(&self.session, request, paid, &self.seen, &mut self.owed) {
            Ok(reply) => self.answer(request_id, &reply),
            Err(parked) => self.park(request_id, parked),
        }
        Ok(())
    }

    fn note_unsent(&mut self, request_id: u64) {
        if self.node.has_disk() {
            self.unsent.push(request_id);
        }
    }

    fn get(&mut self, request_id: u64, request: Request, by: Delivery, inline_bytes_max: u32) {
        let (node, writer) = (&self.node, &mut self.writer);
        let epoch = node.epoch();
        let copy = |whole: WholeValue<'_>| {
            writer.push_bytes(|bytes| whole.put(request_id, epoch, bytes));
        };
        let Some(reply) = node.get_to(request, &self.seen, copy) else {
            return self.note_unsent(request_id);
        };
        let reply = match &mut self.pins {
            Some(pins) if by != Delivery::Inline => {
                let place_of = |bytes: &[u8]| self.node.keyspace.extents().place_of(bytes);
                pins.deliver(reply, by, inline_bytes_max, place_of)
            }
            Some(_) | None => reply,
        };
        self.answer(request_id, &reply);
    }

    fn answer(&mut self, request_id: u64, reply: &Reply) {
        self.note_unsent(request_id);
        let epoch = self.node.epoch();
        let mut is_short = false;
        self.writer.push_bytes(|bytes| is_short = reply.put_short(request_id, epoch, bytes));
        if !is_short {
            self.writer.push(&reply.to_part(), request_id, epoch);
        }
    }

    fn park(&mut self, request_id: u64, parked: Parked) {
        if self.waits.len() >= usize::from(self.node.options.limits.in_flight_max) {
            return self.answer(request_id, &Fault::from(Kind::Busy).into());
        }
        let node = self.node.clone();
        self.waits.spawn(async move {
            let (reply, paid) = match parked {
                Parked::Wait(parked) => (await_answer(&node, parked).await, None),
                Parked::Step { answer, timeout_ms } => await_step(answer, timeout_ms).await,
            };
            (request_id, reply, paid)
        });
    }
}

/// The answer to a step, and what it holds.
async fn await_step(
    answer: oneshot::Receiver<Answer>,
    timeout_ms: u32,
) -> (Reply, Option<Reservation>) {
    match timeout(Duration::from_millis(u64::from(timeout_ms)), answer).await {
        Ok(Ok(Ok((stepped, values, paid)))) => (Reply::Stepped { stepped, values }, Some(paid)),
        Ok(Ok(Err(fault))) => (fault.into(), None),
        // The table is another one now, and did not say so: the worker asks again.
        Ok(Err(_)) => (Fault::from(Kind::Busy).into(), None),
        Err(_) => (Fault::from(Kind::Timeout).into(), None),
    }
}

async fn await_answer(node: &Node, mut parked: ParkedWait) -> Reply {
    let patience = Duration::from_millis(u64::from(parked.timeout_ms));
    let answer = timeout(patience, async move {
        loop {
            // A signal that was dropped says as much as one that came: look again.
            let _ = parked.signal.await;
            let seen = Seen::default();
            match node.wait(parked.key, parked.newer_than, parked.timeout_ms, &seen) {
                Ok(reply) => match node.settled(seen.take()).await {
                    Ok(()) => return reply,
                    Err(fault) => return fault.into(),
                },
                Err(again) => parked = again,
            }
        }
    });
    answer.await.unwrap_or_else(|_| Fault::from(Kind::Timeout).into())
}

fn welcome(node: &Node, hello: &ClientHello) -> Result<(), Kind> {
    if hello.version_min > VERSION || hello.version_max < VERSION {
        return Err(Kind::Protocol);
    }
    if !node.options.token.admits(hello.token.as_bytes()) {
        return Err(Kind::Unauthorized);
    }
    Ok(())
}

fn transfer_timeout(bytes: usize) -> Duration {
    TRANSFER_TIMEOUT + Duration::from_secs(bytes as u64 / TRANSFER_BYTES_PER_SECOND_MIN)
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match transport::within(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(Kind::Timeout, format!("no progress within {limit:?}"))),
    }
}
