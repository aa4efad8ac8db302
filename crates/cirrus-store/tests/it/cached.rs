//! A cache over every kind of node: the same checks over TCP, over shared memory and over the simulated
//! link, in memory and on a disk, with every policy and every freshness.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cirrus_store::cache::evict::{Clairvoyant, Fifo, Lfu, Lru, Random, S3Fifo, Sieve};
use cirrus_store::cache::prefetch::{Ordered, Sequential as Ahead, Strided as Steps};
use cirrus_store::cache::{Cache, CacheOptions, Evict, Freshness, Prefetch, Trace};
use cirrus_store::iter::{
    Announced, EpochSeed, Epochs, Listed, Order, Records, RecordsOptions, Sequential, Share,
    Shuffled, Strided, Weighted, Windowed, open_set,
};
use cirrus_store::set::{Manifest, Set, SetName, pack};
use cirrus_store::{ByteSize, Client, ClientOptions, Condition, Key, Kind, PutOptions, Version};

use crate::rig::{Node, bytes, key, options, quiet, with_disk};
use crate::store::over_every_link;

over_every_link! {
    every_policy_hands_out_what_the_node_has,
    writes_arrive_whichever_way_they_go,
    what_is_changed_behind_a_cache_is_seen,
    a_dropped_cache_leaves_its_writes_to_the_client,
    records_come_through_a_cache_in_every_order,
    readers_of_an_announced_order_go_on_in_another_number,
}

const FRESHNESS: [Freshness; 3] = [
    Freshness::Immutable,
    Freshness::VersionCheck,
    Freshness::TimeToLive(Duration::from_secs(600)),
];

fn names() -> Vec<Key> {
    (0..60).map(|n| key(format!("cached/{n}"))).collect()
}

fn policies(keys: &[Key]) -> Vec<Box<dyn Evict>> {
    vec![
        Box::new(Lru::new()),
        Box::new(Fifo::new()),
        Box::new(Random::new(1)),
        Box::new(Sieve::new()),
        Box::new(S3Fifo::new()),
        Box::new(Lfu::new()),
        Box::new(Clairvoyant::new(Arc::new(Trace::new(keys.iter().cloned())))),
    ]
}

fn cached(client: &Client, evict: Box<dyn Evict>, freshness: Freshness) -> Cache<Client> {
    let mut options = CacheOptions::default();
    options.evict = evict;
    options.freshness = freshness;
    options.dirty_size = ByteSize::mib(2);
    Cache::new(client.clone(), ByteSize::mib(6), options)
}

/// Small values and large ones: those of a node of the same host lie in its memory.
fn value(n: usize) -> Bytes {
    bytes(if n % 7 == 3 { 300_000 + n } else { n * 37 }, n as u64).into()
}

async fn every_policy_hands_out_what_the_node_has(client: Client) {
    let keys = names();
    for (n, key) in keys.iter().enumerate() {
        client.put(key, value(n)).await.unwrap();
    }
    for freshness in FRESHNESS {
        for evict in policies(&keys) {
            let name = evict.name();
            let cache = cached(&client, evict, freshness);
            // Not all of them at once: what was read comes and goes.
            for some in keys.chunks(20).chain(keys.chunks(12)) {
                for (key, answer) in some.iter().zip(cache.get_many(some).await) {
                    let n = keys.iter().position(|other| other == key).unwrap();
                    assert!(answer.unwrap().value == value(n), "{name}, {freshness:?}: {key:?}");
                }
            }
            for (n, key) in keys.iter().enumerate().step_by(3) {
                assert!(cache.get(key).await.unwrap().value == value(n), "{name}");
                let (from, to) = (value(n).len() / 3, value(n).len() / 2);
                let range = cache.get_range(key, from as u64, (to - from) as u64).await.unwrap();
                assert!(range.value == value(n).slice(from..to), "{name}: {key:?}");
            }
            let absent = cache.get_many(&[key("absent"), keys[1].clone()]).await;
            assert_eq!(absent[0].as_ref().unwrap_err().kind(), Kind::NotFound);
            assert!(absent[1].as_ref().unwrap().value == value(1));
            let counters = cache.counters();
            assert_eq!(counters.hits + counters.misses, 120 + 40 + 2, "{name}: {counters:?}");
            assert!(counters.hits > 0 && counters.bytes <= 6 << 20, "{name}: {counters:?}");
            cache.close().await;
        }
    }
}

async fn writes_arrive_whichever_way_they_go(client: Client) {
    for freshness in FRESHNESS {
        let cache = cached(&client, Box::new(Lru::new()), freshness);
        for (n, key) in names().iter().enumerate() {
            let version = cache.put(key, value(n)).await.unwrap();
            assert_eq!(client.get(key).await.unwrap().version, version);
            cache.put_back(key, value(n + 1)).await.unwrap();
            assert!(cache.get(key).await.unwrap().value == value(n + 1));
        }
        cache.flush().await.unwrap();
        for (n, key) in names().iter().enumerate() {
            let stored = client.get(key).await.unwrap();
            let held = cache.get(key).await.unwrap();
            assert!(stored.value == value(n + 1) && held.value == value(n + 1), "{key:?}");
            assert_eq!(stored.version, held.version);
        }
        let (counter, name) = (key("cached/sum"), &names()[5]);
        cache.put_back(&counter, "40".into()).await.unwrap();
        let add = cache.source().add(&counter, 2);
        assert_eq!(cache.write_with(&counter, add).await.unwrap(), 42);
        assert_eq!(cache.get(&counter).await.unwrap().value, "42");
        let queue = key("cached/queue");
        for (number, item) in (1..).zip(["a", "b", "c"]) {
            let push = cache.source().push(&queue, item, 1 << 20);
            assert_eq!(cache.write_with(&queue, push).await.unwrap(), number);
        }
        assert_eq!(cache.get(&queue).await.unwrap_err().kind(), Kind::WrongType);
        for item in ["a", "b", "c"] {
            let pop = cache.source().pop(&queue);
            assert_eq!(cache.write_with(&queue, pop).await.unwrap(), item, "{freshness:?}");
        }
        let pop = cache.write_with(&queue, cache.source().pop(&queue)).await;
        assert_eq!(pop.unwrap_err().kind(), Kind::NotFound);
        let absent = PutOptions { condition: Condition::IfAbsent, ..PutOptions::default() };
        let again = cache.source().put_with(name, "x", absent);
        assert_eq!(cache.write_with(name, again).await.unwrap_err().kind(), Kind::WrongVersion);
        for name in [name, &counter] {
            cache.delete(name).await.unwrap();
            for error in [cache.get(name).await.unwrap_err(), client.get(name).await.unwrap_err()] {
                assert_eq!(error.kind(), Kind::NotFound);
            }
        }
        cache.close().await;
    }
}

async fn what_is_changed_behind_a_cache_is_seen(client: Client) {
    let (a, ab, b) = (key("x/a"), key("x/ab"), key("y/b"));
    for freshness in FRESHNESS {
        let cache = cached(&client, Box::new(S3Fifo::new()), freshness);
        let is_checked = freshness == Freshness::VersionCheck;
        for round in ["first", "second", "third"] {
            for key in [&a, &ab, &b] {
                client.put(key, round).await.unwrap();
            }
            cache.invalidate_prefix(b"x/");
            for key in [&a, &ab] {
                assert_eq!(cache.get(key).await.unwrap().value, round);
            }
            let expected = if is_checked { round } else { "first" };
            assert_eq!(cache.get(&b).await.unwrap().value, expected, "{freshness:?}");
        }
        cache.close().await;
    }
}

async fn a_dropped_cache_leaves_its_writes_to_the_client(client: Client) {
    let cache = cached(&client, Box::new(Lru::new()), Freshness::Immutable);
    for (n, key) in names().iter().enumerate() {
        cache.put_back(key, value(n)).await.unwrap();
    }
    drop(cache);
    for (n, key) in names().iter().enumerate() {
        client.wait(key, Version(0), Duration::from_secs(30)).await.unwrap();
        assert!(client.get(key).await.unwrap().value == value(n), "{key:?}");
    }
    assert!(client.close().await.is_empty());
}

const PACKING: u32 = 16;

fn record(index: u64) -> Vec<u8> {
    bytes(usize::try_from(index % 90).unwrap(), index)
}

/// A set of 500 records.
async fn filled(client: &Client) -> Set {
    let (name, indexes) = (SetName::new("s").unwrap(), (0..500).collect::<Vec<u64>>());
    for (object, some) in (0..).zip(indexes.chunks(PACKING as usize)) {
        let records: Vec<_> = some.iter().map(|index| record(*index)).collect();
        client.put(&name.object_key(object), pack(&records).unwrap()).await.unwrap();
    }
    let manifest = Manifest::empty().with_count(500).with_packing(PACKING).unwrap().sealed();
    client.put(&name.manifest_key(), manifest.to_bytes()).await.unwrap();
    open_set(client, name).await.unwrap()
}

async fn records_come_through_a_cache_in_every_order(client: Client) {
    let set = filled(&client).await;
    let objects = set.manifest().objects();
    let keys: Vec<Key> = (0..objects).map(|object| set.name().object_key(object)).collect();
    let orders = orders(set.manifest());
    for (number, (order, evict)) in orders
        .iter()
        .flat_map(|order| policies(&keys).into_iter().map(move |evict| (order, evict)))
        .enumerate()
    {
        let name = evict.name();
        // There are seven policies: each meets both ways to fetch early, and each order does.
        let ahead: Box<dyn Prefetch> = match number % 2 {
            0 => Box::new(Ahead::new(set.name().clone(), objects)),
            _ => Box::new(Steps::new(set.name().clone(), objects)),
        };
        let mut options = CacheOptions::default();
        options.freshness = Freshness::Immutable;
        options.evict = evict;
        options.prefetch = Some(ahead);
        let cache = Arc::new(Cache::new(client.clone(), ByteSize::kib(24), options));
        let opened = open_set(&*cache, set.name().clone()).await.unwrap();
        let (all, ahead) = (0..order.len(), RecordsOptions::default());
        let mut records = Records::new(Arc::clone(&cache), opened, Arc::clone(order), all, ahead);
        for position in 0..order.len() {
            let got = records.next().await.unwrap().unwrap();
            assert_eq!(
                (got.position, got.index),
                (position, order.record(position).unwrap()),
                "{name}"
            );
            assert!(got.bytes == record(got.index), "{name}: record {}", got.index);
        }
        assert!(records.next().await.is_none());
        cache.close().await;
    }
}

/// Two readers, then three, each with a cache that has been told its part of the order.
async fn readers_of_an_announced_order_go_on_in_another_number(client: Client) {
    let set = filled(&client).await;
    for order in orders(set.manifest()) {
        let (mut read, mut state) = (0, None);
        for (of, until) in [(2, order.len() / 32 * 16), (3, order.len())] {
            let reader = |rank| {
                let share = Share::new(rank, of, 16).unwrap();
                let announced = Announced::new(set.clone(), order.clone(), share);
                let mut options = CacheOptions::default();
                options.freshness = Freshness::Immutable;
                options.evict = Box::new(Clairvoyant::new(announced.clone()));
                options.prefetch = Some(Box::new(Ordered::new(announced.clone())));
                let cache = Arc::new(Cache::new(client.clone(), ByteSize::kib(24), options));
                let (set, order, ahead) = (set.clone(), order.clone(), RecordsOptions::default());
                let records = match &state {
                    None => Records::of_share(cache, set, order, share, ahead),
                    Some(state) => Records::resume(cache, set, order, share, state, ahead).unwrap(),
                };
                records.announced(announced)
            };
            let mut readers: Vec<_> = (0..of).map(reader).collect();
            while read < until {
                let end = (read / 16 * 16 + 16).min(order.len());
                for records in &mut readers {
                    while records.position() < end {
                        let got = records.next().await.unwrap().unwrap();
                        let expected = order.record(read).unwrap();
                        assert_eq!((got.position, got.index), (read, expected), "{order:?}");
                        assert!(got.bytes == record(expected), "{order:?}: record {expected}");
                        read += 1;
                    }
                }
            }
            state = Some(readers[0].state());
        }
        assert_eq!(read, order.len());
    }
}

/// A user's: the last record first, and no more than that is known of it.
#[derive(Debug)]
struct Backwards(u64);

impl Order for Backwards {
    fn len(&self) -> u64 {
        self.0
    }

    fn record(&self, position: u64) -> Option<u64> {
        self.0.checked_sub(position + 1)
    }
}

/// One of each kind, and a user's.
fn orders(manifest: &Manifest) -> Vec<Arc<dyn Order>> {
    let (count, set) = (manifest.count(), *manifest);
    let seed = EpochSeed { seed: 7, epoch: 1 };
    let weights: Vec<f64> = (0..count).map(|record| (record % 10) as f64).collect();
    let windowed = move |epoch| -> Arc<dyn Order> {
        Arc::new(Windowed::new(EpochSeed { seed: 7, epoch }, &set, 4))
    };
    vec![
        Arc::new(Sequential::new(count)),
        Arc::new(Strided::new(count, 7).unwrap()),
        Arc::new(Shuffled::new(seed, count)),
        windowed(1),
        Arc::new(Weighted::new(seed, &weights, 300).unwrap()),
        Arc::new(Listed::new([3, 499, 3, 0, 77])),
        Arc::new(Epochs::new(2, windowed)),
        Arc::new(Backwards(count)),
    ]
}

/// A client that is closed says which of the values of caches that are gone have no home.
#[tokio::test]
async fn closing_a_client_reports_what_could_not_be_written() {
    let node = Node::tcp(options(ByteSize::mib(16))).await;
    let mut options: ClientOptions = node.client_options();
    options.request_timeout = Duration::from_millis(300);
    let client = Client::new(&node.address, options);
    node.stop().await;
    let cache = cached(&client, Box::new(Lru::new()), Freshness::Immutable);
    cache.put_back(&key("a"), "1".into()).await.unwrap();
    drop(cache);
    let unwritten = client.close().await;
    assert_eq!(unwritten.len(), 1);
    assert_eq!((&unwritten[0].key, &unwritten[0].value[..]), (&key("a"), &b"1"[..]));
    assert_eq!(unwritten[0].error.kind(), Kind::Timeout, "{}", unwritten[0].error);
    assert!(client.close().await.is_empty());
}
