//! Concurrent callers of a client library, on one thread.
//!
//! Owns the objects that they touch and the two loops: closed (each caller asks again when it was
//! answered) and open (requests begin at their times, whoever was answered; latency counts from
//! the intended time, so that a stall is charged to every request that it holds up). Invariant:
//! every value that comes back is compared with what was put.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use cirrus_store::{Client, ClientOptions, Key};
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::load::{KeySpace, Keys, Latency, Operation, Pace, Schedule, value_of, write_digits};
use crate::servers::Instance;
use crate::side::{Side, Work};

/// A server whose answers are so far behind does not keep up with the pace. A machine that others
/// use may stand still for a tenth of it.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// A client library with an open connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) enum Library {
    Cirrus(Client),
    Redis(MultiplexedConnection),
}

impl Library {
    /// Over TCP, as the others.
    pub(super) fn cirrus(instance: &Instance) -> Self {
        let mut options = ClientOptions::default();
        options.maps = false;
        Self::Cirrus(Client::new(&instance.address.to_string(), options))
    }

    /// Without a time limit for answers: a timer for each request would slow it down.
    pub(super) async fn redis(instance: &Instance) -> Result<Self> {
        let client = redis::Client::open(format!("redis://{}", instance.address))?;
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        Ok(Self::Redis(connection.context("cannot connect to Redis")?))
    }

    async fn run(&mut self, operation: Operation, objects: &Objects, number: u32) -> Result<()> {
        let key = &objects.keys[number as usize];
        match (self, operation) {
            (Self::Cirrus(client), Operation::Get) => {
                objects.check(number, &client.get(key).await?.value)
            }
            (Self::Cirrus(client), Operation::Set) => {
                client.put(key, objects.value(number)).await.map(|_| ()).map_err(Into::into)
            }
            (Self::Redis(connection), Operation::Get) => {
                let mut command = redis::cmd("GET");
                command.arg(key.as_bytes());
                match connection.send_packed_command(&command).await? {
                    redis::Value::BulkString(value) => objects.check(number, &value),
                    other => bail!("a get of {key:?} was answered with {other:?}"),
                }
            }
            (Self::Redis(connection), Operation::Set) => {
                let mut command = redis::cmd("SET");
                command.arg(key.as_bytes()).arg(&objects.value(number)[..]);
                match connection.send_packed_command(&command).await? {
                    redis::Value::Okay => Ok(()),
                    other => bail!("a set of {key:?} was answered with {other:?}"),
                }
            }
        }
    }
}

/// The keys of a space and their values, made once.
#[derive(Debug)]
pub(super) struct Objects {
    space: KeySpace,
    keys: Vec<Key>,
    /// The values, one behind the other.
    values: Bytes,
}

impl Objects {
    pub(super) fn new(space: KeySpace) -> Result<Self> {
        let count = space.count();
        let keys = (0..count).map(|number| Key::new(space.key(number)));
        let keys = keys.collect::<cirrus_store::Result<_>>()?;
        let mut values = value_of(space).repeat(count as usize);
        for (number, value) in (0..count).zip(values.chunks_exact_mut(space.value_bytes)) {
            write_digits(number, value);
        }
        Ok(Self { space, keys, values: values.into() })
    }

    fn value(&self, number: u32) -> Bytes {
        let at = number as usize * self.space.value_bytes;
        self.values.slice(at..at + self.space.value_bytes)
    }

    /// Beside the number at its front every value is the same: the first one stays in the cache.
    fn check(&self, number: u32, value: &[u8]) -> Result<()> {
        let mut front = [0; 8];
        write_digits(number, &mut front);
        let is_right = value.len() == self.space.value_bytes
            && value[..8] == front
            && value[8..] == self.values[8..value.len()];
        ensure!(is_right, "the value of key {number} is not what was put");
        Ok(())
    }
}

/// Many callers of one library.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) server: u32,
    pub(super) runtime: Rc<Runtime>,
    pub(super) library: Library,
    pub(super) operation: Operation,
    pub(super) objects: Arc<Objects>,
    pub(super) callers: usize,
    pub(super) pace: Pace,
    pub(super) seed: u64,
}

impl Callers {
    /// Puts every object once.
    pub(super) fn fill(&self) -> Result<()> {
        self.runtime.block_on(async {
            let mut library = self.library.clone();
            for number in 0..self.objects.space.count() {
                library.run(Operation::Set, &self.objects, number).await?;
            }
            Ok(())
        })
    }

    async fn closed(&self, slice: Duration, latency: &Arc<Mutex<Latency>>) -> Result<u64> {
        let began = Instant::now();
        let mut callers = JoinSet::new();
        for caller in 0..self.callers as u64 {
            let (mut library, objects) = (self.library.clone(), self.objects.clone());
            let (operation, latency) = (self.operation, latency.clone());
            let mut keys = Keys::random(objects.space, self.seed ^ (caller << 32));
            callers.spawn(async move {
                let mut operations = 0;
                let mut now = Instant::now();
                while now - began < slice {
                    library.run(operation, &objects, keys.next()).await?;
                    let end = Instant::now();
                    record(&latency, end - now);
                    (now, operations) = (end, operations + 1);
                }
                anyhow::Ok(operations)
            });
        }
        let mut operations = 0;
        while let Some(caller) = callers.join_next().await {
            operations += caller.context("a caller")??;
        }
        Ok(operations)
    }

    async fn open(
        &self,
        interval: Duration,
        slice: Duration,
        latency: &Arc<Mutex<Latency>>,
    ) -> Result<u64> {
        let began = Instant::now();
        let end = began + slice;
        let mut schedule = Schedule::new(began, interval, self.seed);
        let mut keys = Keys::random(self.objects.space, self.seed);
        let mut in_flight = JoinSet::new();
        let in_flight_max = BEHIND_MAX.div_duration_f64(interval);
        let mut operations = 0;
        loop {
            let now = Instant::now();
            while let Some(due) = schedule.due(now.min(end)) {
                let (mut library, objects) = (self.library.clone(), self.objects.clone());
                let (operation, latency, number) = (self.operation, latency.clone(), keys.next());
                in_flight.spawn(async move {
                    library.run(operation, &objects, number).await?;
                    record(&latency, due.elapsed());
                    anyhow::Ok(())
                });
                operations += 1;
            }
            while let Some(ended) = in_flight.try_join_next() {
                ended.context("a request")??;
            }
            #[expect(clippy::cast_precision_loss, reason = "as many as fit into memory")]
            let is_behind = in_flight.len() as f64 > in_flight_max;
            ensure!(!is_behind, "the server does not keep up with a request every {interval:?}");
            if now >= end {
                break;
            }
            // Without sleeping: a timer's millisecond would be the largest part of what is measured.
            tokio::task::yield_now().await;
        }
        while let Some(ended) = in_flight.join_next().await {
            ended.context("a request")??;
        }
        Ok(operations)
    }
}

impl Side for Callers {
    fn server(&self) -> u32 {
        self.server
    }

    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work> {
        self.seed = self.seed.wrapping_add(1);
        let shared = Arc::new(Mutex::new(Latency::new()));
        let began = Instant::now();
        let operations = self.runtime.block_on(async {
            match self.pace {
                Pace::Closed => self.closed(slice, &shared).await,
                Pace::Open { interval } => self.open(interval, slice, &shared).await,
            }
        })?;
        let elapsed = began.elapsed();
        if let Ok(shared) = shared.lock() {
            latency.add(&shared);
        }
        Ok(Work { operations, elapsed })
    }
}

fn record(latency: &Mutex<Latency>, took: Duration) {
    latency.lock().expect("no caller panics while it holds it").record(took);
}
