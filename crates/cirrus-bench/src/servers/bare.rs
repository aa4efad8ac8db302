//! A socket copy and nothing else: the ceiling of a transfer of large values.
//!
//! A request is 9 bytes: `G` or `P`, and a length (u64, little-endian). `G` is answered with that
//! many bytes out of one buffer; `P` is followed by that many bytes, which land in one buffer, and
//! is answered with one byte. One connection at a time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, bail};

use crate::servers::launch::Launch;
use crate::servers::{Instance, Kind};

/// The largest transfer.
const BYTES_MAX: usize = 64 << 20;

/// Copies bytes, until it is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Bare {}

impl Bare {
    pub(crate) fn run(self) -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
        let address = listener.local_addr().context("the address of a socket")?;
        writeln!(std::io::stdout(), "{address}").context("stdout")?;
        let mut buffer = vec![1; BYTES_MAX];
        loop {
            let (stream, _) = listener.accept().context("accept")?;
            serve(stream, &mut buffer)?;
        }
    }
}

fn serve(mut stream: TcpStream, buffer: &mut [u8]) -> Result<()> {
    stream.set_nodelay(true).context("TCP_NODELAY")?;
    let mut request = [0; 9];
    loop {
        match stream.read_exact(&mut request) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error).context("a request"),
        }
        let (verb, len) = request.split_first().expect("nine bytes");
        let len = u64::from_le_bytes(len.try_into().expect("eight bytes"));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(bytes) = buffer.get_mut(..len) else { bail!("{len} bytes are too many") };
        match verb {
            b'G' => stream.write_all(bytes).context("a get")?,
            b'P' => {
                stream.read_exact(bytes).context("a put")?;
                stream.write_all(&[1]).context("an answer")?;
            }
            _ => bail!("an unknown request"),
        }
    }
}

/// The client's half: one connection, one buffer.
#[derive(Debug)]
pub(crate) struct BareClient {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl BareClient {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect to the socket loop")?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        Ok(Self { stream, buffer: vec![1; BYTES_MAX] })
    }

    pub(crate) fn get(&mut self, len: usize) -> Result<()> {
        self.request(b'G', len)?;
        self.stream.read_exact(&mut self.buffer[..len]).context("a get")
    }

    pub(crate) fn put(&mut self, len: usize) -> Result<()> {
        self.request(b'P', len)?;
        self.stream.write_all(&self.buffer[..len]).context("a put")?;
        self.stream.read_exact(&mut [0]).context("a put's answer")
    }

    fn request(&mut self, verb: u8, len: usize) -> Result<()> {
        let mut request = [verb; 9];
        request[1..].copy_from_slice(&(len as u64).to_le_bytes());
        self.stream.write_all(&request).context("a request")
    }
}

pub(super) fn start(launch: &Launch) -> Result<Instance> {
    let (child, address) = launch.own(&["bare"])?;
    Instance::started(Kind::Bare, "socket copy".to_owned(), child, address)
}
