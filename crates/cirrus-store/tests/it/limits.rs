//! Full nodes, hostile peers, and what others notice of them: nothing.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cirrus_store::server::Server;
use cirrus_store::wire::{ClientHello, Condition, Reply, Request, Status, Write};
use cirrus_store::{ByteSize, Client, Key, Kind, Sums, Version};
use futures_util::future::join_all;

use crate::raw::{Raw, head, hello};
use crate::rig::{Node, bytes, key, options, quiet, until};

fn put(name: &str, value: &[u8], sequence: u64) -> Request {
    let value = Bytes::copy_from_slice(value);
    Request::Put {
        key: key(name),
        write: Write { sequence, acknowledged: 0, retry: false },
        condition: Condition::Always,
        expires_at: 0,
        sums: Sums::of(0, &value),
        value,
    }
}

/// A node whose housekeeping is quick, so that accounting can be looked at.
async fn tidy(capacity: ByteSize) -> Node {
    let mut options = options(capacity);
    options.session_idle = Duration::from_millis(50);
    options.sweep_interval = Duration::from_millis(10);
    Node::tcp(options).await
}

async fn fill(client: &Client, value: &Bytes) -> (Vec<Key>, cirrus_store::Error) {
    let mut names = Vec::new();
    loop {
        let name = key(format!("fill/{}/{}", value.len(), names.len()));
        match client.put(&name, value.clone()).await {
            Ok(_) => names.push(name),
            Err(error) => return (names, error),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_says_so_and_keeps_what_it_has() {
    let node = tidy(ByteSize::mib(16)).await;
    let client = node.client();
    // So many small ones that a batch of them is no small frame.
    let small = (0..3000).map(|n| (key(format!("small/{n}")), Bytes::from(bytes(50, n))));
    let mut names: Vec<(Key, Bytes)> = small.collect();
    client
        .put_many(names.clone())
        .await
        .into_iter()
        .for_each(|put| assert!(put.is_ok(), "{put:?}"));
    for len in [1 << 20, 40_000, 2000, 10] {
        let value = Bytes::from(bytes(len, len as u64));
        let (some, error) = fill(&client, &value).await;
        assert_eq!(error.kind(), Kind::OutOfMemory);
        assert!(error.detail() < (16 << 20), "{}", error.detail());
        assert!(
            error.detail() < len as u64 + 4096,
            "{len} bytes do not fit into {}",
            error.detail()
        );
        assert!(error.to_string().contains("is free"), "{error}");
        names.extend(some.into_iter().map(|name| (name, value.clone())));
    }
    let keys: Vec<Key> = names.iter().map(|(name, _)| name.clone()).collect();
    // Reads and deletes work on a full node, large batches of them too.
    for (object, (name, value)) in client.get_many(&keys).await.into_iter().zip(&names) {
        assert!(object.unwrap().value == *value, "{name}");
    }
    let (rest, some) = keys.split_at(1000);
    client.delete_many(some).await.into_iter().for_each(|deleted| deleted.unwrap());
    client.put(&key("room"), bytes(4 << 20, 1)).await.unwrap();
    client.delete(&key("room")).await.unwrap();
    client.delete_many(rest).await.into_iter().for_each(|deleted| deleted.unwrap());
    client.close().await;
    until("every byte is given back", || node.used_bytes() == 0).await;
    assert_eq!(node.handle.stats().objects, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_gives_back_what_it_took() {
    let node = tidy(ByteSize::mib(64)).await;
    let client = node.client();
    let all = (0..200_u64).map(|n| {
        let client = &client;
        async move {
            let name = key(format!("mixed/{}", n % 7));
            let value = bytes(usize::try_from(n * 997 % 120_000).unwrap(), n);
            match n % 5 {
                0 => drop(client.put(&name, value).await),
                1 => drop(client.add(&name, 3).await),
                2 => drop(client.push(&key("queue"), value, u64::MAX).await.unwrap()),
                3 => drop(client.pop(&key("queue")).await),
                _ => drop(client.delete(&name).await),
            }
        }
    });
    join_all(all).await;
    assert!(node.used_bytes() > 0);
    while client.pop(&key("queue")).await.is_ok() {}
    for item in client.list(b"").await.unwrap() {
        client.delete(&item.key).await.unwrap();
    }
    client.close().await;
    until("every byte is given back", || node.used_bytes() == 0).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_announcement_takes_no_memory() {
    let node = Node::tcp(options(ByteSize::mib(8))).await;
    let client = node.client();
    client.put(&key("k"), "v").await.unwrap();
    let before = node.used_bytes();
    let mut raw = Raw::open(&node.endpoint, 7).await.unwrap();
    raw.write(&head(&put("huge", b"", 1).to_part(), 1 << 30)).await.unwrap();
    // The node reads past it without keeping any of it.
    for _ in 0..16 {
        raw.write(&vec![0; 1 << 20]).await.unwrap();
        assert_eq!(node.used_bytes(), before);
    }
    let stat = client.stat(&key("k")).await.unwrap();
    assert_eq!(stat.size, 1);
    // A smaller one is refused with a typed answer, and the connection goes on.
    let mut raw = Raw::open(&node.endpoint, 8).await.unwrap();
    let reply = raw.call(&put("large", &bytes(9 << 20, 1), 1)).await.unwrap();
    assert!(matches!(reply, Reply::Failed(fault) if fault.kind == Kind::OutOfMemory));
    let reply = raw.call(&put("small", b"v", 2)).await.unwrap();
    assert!(matches!(reply, Reply::Written { .. }));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_over_the_nodes_limit_are_too_large() {
    let mut options = options(ByteSize::mib(64));
    options.limits.value_bytes_max = 1 << 20;
    let node = Node::tcp(options).await;
    let client = node.client();
    client.put(&key("k"), bytes(1 << 20, 1)).await.unwrap();
    let error = client.put(&key("k"), bytes((1 << 20) + 1, 1)).await.unwrap_err();
    assert_eq!((error.kind(), error.detail()), (Kind::TooLarge, 1 << 20));
    assert_eq!(client.get(&key("k")).await.unwrap().value.len(), 1 << 20);
    // A batch has a limit of its own.
    let mut raw = Raw::open(&node.endpoint, 8).await.unwrap();
    let batch = Request::Batch((0..6).map(|n| put("b", &bytes(900_000, n), n + 1)).collect());
    let reply = raw.call(&batch).await.unwrap();
    assert!(matches!(reply, Reply::Failed(fault) if fault.kind == Kind::TooLarge));
    node.stop().await;
}

/// Bytes after which the node closes the connection, sent with or without a proper hello first.
fn nonsense() -> Vec<(&'static str, bool, Vec<u8>)> {
    let part = put("k", b"", 1).to_part();
    let mut long_key = head(&part, 0).to_vec();
    long_key[2..4].copy_from_slice(&2000_u16.to_le_bytes());
    let mut long_body = head(&part, 0).to_vec();
    long_body[20..22].copy_from_slice(&60_000_u16.to_le_bytes());
    let mut damaged = head(&part, 0).to_vec();
    damaged[9] ^= 1;
    let mut wrong_magic = hello(1).to_vec();
    wrong_magic[1] = b'X';
    let mut damaged_hello = hello(1).to_vec();
    damaged_hello[20] ^= 1;
    let mut long_token = hello(1).to_vec();
    long_token[36..38].copy_from_slice(&5000_u16.to_le_bytes());
    vec![
        ("HTTP", false, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("broken RESP", false, b"*1\r\n!4\r\nPING\r\n".to_vec()),
        ("TLS", false, vec![0x16, 3, 1, 2, 0, 1]),
        ("zeros", false, vec![0; 70_000]),
        ("a wrong magic", false, wrong_magic),
        ("a damaged hello", false, damaged_hello),
        ("a long token", false, long_token),
        ("a key of 2,000 bytes", true, long_key),
        ("a body of 60,000 bytes", true, long_body),
        ("a payload of 2 GiB", true, head(&part, 1 << 31).to_vec()),
        ("a damaged head", true, damaged),
        ("a hello again", true, hello(1).to_vec()),
        ("garbage", true, bytes(4096, 3)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_closes_its_own_connection_only() {
    let node = Node::tcp(options(ByteSize::mib(64))).await;
    let client = node.client();
    client.put(&key("k"), "v").await.unwrap();
    for (what, greeted, sent) in nonsense() {
        let mut raw = match greeted {
            true => Raw::open(&node.endpoint, 9).await.unwrap(),
            false => Raw::connect(&node.endpoint).await.unwrap(),
        };
        // The node may close while we write.
        let _ = raw.write(&sent).await;
        let closed = tokio::time::timeout(Duration::from_secs(5), raw.until_closed()).await;
        assert!(closed.is_ok(), "{what} does not close the connection");
        assert_eq!(client.get(&key("k")).await.unwrap().value, "v", "after {what}");
    }
    until("only the client is left", || node.handle.stats().connections <= 2).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_make_no_sense_get_a_typed_answer() {
    let node = Node::tcp(options(ByteSize::mib(64))).await;
    let mut raw = Raw::open(&node.endpoint, 9).await.unwrap();
    let mut parts = Vec::new();
    let good = put("k", b"value", 1).to_part();
    let mut part = good.clone();
    part.opcode = 99;
    parts.push(("an unknown opcode", Kind::Protocol, part));
    let mut part = good.clone();
    part.flags = 0x80;
    parts.push(("an unknown flag", Kind::Protocol, part));
    let mut part = good.clone();
    part.flags = 2 | 4;
    parts.push(("a put that is absent and present", Kind::Protocol, part));
    let mut part = good.clone();
    part.key = Bytes::new();
    parts.push(("a put without a key", Kind::Invalid, part));
    let mut part = good.clone();
    part.body = part.body.slice(..8);
    parts.push(("a short body", Kind::Protocol, part));
    let mut part = good.clone();
    part.sums = Sums::of(0, b"other");
    parts.push(("a damaged value", Kind::Corrupt, part));
    let mut part = Request::Batch(vec![put("k", b"value", 2)]).to_part();
    part.payload = part.payload.slice(..part.payload.len() - 1);
    part.sums = Sums::of(0, &part.payload);
    parts.push(("a batch that is cut off", Kind::Protocol, part));
    parts.push((
        "a batch with a scan",
        Kind::Protocol,
        Request::Batch(vec![Request::Scan { prefix: Bytes::new(), slot: 0, hash: 0, limit: 1 }])
            .to_part(),
    ));
    let nested = Request::Batch(vec![Request::Batch(vec![put("k", b"v", 3)])]);
    parts.push(("a batch in a batch", Kind::Protocol, nested.to_part()));
    let unnamed = put("k", b"v", 0).to_part();
    parts.push(("a write without a name", Kind::Unknown, unnamed));
    for (number, (what, kind, part)) in (100..).zip(parts) {
        let mut frame = BytesMut::new();
        cirrus_store::wire::encode_frame(&part, number, 0, &mut frame);
        raw.write(&frame).await.unwrap();
        let (answered, reply) = raw.reply().await.unwrap();
        assert_eq!(answered, number);
        assert!(matches!(reply, Reply::Failed(f) if f.kind == kind), "{what}: {reply:?}");
    }
    assert_eq!(raw.call(&Request::Ping).await.unwrap(), Reply::Pong);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn slow_peers_run_out_of_time() {
    let network = quiet();
    let node = Node::sim(&network, "node", options(ByteSize::mib(64)));
    let frame = head(&put("k", b"", 1).to_part(), 100_000);
    let mut idle = Raw::open(&node.endpoint, 1).await.unwrap();
    let mut half_head = Raw::open(&node.endpoint, 2).await.unwrap();
    half_head.write(&frame[..20]).await.unwrap();
    let mut half_payload = Raw::open(&node.endpoint, 3).await.unwrap();
    half_payload.write(&frame).await.unwrap();
    let mut half_hello = Raw::connect(&node.endpoint).await.unwrap();
    half_hello.write(&hello(4)[..30]).await.unwrap();
    let mut drip = Raw::open(&node.endpoint, 5).await.unwrap();
    let dripping = tokio::spawn(async move {
        let mut sent = 0;
        for byte in frame.iter().cycle() {
            if drip.write(&[*byte]).await.is_err() {
                break;
            }
            sent += 1;
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
        sent
    });
    for (what, raw) in
        [("a hello", &mut half_hello), ("a head", &mut half_head), ("a payload", &mut half_payload)]
    {
        let closed = tokio::time::timeout(Duration::from_secs(100), raw.until_closed()).await;
        assert!(closed.is_ok(), "half of {what} keeps its connection");
    }
    assert!(dripping.await.unwrap() < 20, "a byte now and then keeps a connection");
    until("memory is given back", || node.used_bytes() == 0).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(idle.call(&Request::Ping).await.unwrap(), Reply::Pong, "silence is allowed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_have_a_limit() {
    let mut options = options(ByteSize::mib(64));
    options.connections_max = 3;
    let node = Node::tcp(options).await;
    let mut open = Vec::new();
    for session in 1..=3 {
        open.push(Raw::open(&node.endpoint, session).await.unwrap());
    }
    assert!(Raw::open(&node.endpoint, 4).await.is_err());
    for raw in &mut open {
        assert_eq!(raw.call(&Request::Ping).await.unwrap(), Reply::Pong);
    }
    open.pop();
    until("a place is free", || node.handle.stats().connections < 3).await;
    Raw::open(&node.endpoint, 5).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_have_a_limit() {
    let mut options = options(ByteSize::mib(64));
    options.limits.in_flight_max = 8;
    let node = Node::tcp(options).await;
    let mut raw = Raw::open(&node.endpoint, 1).await.unwrap();
    let wait = Request::Wait { key: key("k"), newer_than: Version(0), timeout_ms: 60_000 };
    for _ in 0..8 {
        raw.send(&wait).await.unwrap();
    }
    let reply = raw.call(&wait).await.unwrap();
    assert!(matches!(reply, Reply::Failed(fault) if fault.kind == Kind::Busy));
    // The client keeps to the limit by itself, and its other requests pass its waits.
    let client = node.client();
    let name = key("k");
    let waits = (0..40).map(|_| client.wait(&name, Version(0), Duration::from_secs(20)));
    let (waited, ()) = tokio::join!(join_all(waits), async {
        client.get(&key("other")).await.unwrap_err();
        client.put(&name, "v").await.unwrap();
    });
    waited.into_iter().for_each(|wait| assert!(wait.is_ok(), "{wait:?}"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_or_version_is_turned_away() {
    let mut options = options(ByteSize::mib(64));
    options.token = "right".into();
    let node = Node::tcp(options).await;
    for (token, welcome) in [("right", true), ("wrong", false), ("", false), ("right.", false)] {
        let mut options = node.client_options();
        options.token = token.into();
        let put = Client::new(&node.address, options).put(&key("k"), "v").await;
        match put {
            Ok(_) => assert!(welcome, "{token}"),
            Err(error) => {
                assert!(!welcome && error.kind() == Kind::Unauthorized, "{token}: {error}");
                assert!(error.to_string().contains(&node.address), "{error}");
            }
        }
    }
    assert_eq!(node.handle.stats().sessions, 1, "who is turned away leaves no session");
    let mut raw = Raw::connect(&node.endpoint).await.unwrap();
    let mut bytes = BytesMut::new();
    let hello = ClientHello {
        version_max: 9,
        version_min: 7,
        features: u64::MAX,
        session: 1,
        incarnation: 0,
        epoch: 0,
        token: "right".into(),
    };
    hello.put(&mut bytes);
    raw.write(&bytes).await.unwrap();
    let mut answer = BytesMut::new();
    while answer.len() < 56 {
        let read = tokio::io::AsyncReadExt::read_buf(&mut raw.link.reader, &mut answer).await;
        assert!(read.unwrap() > 0);
    }
    let answer = cirrus_store::wire::ServerHello::take(&mut answer).unwrap().unwrap();
    assert_eq!((answer.status, answer.version), (Status::Failed(Kind::Protocol), 1));
    node.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_in_one_line() {
    let node = Node::tcp(options(ByteSize::mib(64))).await;
    let error = Server::bind(&node.address, options(ByteSize::mib(64))).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&node.address) && !text.contains('\n'), "{text}");
    assert!(text.contains("in use"), "{text}");
    node.stop().await;
}
