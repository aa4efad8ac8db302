//! Nodes with a disk behind their memory: what was acknowledged stays, whatever happens.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cirrus_store::segments::sim::{Loss, Plan, SimDisk};
use cirrus_store::segments::{Engine, Options};
use cirrus_store::server::{NodeOptions, Server};
use cirrus_store::{BlockingClient, ByteSize, Client, ClientOptions, Kind, PutOptions, Version};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::resp::client::Wire;
use crate::rig::{Node, bytes, key, on_disk, options, until, with_disk};

const FOLDER: &str = "CIRRUS_TEST_STORAGE_NODE";

/// Small values, large ones, queues and integers: `number` says which.
async fn fill(client: &Client, count: u64) {
    for number in 0..count {
        let name = key(format!("k/{number}"));
        match number % 4 {
            0 => drop(client.put(&name, number.to_string()).await.unwrap()),
            1 => drop(client.put(&name, bytes(300_000, number)).await.unwrap()),
            2 => {
                for item in 0..3 {
                    client.push(&name, format!("{number}.{item}"), 1 << 20).await.unwrap();
                }
                client.pop(&name).await.unwrap();
            }
            _ => drop(client.add(&name, i64::try_from(number).unwrap()).await.unwrap()),
        }
    }
}

async fn holds(client: &Client, count: u64) {
    for number in 0..count {
        let name = key(format!("k/{number}"));
        match number % 4 {
            0 => assert_eq!(client.get(&name).await.unwrap().value, number.to_string()),
            1 => assert!(client.get(&name).await.unwrap().value == bytes(300_000, number)),
            2 => {
                let stat = client.stat(&name).await.unwrap();
                assert!(stat.size == 2 * (number.to_string().len() as u64 + 2), "queue {number}");
            }
            _ => assert_eq!(client.get(&name).await.unwrap().value, number.to_string()),
        }
    }
    assert_eq!(client.list(b"k/").await.unwrap().len() as u64, count);
}

async fn restarted(node: Node, disk: &SimDisk, memory: ByteSize) -> Node {
    node.stop().await;
    Node::tcp(on_disk(options(memory), true, disk)).await
}

#[tokio::test]
async fn a_storage_node_is_after_a_restart_what_it_was_before() {
    let (disk, memory) = (SimDisk::default(), ByteSize::mib(16));
    let node = Node::tcp(on_disk(options(memory), true, &disk)).await;
    fill(&node.client(), 400).await;
    let before = node.client().stat(&key("k/0")).await.unwrap();
    let version = node.client().put(&key("gone"), "x").await.unwrap();
    node.client().delete(&key("gone")).await.unwrap();
    // 30 MB of values went through 16 MiB of memory.
    assert!(node.used_bytes() <= memory.bytes());
    holds(&node.client(), 400).await;

    let node = restarted(node, &disk, memory).await;
    let client = node.client();
    let after = client.stat(&key("k/0")).await.unwrap();
    assert_eq!((before.version, before.modified_at), (after.version, after.modified_at));
    holds(&client, 400).await;
    assert_eq!(client.get(&key("gone")).await.unwrap_err().kind(), Kind::NotFound);
    assert!(client.put(&key("gone"), "y").await.unwrap() > Version(version.0 + 1));
    client.delete(&key("gone")).await.unwrap();
    // Queues go on where they were, over both protocols.
    assert_eq!(client.pop(&key("k/2")).await.unwrap(), "2.1");
    let address = node.address.clone();
    let resp = tokio::task::spawn_blocking(move || {
        let mut wire = Wire::tcp(&address);
        assert_eq!(wire.call(&["lrange", "k/6", "0", "-1"]), b"*2\r\n$3\r\n6.1\r\n$3\r\n6.2\r\n");
        assert_eq!(wire.call(&["lpush", "k/6", "first"]), b":3\r\n");
        assert_eq!(wire.call(&["strlen", "k/1"]), b":300000\r\n");
        assert_eq!(wire.call(&["expire", "k/0", "1000"]), b":1\r\n");
        assert_eq!(wire.call(&["mset", "m/1", "a", "m/2", "b", "m/1", "c"]), b"+OK\r\n");
        assert_eq!(wire.call(&["rename", "m/2", "m/3"]), b"+OK\r\n");
    });
    resp.await.unwrap();
    let node = restarted(node, &disk, memory).await;
    let client = node.client();
    assert_eq!(client.pop(&key("k/6")).await.unwrap(), "first");
    assert_eq!(client.get(&key("m/1")).await.unwrap().value, "c");
    assert_eq!(client.get(&key("m/3")).await.unwrap().value, "b");
    assert_eq!(client.get(&key("m/2")).await.unwrap_err().kind(), Kind::NotFound);
    assert!(client.stat(&key("k/0")).await.unwrap().expires_at.is_some());
    node.stop().await;
}

#[tokio::test]
async fn what_ends_is_gone_from_the_disk_as_well() {
    let disk = SimDisk::default();
    let node = Node::tcp(on_disk(options(ByteSize::mib(16)), true, &disk)).await;
    let ends = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_millis(30);
    let ends = u64::try_from(ends.as_millis()).unwrap();
    let soon = PutOptions { expires_at: Some(ends), ..PutOptions::default() };
    node.client().put_with(&key("soon"), bytes(100_000, 1), soon).await.unwrap();
    node.client().put(&key("stays"), "s").await.unwrap();
    until("it has ended", || node.handle.stats().objects == 1).await;
    let node = restarted(node, &disk, ByteSize::mib(16)).await;
    assert_eq!(node.handle.stats().objects, 1);
    let address = node.address.clone();
    tokio::task::spawn_blocking(move || {
        let mut wire = Wire::tcp(&address);
        assert_eq!(wire.call(&["flushall"]), b"+OK\r\n");
    })
    .await
    .unwrap();
    let node = restarted(node, &disk, ByteSize::mib(16)).await;
    assert_eq!(node.handle.stats().objects, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let disk = SimDisk::default();
    let node = Node::tcp(on_disk(options(ByteSize::mib(16)), true, &disk)).await;
    let client = node.client();
    let writes = (0..200).map(|number| {
        let client = client.clone();
        async move { client.put(&key(format!("k/{number}")), number.to_string()).await.unwrap() }
    });
    let versions = join_all(writes).await;
    let left = disk.power_cut(Loss::All, 7);
    node.stop().await;
    let node = Node::tcp(on_disk(options(ByteSize::mib(16)), true, &left)).await;
    for (number, version) in versions.into_iter().enumerate() {
        let object = node.client().get(&key(format!("k/{number}"))).await.unwrap();
        assert_eq!((object.version, object.value), (version, Bytes::from(number.to_string())));
    }
    node.stop().await;
}

/// A queue of more items than one write has rows for.
#[tokio::test]
async fn a_long_queue_is_whole_or_gone_wherever_the_power_goes() {
    const ITEMS: usize = 20_000;
    let whole = SimDisk::default();
    let node = Node::storage(options(ByteSize::mib(16)), whole.clone()).await;
    let address = node.address.clone();
    let push = move || {
        let mut command = vec!["rpush".to_owned(), "queue".to_owned()];
        command.extend((0..ITEMS).map(|item| item.to_string()));
        assert_eq!(Wire::tcp(&address).call(&command), b":20000\r\n");
    };
    tokio::task::spawn_blocking(push).await.unwrap();
    node.stop().await;
    let mut outcomes = [0, 0];
    for cut in 1..=8 {
        let disk = whole.power_cut(Loss::All, cut);
        let node = Node::storage(options(ByteSize::mib(16)), disk.clone()).await;
        disk.set_plan(Plan { cut_at: Some(cut), ..Plan::default() });
        let address = node.address.clone();
        let delete = move || Wire::tcp(&address).call(&["del", "queue"]);
        let deleted = tokio::task::spawn_blocking(delete).await.unwrap();
        let node = node.restarted().await;
        let address = node.address.clone();
        let look = move || {
            let mut wire = Wire::tcp(&address);
            (wire.call(&["llen", "queue"]), wire.call(&["lrange", "queue", "-1", "-1"]))
        };
        let (len, last) = tokio::task::spawn_blocking(look).await.unwrap();
        let is_gone = len == b":0\r\n";
        assert!(is_gone || deleted != b":1\r\n", "cut {cut}: an answered delete came back");
        assert!(is_gone || len == b":20000\r\n" && last == b"*1\r\n$5\r\n19999\r\n", "cut {cut}");
        outcomes[usize::from(is_gone)] += 1;
        node.stop().await;
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}: the cuts are at one side");
}

/// The log has zeros ahead that small writes go to, on a full disk, too. This goes beyond them.
async fn use_up_what_is_ready(client: &Client) {
    client.put(&key("large"), vec![7; 512 << 10]).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_writes_with_its_reason_and_serves_reads() {
    let disk = SimDisk::default();
    let node = Node::tcp(on_disk(options(ByteSize::mib(16)), true, &disk)).await;
    let client = node.client();
    client.put(&key("value"), "before").await.unwrap();
    client.push(&key("queue"), "item", 1000).await.unwrap();
    use_up_what_is_ready(&client).await;
    let used = u64::MAX - cirrus_store::segments::Disk::free_bytes(&disk).unwrap();
    disk.set_plan(Plan { full_at: Some(used), ..Plan::default() });
    for _ in 0..3 {
        let refused = client.put(&key("value"), "after").await.unwrap_err();
        assert_eq!(refused.kind(), Kind::OutOfMemory, "{refused}");
        assert_eq!(client.put(&key("new"), "x").await.unwrap_err().kind(), Kind::OutOfMemory);
        assert_eq!(client.pop(&key("queue")).await.unwrap_err().kind(), Kind::OutOfMemory);
        // What was not written did not happen.
        assert_eq!(client.get(&key("value")).await.unwrap().value, "before");
        assert_eq!(client.get(&key("new")).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(client.stat(&key("queue")).await.unwrap().size, 4);
    }
    let address = node.address.clone();
    tokio::task::spawn_blocking(move || {
        let mut wire = Wire::tcp(&address);
        let refused = wire.call(&["set", "value", "after"]);
        assert!(refused.starts_with(b"-OOM"), "{}", refused.escape_ascii());
        assert_eq!(wire.call(&["get", "value"]), b"$6\r\nbefore\r\n");
    })
    .await
    .unwrap();
    // With room again it goes on.
    disk.set_plan(Plan::default());
    client.put(&key("value"), "after").await.unwrap();
    assert_eq!(client.pop(&key("queue")).await.unwrap(), "item");
    node.stop().await;
}

#[tokio::test]
async fn a_failing_disk_is_an_error_of_its_own_and_reads_go_on() {
    let disk = SimDisk::default();
    let node = Node::tcp(on_disk(options(ByteSize::mib(16)), true, &disk)).await;
    let client = node.client();
    client.put(&key("value"), "before").await.unwrap();
    disk.set_plan(Plan { fail_from: Some(1), ..Plan::default() });
    let mut options = ClientOptions::default();
    options.request_timeout = Duration::from_millis(300);
    let client = Client::new(&node.address, options);
    for _ in 0..3 {
        let refused = client.put(&key("value"), "after").await.unwrap_err();
        assert!(matches!(refused.kind(), Kind::Io | Kind::Unknown), "{refused:?}");
        assert_eq!(client.get(&key("value")).await.unwrap().value, "before");
    }
    disk.set_plan(Plan::default());
    drop(node);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_not_taken_for_one_that_is_gone() {
    let disk = SimDisk::default();
    let node = Node::tcp(on_disk(options(ByteSize::mib(16)), true, &disk)).await;
    let (client, queue) = (node.client(), key("queue"));
    client.push(&queue, "first", 1000).await.unwrap();
    use_up_what_is_ready(&client).await;
    let used = u64::MAX - cirrus_store::segments::Disk::free_bytes(&disk).unwrap();
    disk.set_plan(Plan { full_at: Some(used), fail_reads_from: Some(1), ..Plan::default() });
    // What was lost on the way to the disk can be taken back in memory only after a look at the disk.
    for _ in 0..3 {
        let refused = client.push(&queue, "second", 1000).await.unwrap_err();
        assert!(matches!(refused.kind(), Kind::OutOfMemory | Kind::Io), "{refused:?}");
        let unseen = client.stat(&queue).await.unwrap_err();
        assert!(matches!(unseen.kind(), Kind::OutOfMemory | Kind::Io), "{unseen:?}");
    }
    disk.set_plan(Plan::default());
    while client.stat(&queue).await.is_err() {}
    assert_eq!(client.stat(&queue).await.unwrap().size, 5);
    client.push(&queue, "second", 1000).await.unwrap();
    assert_eq!(client.pop(&queue).await.unwrap(), "first");
    node.stop().await;
}

#[tokio::test]
async fn a_memory_node_spills_what_does_not_fit_and_forgets_it_at_its_end() {
    let node = Node::tcp(with_disk(options(ByteSize::mib(16)), false)).await;
    let client = node.client();
    fill(&client, 400).await;
    assert!(node.used_bytes() <= 16 << 20);
    holds(&client, 400).await;
    // Changed, removed and put again, whether in memory or on the disk.
    for number in (1..400).step_by(4) {
        let name = key(format!("k/{number}"));
        match number % 3 {
            0 => client.delete(&name).await.unwrap(),
            _ => {
                client.put(&name, bytes(200_000, number + 1)).await.unwrap();
            }
        }
    }
    for number in (1..400).step_by(4) {
        let got = client.get(&key(format!("k/{number}"))).await;
        match number % 3 {
            0 => assert_eq!(got.unwrap_err().kind(), Kind::NotFound),
            _ => assert!(got.unwrap().value == bytes(200_000, number + 1)),
        }
    }
    node.stop().await;
}

/// The process that is killed.
#[test]
#[ignore = "the process that a_killed_node_loses_nothing kills"]
fn serves_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut options = NodeOptions::new(ByteSize::mib(16));
        let mut engine = Options::default();
        engine.segment_bytes = 1 << 20;
        engine.checkpoint_rows = 300;
        options.engine = Some(Arc::new(Engine::open_folder(folder, engine).unwrap()));
        let server = Server::bind("127.0.0.1:0", options).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "listens on {}", server.local_address().unwrap()).unwrap();
        out.flush().unwrap();
        drop(out);
        server.run(CancellationToken::new()).await.unwrap();
    });
}

fn start(folder: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "disk::serves_until_it_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The test harness's own line may stand before it.
        if let Some((_, address)) = line.unwrap().split_once("listens on ") {
            return (child, address.to_owned());
        }
    }
    child.wait().unwrap();
    panic!("the node did not start");
}

/// Writers that each know what was acknowledged; then the node is killed, started again and looked
/// at.
fn killed(kills: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<Option<(Version, u64)>> = vec![None; 8];
    for round in 0..kills {
        let (mut child, address) = start(folder.path());
        let mut client = BlockingClient::new(&address, ClientOptions::default());
        for (writer, last) in acknowledged.iter().enumerate() {
            let Some((version, number)) = last else { continue };
            let object = client.get(&key(format!("w/{writer}"))).unwrap();
            let at =
                |number: u64| bytes(1 + usize::try_from(number * 37 % 40_000).unwrap(), number);
            // What was sent and not acknowledged may be there as well.
            let is_next = object.version > *version && object.value == at(number + 1);
            let is_last = object.version == *version && object.value == at(*number);
            assert!(is_next || is_last, "round {round}, writer {writer}: after write {number}");
        }
        let done = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..acknowledged.len())
            .map(|writer| {
                let (address, done) = (address.clone(), done.clone());
                let first = acknowledged[writer].map_or(0, |(_, number)| number);
                std::thread::spawn(move || {
                    let mut options = ClientOptions::default();
                    options.request_timeout = Duration::from_millis(500);
                    let mut client = BlockingClient::new(&address, options);
                    let name = key(format!("w/{writer}"));
                    let mut last = None;
                    for number in first + 1.. {
                        let len = 1 + usize::try_from(number * 37 % 40_000).unwrap();
                        // When it was killed this write may be there or not: the next life begins
                        // with the same number.
                        let Ok(version) = client.put(&name, bytes(len, number)) else { break };
                        last = Some((version, number));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    last
                })
            })
            .collect();
        // At some moment of its work, another one each time.
        while done.load(Ordering::Relaxed) < 200 + round * 371 % 500 {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for (last, writer) in acknowledged.iter_mut().zip(writers) {
            *last = writer.join().unwrap().or(*last);
        }
    }
    assert!(acknowledged.iter().all(Option::is_some), "every writer wrote something");
}

#[test]
fn a_killed_node_loses_nothing() {
    killed(5);
}

#[test]
#[ignore = "long: 60 kills"]
fn a_killed_node_loses_nothing_many_times() {
    killed(60);
}
