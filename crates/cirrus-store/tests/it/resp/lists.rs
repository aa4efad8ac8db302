//! Clients that wait for items.

use std::time::{Duration, Instant};

use cirrus_store::ByteSize;

use super::client::Wire;
use crate::rig::{Node, key, options, until};

async fn node() -> Node {
    Node::tcp(options(ByteSize::new(64 << 20))).await
}

/// How many clients wait, as the node says.
fn blocked(address: &str) -> usize {
    let text = Wire::tcp(address).text(&["info", "clients"]);
    let line = text.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.unwrap().parse().unwrap()
}

fn until_blocked(address: &str, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while blocked(address) != count {
        assert!(Instant::now() < deadline, "{} clients wait", blocked(address));
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_first_is_served_first() {
    let node = node().await;
    let address = node.address.clone();
    tokio::task::spawn_blocking(move || {
        let mut waiting: Vec<Wire> = (0..4).map(|_| Wire::tcp(&address)).collect();
        for (index, wire) in waiting.iter_mut().enumerate() {
            let end = if index == 2 { "brpop" } else { "blpop" };
            wire.send(&[end, "other", "list", "0"]);
            until_blocked(&address, index + 1);
        }
        let mut pusher = Wire::tcp(&address);
        // Three items at once: one each, the third from the other end; then one that nobody else
        // can take although it asks in the same breath.
        assert_eq!(pusher.text(&["rpush", "list", "a", "b", "c"]), ":3\r\n");
        for (wire, item) in waiting.iter_mut().zip(["a", "b", "c"]) {
            let expected = format!("*2\r\n$4\r\nlist\r\n$1\r\n{item}\r\n");
            assert_eq!(wire.reply(), expected.as_bytes());
        }
        pusher.send_raw(b"lpush other d\r\nlpop other\r\nexists other list\r\n");
        assert_eq!(pusher.reply(), b":1\r\n");
        assert_eq!(pusher.reply(), b"$-1\r\n");
        assert_eq!(pusher.reply(), b":0\r\n");
        assert_eq!(waiting[3].reply(), b"*2\r\n$5\r\nother\r\n$1\r\nd\r\n");
        until_blocked(&address, 0);
        // The connection goes on with what was sent meanwhile.
        waiting[0].send_raw(b"blpop list 0\r\nping\r\n");
        until_blocked(&address, 1);
        assert_eq!(pusher.text(&["rpush", "list", "e"]), ":1\r\n");
        assert_eq!(waiting[0].reply(), b"*2\r\n$4\r\nlist\r\n$1\r\ne\r\n");
        assert_eq!(waiting[0].reply(), b"+PONG\r\n");
    })
    .await
    .unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_takes_nothing_with_it() {
    let node = node().await;
    let address = node.address.clone();
    tokio::task::spawn_blocking(move || {
        let mut first = Wire::tcp(&address);
        first.send(&["blpop", "list", "0"]);
        until_blocked(&address, 1);
        let mut second = Wire::tcp(&address);
        second.send(&["blpop", "list", "0"]);
        until_blocked(&address, 2);
        drop(first);
        until_blocked(&address, 1);
        let mut pusher = Wire::tcp(&address);
        assert_eq!(pusher.text(&["rpush", "list", "a"]), ":1\r\n");
        assert_eq!(second.reply(), b"*2\r\n$4\r\nlist\r\n$1\r\na\r\n");
        // One that is killed while it waits.
        let id = second.text(&["client", "id"]);
        let id = id.trim_start_matches(':').trim_end();
        second.send(&["blpop", "list", "0"]);
        until_blocked(&address, 1);
        assert_eq!(pusher.text(&["client", "kill", "id", id]), ":1\r\n");
        until_blocked(&address, 0);
        assert_eq!(pusher.text(&["rpush", "list", "b"]), ":1\r\n");
        assert_eq!(pusher.text(&["lrange", "list", "0", "-1"]), "*1\r\n$1\r\nb\r\n");
    })
    .await
    .unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_with_its_time() {
    let node = node().await;
    let address = node.address.clone();
    tokio::task::spawn_blocking(move || {
        let mut wire = Wire::tcp(&address);
        let began = Instant::now();
        assert_eq!(wire.text(&["blpop", "list", "other", "0.05"]), "*-1\r\n");
        assert!(began.elapsed() >= Duration::from_millis(49), "{:?}", began.elapsed());
        assert_eq!(wire.text(&["hello", "3"]).chars().next(), Some('%'));
        assert_eq!(wire.text(&["brpop", "list", "0.01"]), "_\r\n");
        assert_eq!(blocked(&address), 0);
    })
    .await
    .unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_native_push_reaches_who_waits() {
    let node = node().await;
    let address = node.address.clone();
    let client = node.client();
    let waiting = tokio::task::spawn_blocking(move || {
        let mut wire = Wire::tcp(&address);
        (0..50).map(|_| wire.text(&["blpop", "queue", "20"])).collect::<Vec<_>>()
    });
    for index in 0..50 {
        let item = format!("item-{index:02}");
        client.push(&key("queue"), item, 1 << 20).await.unwrap();
    }
    let got = waiting.await.unwrap();
    for (index, reply) in got.iter().enumerate() {
        assert_eq!(*reply, format!("*2\r\n$5\r\nqueue\r\n$7\r\nitem-{index:02}\r\n"));
    }
    client.close().await;
    node.stop().await;
}

/// Many who wait, many who push, some who leave: every item comes out once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_item_is_lost_or_doubled() {
    const PUSHERS: usize = 4;
    const ITEMS: usize = 300;
    let node = node().await;
    let address = node.address.clone();
    let got = tokio::task::spawn_blocking(move || {
        let mut threads = Vec::new();
        for pusher in 0..PUSHERS {
            let address = address.clone();
            threads.push(std::thread::spawn(move || {
                let mut wire = Wire::tcp(&address);
                for item in 0..ITEMS {
                    let item = format!("{pusher}-{item}");
                    assert!(wire.text(&["rpush", "jobs", &item]).starts_with(':'));
                }
                Vec::new()
            }));
        }
        for popper in 0..6 {
            let address = address.clone();
            threads.push(std::thread::spawn(move || {
                let mut got = Vec::new();
                loop {
                    // Some change their connection all the time, after a wait that came to nothing.
                    let mut wire = Wire::tcp(&address);
                    let timeout = if popper % 2 == 0 { "0.002" } else { "1" };
                    for _ in 0..20 {
                        let reply = wire.text(&["blpop", "empty", "jobs", timeout]);
                        match reply.split("\r\n").nth(4) {
                            Some(item) => got.push(item.to_owned()),
                            None if timeout == "1" => return got,
                            None => {}
                        }
                    }
                    if popper % 2 == 0 && wire.text(&["exists", "jobs"]) == ":0\r\n" {
                        return got;
                    }
                }
            }));
        }
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    })
    .await
    .unwrap();
    let mut expected: Vec<String> =
        (0..PUSHERS).flat_map(|p| (0..ITEMS).map(move |i| format!("{p}-{i}"))).collect();
    let mut got = got;
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
    until("nothing is left", || node.handle.stats().objects == 0).await;
    node.stop().await;
}
