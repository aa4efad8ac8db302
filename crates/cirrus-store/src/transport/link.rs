//! The kinds of link, and the two ends that make one.
//!
//! Owns [`Endpoint`] (where to connect), [`Listener`] (where links come in) and [`Link`] itself.
//! Invariant: a link is a reliable, ordered stream of bytes until it fails, whatever its kind.

use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::transport::shm::{self, ShmReader, ShmWriter};
use crate::transport::sim::{SimListener, SimNetwork, SimReader, SimWriter};
use crate::transport::window::{Mapper, Window};

/// Where a node can be reached.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// `HOST:PORT`.
    Tcp(String),
    /// The name of a socket of this host, where a node listens beside its TCP port.
    Shm(String),
    /// A name in a simulated network.
    Sim(SimNetwork, String),
}

impl Endpoint {
    /// Opens a link.
    pub async fn connect(&self) -> io::Result<Link> {
        match self {
            Self::Tcp(address) => Ok(Link::tcp(TcpStream::connect(address).await?)),
            Self::Shm(name) => Ok(Link::shm(shm::connect(name).await?, true)),
            Self::Sim(network, name) => network.connect(name).await,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Shm(name) => write!(f, "shm:{}", name.trim_start_matches('\0')),
            Self::Sim(_, name) => write!(f, "sim:{name}"),
        }
    }
}

/// Where links come in.
#[derive(Debug)]
pub enum Listener {
    /// A bound socket.
    Tcp(TcpListener),
    /// A socket for clients of this host.
    Shm(UnixListener),
    /// A name in a simulated network.
    Sim(SimListener),
}

impl Listener {
    /// Waits for the next peer.
    pub async fn accept(&mut self) -> io::Result<Incoming> {
        match self {
            Self::Tcp(listener) => Ok(Incoming::Tcp(listener.accept().await?.0.into_std()?)),
            Self::Shm(listener) => Ok(Incoming::Shm(listener.accept().await?.0.into_std()?)),
            Self::Sim(listener) => Ok(Incoming::Sim(listener.accept().await?)),
        }
    }

    /// The TCP socket's address; `None` for listeners of other kinds.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Shm(_) | Self::Sim(_) => None,
        }
    }
}

/// A peer that has connected and belongs to no event loop yet.
#[derive(Debug)]
pub enum Incoming {
    /// A connected socket.
    Tcp(std::net::TcpStream),
    /// A connected socket of this host, whoever is at its other end.
    Shm(std::os::unix::net::UnixStream),
    /// A simulated link.
    Sim(Link),
}

impl Incoming {
    /// The link, which from now on belongs to the loop that this is called on. One of this host is
    /// refused to other users.
    pub fn open(self) -> io::Result<Link> {
        match self {
            Self::Tcp(stream) => Ok(Link::tcp(TcpStream::from_std(stream)?)),
            Self::Shm(stream) => {
                Ok(Link::shm(shm::same_user(UnixStream::from_std(stream)?)?, false))
            }
            Self::Sim(link) => Ok(link),
        }
    }
}

/// A stream of bytes in both directions.
#[derive(Debug)]
pub struct Link {
    /// What the peer sends.
    pub reader: LinkReader,
    /// What goes to the peer.
    pub writer: LinkWriter,
}

impl Link {
    fn tcp(stream: TcpStream) -> Self {
        tune(&stream);
        let (reader, writer) = stream.into_split();
        Self { reader: LinkReader::Tcp(reader), writer: LinkWriter::Tcp(writer) }
    }

    fn shm(stream: UnixStream, expects_file: bool) -> Self {
        let (reader, writer) = shm::halves(stream, expects_file);
        Self { reader: LinkReader::Shm(reader), writer: LinkWriter::Shm(writer) }
    }
}

/// How long a peer may be silent before the kernel asks whether it is there, and how often.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up; by
/// default it goes on for a quarter of an hour.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// The one place where sockets get their options, on both sides and for both clients. None of them
/// is needed for a correct connection, so one that the kernel refuses is left as it is: a socket
/// whose peer has left already refuses them all, and its first read says why.
pub(crate) fn tune<'a>(socket: impl Into<SockRef<'a>>) {
    let socket = socket.into();
    // Frames leave in one write per wake-up, so there is nothing for Nagle to join.
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
        // Within a machine there is no bottleneck whose bandwidth could be measured: BBR, where it
        // is the default, paces 1 MiB to twice the time that cubic needs.
        let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
        if peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
            let _ = socket.set_tcp_congestion(b"cubic");
        }
    }
}

/// The receiving half of a [`Link`].
#[derive(Debug)]
pub enum LinkReader {
    /// Of a TCP connection.
    Tcp(OwnedReadHalf),
    /// Of a link to a process of the same host.
    Shm(ShmReader),
    /// Of a simulated link.
    Sim(SimReader),
}

impl LinkReader {
    /// The peer's address and the own one; `None` on links of other kinds than TCP, or when it is
    /// closed.
    pub(crate) fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        match self {
            Self::Tcp(half) => (half.peer_addr().ok(), half.local_addr().ok()),
            Self::Shm(_) | Self::Sim(_) => (None, None),
        }
    }

    /// The file that came with the first bytes, if one did.
    pub(crate) fn take_file(&mut self) -> Option<OwnedFd> {
        match self {
            Self::Shm(half) => half.take_file(),
            Self::Tcp(_) | Self::Sim(_) => None,
        }
    }

    /// Makes values of places in `window`, as long as this link or one of them lasts; `None` on
    /// links over which no memory is shared.
    pub(crate) fn mapper(&self, window: Arc<Window>) -> Option<Mapper> {
        match self {
            Self::Shm(half) => Some(Mapper::new(window, half.stream().clone())),
            Self::Tcp(_) | Self::Sim(_) => None,
        }
    }
}

impl LinkReader {
    /// Reads once into `first`, and what comes behind it into `second` where that costs nothing;
    /// how many bytes came. Dropping the future loses no bytes.
    pub(crate) async fn read_two(
        &mut self,
        first: &mut [u8],
        second: &mut [u8],
    ) -> io::Result<usize> {
        let Self::Tcp(half) = self else { return self.read(first).await };
        let stream: &TcpStream = (*half).as_ref();
        loop {
            stream.readable().await?;
            let (mut read, len) = (None, first.len() + second.len());
            let tried = stream.try_io(Interest::READABLE, || {
                let mut slices = [IoSliceMut::new(first), IoSliceMut::new(second)];
                let count = rustix::io::readv(stream, &mut slices)?;
                read = Some(count);
                // The kernel has no more: tokio is to wait before the next read.
                if (1..len).contains(&count) { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, tried) {
                (Some(count), _) => return Ok(count),
                (None, Err(error)) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                (None, _) => {}
            }
        }
    }
}

impl AsyncRead for LinkReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(cx, buffer),
            Self::Shm(half) => Pin::new(half).poll_read(cx, buffer),
            Self::Sim(half) => Pin::new(half).poll_read(cx, buffer),
        }
    }
}

/// The sending half of a [`Link`].
#[derive(Debug)]
pub enum LinkWriter {
    /// Of a TCP connection.
    Tcp(OwnedWriteHalf),
    /// Of a link to a process of the same host.
    Shm(ShmWriter),
    /// Of a simulated link.
    Sim(SimWriter),
}

impl LinkWriter {
    /// Writes what the kernel takes at once; `WouldBlock` when it takes nothing, and always on a
    /// simulated link, where time belongs to the task that polls.
    pub(crate) fn try_write_vectored(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write_vectored(parts),
            Self::Shm(half) => half.try_write_vectored(parts),
            Self::Sim(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether a file can go over this link.
    pub(crate) fn takes_files(&self) -> bool {
        matches!(self, Self::Shm(_))
    }

    /// The next bytes bring this file, where the link takes files.
    pub(crate) fn attach(&mut self, file: Arc<OwnedFd>) {
        match self {
            Self::Shm(half) => half.attach(file),
            Self::Tcp(_) | Self::Sim(_) => {}
        }
    }
}

impl AsyncWrite for LinkWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_write(cx, bytes),
            Self::Shm(half) => Pin::new(half).poll_write(cx, bytes),
            Self::Sim(half) => Pin::new(half).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_write_vectored(cx, parts),
            Self::Shm(half) => Pin::new(half).poll_write_vectored(cx, parts),
            Self::Sim(half) => Pin::new(half).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(half) => half.is_write_vectored(),
            Self::Shm(half) => half.is_write_vectored(),
            Self::Sim(half) => half.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_flush(cx),
            Self::Shm(half) => Pin::new(half).poll_flush(cx),
            Self::Sim(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            Self::Shm(half) => Pin::new(half).poll_shutdown(cx),
            Self::Sim(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}
