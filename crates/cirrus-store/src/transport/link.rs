//! The kinds of link, and the two ends that make one.
//!
//! Owns [`Endpoint`] (where to connect), [`Listener`] (where links come in) and [`Link`] itself.
//! Invariant: a link is a reliable, ordered stream of bytes until it fails, whatever its kind.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::transport::sim::{SimListener, SimNetwork, SimReader, SimWriter};

/// Where a node can be reached.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// `HOST:PORT`.
    Tcp(String),
    /// A name in a simulated network.
    Sim(SimNetwork, String),
}

impl Endpoint {
    /// Opens a link.
    pub async fn connect(&self) -> io::Result<Link> {
        match self {
            Self::Tcp(address) => Ok(Link::tcp(TcpStream::connect(address).await?)),
            Self::Sim(network, name) => network.connect(name).await,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Sim(_, name) => write!(f, "sim:{name}"),
        }
    }
}

/// Where links come in.
#[derive(Debug)]
pub enum Listener {
    /// A bound socket.
    Tcp(TcpListener),
    /// A name in a simulated network.
    Sim(SimListener),
}

impl Listener {
    /// Waits for the next link.
    pub async fn accept(&mut self) -> io::Result<Link> {
        match self {
            Self::Tcp(listener) => Ok(Link::tcp(listener.accept().await?.0)),
            Self::Sim(listener) => listener.accept().await,
        }
    }

    /// The socket's address; `None` in a simulated network.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Sim(_) => None,
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
        // Frames leave in one write per wake-up, so there is nothing for Nagle to join. It fails
        // only where the peer has left already: the first read says so.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Self { reader: LinkReader::Tcp(reader), writer: LinkWriter::Tcp(writer) }
    }
}

/// The receiving half of a [`Link`].
#[derive(Debug)]
pub enum LinkReader {
    /// Of a TCP connection.
    Tcp(OwnedReadHalf),
    /// Of a simulated link.
    Sim(SimReader),
}

impl LinkReader {
    /// The peer's address and the own one; `None` in a simulated network, or when it is closed.
    pub(crate) fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        match self {
            Self::Tcp(half) => (half.peer_addr().ok(), half.local_addr().ok()),
            Self::Sim(_) => (None, None),
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
            Self::Sim(half) => Pin::new(half).poll_read(cx, buffer),
        }
    }
}

/// The sending half of a [`Link`].
#[derive(Debug)]
pub enum LinkWriter {
    /// Of a TCP connection.
    Tcp(OwnedWriteHalf),
    /// Of a simulated link.
    Sim(SimWriter),
}

impl AsyncWrite for LinkWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_write(cx, bytes),
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
            Self::Sim(half) => Pin::new(half).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(half) => half.is_write_vectored(),
            Self::Sim(half) => half.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_flush(cx),
            Self::Sim(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            Self::Sim(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}
