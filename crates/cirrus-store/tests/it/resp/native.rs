//! Objects are the same whatever protocol they are reached by.

use std::time::{Duration, SystemTime};

use cirrus_store::{ByteSize, Condition, Kind, PutOptions};

use super::client::Wire;
use crate::rig::{Node, bytes, key, options};

/// Has `test` speak RESP while this task answers.
async fn resp<R: Send + 'static>(
    node: &Node,
    test: impl FnOnce(&mut Wire) -> R + Send + 'static,
) -> R {
    let address = node.address.clone();
    tokio::task::spawn_blocking(move || test(&mut Wire::tcp(&address))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_any_size_go_both_ways() {
    let node = Node::tcp(options(ByteSize::new(256 << 20))).await;
    let client = node.client();
    for len in [0, 1, 100, 16_384, 16_385, 65_536, 65_537, 3 << 20] {
        let value = bytes(len, len as u64);
        let sent = value.clone();
        let reply =
            resp(&node, move |wire| wire.call(&[b"set".to_vec(), b"from-resp".to_vec(), sent]));
        assert_eq!(reply.await, b"+OK\r\n");
        // The client checks every block against the sums that the node made.
        let object = client.get(&key("from-resp")).await.unwrap();
        assert_eq!(object.value, value, "{len}");
        client.put(&key("from-native"), value.clone()).await.unwrap();
        let reply = resp(&node, |wire| wire.call(&["get", "from-native"])).await;
        assert_eq!(reply, [format!("${len}\r\n").as_bytes(), &value, b"\r\n"].concat(), "{len}");
    }
    // Made by a node out of two: the sums are those of the whole.
    let reply = resp(&node, |wire| {
        wire.call(&[b"append".to_vec(), b"from-native".to_vec(), vec![7; 100_000]])
    });
    assert_eq!(reply.await, format!(":{}\r\n", (3 << 20) + 100_000).as_bytes());
    let whole = client.get(&key("from-native")).await.unwrap().value;
    assert_eq!(whole[3 << 20..], [7; 100_000]);
    let part = client.get_range(&key("from-native"), (3 << 20) - 5, 10).await.unwrap().value;
    assert_eq!(part[5..], [7; 5]);
    client.close().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_has_a_larger_version() {
    let node = Node::tcp(options(ByteSize::new(64 << 20))).await;
    let client = node.client();
    let mut last = client.put(&key("k"), "1").await.unwrap();
    for command in [
        "set k 5",
        "incr k",
        "incrby k 3",
        "decr k",
        "incrbyfloat k 2",
        "append k 0",
        "setrange k 0 9",
        "getset k 4",
        "setex k 1000 3",
        "mset k 2",
        "set k 1 keepttl",
    ] {
        resp(&node, move |wire| {
            let reply = wire.call(&command.split(' ').collect::<Vec<_>>());
            assert!(!reply.starts_with(b"-"), "{command}: {}", reply.escape_ascii());
        })
        .await;
        let version = client.stat(&key("k")).await.unwrap().version;
        assert!(version > last, "{command}: {version} after {last}");
        last = version;
    }
    // A put on the version before fails; one on this version holds.
    resp(&node, |wire| assert_eq!(wire.call(&["set", "k", "7"]), b"+OK\r\n")).await;
    let if_version =
        |version| PutOptions { condition: Condition::IfVersion(version), ..PutOptions::default() };
    let refused = client.put_with(&key("k"), "8", if_version(last)).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::WrongVersion);
    let now = client.stat(&key("k")).await.unwrap().version;
    assert!(client.put_with(&key("k"), "8", if_version(now)).await.unwrap() > now);
    // Deletions count as well.
    resp(&node, |wire| assert_eq!(wire.call(&["del", "k"]), b":1\r\n")).await;
    assert!(client.put(&key("k"), "").await.unwrap().0 > now.0 + 2);
    // When an object ends is a part of it.
    let before = client.stat(&key("k")).await.unwrap().version;
    resp(&node, |wire| assert_eq!(wire.call(&["expire", "k", "100"]), b":1\r\n")).await;
    assert!(client.stat(&key("k")).await.unwrap().version > before);
    client.close().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn integers_queues_and_ends_are_shared() {
    let node = Node::tcp(options(ByteSize::new(64 << 20))).await;
    let client = node.client();
    assert_eq!(client.add(&key("n"), 5).await.unwrap(), 5);
    assert_eq!(resp(&node, |wire| wire.call(&["incrby", "n", "-7"])).await, b":-2\r\n");
    assert_eq!(client.add(&key("n"), 1).await.unwrap(), -1);
    resp(&node, |wire| wire.call(&["set", "n", "ten"])).await;
    assert_eq!(client.add(&key("n"), 1).await.unwrap_err().kind(), Kind::WrongType);

    client.push(&key("q"), "a", 1 << 20).await.unwrap();
    assert_eq!(resp(&node, |wire| wire.call(&["rpush", "q", "b"])).await, b":2\r\n");
    let large = resp(&node, |wire| wire.call(&[b"rpush".to_vec(), b"q".to_vec(), vec![3; 50_000]]));
    assert_eq!(large.await, b":3\r\n");
    assert_eq!(client.pop(&key("q")).await.unwrap(), "a");
    assert_eq!(resp(&node, |wire| wire.call(&["lpop", "q"])).await, b"$1\r\nb\r\n");
    assert_eq!(client.pop(&key("q")).await.unwrap(), vec![3; 50_000]);
    assert_eq!(resp(&node, |wire| wire.call(&["exists", "q"])).await, b":0\r\n");
    client.push(&key("q"), "a", 1 << 20).await.unwrap();
    let wrong = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    assert_eq!(resp(&node, |wire| wire.call(&["get", "q"])).await, wrong);
    assert_eq!(client.get(&key("q")).await.unwrap_err().kind(), Kind::WrongType);

    let at = SystemTime::now() + Duration::from_secs(1_000);
    let ms = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let expires_at = Some(u64::try_from(ms).unwrap());
    let put = PutOptions { expires_at, ..PutOptions::default() };
    client.put_with(&key("e"), "x", put).await.unwrap();
    let ends = resp(&node, |wire| wire.call(&["pexpiretime", "e"])).await;
    assert_eq!(ends, format!(":{ms}\r\n").as_bytes());
    // What has ended is absent to both.
    resp(&node, |wire| {
        assert_eq!(wire.call(&["set", "e", "x", "px", "30"]), b"+OK\r\n");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while wire.call(&["exists", "e"]) != b":0\r\n" {
            assert!(std::time::Instant::now() < deadline);
        }
        assert_eq!(wire.call(&["set", "e", "y", "px", "30"]), b"+OK\r\n");
    })
    .await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while client.get(&key("e")).await.map_err(|error| error.kind()) != Err(Kind::NotFound) {
        assert!(tokio::time::Instant::now() < deadline);
    }
    client.close().await;
    node.stop().await;
}
