//! Links to a node of the same host: a socket beside its TCP port, and a file that comes over it.
//!
//! Owns the socket's name, who may be at its other end, and how the file travels: it comes with the
//! bytes that are written next after it was attached. Knows nothing of what lies in the file.
//! Invariant: both ends are processes of the same user. The socket closes when the link and
//! everything that holds its [`ShmStream`] are gone, and is never shut down before by dropping a
//! half of it: its end tells the node that nobody reads its memory any more.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, recvmsg, sendmsg, shutdown,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{UnixListener, UnixStream};

/// A link's socket.
pub(crate) type ShmStream = Arc<UnixStream>;

/// The name of the socket of a node that listens on `port` in this life, as a path of the abstract
/// namespace, which ends with the network namespace and the process.
fn name(incarnation: u64, port: u16) -> String {
    format!("\0cirrus-{incarnation:016x}-{port}")
}

/// The name under which a node that greeted us from `peer` listens for clients of its host, if we
/// are one: `here` is our own address.
pub(crate) fn neighbour(
    incarnation: u64,
    peer: Option<SocketAddr>,
    here: Option<SocketAddr>,
) -> Option<String> {
    let (peer, here) = (peer?, here?);
    let is_near = peer.ip().to_canonical().is_loopback() || peer.ip() == here.ip();
    is_near.then(|| name(incarnation, peer.port()))
}

/// Listens for clients of this host.
pub(crate) fn listen(incarnation: u64, port: u16) -> io::Result<UnixListener> {
    UnixListener::bind(name(incarnation, port))
}

/// Connects to the node of this name.
pub(super) async fn connect(name: &str) -> io::Result<UnixStream> {
    same_user(UnixStream::connect(name).await?)
}

/// The stream, if a process of our own user is at its other end.
pub(super) fn same_user(stream: UnixStream) -> io::Result<UnixStream> {
    let peer = stream.peer_cred()?.uid();
    match peer == rustix::process::geteuid().as_raw() {
        true => Ok(stream),
        false => {
            let text = format!("user {peer} is at the other end of a socket for our own user");
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
    }
}

/// Both halves of a link. The first file that comes is kept if one is expected.
pub(super) fn halves(stream: UnixStream, expects_file: bool) -> (ShmReader, ShmWriter) {
    let stream = Arc::new(stream);
    let came = if expects_file { File::Expected } else { File::Unwanted };
    (ShmReader { stream: stream.clone(), came }, ShmWriter { stream, attached: None })
}

/// The receiving half of a link to a node of the same host.
#[derive(Debug)]
pub struct ShmReader {
    stream: ShmStream,
    came: File,
}

#[derive(Debug)]
enum File {
    Unwanted,
    Expected,
    Came(OwnedFd),
}

impl ShmReader {
    /// What keeps the socket open.
    pub(super) fn stream(&self) -> &ShmStream {
        &self.stream
    }

    /// The file that came; later ones are not wanted.
    pub(super) fn take_file(&mut self) -> Option<OwnedFd> {
        match std::mem::replace(&mut self.came, File::Unwanted) {
            File::Came(file) => Some(file),
            File::Unwanted | File::Expected => None,
        }
    }

    /// Reads once, together with a file if one comes.
    fn receive(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let Self { stream, came } = self;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut read = 0;
        stream.try_io(Interest::READABLE, || {
            let mut parts = [IoSliceMut::new(buffer.initialize_unfilled())];
            let flags = RecvFlags::CMSG_CLOEXEC;
            read = recvmsg(stream.as_fd(), &mut parts, &mut beside, flags)?.bytes;
            Ok(())
        })?;
        buffer.advance(read);
        for message in beside.drain() {
            let RecvAncillaryMessage::ScmRights(files) = message else { continue };
            for file in files {
                *came = File::Came(file);
            }
        }
        Ok(())
    }
}

impl AsyncRead for ShmReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.stream.poll_read_ready(cx))?;
            let read = match this.came {
                File::Expected => this.receive(buffer),
                File::Unwanted | File::Came(_) => this.stream.try_read_buf(buffer).map(|_| ()),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }
}

/// The sending half of a link to a node of the same host.
#[derive(Debug)]
pub struct ShmWriter {
    stream: ShmStream,
    attached: Option<Arc<OwnedFd>>,
}

impl ShmWriter {
    /// The next bytes that are written bring this file.
    pub(super) fn attach(&mut self, file: Arc<OwnedFd>) {
        self.attached = Some(file);
    }

    /// Writes what the kernel takes at once. An attached file waits for the task that polls.
    pub(super) fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.attached {
            Some(_) => Err(io::ErrorKind::WouldBlock.into()),
            None => self.stream.try_write_vectored(parts),
        }
    }

    fn poll_parts(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let written = match &self.attached {
                Some(file) => send(&self.stream, parts, file),
                None => self.stream.try_write_vectored(parts),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(written) => {
                    self.attached = None;
                    return Poll::Ready(Ok(written));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn send(stream: &UnixStream, parts: &[IoSlice<'_>], file: &OwnedFd) -> io::Result<usize> {
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !beside.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    stream.try_io(Interest::WRITABLE, || {
        Ok(sendmsg(stream.as_fd(), parts, &mut beside, SendFlags::NOSIGNAL)?)
    })
}

impl AsyncWrite for ShmWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_parts(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_parts(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.stream.as_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_file_comes_with_the_bytes_after_it_and_halves_close_nothing() {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far) = (same_user(near).unwrap(), same_user(far).unwrap());
        let (mut reader, near_writer) = halves(near, true);
        let (mut far_reader, mut writer) = halves(far, false);
        let file = Arc::new(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        rustix::io::pwrite(&file, b"in the file", 0).unwrap();
        writer.attach(file);
        let parts = [IoSlice::new(b"a"), IoSlice::new(b"b")];
        assert!(writer.try_write_vectored(&parts).is_err(), "the file would be left behind");
        writer.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 5];
        reader.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
        let came = reader.take_file().unwrap();
        let mut content = [0; 11];
        rustix::io::pread(&came, &mut content, 0).unwrap();
        assert_eq!(&content, b"in the file");
        assert!(reader.take_file().is_none());
        // The socket stays open for as long as anything holds it.
        let held = reader.stream().clone();
        drop((reader, near_writer));
        let mut rest = Vec::new();
        let end = far_reader.read_to_end(&mut rest);
        let mut end = std::pin::pin!(end);
        tokio::select! {
            biased;
            _ = &mut end => panic!("it closed"),
            () = tokio::task::yield_now() => {}
        }
        drop(held);
        assert_eq!(end.await.unwrap(), 0);
    }

    #[test]
    fn only_a_node_of_this_host_is_a_neighbour() {
        let address = |text: &str| Some(text.parse().unwrap());
        let name = |peer, here| neighbour(0xAB, address(peer), address(here));
        let expected = Some("\0cirrus-00000000000000ab-700".to_owned());
        assert_eq!(name("127.0.0.1:700", "127.0.0.1:9"), expected);
        assert_eq!(name("[::1]:700", "[::1]:9"), expected);
        assert_eq!(name("10.0.0.7:700", "10.0.0.7:9"), expected);
        assert_eq!(name("10.0.0.7:700", "10.0.0.8:9"), None);
        assert_eq!(neighbour(1, None, address("127.0.0.1:9")), None);
    }
}
