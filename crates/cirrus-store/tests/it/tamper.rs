//! A middleman between clients and a node that speaks frames, and lies.
//!
//! Owns the planted faults: each is one that a wrong node or client could make, and that a checker
//! of histories has to find. Without a fault it only forwards, and cuts connections when told to.
//! Invariant: what it makes up is as plausible as it can be, so that versions and ends do not give
//! it away where the fault itself does not.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use cirrus_store::wire::{
    ClientHello, Condition, Head, HeadLimits, Part, Reply, Request, ServerHello, VALUE_BYTES_MAX,
    Write, encode_frame,
};
use cirrus_store::{Kind, Sums, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// What a middleman does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tampering {
    None,
    /// Answers a put without forwarding it.
    AcknowledgesPuts,
    /// Sends an add, push or pop a second time under a new name.
    AppliesTwice,
    /// Answers a get with the first value that the key ever had.
    AnswersOlder,
    /// Answers two pops in the wrong order.
    SwapsItems,
    /// Puts without the end that was asked for.
    KeepsExpired,
    /// Leaves a put out of a batch and answers it.
    ForgetsBatchItems,
    /// Answers a put that was refused for its version as if it had happened.
    GrantsIfVersion,
}

pub(crate) struct Middleman {
    pub(crate) address: String,
    tampered: Arc<AtomicU64>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Middleman {
    /// Stands in front of `node`. One in `every` chances to tamper is taken; a connection is cut
    /// after `cut_every` frames, in the middle of one, or never if that is 0.
    pub(crate) async fn start(
        node: &str,
        tampering: Tampering,
        every: u64,
        cut_every: u64,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cancel, tampered) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let memory = Memory { tampered: tampered.clone(), ..Memory::default() };
        let memory = Arc::new(Mutex::new(memory));
        let (node, ended) = (node.to_owned(), cancel.clone());
        let task = tokio::spawn(async move {
            let mut relays = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((client, _)) = listener.accept() => {
                        let desk = Desk {
                            tampering,
                            every,
                            memory: memory.clone(),
                            open: HashMap::new(),
                            injected: 0,
                        };
                        let node = node.clone();
                        relays.spawn(async move {
                            // Whatever ends a relay, both sides see their connection end.
                            let _ = relay(client, &node, desk, cut_every).await;
                        });
                    }
                    Some(_) = relays.join_next() => {}
                    () = ended.cancelled() => return,
                }
            }
        });
        Self { address, tampered, cancel, task }
    }

    /// Ends it; how often it has tampered.
    pub(crate) async fn stop(self) -> u64 {
        self.cancel.cancel();
        self.task.await.unwrap();
        self.tampered.load(Ordering::Relaxed)
    }
}

/// One direction of a connection, read.
struct Incoming {
    half: OwnedReadHalf,
    buffer: BytesMut,
    head: Option<Head>,
}

impl Incoming {
    fn of(half: OwnedReadHalf) -> Self {
        Self { half, buffer: BytesMut::new(), head: None }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.half.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next frame that is here whole.
    fn frame(&mut self) -> Option<(u64, Part)> {
        let limits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };
        if self.head.is_none() {
            self.head = Head::take(&mut self.buffer, limits).unwrap();
        }
        let head = self.head.take_if(|head| self.buffer.len() >= head.tail_bytes())?;
        let payload = self.buffer.split_to(head.payload_bytes()).freeze();
        let table = self.buffer.split_to(head.table_bytes()).freeze();
        let id = head.request_id;
        Some((id, Part::of(head, payload, Sums::from_table(table))))
    }
}

async fn relay(client: TcpStream, node: &str, mut desk: Desk, cut_every: u64) -> io::Result<()> {
    client.set_nodelay(true)?;
    let node = TcpStream::connect(node).await?;
    node.set_nodelay(true)?;
    let (from_client, mut to_client) = client.into_split();
    let (from_node, mut to_node) = node.into_split();
    let (mut from_client, mut from_node) = (Incoming::of(from_client), Incoming::of(from_node));
    let mut bytes = BytesMut::new();
    loop {
        if let Some(hello) = ClientHello::take(&mut from_client.buffer).unwrap() {
            hello.put(&mut bytes);
            break to_node.write_all(&bytes.split()).await?;
        }
        from_client.fill().await?;
    }
    loop {
        if let Some(hello) = ServerHello::take(&mut from_node.buffer).unwrap() {
            hello.put(&mut bytes);
            break to_client.write_all(&bytes.split()).await?;
        }
        from_node.fill().await?;
    }
    // Writers of their own, so that neither side's silence stops the other's frames.
    let (node_frames, mut node_queue) = mpsc::unbounded_channel::<Bytes>();
    let (client_frames, mut client_queue) = mpsc::unbounded_channel::<Bytes>();
    let forwarding = async move {
        let mut left = if cut_every == 0 { u64::MAX } else { cut_every };
        loop {
            tokio::select! {
                more = from_client.fill() => more?,
                more = from_node.fill() => more?,
            }
            let mut out = Vec::new();
            while let Some((id, part)) = from_client.frame() {
                desk.request(id, part, &mut out);
            }
            while let Some((id, part)) = from_node.frame() {
                desk.reply(id, part, &mut out);
            }
            for (to, id, part) in out {
                let mut frame = BytesMut::new();
                encode_frame(&part, id, 1, &mut frame);
                left -= 1;
                if left == 0 {
                    frame.truncate(frame.len() / 2);
                }
                let queue = match to {
                    To::Node => &node_frames,
                    To::Client => &client_frames,
                };
                if queue.send(frame.freeze()).is_err() || left == 0 {
                    return Ok(());
                }
            }
        }
    };
    let to_node = async move {
        while let Some(frame) = node_queue.recv().await {
            to_node.write_all(&frame).await?;
        }
        to_node.shutdown().await
    };
    let to_client = async move {
        while let Some(frame) = client_queue.recv().await {
            to_client.write_all(&frame).await?;
        }
        to_client.shutdown().await
    };
    let ((), (), ()) = tokio::try_join!(forwarding, to_node, to_client)?;
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Node,
    Client,
}

type Out = Vec<(To, u64, Part)>;

/// What all connections of a middleman share.
#[derive(Debug, Default)]
struct Memory {
    chances: u64,
    tampered: Arc<AtomicU64>,
    /// The largest version that each key was seen with.
    versions: HashMap<Bytes, Version>,
    /// The first value that each key was seen with.
    first: HashMap<Bytes, Reply>,
    /// Items that were popped and not yet handed on.
    kept: HashMap<Bytes, VecDeque<Reply>>,
    /// Ends that were asked for, by key and value.
    ends: HashMap<(Bytes, Bytes), u64>,
}

/// What is to be done when an answer comes.
enum Open {
    /// Hand it on; what was asked says what it means.
    Asked(Request),
    /// Hand it on with an item that the node was not asked for.
    Batch { items: Vec<Request>, forgotten: usize, version: Version },
    /// Nobody asked.
    Ignored,
    /// The first of two pops, whose answer waits for the second's.
    Swapped { id: u64, key: Bytes, first: Reply },
}

/// The middleman's side of one connection.
struct Desk {
    tampering: Tampering,
    every: u64,
    memory: Arc<Mutex<Memory>>,
    open: HashMap<u64, Open>,
    injected: u64,
}

impl Desk {
    /// Whether to tamper now.
    fn is_due(&self, memory: &mut Memory) -> bool {
        memory.chances += 1;
        let due = memory.chances.is_multiple_of(self.every);
        memory.tampered.fetch_add(u64::from(due), Ordering::Relaxed);
        due
    }

    /// A number and a name of our own for a request that the client did not make.
    fn injected(&mut self, request: &Request) -> (u64, Request) {
        self.injected += 1;
        let mut request = request.clone();
        for write in request.writes_mut() {
            // Names are the session's, which has several connections.
            static NAMES: AtomicU64 = AtomicU64::new(1 << 60);
            let sequence = NAMES.fetch_add(1, Ordering::Relaxed);
            *write = Write { sequence, ..*write };
        }
        ((1 << 63) | self.injected, request)
    }

    fn request(&mut self, id: u64, part: Part, out: &mut Out) {
        let request = Request::from_part(part).unwrap();
        let memory = self.memory.clone();
        let memory = &mut *memory.lock().unwrap();
        match (self.tampering, &request) {
            (Tampering::AcknowledgesPuts, Request::Put { key, condition, .. })
                if *condition == Condition::Always && self.is_due(memory) =>
            {
                let version = memory.next_version(key.as_bytes());
                return out.push((To::Client, id, Reply::Written { version }.to_part()));
            }
            (
                Tampering::AppliesTwice,
                Request::Add { .. } | Request::Push { .. } | Request::Pop { .. },
            ) if self.is_due(memory) => {
                let (again, second) = self.injected(&request);
                out.push((To::Node, again, second.to_part()));
                self.open.insert(again, Open::Ignored);
            }
            (Tampering::SwapsItems, Request::Pop { key, .. }) => {
                let kept = memory.kept.entry(key.to_bytes()).or_default();
                if let Some(reply) = kept.pop_front() {
                    return out.push((To::Client, id, reply.to_part()));
                }
            }
            (Tampering::KeepsExpired, Request::Put { key, value, expires_at, .. })
                if *expires_at != 0 && self.is_due(memory) =>
            {
                memory.ends.insert((key.to_bytes(), value.clone()), *expires_at);
                let mut endless = request.clone();
                if let Request::Put { expires_at, .. } = &mut endless {
                    *expires_at = 0;
                }
                self.open.insert(id, Open::Asked(request));
                return out.push((To::Node, id, endless.to_part()));
            }
            (Tampering::ForgetsBatchItems, Request::Batch(items)) => {
                let is_put = |item: &Request| matches!(item, Request::Put { .. });
                let forgotten = items.iter().position(is_put);
                if let Some(forgotten) = forgotten.filter(|_| self.is_due(memory)) {
                    let mut items = items.clone();
                    let item = items.remove(forgotten);
                    let key = item.key().unwrap().to_bytes();
                    let version = memory.next_version(&key);
                    out.push((To::Node, id, Request::Batch(items.clone()).to_part()));
                    self.open.insert(id, Open::Batch { items, forgotten, version });
                    return;
                }
            }
            _ => {}
        }
        out.push((To::Node, id, request.to_part()));
        self.open.insert(id, Open::Asked(request));
    }

    fn reply(&mut self, id: u64, part: Part, out: &mut Out) {
        let mut reply = Reply::from_part(part).unwrap();
        let memory = self.memory.clone();
        let memory = &mut *memory.lock().unwrap();
        match self.open.remove(&id) {
            Some(Open::Asked(request)) => {
                if self.is_swapped(id, &request, &reply, memory, out) {
                    return;
                }
                self.answer(&request, &mut reply, memory);
            }
            Some(Open::Batch { items, forgotten, version }) => {
                if let Reply::Batch(replies) = &mut reply {
                    for (item, reply) in items.iter().zip(&mut *replies) {
                        memory.note(item, reply);
                    }
                    replies.insert(forgotten, Reply::Written { version });
                }
            }
            Some(Open::Swapped { id, key, first }) => {
                let (now, later) = match &reply {
                    Reply::Popped { .. } => (reply, Some(first)),
                    _ => (first, None),
                };
                memory.kept.entry(key).or_default().extend(later);
                return out.push((To::Client, id, now.to_part()));
            }
            Some(Open::Ignored) | None => return,
        }
        out.push((To::Client, id, reply.to_part()));
    }

    /// Changes the answer to a request, or leaves it.
    fn answer(&self, request: &Request, reply: &mut Reply, memory: &mut Memory) {
        match (self.tampering, &mut *reply, request.key()) {
            (Tampering::AnswersOlder, Reply::Value { .. }, Some(key)) => {
                let key = key.to_bytes();
                let first = memory.first.entry(key).or_insert_with(|| reply.clone()).clone();
                if self.is_due(memory) {
                    *reply = first;
                }
            }
            (Tampering::KeepsExpired, Reply::Value { expires_at, value, .. }, Some(key)) => {
                if let Some(end) = memory.ends.get(&(key.to_bytes(), value.clone())) {
                    *expires_at = *end;
                }
            }
            (Tampering::GrantsIfVersion, Reply::Failed(fault), Some(_))
                if fault.kind == Kind::WrongVersion
                    && matches!(
                        request,
                        Request::Put { condition: Condition::IfVersion(_), .. }
                    )
                    && self.is_due(memory) =>
            {
                *reply = Reply::Written { version: Version(fault.detail + 1) };
            }
            _ => {}
        }
        memory.note(request, reply);
    }

    /// Pops a second item before the first is handed on, when that is due.
    fn is_swapped(
        &mut self,
        id: u64,
        request: &Request,
        reply: &Reply,
        memory: &mut Memory,
        out: &mut Out,
    ) -> bool {
        let (Request::Pop { key, .. }, Reply::Popped { items: 1.., .. }) = (request, reply) else {
            return false;
        };
        if self.tampering != Tampering::SwapsItems || !self.is_due(memory) {
            return false;
        }
        let (again, second) = self.injected(request);
        let (key, first) = (key.to_bytes(), reply.clone());
        self.open.insert(again, Open::Swapped { id, key, first });
        out.push((To::Node, again, second.to_part()));
        true
    }
}

impl Memory {
    /// The version that a put of `key` would probably be given.
    fn next_version(&mut self, key: &[u8]) -> Version {
        let largest = self.versions.values().max().copied().unwrap_or(Version(1 << 50));
        let last = self.versions.entry(Bytes::copy_from_slice(key)).or_insert(largest);
        *last = Version(last.0 + 1);
        *last
    }

    fn note(&mut self, request: &Request, reply: &Reply) {
        let (Reply::Written { version } | Reply::Value { version, .. }) = reply else { return };
        if let Some(key) = request.key() {
            let last = self.versions.entry(key.to_bytes()).or_insert(*version);
            *last = (*last).max(*version);
        }
    }
}
