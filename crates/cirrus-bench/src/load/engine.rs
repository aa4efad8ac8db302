//! The loop that plays a script over many connections from one thread.
//!
//! Owns the epoll set. Each ready connection costs one read and one write; nothing is allocated
//! once a slice runs. Invariant: a slice begins and ends with nothing in flight, so that what the
//! server spends between belongs to it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use crate::load::connection::{Connection, Step};
use crate::load::keys::{Keys, random};
use crate::load::latency::Latency;
use crate::load::script::Script;

/// Bytes that one read takes.
const READ_BYTES: usize = 256 << 10;

/// A server that says nothing for this long is taken to be gone.
const SILENCE_MAX: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// How many requests are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    /// Requests of one write; the next ones leave when all of these are answered.
    pub(crate) pipeline: usize,
}

/// When requests leave.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the last ones were answered.
    Closed,
    /// At random times (a Poisson process) whose mean distance is this, whoever is answered.
    Open { interval: Duration },
}

/// Times at which requests should leave.
#[derive(Debug)]
pub(crate) struct Schedule {
    state: u64,
    interval: Duration,
    next: Instant,
}

impl Schedule {
    pub(crate) fn new(start: Instant, interval: Duration, seed: u64) -> Self {
        Self { state: seed, interval, next: start }
    }

    /// The time of the next request, if that is before `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Instant> {
        if self.next > now {
            return None;
        }
        let due = self.next;
        #[expect(clippy::cast_precision_loss, reason = "a random number needs no last digit")]
        let uniform = ((random(&mut self.state) >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        self.next += self.interval.mul_f64(-uniform.ln());
        Some(due)
    }
}

/// What a slice of load did.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
}

/// Plays one script.
pub(crate) struct Engine {
    script: Script,
    connections: Vec<Connection>,
    pipeline: usize,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    reply: Vec<u8>,
}

impl Engine {
    /// Connects to a server.
    pub(crate) fn connect(address: SocketAddr, script: Script, shape: Shape) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create1")?;
        let mut connections = Vec::with_capacity(shape.connections);
        for index in 0..shape.connections {
            let connection = Connection::open(address, &script, shape.pipeline)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &connection.stream, data, epoll::EventFlags::IN)
                .context("epoll_ctl")?;
            connections.push(connection);
        }
        let (events, reply) = (Vec::with_capacity(shape.connections), script.reply.clone());
        let (pipeline, buffer) = (shape.pipeline, vec![0; READ_BYTES]);
        Ok(Self { script, connections, pipeline, epoll, events, buffer, reply })
    }

    /// Sends at least `operations` requests, as fast as they are answered.
    pub(crate) fn send(&mut self, keys: &mut Keys, operations: u64) -> Result<()> {
        let mut left = operations.div_ceil(self.pipeline as u64);
        self.closed(keys, &mut Latency::new(), |_| {
            let may_start = left > 0;
            left = left.saturating_sub(1);
            may_start
        })?;
        Ok(())
    }

    /// Sends for about `slice`, then waits for the last replies.
    pub(crate) fn play(
        &mut self,
        keys: &mut Keys,
        pace: Pace,
        slice: Duration,
        latency: &mut Latency,
    ) -> Result<Played> {
        let began = Instant::now();
        let batches = match pace {
            Pace::Closed => self.closed(keys, latency, |now| now - began < slice)?,
            Pace::Open { interval } => {
                let schedule = Schedule::new(began, interval, u64::from(keys.next()));
                self.open(keys, schedule, began + slice, latency)?
            }
        };
        Ok(Played { operations: batches * self.pipeline as u64, elapsed: began.elapsed() })
    }

    /// Every connection sends its next batch when its last one is answered, while `may_start`.
    fn closed(
        &mut self,
        keys: &mut Keys,
        latency: &mut Latency,
        mut may_start: impl FnMut(Instant) -> bool,
    ) -> Result<u64> {
        let mut batches = 0;
        let mut in_flight = 0;
        for index in 0..self.connections.len() {
            let now = Instant::now();
            if may_start(now) {
                self.start(index, keys, now)?;
                in_flight += 1;
            }
        }
        while in_flight > 0 {
            self.wait(Some(&SILENCE_MAX))?;
            if self.events.is_empty() {
                bail!("the server has been silent for {} s", SILENCE_MAX.tv_sec);
            }
            for at in 0..self.events.len() {
                let index = index_of(&self.events[at]);
                if !self.advance(index)? {
                    continue;
                }
                let now = Instant::now();
                latency.record(now - self.connections[index].started);
                batches += 1;
                match may_start(now) {
                    true => self.start(index, keys, now)?,
                    false => in_flight -= 1,
                }
            }
        }
        Ok(batches)
    }

    /// Requests leave at their times, on any idle connection; one that finds none waits, and its
    /// latency counts from its time all the same.
    fn open(
        &mut self,
        keys: &mut Keys,
        mut schedule: Schedule,
        end: Instant,
        latency: &mut Latency,
    ) -> Result<u64> {
        let mut batches = 0;
        let mut idle: Vec<usize> = (0..self.connections.len()).collect();
        let mut due = None;
        loop {
            let now = Instant::now();
            while !idle.is_empty() {
                due = due.or_else(|| schedule.due(now.min(end)));
                let Some(started) = due.take() else { break };
                let index = idle.pop().expect("checked by the loop");
                self.start(index, keys, started)?;
            }
            if now >= end && due.is_none() && idle.len() == self.connections.len() {
                return Ok(batches);
            }
            // Without waiting: a sleep would be the largest part of what is measured.
            self.wait(Some(&Timespec::default()))?;
            for at in 0..self.events.len() {
                let index = index_of(&self.events[at]);
                if self.advance(index)? {
                    latency.record(self.connections[index].started.elapsed());
                    batches += 1;
                    idle.push(index);
                }
            }
        }
    }

    fn start(&mut self, index: usize, keys: &mut Keys, started: Instant) -> Result<()> {
        let connection = &mut self.connections[index];
        if connection.start(&self.script, keys, started)? == Step::Writing {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
            self.listen(index, flags)?;
        }
        Ok(())
    }

    /// Moves a ready connection on; true when its batch is done.
    fn advance(&mut self, index: usize) -> Result<bool> {
        let connection = &mut self.connections[index];
        if connection.is_writing() && connection.write()? == Step::Reading {
            self.listen(index, epoll::EventFlags::IN)?;
        }
        let connection = &mut self.connections[index];
        if !connection.is_busy {
            bail!("the server spoke without being asked, or closed the connection");
        }
        let step = connection.read(&self.script, &mut self.reply, &mut self.buffer)?;
        Ok(step == Step::Done)
    }

    fn listen(&self, index: usize, flags: epoll::EventFlags) -> Result<()> {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::modify(&self.epoll, &self.connections[index].stream, data, flags)
            .context("epoll_ctl")
    }

    fn wait(&mut self, patience: Option<&Timespec>) -> Result<()> {
        self.events.clear();
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut self.events), patience) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
        }
    }
}

fn index_of(event: &epoll::Event) -> usize {
    let data = event.data;
    usize::try_from(data.u64()).expect("an index that this loop gave")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::load::{KeySpace, Operation, Protocol};

    const SPACE: KeySpace = KeySpace { value_bytes: 64 };
    const SLICE: Duration = Duration::from_millis(50);

    fn script() -> Script {
        Script::new(Protocol::Resp, Operation::Get, SPACE)
    }

    /// A server of one connection that answers each get through `answer`.
    fn server(mut answer: impl FnMut(&[u8], &mut dyn FnMut(&[u8])) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let script = script();
            let mut request = vec![0; script.request.len()];
            while stream.read_exact(&mut request).is_ok() {
                let mut reply = script.reply.clone();
                let (from, to) = (script.request_keys_at[0], script.reply_key_at.unwrap());
                reply[to..to + 8].copy_from_slice(&request[from..from + 8]);
                // A client that has found a mistake reads no further.
                answer(&reply, &mut |bytes| drop(stream.write_all(bytes)));
            }
        });
        address
    }

    fn play(address: SocketAddr, pipeline: usize, pace: Pace) -> Result<(Played, Latency)> {
        let shape = Shape { connections: 1, pipeline };
        let mut engine = Engine::connect(address, script(), shape)?;
        let mut latency = Latency::new();
        let mut keys = Keys::random(SPACE, 1);
        engine.play(&mut keys, pace, SLICE, &mut latency).map(|played| (played, latency))
    }

    #[test]
    fn replies_may_come_in_any_pieces() {
        let mut count = 0;
        let address = server(move |reply, write| {
            count += 1;
            reply.chunks(1 + count % 40).for_each(write);
        });
        let (played, _) = play(address, 16, Pace::Closed).unwrap();
        assert!(played.operations > 0 && played.operations.is_multiple_of(16), "{played:?}");
    }

    #[test]
    fn a_wrong_byte_anywhere_is_found() {
        for wrong_at in [0, 3, 12, 40, script().reply.len() - 1] {
            let mut left = 20;
            let address = server(move |reply, write| {
                let mut reply = reply.to_vec();
                left -= 1;
                if left == 0 {
                    reply[wrong_at] ^= 1;
                }
                write(&reply);
            });
            let error = play(address, 4, Pace::Closed).unwrap_err().to_string();
            assert!(error.contains("expected") && error.contains("the server said"), "{error}");
        }
    }

    #[test]
    fn more_than_was_asked_for_is_found() {
        let address = server(|reply, write| write(&[reply, b"+OK\r\n"].concat()));
        let error = play(address, 1, Pace::Closed).unwrap_err().to_string();
        assert!(error.contains("more came than was asked for"), "{error}");
    }

    #[test]
    fn a_fill_touches_every_key() {
        let (sender, seen) = std::sync::mpsc::channel();
        let address = server(move |reply, write| {
            sender.send(reply.to_vec()).unwrap();
            write(reply);
        });
        let shape = Shape { connections: 1, pipeline: 16 };
        let mut engine = Engine::connect(address, script(), shape).unwrap();
        engine.send(&mut Keys::ascending(SPACE), 1000).unwrap();
        drop(engine);
        let mut seen: Vec<Vec<u8>> = seen.iter().collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 1008, "1,000 keys in whole batches of 16");
    }

    #[test]
    fn a_stall_is_charged_to_every_request_that_it_holds_up() {
        let stall = SLICE / 2;
        let stalling = || {
            let mut count = 0;
            server(move |reply, write| {
                count += 1;
                if count == 5 {
                    thread::sleep(stall);
                }
                write(reply);
            })
        };
        let interval = Duration::from_micros(500);
        let (played, open) = play(stalling(), 1, Pace::Open { interval }).unwrap();
        // Half of the slice is one stall: of the requests that were due in it, most waited long.
        assert!(open.percentile_us(75.0) > 5_000.0, "{} µs", open.percentile_us(75.0));
        assert!((50..200).contains(&played.operations), "{played:?}");
        let (_, closed) = play(stalling(), 1, Pace::Closed).unwrap();
        assert!(closed.percentile_us(75.0) < 5_000.0, "{} µs", closed.percentile_us(75.0));
    }
}
