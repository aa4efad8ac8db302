//! What every store does: the same checks over TCP, over shared memory and over the simulated link, in
//! memory and on a disk.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cirrus_store::{
    BLOCK_BYTES, BlockingClient, ByteSize, Client, Condition, Kind, PutOptions, SLOTS, Version,
};
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::rig::{Node, bytes, key, options, quiet, with_disk};

macro_rules! over_every_link {
    ($($check:ident),* $(,)?) => {
        mod tcp {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let node = Node::tcp(options(ByteSize::mib(256))).await;
                super::$check(node.client()).await;
                node.stop().await;
            })*
        }
        mod shm {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let node = Node::shm(options(ByteSize::mib(256))).await;
                super::$check(node.client()).await;
                node.stop().await;
            })*
        }
        mod shm_verified {
            use super::*;
            $(#[tokio::test]
            async fn $check() {
                let node = Node::shm(options(ByteSize::mib(256))).await;
                let mut options = node.client_options();
                options.verifies_mapped = true;
                super::$check(Client::new(&node.address, options)).await;
                node.stop().await;
            })*
        }
        mod loops {
            use super::*;
            $(#[tokio::test]
            async fn $check() {
                let mut options = options(ByteSize::mib(256));
                options.threads = 3;
                let node = Node::tcp(options).await;
                super::$check(node.client()).await;
                node.stop().await;
            })*
        }
        mod storage {
            use super::*;
            $(#[tokio::test]
            async fn $check() {
                // Less memory than what is stored, so that values come and go.
                let node = Node::tcp(with_disk(options(ByteSize::mib(48)), true)).await;
                super::$check(node.client()).await;
                node.stop().await;
            })*
        }
        mod spill {
            use super::*;
            $(#[tokio::test]
            async fn $check() {
                let node = Node::tcp(with_disk(options(ByteSize::mib(48)), false)).await;
                super::$check(node.client()).await;
                node.stop().await;
            })*
        }
        mod sim {
            use super::*;
            $(#[tokio::test]
            async fn $check() {
                let node = Node::sim(&quiet(), "node", options(ByteSize::mib(256)));
                super::$check(node.client()).await;
                node.stop().await;
            })*
        }
    };
}

pub(crate) use over_every_link;

over_every_link! {
    values_come_back_as_they_were_put,
    ranges_are_the_bytes_they_name,
    versions_only_grow,
    conditions_hold,
    newer_is_newer,
    objects_end_when_they_should,
    batches_answer_each_item,
    scans_return_each_stable_name_once,
    waits_end_when_the_key_comes,
    integers_add_up,
    queues_keep_their_order_and_bound,
    small_gets_pass_large_ones,
    ten_thousand_requests_are_in_flight,
    keys_are_any_bytes,
    a_closed_client_says_so,
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

async fn values_come_back_as_they_were_put(client: Client) {
    let block = BLOCK_BYTES;
    let lens = [0, 1, 4095, 16_380, 16_384, 16_385, block - 1, block, block + 1, 3 * block];
    for (seed, len) in (0..).zip(lens.into_iter().chain([1 << 20, 20 << 20])) {
        let (name, value) = (key(format!("v/{len}")), Bytes::from(bytes(len, seed)));
        let version = client.put(&name, value.clone()).await.unwrap();
        let object = client.get(&name).await.unwrap();
        assert_eq!((object.version, object.expires_at), (version, None));
        assert!(object.value == value, "{len} bytes came back as others");
        let stat = client.stat(&name).await.unwrap();
        assert_eq!((stat.version, stat.size), (version, len as u64));
        client.delete(&name).await.unwrap();
        for error in [
            client.get(&name).await.unwrap_err(),
            client.delete(&name).await.unwrap_err(),
            client.stat(&name).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::NotFound);
            assert!(error.to_string().contains(&format!("v/{len}")), "{error}");
        }
    }
}

async fn ranges_are_the_bytes_they_name(client: Client) {
    let block = BLOCK_BYTES as u64;
    let value = bytes(5 * BLOCK_BYTES + 77, 3);
    let (name, size) = (key("long"), value.len() as u64);
    client.put(&name, value.clone()).await.unwrap();
    let edges =
        [0, 1, block - 1, block, block + 1, 2 * block, 3 * block - 5, size - 1, size, size + 9];
    for from in edges {
        for len in [0, 1, 5, block - 1, block, block + 1, 2 * block, size, u64::MAX] {
            let object = client.get_range(&name, from, len).await.unwrap();
            let start = usize::try_from(from.min(size)).unwrap();
            let end = usize::try_from(from.saturating_add(len).min(size)).unwrap().max(start);
            assert!(object.value == value[start..end], "bytes {from}+{len}");
        }
    }
    client.put(&name, "").await.unwrap();
    assert!(client.get_range(&name, 0, 10).await.unwrap().value.is_empty());
    let error = client.get_range(&key("none"), 0, 1).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

async fn versions_only_grow(client: Client) {
    let name = key("k");
    let mut last = Version(0);
    for round in 0..20 {
        let version = client.put(&name, format!("{round}")).await.unwrap();
        assert!(version > last);
        last = version;
        if round % 3 == 0 {
            client.delete(&name).await.unwrap();
        }
    }
}

async fn conditions_hold(client: Client) {
    let name = key("k");
    let only_if = |condition| PutOptions { condition, expires_at: None };
    let first = client.put_with(&name, "a", only_if(Condition::IfAbsent)).await.unwrap();
    let error = client.put_with(&name, "b", only_if(Condition::IfAbsent)).await.unwrap_err();
    assert_eq!((error.kind(), error.detail()), (Kind::WrongVersion, first.0));
    let second = client.put_with(&name, "b", only_if(Condition::IfVersion(first))).await.unwrap();
    let error = client.put_with(&name, "c", only_if(Condition::IfVersion(first))).await;
    assert_eq!(error.unwrap_err().detail(), second.0);
    let error = client.delete_with(&name, Condition::IfVersion(first)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongVersion);
    assert_eq!(&client.get(&name).await.unwrap().value[..], b"b");
    client.delete_with(&name, Condition::IfVersion(second)).await.unwrap();
    let error = client.put_with(&name, "d", only_if(Condition::IfVersion(second))).await;
    assert_eq!((error.as_ref().unwrap_err().detail()), 0, "{error:?}");
    // Among many who want to be the first, one is.
    let tries =
        (0..50).map(|n| client.put_with(&name, format!("{n}"), only_if(Condition::IfAbsent)));
    let won = join_all(tries).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
}

async fn newer_is_newer(client: Client) {
    let name = key("k");
    let error = client.get_if_newer(&name, Version(0)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let version = client.put(&name, bytes(200_000, 1)).await.unwrap();
    assert_eq!(client.get_if_newer(&name, version).await.unwrap(), None);
    let object = client.get_if_newer(&name, Version(version.0 - 1)).await.unwrap().unwrap();
    assert_eq!((object.version, object.value.len()), (version, 200_000));
}

async fn objects_end_when_they_should(client: Client) {
    let (soon, late, past) = (key("soon"), key("late"), key("past"));
    let at = |expires_at| PutOptions { condition: Condition::Always, expires_at: Some(expires_at) };
    let end = unix_ms() + 300;
    client.put_with(&soon, "v", at(end)).await.unwrap();
    client.put_with(&late, "v", at(end + 600_000)).await.unwrap();
    client.put_with(&past, "v", at(1)).await.unwrap();
    assert_eq!(client.get(&past).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(client.push(&past, "item", 100).await.unwrap(), 1, "what has ended is in no way");
    while let Ok(object) = client.get(&soon).await {
        assert_eq!(object.expires_at, Some(end));
        assert!(unix_ms() < end + 10_000, "it does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(unix_ms() >= end, "it ended too soon");
    assert_eq!(client.get(&late).await.unwrap().expires_at, Some(end + 600_000));
    let absent = PutOptions { condition: Condition::IfAbsent, expires_at: None };
    client.put_with(&soon, "again", absent).await.unwrap();
    // An add keeps the end that the integer has.
    client.put_with(&key("n"), "5", at(end + 600_000)).await.unwrap();
    client.add(&key("n"), 1).await.unwrap();
    assert_eq!(client.stat(&key("n")).await.unwrap().expires_at, Some(end + 600_000));
}

async fn batches_answer_each_item(client: Client) {
    let names: Vec<_> = (0..1500).map(|n| key(format!("many/{n}"))).collect();
    let value =
        |n: usize| Bytes::from(bytes(if n.is_multiple_of(100) { 300_000 } else { n }, n as u64));
    let objects = names.iter().enumerate().map(|(n, name)| (name.clone(), value(n))).collect();
    let versions = client.put_many(objects).await;
    let versions: Vec<_> = versions.into_iter().map(Result::unwrap).collect();
    for name in names.iter().step_by(7) {
        client.delete(name).await.unwrap();
    }
    client.push(&names[0], "item", 100).await.unwrap();
    for (n, object) in client.get_many(&names).await.into_iter().enumerate() {
        match (n, n % 7) {
            (0, _) => assert_eq!(object.unwrap_err().kind(), Kind::WrongType),
            (_, 0) => assert_eq!(object.unwrap_err().kind(), Kind::NotFound, "item {n}"),
            (..) => {
                let object = object.unwrap();
                assert!(object.value == value(n) && object.version == versions[n], "item {n}");
            }
        }
    }
    let deleted = client.delete_many(&names).await;
    let failed = deleted.iter().filter(|deleted| deleted.is_err()).count();
    assert_eq!(failed, 1500_usize.div_ceil(7) - 1);
    assert!(client.get_many(&[]).await.is_empty());
    assert!(client.list(b"").await.unwrap().is_empty());
    // More bytes than an answer takes: the rest is asked for one by one.
    let large: Vec<_> = (0..24).map(|n| key(format!("large/{n}"))).collect();
    let value = Bytes::from(bytes(1 << 20, 9));
    for put in
        client.put_many(large.iter().map(|name| (name.clone(), value.clone())).collect()).await
    {
        put.unwrap();
    }
    for object in client.get_many(&large).await {
        assert!(object.unwrap().value == value);
    }
}

async fn scans_return_each_stable_name_once(client: Client) {
    // Half of them in one slot, so that pages end inside a shard.
    let name =
        |n: u32| if n.is_multiple_of(2) { format!("s/{n}") } else { format!("s/{{tag}}/{n}") };
    let stable: Vec<_> = (0..2000).map(|n| key(name(n))).collect();
    for put in client.put_many(stable.iter().map(|k| (k.clone(), k.to_bytes())).collect()).await {
        put.unwrap();
    }
    client.put(&key("other"), "v").await.unwrap();
    client.push(&key("s/queue"), "item", 10).await.unwrap();
    let writer = client.clone();
    let noise = tokio::spawn(async move {
        for n in 0_u32.. {
            let name = key(format!("s/noise/{}", n % 97));
            let put = writer.put(&name, "v").await.map(|_| ());
            if put.is_err() || writer.delete(&name).await.is_err() {
                break;
            }
        }
    });
    for limit in [1, 3, 100, 100_000] {
        let mut seen = BTreeMap::new();
        let mut from = (0, 0);
        // A scan one by one takes long; a few of its pages tell enough.
        let mut pages = if limit == 1 { 200 } else { u32::MAX };
        while from.0 < SLOTS && pages > 0 {
            let page = client.scan(b"s/", from, limit).await.unwrap();
            assert!(page.next > from, "a scan that does not go on");
            (from, pages) = (page.next, pages - 1);
            for item in page.items {
                *seen.entry(item.key.to_bytes()).or_insert(0) += 1;
                assert_eq!(item.queue, item.key == key("s/queue"));
            }
        }
        assert!(!seen.contains_key(&b"other"[..]));
        for name in &stable {
            let times = seen.get(name.as_bytes()).copied().unwrap_or(0);
            assert!(times == 1 || (limit == 1 && times == 0), "{name} came {times} times");
        }
    }
    noise.abort();
    assert!(client.list(b"no such prefix").await.unwrap().is_empty());
}

async fn waits_end_when_the_key_comes(client: Client) {
    let name = key("k");
    let long = Duration::from_secs(60);
    let error = client.wait(&name, Version(0), Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    let waiters = (0..20).map(|_| {
        let (client, name) = (client.clone(), name.clone());
        tokio::spawn(async move { client.wait(&name, Version(0), long).await })
    });
    let waiters: Vec<_> = waiters.collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let first = client.put(&name, "v").await.unwrap();
    for waiter in waiters {
        assert!(waiter.await.unwrap().unwrap().version >= first);
    }
    assert_eq!(client.wait(&name, Version(0), long).await.unwrap().version, first);
    let (waiter, second) =
        tokio::join!(client.wait(&name, first, long), client.put(&name, "another"));
    assert_eq!(waiter.unwrap().version, second.unwrap());
    let queue = key("queue");
    let (waiter, pushed) =
        tokio::join!(client.wait(&queue, Version(0), long), client.push(&queue, "item", 10));
    assert_eq!((waiter.unwrap().size, pushed.unwrap()), (4, 1));
    let number = key("n");
    let (waiter, sum) =
        tokio::join!(client.wait(&number, Version(0), long), client.add(&number, 3));
    assert_eq!((waiter.unwrap().size, sum.unwrap()), (1, 3));
    // Waits left behind are in nobody's way.
    for _ in 0..5000 {
        let _ = client.wait(&name, Version(u64::MAX), long).now_or_never();
    }
    client.get(&name).await.unwrap();
}

async fn integers_add_up(client: Client) {
    let name = key("n");
    assert_eq!(client.add(&name, 5).await.unwrap(), 5);
    assert_eq!(client.add(&name, -7).await.unwrap(), -2);
    assert_eq!(&client.get(&name).await.unwrap().value[..], b"-2");
    client.put(&name, i64::MAX.to_string()).await.unwrap();
    assert_eq!(client.add(&name, 1).await.unwrap_err().kind(), Kind::TooLarge);
    assert_eq!(client.add(&name, -1).await.unwrap(), i64::MAX - 1);
    client.put(&name, "not a number").await.unwrap();
    assert_eq!(client.add(&name, 1).await.unwrap_err().kind(), Kind::WrongType);
    assert_eq!(client.pop(&name).await.unwrap_err().kind(), Kind::WrongType);
    assert_eq!(client.push(&name, "item", 10).await.unwrap_err().kind(), Kind::WrongType);
    let sum = key("sum");
    let sums = join_all((1..=500).map(|n| client.add(&sum, n))).await;
    sums.into_iter().for_each(|sum| assert!(sum.is_ok(), "{sum:?}"));
    assert_eq!(client.add(&sum, 0).await.unwrap(), 500 * 501 / 2);
}

async fn queues_keep_their_order_and_bound(client: Client) {
    let name = key("q");
    assert_eq!(client.pop(&name).await.unwrap_err().kind(), Kind::NotFound);
    for n in 0..100_u64 {
        assert_eq!(client.push(&name, n.to_string(), 1 << 20).await.unwrap(), n + 1);
    }
    assert_eq!(client.get(&name).await.unwrap_err().kind(), Kind::WrongType);
    assert_eq!(client.add(&name, 1).await.unwrap_err().kind(), Kind::WrongType);
    assert_eq!(client.stat(&name).await.unwrap().size, 10 + 2 * 90);
    for n in 0..100_u64 {
        assert_eq!(client.pop(&name).await.unwrap(), n.to_string());
    }
    assert_eq!(client.pop(&name).await.unwrap_err().kind(), Kind::NotFound);
    // A full queue makes the pusher wait until an item leaves; an empty one takes anything.
    let large = Bytes::from(bytes(300_000, 4));
    client.push(&name, large.clone(), 1000).await.unwrap();
    let (pusher, other) = (client.clone(), name.clone());
    let waiting = tokio::spawn(async move { pusher.push(&other, "next", 1000).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    assert!(client.pop(&name).await.unwrap() == large);
    waiting.await.unwrap().unwrap();
    assert_eq!(client.pop(&name).await.unwrap(), "next");
    client.push(&name, "", 10).await.unwrap();
    assert_eq!(client.pop(&name).await.unwrap(), "");
    client.push(&name, "left", 10).await.unwrap();
    client.delete(&name).await.unwrap();
    assert_eq!(client.pop(&name).await.unwrap_err().kind(), Kind::NotFound);
}

async fn small_gets_pass_large_ones(client: Client) {
    let value = Bytes::from(bytes(8 << 20, 5));
    client.put(&key("large"), value.clone()).await.unwrap();
    client.put(&key("small"), "v").await.unwrap();
    let large = (0..8).map(|n| {
        let (client, value) = (client.clone(), value.clone());
        tokio::spawn(async move {
            for _ in 0..3 {
                assert!(client.get(&key("large")).await.unwrap().value == value);
                client.put(&key(format!("large/{n}")), value.clone()).await.unwrap();
            }
        })
    });
    let large: Vec<_> = large.collect();
    let mut small = 0;
    while !large.iter().all(tokio::task::JoinHandle::is_finished) {
        assert_eq!(client.get(&key("small")).await.unwrap().value, "v");
        small += 1;
    }
    for task in large {
        task.await.unwrap();
    }
    assert!(small > 8, "only {small} small gets beside 24 large ones");
}

async fn ten_thousand_requests_are_in_flight(client: Client) {
    let puts = (0..10_000).map(|n| {
        let client = &client;
        async move { client.put(&key(format!("k/{n}")), n.to_string()).await }
    });
    join_all(puts).await.into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
    let gets = (0..10_000).map(|n| {
        let client = &client;
        async move { client.get(&key(format!("k/{n}"))).await.unwrap().value == n.to_string() }
    });
    assert!(join_all(gets).await.into_iter().all(|same| same));
    assert_eq!(client.list(b"k/").await.unwrap().len(), 10_000);
}

async fn keys_are_any_bytes(client: Client) {
    let mut names: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    names.extend([b"\r\n".to_vec(), b"{}".to_vec(), b"{a}{b}".to_vec(), vec![0; 1024]]);
    let names: Vec<_> =
        names.into_iter().map(|name| cirrus_store::Key::new(name).unwrap()).collect();
    for name in &names {
        client.put(name, name.to_bytes()).await.unwrap();
    }
    for name in &names {
        assert_eq!(client.get(name).await.unwrap().value, name.to_bytes());
    }
    assert_eq!(client.list(b"").await.unwrap().len(), names.len());
    assert_eq!(client.list(b"{").await.unwrap().len(), 3);
}

async fn a_closed_client_says_so(client: Client) {
    client.put(&key("k"), "v").await.unwrap();
    let other = client.clone();
    let waiting = tokio::spawn(async move {
        other.wait(&key("never"), Version(0), Duration::from_secs(60)).await
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.close().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), Kind::Closed);
    assert_eq!(client.get(&key("k")).await.unwrap_err().kind(), Kind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blocking_client_does_the_same() {
    let node = Node::tcp(options(ByteSize::mib(256))).await;
    let (address, others) = (node.address.clone(), node.client());
    let blocking = tokio::task::spawn_blocking(move || blocking(&address));
    blocking.await.unwrap();
    assert_eq!(others.get(&key("b/k")).await.unwrap().value, "v");
    node.stop().await;
}

fn blocking(address: &str) {
    let mut client = BlockingClient::new(address, cirrus_store::ClientOptions::default());
    for (seed, len) in (0..).zip([0, 1, 16_384, 65_536, 65_537, 1 << 20, 20 << 20]) {
        let (name, value) = (key("b/k"), Bytes::from(bytes(len, seed)));
        let version = client.put(&name, value.clone()).unwrap();
        let object = client.get(&name).unwrap();
        assert!(object.value == value && object.version == version, "{len} bytes");
        assert_eq!(client.stat(&name).unwrap().size, len as u64);
        let part = client.get_range(&name, 65_530, 100).unwrap().value;
        assert!(part == value[len.min(65_530)..len.min(65_630)]);
        client.delete(&name).unwrap();
        assert_eq!(client.get(&name).unwrap_err().kind(), Kind::NotFound);
    }
    let absent = PutOptions { condition: Condition::IfAbsent, expires_at: None };
    client.put_with(&key("b/k"), "v", absent).unwrap();
    let error = client.put_with(&key("b/k"), "w", absent).unwrap_err();
    assert_eq!(error.kind(), Kind::WrongVersion);
    assert_eq!(client.add(&key("b/n"), 4).unwrap(), 4);
    assert_eq!(client.add(&key("b/k"), 4).unwrap_err().kind(), Kind::WrongType);
    assert_eq!(client.list(b"b/").unwrap().len(), 2);
    let nobody = BlockingClient::new("127.0.0.1:1", {
        let mut options = cirrus_store::ClientOptions::default();
        options.request_timeout = Duration::from_millis(200);
        options
    })
    .get(&key("k"))
    .unwrap_err();
    assert_eq!(nobody.kind(), Kind::Timeout);
    assert!(nobody.to_string().contains("127.0.0.1:1"), "{nobody}");
}
