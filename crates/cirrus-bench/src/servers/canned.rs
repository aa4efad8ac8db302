//! A server that knows its answers: it counts the bytes of requests and writes as many replies.
//!
//! The ceiling of the load generator: what it measures of this server is what the generator and the
//! kernel cost. Invariant: only requests of the announced script are understood.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use crate::load::{KeySpace, Operation, Protocol, Script};
use crate::servers::launch::Launch;
use crate::servers::{Instance, Kind};

/// The value that it answers gets with.
pub(crate) const CANNED_VALUE_BYTES: usize = 64;

const LISTENER: u64 = 0;

/// Answers gets of 64 B over RESP, until it is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Canned {}

impl Canned {
    pub(crate) fn run(self) -> Result<()> {
        let space = KeySpace { value_bytes: CANNED_VALUE_BYTES };
        let script = Script::new(Protocol::Resp, Operation::Get, space);
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?).context("stdout")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create1")?;
        let watch = |stream: &dyn std::os::fd::AsFd, id: u64| {
            let data = epoll::EventData::new_u64(id);
            epoll::add(&epoll, stream.as_fd(), data, epoll::EventFlags::IN).context("epoll_ctl")
        };
        watch(&listener, LISTENER)?;
        let (mut streams, mut next) = (HashMap::new(), LISTENER);
        let (mut events, mut buffer) = (Vec::with_capacity(1024), vec![0; 256 << 10]);
        loop {
            epoll::wait(&epoll, spare_capacity(&mut events), None).context("epoll_wait")?;
            for event in events.drain(..) {
                let data = event.data;
                if data.u64() == LISTENER {
                    let (stream, _) = listener.accept().context("accept")?;
                    stream.set_nodelay(true).context("TCP_NODELAY")?;
                    next += 1;
                    watch(&stream, next)?;
                    streams
                        .insert(next, Waiting { stream, begun: Vec::new(), replies: Vec::new() });
                } else if let Some(waiting) = streams.get_mut(&data.u64())
                    && !waiting.answer(&script, &mut buffer)?
                {
                    streams.remove(&data.u64());
                }
            }
        }
    }
}

struct Waiting {
    stream: TcpStream,
    /// The first part of a request.
    begun: Vec<u8>,
    replies: Vec<u8>,
}

impl Waiting {
    /// False when the client has left.
    fn answer(&mut self, script: &Script, buffer: &mut [u8]) -> Result<bool> {
        let read = self.stream.read(buffer).context("a request")?;
        if read == 0 {
            return Ok(false);
        }
        self.begun.extend_from_slice(&buffer[..read]);
        let (len, key_at) = (script.request.len(), script.request_keys_at[0]);
        let Some(reply_key_at) = script.reply_key_at else { bail!("only gets are answered") };
        self.replies.clear();
        let requests = self.begun.chunks_exact(len);
        for request in requests.clone() {
            let reply_at = self.replies.len() + reply_key_at;
            self.replies.extend_from_slice(&script.reply);
            self.replies[reply_at..reply_at + 8].copy_from_slice(&request[key_at..key_at + 8]);
        }
        let rest = requests.remainder().len();
        self.begun.drain(..self.begun.len() - rest);
        self.stream.write_all(&self.replies).context("replies")?;
        Ok(true)
    }
}

pub(super) fn start(launch: &Launch) -> Result<Instance> {
    let (child, address) = launch.own(&["canned"])?;
    Instance::started(Kind::Canned, "canned replies".to_owned(), child, address)
}
