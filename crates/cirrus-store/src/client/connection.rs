//! One connection to a node, with many requests in flight.
//!
//! Owns the socket, the table of open calls and the queue of frames that leave next. Per small call:
//! its frame is written into the queue under a short lock; `incoming` reads its answer. Who calls
//! alone, or fills a batch, writes to the socket itself; what several callers queue meanwhile leaves
//! in one write of the connection's task, after all who are ready have had their turn. The task
//! reads, wakes callers, and watches deadlines.
//! Invariant: every call in the table ends once, with a reply or with the reason why none will come.

use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::attempt::Greeting;
use crate::client::calls::{Calls, Ended};
use crate::client::greeting::Greeted;
use crate::client::incoming::Incoming;
use crate::client::near::nearer;
use crate::client::pool::{Lane, Node, Pool};
use crate::error::{Error, Kind, Result};
use crate::transport::{Endpoint, FrameQueue, LinkWriter, Returns};
use crate::wire::{Delivery, Reply, Request, put_unpins};

/// A node that moves no byte for this long while somebody waits for it is taken to be gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Requests that leave together at the most: the node works on some while callers make the next.
const BATCH_REQUESTS: usize = 16;
/// Of so many that are open a quarter leaves together: if all did, node and callers would sleep by
/// turns. Fewer leave together, because a write for each would cost more than the sleep.
const QUARTERS: Range<usize> = 16..64;

/// How often a caller writes to the socket before he leaves the rest to the task.
const WRITES_MAX: usize = 4;

/// What a node takes in while it answers nobody, in bytes per second, at the least.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// An open connection. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) greeting: Greeting,
    /// How the answers to gets may come.
    pub(super) delivery: Delivery,
    /// Keeps within what the node takes from one connection.
    in_flight: Semaphore,
    /// The same for waits, which would otherwise keep others out.
    waits: Semaphore,
    /// Grows whenever bytes come from the node.
    progress: Arc<AtomicU64>,
    /// Bytes of payload in requests without an answer.
    outstanding_bytes: AtomicU64,
    shared: Arc<Shared>,
}

/// What callers and the connection's task both use. Locks: the writer, then the state.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    writer: Mutex<Writer>,
    /// What has to go back to a node that shares its memory.
    returns: Option<Arc<Returns>>,
    /// Wakes the task for what a caller has queued, or for an earlier deadline.
    task: AtomicWaker,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    calls: Calls,
    queue: FrameQueue,
    /// Requests in the queue.
    queued: usize,
    /// Why nothing can be sent any more.
    ended: Option<String>,
}

#[derive(Debug)]
struct Writer {
    /// Gone when the task has ended: the socket closes, whoever still holds the connection.
    link: Option<LinkWriter>,
    /// What is being written; the two queues change places when it has left.
    queue: FrameQueue,
}

impl State {
    /// Hands what is queued to a writer, who has nothing.
    fn take(&mut self, queue: &mut FrameQueue) {
        std::mem::swap(&mut self.queue, queue);
        self.queued = 0;
    }
}

impl Connection {
    /// Connects and greets, within the pool's limit.
    pub(super) async fn open(node: &Node, lane: Lane, pool: &Pool) -> Result<Self> {
        let (limit, endpoint) = (pool.options.connect_timeout, pool.endpoint(node));
        timeout(limit, Self::greet(&endpoint, node, lane, pool)).await.unwrap_or_else(|_| {
            let text = format!("{endpoint} did not answer a hello within {limit:?}");
            Err(Error::new(Kind::Timeout, text))
        })
    }

    async fn greet(endpoint: &Endpoint, node: &Node, lane: Lane, pool: &Pool) -> Result<Self> {
        let greeted = Greeted::open(endpoint, pool.session.id, &pool.options.token).await?;
        let (greeted, mapper) = match lane {
            Lane::Small => nearer(greeted, pool, &node.windows).await,
            Lane::Large => (greeted, None),
        };
        let Greeted { reader, writer, greeting, in_flight, .. } = greeted;
        let mapper = mapper.map(Arc::new);
        let delivery = match (&mapper, pool.options.verifies_mapped) {
            (None, _) => Delivery::Inline,
            (Some(_), false) => Delivery::Place,
            (Some(_), true) => Delivery::SummedPlace,
        };
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            writer: Mutex::new(Writer { link: Some(writer), queue: FrameQueue::default() }),
            returns: mapper.as_ref().map(|mapper| mapper.returns().clone()),
            task: AtomicWaker::new(),
            closed: pool.closed.child_token(),
        });
        let progress = reader.progress();
        let incoming = Incoming::new(reader, mapper, lane, pool);
        pool.tasks.spawn(shared.clone().run(incoming));
        Ok(Self {
            greeting,
            delivery,
            in_flight: Semaphore::new(in_flight),
            waits: Semaphore::new(in_flight),
            progress,
            outstanding_bytes: AtomicU64::new(0),
            shared,
        })
    }

    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// How many calls are open.
    pub(super) fn load(&self) -> usize {
        self.shared.state.lock().calls.len()
    }

    /// Sends a request that the node answers at once, or within `patience`; its answer is a future
    /// of its own, which ends at `deadline`. `None` when there was no turn until then; an error
    /// means that nothing was sent.
    ///
    /// Dropping this future sends nothing. Dropping the answer leaves the request in flight: it may
    /// be carried out, and its answer is thrown away.
    pub(super) async fn send(
        &self,
        request: &Request,
        patience: Option<Duration>,
        deadline: Instant,
    ) -> Result<Option<Call<'_>>> {
        let turns = if patience.is_some() { &self.waits } else { &self.in_flight };
        let turn = match turns.try_acquire() {
            Ok(turn) => turn,
            Err(_) => {
                let turn = Box::pin(async {
                    tokio::select! {
                        turn = turns.acquire() => turn.map(Some).map_err(|_| gone()),
                        () = sleep_until(deadline) => Ok(None),
                        () = self.shared.closed.cancelled() => Err(gone()),
                    }
                });
                let Some(turn) = turn.await? else { return Ok(None) };
                turn
            }
        };
        let (payload, sums) = request.payload();
        let payload_len = u32::try_from(payload.len()).expect("payloads are at most 1 GiB");
        let mut state = self.shared.state.lock();
        if let Some(reason) = &state.ended {
            return Err(Error::new(Kind::Closed, reason.clone()));
        }
        let was_empty = state.queue.is_empty();
        let alarm = state.calls.alarm();
        let id = state.calls.open(deadline);
        self.shared.give_back(&mut state.queue);
        state.queue.push(|buffer| request.put_head(id, 0, payload_len, buffer));
        match sums.is_empty() {
            true => state.queue.push_summed(payload),
            false => {
                state.queue.push_payload(payload);
                state.queue.push(|buffer| sums.put_table(buffer));
            }
        }
        state.queued += 1;
        let is_alone = was_empty && state.calls.len() == 1;
        let is_batch = state.queued >= batch(state.calls.len());
        let is_earlier = alarm.is_none_or(|alarm| deadline < alarm);
        drop(state);
        let is_written = (is_alone || is_batch) && self.shared.try_write();
        if is_earlier || (was_empty && !is_written) {
            self.shared.task.wake();
        }
        self.outstanding_bytes.fetch_add(u64::from(payload_len), Ordering::Relaxed);
        Ok(Some(Call {
            connection: self,
            id,
            progress: self.progress.load(Ordering::Relaxed),
            since: Instant::now(),
            patience: patience.unwrap_or_default(),
            payload_bytes: u64::from(payload_len),
            is_over: false,
            _turn: turn,
        }))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

/// A request that was sent. The future is its answer.
#[derive(Debug)]
pub(super) struct Call<'a> {
    connection: &'a Connection,
    id: u64,
    since: Instant,
    progress: u64,
    patience: Duration,
    payload_bytes: u64,
    is_over: bool,
    _turn: SemaphorePermit<'a>,
}

impl Future for Call<'_> {
    type Output = Ended;

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let this = self.get_mut();
        let mut state = this.connection.shared.state.lock();
        let ended = ready!(state.calls.poll(this.id, context.waker()));
        drop(state);
        this.is_over = true;
        if matches!(ended, Ended::Expired) {
            this.give_up_if_silent();
        }
        Poll::Ready(ended)
    }
}

impl Call<'_> {
    /// Gives the connection up when nothing has come from the node for long: it is gone, though the
    /// kernel will not say so for minutes.
    fn give_up_if_silent(&self) {
        let connection = self.connection;
        let bytes = connection.outstanding_bytes.load(Ordering::Relaxed);
        let upload = Duration::from_secs(bytes / UPLOAD_BYTES_PER_SECOND_MIN);
        let is_silent = connection.progress.load(Ordering::Relaxed) == self.progress
            && self.since.elapsed() >= self.patience + SILENCE_MAX + upload;
        if is_silent {
            connection.shared.closed.cancel();
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.shared.state.lock().calls.leave(self.id);
            self.give_up_if_silent();
        }
        self.connection.outstanding_bytes.fetch_sub(self.payload_bytes, Ordering::Relaxed);
    }
}

impl Shared {
    async fn run(self: Arc<Self>, mut incoming: Incoming) {
        let mut task = Task { shared: self.clone(), reason: "its runtime has ended".to_owned() };
        let reason = tokio::select! {
            biased;
            () = self.closed.cancelled() => gone(),
            error = incoming.run(|id, reply| self.answer(id, reply)) => error,
            error = self.write() => error,
            never = self.expire() => match never {},
        };
        task.reason = reason.to_string();
    }

    /// Writes what is queued as far as the socket takes it at once; whether nothing is left for the
    /// task.
    fn try_write(&self) -> bool {
        // The task is writing: it may have looked into the queue before we came.
        let Some(mut writer) = self.writer.try_lock() else { return false };
        if writer.queue.is_empty() {
            self.state.lock().take(&mut writer.queue);
        }
        let Writer { link, queue } = &mut *writer;
        let Some(link) = link else { return false };
        for _ in 0..WRITES_MAX {
            let (slices, count) = queue.slices();
            match link.try_write_vectored(&slices[..count]) {
                Ok(written) => queue.advance(written),
                // The task writes, and meets the same error if it is one.
                Err(_) => return false,
            }
            if queue.is_empty() {
                return self.state.lock().queue.is_empty();
            }
        }
        false
    }

    async fn write(&self) -> Error {
        let flavor = Handle::current().runtime_flavor();
        let is_one_thread = flavor == RuntimeFlavor::CurrentThread;
        loop {
            std::future::poll_fn(|context| {
                self.task.register(context.waker());
                let is_idle = !self.owes_pins(context)
                    && self.writer.lock().queue.is_empty()
                    && self.state.lock().queue.is_empty();
                if is_idle { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            // Whoever else is ready to call joins this write: on one thread they ran before this
            // task, on several this task is the next that runs.
            if !is_one_thread {
                tokio::task::yield_now().await;
            }
            if let Err(error) = std::future::poll_fn(|context| self.poll_write(context)).await {
                return Error::new(Kind::Closed, "the connection failed").with_source(error);
            }
        }
    }

    fn poll_write(&self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // A deadline that a caller brings is heard of while the socket takes nothing, too.
        self.task.register(context.waker());
        let mut writer = self.writer.lock();
        let Writer { link, queue } = &mut *writer;
        let Some(link) = link else { return Poll::Ready(Err(ErrorKind::BrokenPipe.into())) };
        loop {
            if queue.is_empty() {
                let mut state = self.state.lock();
                self.give_back(&mut state.queue);
                state.take(queue);
            }
            let (slices, count) = queue.slices();
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let link = std::pin::Pin::new(&mut *link);
            match ready!(link.poll_write_vectored(context, &slices[..count]))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                written => queue.advance(written),
            }
        }
    }

    /// Whether the node is owed pins; if not, whoever comes to owe one wakes this task.
    fn owes_pins(&self, context: &Context<'_>) -> bool {
        let Some(returns) = &self.returns else { return false };
        returns.teller.register(context.waker());
        !returns.is_empty()
    }

    /// Queues what has to go back to the node.
    fn give_back(&self, queue: &mut FrameQueue) {
        if let Some(returns) = &self.returns {
            returns.take(|pins| queue.push(|buffer| put_unpins(pins, buffer)));
        }
    }

    /// Ends the calls whose time is over.
    async fn expire(&self) -> std::convert::Infallible {
        let mut alarm = None;
        let mut sleep = std::pin::pin!(sleep_until(Instant::now()));
        std::future::poll_fn(|context| {
            loop {
                let next = self.state.lock().calls.alarm();
                let Some(deadline) = next else { return Poll::Pending };
                if alarm != next {
                    alarm = next;
                    sleep.as_mut().reset(deadline);
                }
                ready!(sleep.as_mut().poll(context));
                let now = Instant::now();
                let expired = |deadline| (deadline <= now).then_some(Ended::Expired);
                let wakers = self.state.lock().calls.end_each(expired);
                wakers.into_iter().for_each(std::task::Waker::wake);
            }
        })
        .await
    }

    fn answer(&self, id: u64, reply: Result<Reply>) {
        let waker = self.state.lock().calls.end(id, Ended::Answered(reply));
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The connection's task. However it ends, no caller is left waiting.
struct Task {
    shared: Arc<Shared>,
    reason: String,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.shared.closed.cancel();
        let reason = std::mem::take(&mut self.reason);
        let wakers = {
            let mut state = self.shared.state.lock();
            let ended = || Ended::Answered(Err(Error::new(Kind::Closed, reason.clone())));
            let wakers = state.calls.end_each(|_| Some(ended()));
            state.queue = FrameQueue::default();
            state.ended = Some(reason);
            wakers
        };
        let mut writer = self.shared.writer.lock();
        (writer.link, writer.queue) = (None, FrameQueue::default());
        drop(writer);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

/// How many requests leave together while so many are open.
fn batch(open: usize) -> usize {
    if QUARTERS.contains(&open) { open / 4 } else { BATCH_REQUESTS }
}

fn gone() -> Error {
    Error::new(Kind::Closed, "the connection was closed")
}
