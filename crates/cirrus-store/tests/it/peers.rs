//! Peers that are slow, silent, greedy or many: what they cost, and what others notice of them.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cirrus_store::wire::{Condition, Delivery, Reply, Request, Write, encode_frame};
use cirrus_store::{ByteSize, Client, Kind, Sums, Version};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::raw::{Raw, head, hello};
use crate::rig::{Node, Random, bytes, key, options, quiet, resident_bytes, until, until_within};

fn put(name: &str, value: &Bytes, sequence: u64) -> Request {
    Request::Put {
        key: key(name),
        write: Write { sequence, acknowledged: sequence - 1, retry: false },
        condition: Condition::Always,
        expires_at: 0,
        sums: Sums::of(0, value),
        value: value.clone(),
    }
}

fn get(name: &str) -> Request {
    Request::Get {
        key: key(name),
        offset: 0,
        len: u64::MAX,
        newer_than: Version(0),
        inline_bytes_max: u32::MAX,
        delivery: Delivery::Inline,
    }
}

fn frames(requests: &[Request]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for (id, request) in (1..).zip(requests) {
        encode_frame(&request.to_part(), id, 0, &mut bytes);
    }
    bytes
}

/// How long a peer may take for a frame or its replies, by docs/wire.md, and some more.
const DEADLINE: Duration = Duration::from_secs(100);

/// A writer that goes on until the node has closed the connection; how much it could send.
async fn sends_without_reading(mut raw: Raw, frames: BytesMut) -> u64 {
    let mut sent = 0;
    while raw.link.writer.write_all(&frames).await.is_ok() {
        sent += frames.len() as u64;
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn peers_that_never_read_their_replies_are_dropped() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(64)));
    let client = node.client();
    client.put(&key("small"), bytes(15_000, 1)).await.unwrap();
    client.put(&key("large"), bytes(4 << 20, 2)).await.unwrap();
    client.close().await;
    until("only the peers count", || node.handle.stats().connections == 0).await;
    let before = resident_bytes();
    let mut peers = Vec::new();
    for (number, name) in (1..=40).zip(["small", "large"].into_iter().cycle()) {
        let raw = Raw::open(&node.endpoint, number).await.unwrap();
        let frames = frames(&vec![get(name); 500]);
        peers.push(tokio::spawn(sends_without_reading(raw, frames)));
    }
    for name in ["small", "large"].into_iter().cycle().take(10) {
        let raw = Raw::connect(&node.endpoint).await.unwrap();
        let command = format!("*2\r\n$3\r\nGET\r\n$5\r\n{name}\r\n").repeat(500);
        peers.push(tokio::spawn(sends_without_reading(raw, command.as_bytes().into())));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(node.handle.stats().connections, 50, "they have their time");
    // A large value is shared by all its replies; of small ones a connection queues 1 MiB.
    let grown = resident_bytes().saturating_sub(before);
    eprintln!("50 peers that do not read: {grown} bytes");
    assert!(grown < 50 * (3 << 20), "{grown} bytes wait for 50 peers");
    let limit = DEADLINE;
    until_within(limit, "they are dropped", || node.handle.stats().connections == 0).await;
    for peer in peers {
        let sent = peer.await.unwrap();
        assert!(sent < 1 << 20, "{sent} bytes of requests were taken in and not answered");
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn large_replies_that_nobody_reads_have_a_bound_together() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(64)));
    let client = node.client();
    let value = Bytes::from(bytes(14_000, 1));
    client.put(&key("small"), value.clone()).await.unwrap();
    let names: Vec<_> = (0..4000).map(|n| key(format!("{n:0>1000}"))).collect();
    let objects = names.iter().map(|name| (name.clone(), Bytes::new())).collect();
    client.put_many(objects).await.into_iter().for_each(|put| assert!(put.is_ok()));
    let (before, asked) = (resident_bytes(), node.handle.stats().requests);
    let scan = || Request::Scan { prefix: Bytes::new(), slot: 0, hash: 0, limit: 16_384 };
    let mut peers = Vec::new();
    for session in 1..=30 {
        let mut raw = Raw::open(&node.endpoint, session).await.unwrap();
        let request = match session % 2 {
            0 => Request::Batch(vec![get("small"); 1150]),
            _ => scan(),
        };
        raw.send(&request).await.unwrap();
        peers.push(raw);
    }
    let all = asked + 15 * 1150 + 15;
    until("all are carried out", || node.handle.stats().requests >= all).await;
    let grown = resident_bytes().saturating_sub(before);
    eprintln!("30 large replies that nobody reads: {grown} bytes");
    // 16 MiB for all of them, and what each has in its pipe.
    assert!(grown < 64 << 20, "{grown} bytes wait for 30 peers");
    // Others get less in one reply, and ask again.
    let keys = vec![key("small"); 300];
    for object in client.get_many(&keys).await {
        assert!(object.unwrap().value == value);
    }
    assert_eq!(client.list(b"").await.unwrap().len(), 4001);
    // Who has a whole reply in its pipe may stay; who has not is dropped.
    tokio::time::sleep(DEADLINE).await;
    assert!(node.handle.stats().connections < 25);
    drop(peers);
    // The room is there again: one reply for everything.
    let mut raw = Raw::open(&node.endpoint, 99).await.unwrap();
    let reply = raw.call(&Request::Batch(vec![get("small"); 1000])).await.unwrap();
    let Reply::Batch(replies) = reply else { panic!("{reply:?}") };
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Value { .. })));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn silent_peers_keep_their_connection_and_nothing_else() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(64)));
    let mut idle = Vec::new();
    for session in 1..=20 {
        let mut raw = Raw::open(&node.endpoint, session).await.unwrap();
        // With a request outstanding, which ends by itself.
        let wait = Request::Wait { key: key("k"), newer_than: Version(0), timeout_ms: 5_000 };
        raw.send(&wait).await.unwrap();
        idle.push(raw);
    }
    // Before its hello a peer has ten seconds.
    let mute = Raw::connect(&node.endpoint).await.unwrap();
    until("all are connected", || node.handle.stats().connections == 21).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(node.handle.stats().connections, 20, "who does not greet is dropped");
    drop(mute);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for raw in &mut idle {
        let (_, reply) = raw.reply().await.unwrap();
        assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
        assert_eq!(raw.call(&Request::Ping).await.unwrap(), Reply::Pong);
    }
    assert_eq!(node.used_bytes(), 0);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn unfinished_large_puts_are_paid_for_and_given_back() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(16)));
    let client = node.client();
    client.put(&key("k"), "v").await.unwrap();
    let value = Bytes::from(bytes(1 << 20, 1));
    let mut half = frames(&[put("half", &value, 1)]);
    half.truncate(600_000);
    let mut peers = Vec::new();
    for session in 1..=40 {
        let mut raw = Raw::open(&node.endpoint, session).await.unwrap();
        raw.write(&half).await.unwrap();
        peers.push(raw);
    }
    let capacity = node.handle.stats().capacity_bytes;
    until("most of the room is promised", || node.used_bytes() > capacity / 2).await;
    // What finds no room is refused, and everybody reads on.
    let mut refused = 0;
    for n in 0..16 {
        let put = client.put(&key(format!("large/{n}")), value.clone()).await;
        refused += u32::from(put.is_err_and(|error| {
            // Busy until the client's time is over, or there was no room.
            matches!(error.kind(), Kind::Timeout | Kind::OutOfMemory)
        }));
    }
    assert!((1..16).contains(&refused), "{refused} of 16 MiB were refused");
    assert!(node.used_bytes() <= capacity, "{} bytes are promised", node.used_bytes());
    assert_eq!(client.get(&key("k")).await.unwrap().value, "v");
    for item in client.list(b"").await.unwrap() {
        client.delete(&item.key).await.unwrap();
    }
    client.close().await;
    let limit = DEADLINE;
    until_within(limit, "they are dropped", || node.handle.stats().connections == 0).await;
    // What is left are the answers that the client has had: its session's.
    // Pages that were kept for the next large value go with the sweeps.
    until_within(limit, "their room is given back", || node.used_bytes() < 10_000).await;
    node.stop().await;
}

#[derive(Debug, Default)]
struct Storm {
    over: AtomicBool,
    attacks: AtomicU64,
}

/// One bad peer after another until the storm is over.
async fn attack(node_endpoint: cirrus_store::transport::Endpoint, storm: Arc<Storm>, seed: u64) {
    let mut random = Random(seed);
    let mut held = Vec::new();
    while !storm.over.load(Ordering::Relaxed) {
        let kind = random.below(13);
        let greeted = (4..9).contains(&kind);
        let raw = match greeted {
            true => Raw::open(&node_endpoint, seed * 1000 + kind).await,
            false => Raw::connect(&node_endpoint).await,
        };
        let Ok(mut raw) = raw else { continue };
        let huge = head(&put("x", &Bytes::new(), 1).to_part(), 1 << 30);
        let mut wrong = hello(1).to_vec();
        wrong[usize::try_from(random.below(48)).unwrap()] ^= 1 << random.below(8);
        let sent: Vec<u8> = match kind {
            0 => bytes(usize::try_from(random.below(100_000)).unwrap(), random.below(1 << 40)),
            1 => wrong,
            2 => hello(1)[..20].to_vec(),
            3 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            4 => huge.iter().copied().chain(bytes(300_000, 1)).collect(),
            5 => frames(&vec![get("k"); 2000]).to_vec(),
            6 => bytes(usize::try_from(random.below(100_000)).unwrap(), random.below(1 << 40)),
            7 => huge[..20].to_vec(),
            9 => b"*1000000\r\n$3\r\nGET\r\n".to_vec(),
            10 => b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$536870912\r\nhalf".to_vec(),
            11 => b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".repeat(2000),
            12 => [b"GET ".to_vec(), bytes(70_000, random.below(1 << 40))].concat(),
            _ => frames(&vec![Request::Batch(vec![get("k"); 200]); 20]).to_vec(),
        };
        // The node may close while we write, and need not take everything from who does not read.
        let _ = tokio::time::timeout(Duration::from_millis(20), raw.write(&sent)).await;
        storm.attacks.fetch_add(1, Ordering::Relaxed);
        // So many a second: what is measured is harm, not who gets the processor.
        tokio::time::sleep(Duration::from_millis(1)).await;
        held.push(raw);
        if held.len() > 20 {
            held.swap_remove(usize::try_from(random.below(20)).unwrap());
        }
    }
}

/// What a client sees that does nothing wrong: half of its requests' time, and the longest.
async fn served(client: &Client, time: Duration) -> (usize, Duration, Duration) {
    let value = Bytes::from(bytes(10_000, 7));
    let end = Instant::now() + time;
    let mut times = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        let name = key(format!("good/{}", times.len() % 50));
        client.put(&name, value.clone()).await.unwrap();
        assert!(client.get(&name).await.unwrap().value == value);
        times.push(began.elapsed() / 2);
    }
    times.sort_unstable();
    (times.len(), times[times.len() / 2], *times.last().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_bad_peers_harms_nobody_else() {
    let node = Node::tcp(options(ByteSize::mib(64))).await;
    let client = node.client();
    client.put(&key("k"), bytes(5000, 1)).await.unwrap();
    let quiet = served(&client, Duration::from_secs(1)).await;
    let before = resident_bytes();
    let storm = Arc::new(Storm::default());
    let attackers: Vec<_> = (1..=6)
        .map(|seed| tokio::spawn(attack(node.endpoint.clone(), storm.clone(), seed)))
        .collect();
    let stormy = served(&client, Duration::from_secs(4)).await;
    let grown = resident_bytes().saturating_sub(before);
    storm.over.store(true, Ordering::Relaxed);
    for attacker in attackers {
        attacker.await.unwrap();
    }
    let attacks = storm.attacks.load(Ordering::Relaxed);
    eprintln!("quiet: {quiet:?}; {attacks} attacks: {stormy:?}, {grown} bytes more");
    assert!(attacks > 200, "{attacks} attacks");
    assert!(stormy.0 > 20, "{} pairs of requests were served", stormy.0);
    assert!(stormy.2 < Duration::from_secs(2), "a request took {:?}", stormy.2);
    assert!(grown < 256 << 20, "{grown} bytes more");
    let only_the_client = || node.handle.stats().connections <= 2;
    until("the bad ones are gone", only_the_client).await;
    node.stop().await;
}

const CROWD: u64 = 10_000;

/// Where the crowd is to connect; set for the process that plays it.
const CROWD_ADDRESS: &str = "CIRRUS_CROWD_ADDRESS";

/// Raises the limit of open files; false if that many are not allowed.
fn may_open(files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|hard| hard < files) {
        return false;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..limit }).unwrap();
    true
}

/// The same as the others of the crowd, over RESP.
fn busy_over_resp(stream: &mut std::net::TcpStream, name: &str, value: &[u8]) {
    let set = format!("*3\r\n$3\r\nSET\r\n${}\r\n{name}\r\n$15000\r\n", name.len());
    let set = [set.as_bytes(), value, b"\r\n"].concat();
    let get = format!("*2\r\n$3\r\nGET\r\n${}\r\n{name}\r\n", name.len());
    stream.write_all(&[set.repeat(4), get.repeat(4).into_bytes()].concat()).unwrap();
    let mut answer = vec![0; 4 * "+OK\r\n".len() + 4 * ("$15000\r\n\r\n".len() + 15_000)];
    stream.read_exact(&mut answer).unwrap();
}

/// The clients' side of the crowd, in a process of its own: it has as many files as the node's.
#[test]
#[ignore = "a part of ten_thousand_idle_connections_are_cheap, which starts it"]
fn the_crowd() {
    let Ok(address) = std::env::var(CROWD_ADDRESS) else { return };
    assert!(may_open(CROWD + 100));
    let value = Bytes::from(bytes(15_000, 1));
    let mut open = Vec::new();
    for session in 1..=CROWD {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        if session.is_multiple_of(2) {
            busy_over_resp(&mut stream, &format!("crowd/{}", session % 50), &value);
            open.push(stream);
            continue;
        }
        stream.write_all(&hello(session)).unwrap();
        // Each has been busy: its buffers on both sides were full once.
        let name = format!("crowd/{}", session % 50);
        let mut requests: Vec<Request> = (1..=4).map(|n| put(&name, &value, n)).collect();
        requests.extend(vec![get(&name); 4]);
        stream.write_all(&frames(&requests)).unwrap();
        let mut answer = vec![0; 56 + 4 * (32 + 8) + 4 * (32 + 32 + 15_000 + 4)];
        stream.read_exact(&mut answer).unwrap();
        open.push(stream);
    }
    println!("\nall are connected");
    // Until the other side lets go.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_are_cheap() {
    if !may_open(CROWD + 100) {
        eprintln!("skipped: the hard limit of open files is under {}", CROWD + 100);
        return;
    }
    let mut options = options(ByteSize::mib(64));
    options.connections_max = CROWD + 10;
    let node = Node::tcp(options).await;
    let client = node.client();
    client.put(&key("k"), "v").await.unwrap();
    let (before, bytes_before) = (resident_bytes(), node.used_bytes());
    let mut crowd = Command::new(std::env::current_exe().unwrap())
        .args(["peers::the_crowd", "--exact", "--ignored", "--nocapture"])
        .env(CROWD_ADDRESS, &node.address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(crowd.stdout.take().unwrap());
    let began = Instant::now();
    let ready = tokio::task::spawn_blocking(move || {
        let mut lines = output.lines().map(Result::unwrap);
        let is_ready = lines.any(|line| line == "all are connected");
        (is_ready, lines)
    });
    let (is_ready, lines) = ready.await.unwrap();
    assert!(is_ready, "the crowd did not come");
    assert_eq!(node.handle.stats().connections, CROWD + 1);
    let grown = resident_bytes().saturating_sub(before);
    let objects = node.used_bytes() - bytes_before;
    let each = grown / CROWD;
    eprintln!("{CROWD} connections in {:?}: {each} bytes each, {objects} counted", began.elapsed());
    let (served, half, most) = served(&client, Duration::from_millis(500)).await;
    eprintln!("meanwhile {served} pairs of requests, half within {half:?}, all within {most:?}");
    assert!(each < IDLE_BYTES_MAX, "an idle connection costs {each} bytes");
    assert!(most < Duration::from_secs(2), "{most:?}");
    drop(crowd.stdin.take());
    tokio::task::spawn_blocking(move || lines.count()).await.unwrap();
    assert!(crowd.wait().unwrap().success());
    until("all have left", || node.handle.stats().connections <= 2).await;
    node.stop().await;
}

/// What an idle connection may cost the node's process: its task, its session and the results of
/// its last writes; no buffers.
const IDLE_BYTES_MAX: u64 = 12 << 10;
