//! Full load on a node that has far too little room, every byte checked.
//!
//! A value's bytes follow from its key and a number that no other put has, and a version is only
//! ever seen with one such number: any mix-up of keys, versions, blocks or buffers shows. At the
//! end everything is deleted and the node holds nothing: no byte, session, connection or task.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cirrus_store::{
    BlockingClient, ByteSize, Client, Condition, Error, Key, Kind, Object, PutOptions, Version,
};
use tokio::time::Instant;

use crate::history::unix_ms;
use crate::rig::{Node, Random, bytes, key, options, resident_bytes, until};

const KEYS: u64 = 300;

/// In front of a value: the key's number, the put's number, the value's length.
const HEAD_BYTES: usize = 24;

/// Versions that are remembered of each key.
const REMEMBERED: usize = 64;

/// A value for a key, of about `len` bytes.
fn value(key: u64, put: u64, len: usize) -> Bytes {
    let len = len.max(HEAD_BYTES);
    let mut value = Vec::with_capacity(len);
    for field in [key, put, len as u64] {
        value.extend_from_slice(&field.to_le_bytes());
    }
    value.extend_from_slice(&bytes(len - HEAD_BYTES, key.rotate_left(40) ^ put));
    value.into()
}

/// The number of the put that made this value; panics if it is not, byte for byte, one of `key`.
fn put_of(key: u64, bytes: &[u8]) -> u64 {
    let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (of_key, put, len) = (field(0), field(8), usize::try_from(field(16)).unwrap());
    assert_eq!(of_key, key, "a value of another key");
    assert_eq!(len, bytes.len(), "a value of another length");
    assert!(value(key, put, len) == bytes, "a value of put {put} with other bytes");
    put
}

/// What everybody knows: which put a version is of.
#[derive(Debug, Default)]
struct Seen {
    puts: AtomicU64,
    versions: Mutex<HashMap<u64, BTreeMap<Version, u64>>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Seen {
    fn fresh(&self) -> u64 {
        self.puts.fetch_add(1, Ordering::Relaxed)
    }

    fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    fn counted(&self, what: &str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    fn is(&self, key: u64, version: Version, put: u64) {
        let mut versions = self.versions.lock().unwrap();
        let of_key = versions.entry(key).or_default();
        let known = *of_key.entry(version).or_insert(put);
        assert_eq!(known, put, "key {key}: {version} is of two puts");
        if of_key.len() > REMEMBERED {
            of_key.pop_first();
        }
    }

    /// Errors that a full node may answer with.
    fn expected(&self, error: &Error) {
        match error.kind() {
            Kind::OutOfMemory => self.count("no room"),
            Kind::NotFound => self.count("not found"),
            kind => panic!("{kind:?}: {error}"),
        }
    }
}

struct Soaker {
    client: Client,
    seen: Arc<Seen>,
    random: Random,
    newest: HashMap<u64, Version>,
}

impl Soaker {
    fn key(&mut self) -> (u64, Key) {
        let number = self.random.below(KEYS);
        (number, name(number))
    }

    fn len(&mut self) -> usize {
        let max = match self.random.below(100) {
            0..60 => 4 << 10,
            60..90 => 64 << 10,
            90..98 => 400 << 10,
            _ => 3 << 20,
        };
        usize::try_from(self.random.below(max)).unwrap()
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..30 => self.put().await,
            30..70 => self.get().await,
            70..75 => self.range().await,
            75..80 => self.put_many().await,
            80..85 => self.get_many().await,
            85..90 => self.queue().await,
            90..92 => self.abandon().await,
            _ => self.delete().await,
        }
    }

    async fn put(&mut self) {
        let ((number, key), len, put) = (self.key(), self.len(), self.seen.fresh());
        let expires_at = match self.random.below(4) {
            0 => Some(unix_ms() + 1 + self.random.below(300)),
            _ => None,
        };
        let condition = match self.random.below(8) {
            0 => Condition::IfAbsent,
            _ => Condition::Always,
        };
        let options = PutOptions { condition, expires_at };
        match self.client.put_with(&key, value(number, put, len), options).await {
            Ok(version) => {
                self.seen.is(number, version, put);
                self.seen.count("put");
            }
            Err(error) if error.kind() == Kind::WrongVersion => {}
            Err(error) => {
                self.seen.expected(&error);
                self.make_room().await;
            }
        }
    }

    async fn make_room(&mut self) {
        for _ in 0..6 {
            self.delete().await;
        }
    }

    async fn delete(&mut self) {
        let (_, key) = self.key();
        match self.client.delete(&key).await {
            Ok(()) => self.seen.count("delete"),
            Err(error) => self.seen.expected(&error),
        }
    }

    fn got(&mut self, number: u64, object: &Object) {
        self.seen.is(number, object.version, put_of(number, &object.value));
        let newest = self.newest.entry(number).or_insert(object.version);
        assert!(*newest <= object.version, "key {number} went back in time");
        *newest = object.version;
        self.seen.count("get");
    }

    async fn get(&mut self) {
        let (number, key) = self.key();
        match self.client.get(&key).await {
            Ok(object) => self.got(number, &object),
            Err(error) => self.seen.expected(&error),
        }
    }

    /// A part of a value; what the whole is, its first bytes say.
    async fn range(&mut self) {
        let (number, key) = self.key();
        let part = match self.client.get_range(&key, 0, HEAD_BYTES as u64).await {
            Ok(part) => part,
            Err(error) => return self.seen.expected(&error),
        };
        let field = |at: usize| u64::from_le_bytes(part.value[at..at + 8].try_into().unwrap());
        assert_eq!(field(0), number, "a value of another key");
        let whole = value(number, field(8), usize::try_from(field(16)).unwrap());
        let (from, len) = (self.random.below(field(16)), self.random.below(100_000));
        match self.client.get_range(&key, from, len).await {
            Ok(later) if later.version == part.version => {
                let from = usize::try_from(from).unwrap();
                let to = whole.len().min(from + usize::try_from(len).unwrap());
                assert!(later.value == whole[from..to], "key {number}: other bytes in a range");
                self.seen.count("range");
            }
            Ok(later) => assert!(later.version > part.version),
            Err(error) => self.seen.expected(&error),
        }
    }

    async fn put_many(&mut self) {
        let mut objects = Vec::new();
        let mut puts = Vec::new();
        for _ in 0..20 {
            let ((number, key), len, put) = (self.key(), self.len(), self.seen.fresh());
            objects.push((key, value(number, put, len / 10)));
            puts.push((number, put));
        }
        let mut is_full = false;
        for ((number, put), result) in puts.into_iter().zip(self.client.put_many(objects).await) {
            match result {
                Ok(version) => self.seen.is(number, version, put),
                Err(error) => {
                    self.seen.expected(&error);
                    is_full = true;
                }
            }
        }
        if is_full {
            self.make_room().await;
        }
    }

    async fn get_many(&mut self) {
        let (numbers, keys): (Vec<u64>, Vec<Key>) = (0..20).map(|_| self.key()).unzip();
        for (number, object) in numbers.into_iter().zip(self.client.get_many(&keys).await) {
            match object {
                Ok(object) => self.got(number, &object),
                Err(error) => self.seen.expected(&error),
            }
        }
    }

    /// Queues hold values too, of keys of their own.
    async fn queue(&mut self) {
        let number = KEYS + self.random.below(4);
        if self.random.below(2) == 0 {
            let (len, put) = (self.len() / 4, self.seen.fresh());
            match self.client.push(&name(number), value(number, put, len), u64::MAX).await {
                Ok(_) => self.seen.count("push"),
                Err(error) => self.seen.expected(&error),
            }
        } else {
            match self.client.pop(&name(number)).await {
                Ok(item) => {
                    put_of(number, &item);
                    self.seen.count("pop");
                }
                Err(error) => self.seen.expected(&error),
            }
        }
    }

    /// A caller that leaves half way.
    async fn abandon(&mut self) {
        let ((number, key), put) = (self.key(), self.seen.fresh());
        let patience = Duration::from_micros(self.random.below(2000));
        let large = self.client.put(&key, value(number, put, 500_000));
        // Whatever came of it is seen by others.
        let _ = tokio::time::timeout(patience, large).await;
        let _ = tokio::time::timeout(patience, self.client.get(&key)).await;
        self.seen.count("abandoned");
    }
}

fn name(number: u64) -> Key {
    key(format!("soak/{number}"))
}

fn soak_blocking(mut client: BlockingClient, seen: &Seen, until: std::time::Instant) {
    let mut random = Random(99);
    while std::time::Instant::now() < until {
        let number = random.below(KEYS);
        if random.below(2) == 0 {
            let put = seen.fresh();
            let len = usize::try_from(random.below(100_000)).unwrap();
            match client.put(&name(number), value(number, put, len)) {
                Ok(version) => seen.is(number, version, put),
                Err(error) => seen.expected(&error),
            }
        } else {
            match client.get(&name(number)) {
                Ok(object) => seen.is(number, object.version, put_of(number, &object.value)),
                Err(error) => seen.expected(&error),
            }
        }
        seen.count("blocking");
    }
}

async fn soak(time: Duration) {
    let tasks_before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut options = options(ByteSize::mib(10));
    options.session_idle = Duration::from_millis(200);
    options.sweep_interval = Duration::from_millis(20);
    let node = Node::tcp(options).await;
    let capacity = node.handle.stats().capacity_bytes;
    let seen = Arc::new(Seen::default());
    let end = Instant::now() + time;
    let mut tasks = Vec::new();
    let clients: Vec<Client> = (0..3).map(|_| node.client()).collect();
    for (id, client) in (0_u64..).zip(&clients) {
        for caller in 0..2 {
            let mut soaker = Soaker {
                client: client.clone(),
                seen: seen.clone(),
                random: Random(id * 2 + caller),
                newest: HashMap::new(),
            };
            tasks.push(tokio::spawn(async move {
                while Instant::now() < end {
                    soaker.step().await;
                }
            }));
        }
    }
    let blocking = BlockingClient::new(&node.address, node.client_options());
    let (seen_too, handle) = (seen.clone(), node.handle.clone());
    tasks.push(tokio::task::spawn_blocking(move || soak_blocking(blocking, &seen_too, end.into())));
    let watched = tokio::spawn(async move {
        let mut most = 0;
        while Instant::now() < end {
            most = most.max(handle.stats().used_bytes);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (most, resident_bytes())
    });
    for task in tasks {
        task.await.unwrap();
    }
    for client in clients {
        client.close().await;
    }
    let (most, resident) = watched.await.unwrap();
    let counts = seen.counts.lock().unwrap().clone();
    eprintln!("{counts:?}; at most {most} of {capacity} bytes used, {resident} resident");
    // The results of writes may be kept beyond the capacity; there are few in flight.
    assert!(most <= capacity + (1 << 20), "{most} of {capacity} bytes used");
    assert!(most > capacity / 2, "only {most} bytes used: no pressure");
    for what in ["no room", "put", "get", "range", "push", "pop", "delete", "blocking"] {
        assert!(seen.counted(what) > 20, "{what}: {counts:?}");
    }
    emptied(&node).await;
    node.stop().await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    until("every task has ended", || alive() <= tasks_before).await;
}

/// Deletes everything and waits until nothing is left of anybody.
async fn emptied(node: &Node) {
    let client = node.client();
    let keys: Vec<Key> = client.list(b"").await.unwrap().into_iter().map(|item| item.key).collect();
    for (key, deleted) in keys.iter().zip(client.delete_many(&keys).await) {
        let is_gone = deleted.as_ref().err().is_none_or(|error| error.kind() == Kind::NotFound);
        assert!(is_gone, "{key}: {deleted:?}");
    }
    client.close().await;
    until("every connection has ended", || node.handle.stats().connections == 0).await;
    until("every session is forgotten", || node.handle.stats().sessions == 0).await;
    until("every byte is given back", || node.used_bytes() == 0).await;
    assert_eq!(node.handle.stats().objects, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_memory_pressure_nothing_is_mixed_up_or_leaks() {
    soak(Duration::from_secs(6)).await;
}

/// Ten minutes, or as long as CIRRUS_SOAK_SECONDS says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make accept"]
async fn under_memory_pressure_for_ten_minutes() {
    let seconds = std::env::var("CIRRUS_SOAK_SECONDS");
    let seconds = seconds.map_or(600, |text| text.parse().unwrap());
    soak(Duration::from_secs(seconds)).await;
}
