//! A network inside one process, with faults that follow a seed.
//!
//! Owns the simulated links that tests use in place of sockets: bytes are delayed in virtual time
//! and connections are cut. Invariant: with the same seed and a paused clock, the same faults come.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::transport::link::{Link, LinkReader, LinkWriter};

const PIPE_BYTES: usize = 64 * 1024;

/// Which faults a simulated network makes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimFaults {
    /// What the faults follow.
    pub seed: u64,
    /// Bytes that have arrived are held back for up to this long.
    pub delay_max: Duration,
    /// A link is cut after at most this many bytes in one direction; 0 never cuts.
    pub cut_after_bytes_max: u64,
}

/// A network of names. Clones share it.
#[derive(Clone)]
pub struct SimNetwork(Arc<Mutex<State>>);

struct State {
    faults: SimFaults,
    random: u64,
    listeners: HashMap<String, mpsc::Sender<Link>>,
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimNetwork")
    }
}

impl SimNetwork {
    /// A network without nodes.
    pub fn new(faults: SimFaults) -> Self {
        Self(Arc::new(Mutex::new(State { faults, random: faults.seed, listeners: HashMap::new() })))
    }

    /// From now on links to `name` come in here; an earlier listener of this name gets no more.
    pub fn listen(&self, name: &str) -> SimListener {
        let (sender, receiver) = mpsc::channel(64);
        self.0.lock().listeners.insert(name.to_owned(), sender);
        SimListener(receiver)
    }

    /// Links that are opened from now on have these faults.
    pub fn set_faults(&self, faults: SimFaults) {
        self.0.lock().faults = faults;
    }

    pub(super) async fn connect(&self, name: &str) -> io::Result<Link> {
        let (listener, [there, back]) = {
            let mut state = self.0.lock();
            let listener = state.listeners.get(name).cloned();
            (listener, [state.direction(), state.direction()])
        };
        let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let near = link(near, back, there);
        let far = link(far, there, back);
        listener.send(far).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }
}

impl State {
    fn direction(&mut self) -> Direction {
        let seed = self.next();
        let cut = match self.faults.cut_after_bytes_max {
            0 => u64::MAX,
            max => self.next() % max,
        };
        Direction { random: seed, delay_max: self.faults.delay_max, bytes_left: cut }
    }

    fn next(&mut self) -> u64 {
        split_mix(&mut self.random)
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn link(stream: DuplexStream, incoming: Direction, outgoing: Direction) -> Link {
    let (reader, writer) = tokio::io::split(stream);
    Link {
        reader: LinkReader::Sim(SimReader::new(reader, incoming)),
        writer: LinkWriter::Sim(SimWriter { half: writer, direction: outgoing }),
    }
}

/// Where links to a name come in.
#[derive(Debug)]
pub struct SimListener(mpsc::Receiver<Link>);

impl SimListener {
    pub(super) async fn accept(&mut self) -> io::Result<Link> {
        self.0.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

#[derive(Debug, Clone, Copy)]
struct Direction {
    random: u64,
    delay_max: Duration,
    bytes_left: u64,
}

impl Direction {
    fn delay(&mut self) -> Option<Duration> {
        let micros = u64::try_from(self.delay_max.as_micros()).unwrap_or(u64::MAX);
        (micros > 0).then(|| Duration::from_micros(split_mix(&mut self.random) % micros))
    }
}

/// The receiving half of a simulated link.
#[derive(Debug)]
pub struct SimReader {
    half: ReadHalf<DuplexStream>,
    direction: Direction,
    /// What has arrived and is held back until `sleep` is over.
    held: BytesMut,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl SimReader {
    fn new(half: ReadHalf<DuplexStream>, direction: Direction) -> Self {
        Self { half, direction, held: BytesMut::new(), sleep: None }
    }
}

impl AsyncRead for SimReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.held.is_empty() {
            if this.direction.bytes_left == 0 {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let mut arrived = vec![0; PIPE_BYTES];
            let mut arrived = ReadBuf::new(&mut arrived);
            ready!(Pin::new(&mut this.half).poll_read(cx, &mut arrived))?;
            this.held.extend_from_slice(arrived.filled());
            this.sleep = this.direction.delay().map(|delay| Box::pin(tokio::time::sleep(delay)));
        }
        if let Some(sleep) = &mut this.sleep {
            ready!(sleep.as_mut().poll(cx));
            this.sleep = None;
        }
        let here = this.held.len().min(buffer.remaining());
        buffer.put_slice(&this.held[..here]);
        this.held.advance(here);
        this.direction.bytes_left = this.direction.bytes_left.saturating_sub(here as u64);
        Poll::Ready(Ok(()))
    }
}

/// The sending half of a simulated link.
#[derive(Debug)]
pub struct SimWriter {
    half: WriteHalf<DuplexStream>,
    direction: Direction,
}

impl AsyncWrite for SimWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.direction.bytes_left == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // Cut at a byte, not at the end of what the caller wanted to write.
        let here = usize::try_from(this.direction.bytes_left).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(here)];
        let written = ready!(Pin::new(&mut this.half).poll_write(cx, bytes))?;
        this.direction.bytes_left = this.direction.bytes_left.saturating_sub(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().half).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().half).poll_shutdown(cx)
    }
}
