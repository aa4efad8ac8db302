//! One connection to a node, with many requests in flight.
//!
//! Owns the socket and the table of open requests; a writer task joins what several callers send
//! into one write, a reader task hands each answer to its caller. Invariant: every request in the
//! table is answered once, with a reply or with the reason why none will come.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::attempt::Greeting;
use crate::client::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::token::Token;
use crate::transport::{Endpoint, FrameReader, FrameWriter, LinkReader, LinkWriter};
use crate::wire::{
    ClientHello, FEATURES, HeadLimits, Part, Reply, ServerHello, Status, VALUE_BYTES_MAX, VERSION,
};

/// Requests that may wait for the writer task.
const OUTGOING_MAX: usize = 1024;

/// The writer task writes when this much is queued, whoever else is coming.
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// A node that moves no byte for this long while somebody waits for it is taken to be gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What a node takes in while it answers nobody, in bytes per second, at the least.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 1 << 20;

type Pending = Mutex<Option<HashMap<u64, oneshot::Sender<Result<Reply>>>>>;

/// An open connection. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) greeting: Greeting,
    outgoing: mpsc::Sender<(u64, Part)>,
    pending: Arc<Pending>,
    /// Keeps within what the node takes from one connection.
    in_flight: Semaphore,
    /// The same for waits, which would otherwise keep others out.
    waits: Semaphore,
    next_id: AtomicU64,
    /// Grows whenever bytes come from the node.
    progress: Arc<AtomicU64>,
    /// Bytes of payload in requests without an answer.
    outstanding_bytes: AtomicU64,
    closed: CancellationToken,
}

impl Connection {
    /// Connects and greets, within the pool's limit.
    pub(super) async fn open(endpoint: &Endpoint, pool: &Pool) -> Result<Self> {
        let limit = pool.options.connect_timeout;
        timeout(limit, Self::greet(endpoint, pool)).await.unwrap_or_else(|_| {
            let text = format!("{endpoint} did not answer a hello within {limit:?}");
            Err(Error::new(Kind::Timeout, text))
        })
    }

    async fn greet(endpoint: &Endpoint, pool: &Pool) -> Result<Self> {
        let link = endpoint.connect().await.map_err(|error| {
            Error::new(Kind::Closed, format!("cannot connect to {endpoint}")).with_source(error)
        })?;
        let limits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };
        let mut reader = FrameReader::new(link.reader, limits);
        let mut writer = FrameWriter::new(link.writer);
        let hello = hello(pool.session.id, &pool.options.token);
        writer.push_bytes(|bytes| hello.put(bytes));
        writer.flush().await?;
        let answer = reader.take(ServerHello::take).await?.ok_or_else(|| {
            Error::new(Kind::Closed, format!("{endpoint} closed the connection at the hello"))
        })?;
        let greeting = accepted(&endpoint.to_string(), &answer)?;
        let in_flight = usize::from(answer.limits.in_flight_max).max(1);
        Ok(Self::start(reader, writer, greeting, in_flight, pool))
    }

    fn start(
        reader: FrameReader<LinkReader>,
        writer: FrameWriter<LinkWriter>,
        greeting: Greeting,
        in_flight: usize,
        pool: &Pool,
    ) -> Self {
        let (outgoing, requests) = mpsc::channel(OUTGOING_MAX);
        let pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let closed = pool.closed.child_token();
        let progress = reader.progress();
        let (ended, table) = (closed.clone(), pending.clone());
        pool.tasks.spawn(async move {
            let reason = tokio::select! {
                error = write(writer, requests) => error,
                error = read(reader, &table) => error,
                () = ended.cancelled() => Error::new(Kind::Closed, "the connection was given up"),
            };
            ended.cancel();
            let text = reason.to_string();
            // In the order of their requests, so that a simulation goes the same way every time.
            let mut callers: Vec<_> = table.lock().take().into_iter().flatten().collect();
            callers.sort_unstable_by_key(|(id, _)| *id);
            for (_, caller) in callers {
                // A caller that has gone away needs no answer.
                let _ = caller.send(Err(Error::new(Kind::Closed, text.clone())));
            }
        });
        Self {
            greeting,
            outgoing,
            pending,
            in_flight: Semaphore::new(in_flight),
            waits: Semaphore::new(in_flight),
            next_id: AtomicU64::new(1),
            progress,
            outstanding_bytes: AtomicU64::new(0),
            closed,
        }
    }

    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Sends a request that the node answers at once, or within `patience`; its answer is a future
    /// of its own. An error means that nothing was sent.
    ///
    /// Dropping this future sends nothing. Dropping the answer leaves the request in flight: it may
    /// be carried out, and its answer is thrown away.
    pub(super) async fn send(
        &self,
        part: Part,
        patience: Option<Duration>,
    ) -> Result<impl Future<Output = Result<Reply>>> {
        let gone = || Error::new(Kind::Closed, "the connection was closed");
        let turns = if patience.is_some() { &self.waits } else { &self.in_flight };
        let turn = turns.acquire().await.map_err(|_| gone())?;
        let place = self.outgoing.reserve().await.map_err(|_| gone())?;
        let (caller, answer) = oneshot::channel();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        match self.pending.lock().as_mut() {
            Some(pending) => pending.insert(id, caller),
            None => return Err(gone()),
        };
        let payload_bytes = part.payload.len() as u64;
        let mut watch = Watch::over(self, patience.unwrap_or_default(), payload_bytes);
        place.send((id, part));
        Ok(async move {
            let _turn = turn;
            let answer = answer.await;
            watch.answered();
            answer.map_err(|_| gone())?
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// Gives a connection up when its caller leaves without an answer and nothing has come from the
/// node for long: it is gone, though the kernel will not say so for minutes.
struct Watch<'a> {
    connection: &'a Connection,
    since: Instant,
    progress: u64,
    patience: Duration,
    payload_bytes: u64,
    is_answered: bool,
}

impl<'a> Watch<'a> {
    fn over(connection: &'a Connection, patience: Duration, payload_bytes: u64) -> Self {
        connection.outstanding_bytes.fetch_add(payload_bytes, Ordering::Relaxed);
        let progress = connection.progress.load(Ordering::Relaxed);
        let since = Instant::now();
        Self { connection, since, progress, patience, payload_bytes, is_answered: false }
    }

    fn answered(&mut self) {
        self.is_answered = true;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let bytes = &self.connection.outstanding_bytes;
        let bytes = bytes.fetch_sub(self.payload_bytes, Ordering::Relaxed);
        let upload = Duration::from_secs(bytes / UPLOAD_BYTES_PER_SECOND_MIN);
        let is_silent = self.connection.progress.load(Ordering::Relaxed) == self.progress
            && self.since.elapsed() >= self.patience + SILENCE_MAX + upload;
        if !self.is_answered && is_silent {
            self.connection.closed.cancel();
        }
    }
}

/// What a client of this session says first.
pub(super) fn hello(session: u64, token: &Token) -> ClientHello {
    ClientHello {
        version_max: VERSION,
        version_min: VERSION,
        features: FEATURES,
        session,
        incarnation: 0,
        epoch: 0,
        token: token.clone(),
    }
}

/// Whether the node's hello lets us in.
pub(super) fn accepted(endpoint: &str, answer: &ServerHello) -> Result<Greeting> {
    let version = answer.version;
    match answer.status {
        Status::Failed(kind) => Err(Error::new(
            kind,
            format!("{endpoint} turned us away: {kind:?} (it speaks version {version})"),
        )),
        Status::Ok if version == VERSION => {
            Ok(Greeting { incarnation: answer.incarnation, session_life: answer.session_life })
        }
        Status::Ok | Status::NotModified | Status::Deferred => Err(Error::new(
            Kind::Protocol,
            format!("{endpoint} speaks version {version}, we speak {VERSION}"),
        )),
    }
}

async fn write(
    mut writer: FrameWriter<LinkWriter>,
    mut requests: mpsc::Receiver<(u64, Part)>,
) -> Error {
    while let Some((id, part)) = requests.recv().await {
        writer.push(&part, id, 0);
        while writer.queued_bytes() < QUEUED_BYTES_MAX {
            match requests.try_recv() {
                Ok((id, part)) => writer.push(&part, id, 0),
                Err(_) => break,
            }
        }
        if let Err(error) = writer.flush().await {
            return error;
        }
    }
    Error::new(Kind::Closed, "the client was closed")
}

async fn read(mut reader: FrameReader<LinkReader>, pending: &Pending) -> Error {
    loop {
        let head = match reader.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return Error::new(Kind::Closed, "the node closed the connection"),
            Err(error) => return error,
        };
        let id = head.request_id;
        let reply = match reader.tail(&head).await {
            Ok((payload, sums)) => Reply::from_part(Part::of(head, payload, sums)),
            Err(error) => return error,
        };
        let caller = pending.lock().as_mut().and_then(|pending| pending.remove(&id));
        if let Some(caller) = caller {
            // A caller that has gone away needs no answer.
            let _ = caller.send(reply);
        }
    }
}
