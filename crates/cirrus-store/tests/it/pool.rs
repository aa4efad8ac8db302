//! A client's connections: how many, over which nodes, and for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use cirrus_store::server::{NodeHandle, Server};
use cirrus_store::{ByteSize, Client, ClientOptions, Kind, Version};
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::rig::{Node, bytes, key, options, quiet, until};

#[tokio::test]
async fn each_call_takes_the_least_loaded_connection() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(8)));
    let mut client_options = node.client_options();
    client_options.small_connections = 3;
    let client = Client::new("node", client_options);
    let connections = || node.handle.stats().connections;
    for _ in 0..10 {
        client.stat(&key("k")).await.unwrap_err();
    }
    assert_eq!(connections(), 1, "one after the other needs one");
    let waits = (0..9).map(|_| {
        let client = client.clone();
        tokio::spawn(
            async move { client.wait(&key("k"), Version(0), Duration::from_secs(60)).await },
        )
    });
    let waits: Vec<_> = waits.collect();
    until("three are open", || connections() == 3).await;
    client.put(&key("k"), "v").await.unwrap();
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
    assert_eq!(connections(), 3);
    client.close().await;
    until("none is open", || connections() == 0).await;
    node.stop().await;
}

/// A node in a thread of its own.
fn apart() -> (String, NodeHandle, CancellationToken, std::thread::JoinHandle<()>) {
    let cancel = CancellationToken::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let stop = cancel.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::bind("127.0.0.1:0", options(ByteSize::mib(64))).await.unwrap();
            sender.send((server.local_address().unwrap().to_string(), server.handle())).unwrap();
            server.run(stop).await.unwrap();
        });
    });
    let (address, handle) = receiver.recv().unwrap();
    (address, handle, cancel, thread)
}

#[test]
fn a_client_outlives_the_runtime_that_it_connected_in() {
    let (address, _, cancel, node) = apart();
    let client = Client::new(&address, ClientOptions::default());
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let version = first.block_on(client.put(&key("k"), "v")).unwrap();
    let other = client.clone();
    let waiting = first
        .spawn(async move { other.wait(&key("none"), Version(0), Duration::from_secs(60)).await });
    drop(first);
    let second = runtime();
    assert!(second.block_on(waiting).unwrap_err().is_cancelled());
    assert_eq!(second.block_on(client.get(&key("k"))).unwrap().version, version);
    cancel.cancel();
    node.join().unwrap();
}

#[tokio::test]
async fn a_damaged_value_is_found_unless_nobody_looks() {
    // A node that stores what it was sent has checked it; so the damage is done on the way back.
    let network = quiet();
    let node = Node::sim(&network, "node", options(ByteSize::mib(8)));
    let mut listener = cirrus_store::transport::Listener::Sim(network.listen("middle"));
    let far = node.endpoint.clone();
    tokio::spawn(async move {
        loop {
            let mut near = listener.accept().await.unwrap().open().unwrap();
            let mut far = far.connect().await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut near.reader, &mut far.writer).await;
            });
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = far.reader.read(&mut buffer).await {
                    // The payload is all of this byte, and nothing else has so many in a row.
                    let runs = buffer[..read].windows(40).position(|run| run == [b'x'; 40]);
                    if let Some(at) = runs {
                        buffer[at + 20] = b'y';
                    }
                    near.writer.write_all(&buffer[..read]).await.unwrap();
                }
            });
        }
    });
    let direct = node.client();
    for len in [100, 60_000, 300_000] {
        let value = Bytes::from(vec![b'x'; len]);
        direct.put(&key("k"), value.clone()).await.unwrap();
        let mut middle = node.client_options();
        let checks = Client::new("middle", middle.clone());
        let error = checks.get(&key("k")).await.unwrap_err();
        assert!(error.kind() == Kind::Corrupt && error.to_string().contains("`k`"), "{error}");
        let keys = [key("k"), key("k")];
        for object in checks.get_many(&keys).await {
            assert_eq!(object.unwrap_err().kind(), Kind::Corrupt);
        }
        middle.verifies = false;
        let trusts = Client::new("middle", middle);
        assert!(trusts.get(&key("k")).await.unwrap().value != value);
    }
    node.stop().await;
}

#[tokio::test]
async fn answers_that_nobody_waits_for_do_no_harm() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(64)));
    let client = node.client();
    let value = bytes(200_000, 1);
    client.put(&key("large"), value.clone()).await.unwrap();
    client.put(&key("small"), "v").await.unwrap();
    let mut versions = BTreeSet::new();
    for round in 0..500 {
        let _ = client.get(&key("large")).now_or_never();
        let _ = client.get(&key("small")).now_or_never();
        if round % 50 == 0 {
            let object = client.get(&key("large")).await.unwrap();
            assert!(object.value == value);
            versions.insert(object.version);
            assert_eq!(&client.get(&key("small")).await.unwrap().value[..], b"v");
        }
    }
    assert_eq!(versions.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn large_values_of_a_family_are_asked_for_once() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(8)));
    let client = node.client();
    let (large, small) = (Bytes::from(bytes(200_000, 3)), Bytes::from("small"));
    for (number, value) in [&large, &large, &small, &small, &large].into_iter().enumerate() {
        client.put(&key(format!("family/{number}")), value.clone()).await.unwrap();
    }
    let mut requests = Vec::new();
    for (number, value) in [&large, &large, &small, &small, &large].into_iter().enumerate() {
        let before = node.handle.stats().requests;
        assert_eq!(client.get(&key(format!("family/{number}"))).await.unwrap().value, value);
        requests.push(node.handle.stats().requests - before);
    }
    // The first of each kind comes as a surprise; for a small value that costs no request.
    assert_eq!(requests, [2, 1, 1, 1, 2]);
    client.close().await;
    node.stop().await;
}
