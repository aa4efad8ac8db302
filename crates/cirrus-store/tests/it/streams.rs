//! Values that travel in parts: put while they are made, got while they are read.

use std::io::{self, Cursor};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cirrus_store::transport::{Endpoint, Listener, SimNetwork};
use cirrus_store::{
    BLOCK_BYTES, BlockingClient, ByteSize, Client, ClientOptions, Condition, Kind, PutOptions,
    Version,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::rig::{Node, bytes, key, options, quiet, until};

/// A value in chunks of these lengths, over and over.
fn chunks(value: &[u8], lens: &[usize]) -> Vec<io::Result<Bytes>> {
    let mut chunks = Vec::new();
    let (mut rest, mut lens) = (value, lens.iter().cycle());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(*lens.next().unwrap()));
        chunks.push(Ok(Bytes::copy_from_slice(chunk)));
        rest = after;
    }
    chunks
}

async fn round_trips(client: Client) {
    for (seed, len) in (0..).zip([0, 1, 65_535, 65_536, 65_537, 1 << 20, (5 << 20) + 77]) {
        let (name, value) = (key(format!("v/{len}")), bytes(len, seed));
        for lens in [&[1000, 70_000, 3][..], &[1 << 20], &[1 << 30]] {
            let source = stream::iter(chunks(&value, lens));
            let put = client.put_stream(&name, len as u64, source, PutOptions::default());
            let version = put.await.unwrap();
            let object = client.get(&name).await.unwrap();
            assert!(object.value == value && object.version == version, "{len} bytes");
        }
        let put = client.put_reader(&name, len as u64, &value[..], PutOptions::default());
        let version = put.await.unwrap();

        let got = client.get_stream(&name).await.unwrap();
        assert_eq!((got.version(), got.size(), got.expires_at()), (version, len as u64, None));
        let parts: Vec<Bytes> = got.try_collect().await.unwrap();
        assert!(parts.concat() == value, "{len} bytes");
        let whole = parts.split_last().map_or(&[][..], |(_, whole)| whole);
        assert!(whole.iter().all(|part| part.len().is_multiple_of(BLOCK_BYTES)));
        let mut read = Vec::new();
        client.get_stream(&name).await.unwrap().read_to_end(&mut read).await.unwrap();
        assert!(read == value, "{len} bytes");
    }
    let error = client.get_stream(&key("none")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_bring_what_was_put_over_tcp() {
    let node = Node::tcp(options(ByteSize::mib(256))).await;
    round_trips(node.client()).await;
    node.stop().await;
}

#[tokio::test]
async fn streams_bring_what_was_put_over_a_simulated_link() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(256)));
    round_trips(node.client()).await;
    node.stop().await;
}

#[tokio::test]
async fn a_value_shows_when_all_of_it_is_there() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(64)));
    let (client, name) = (node.client(), key("k"));
    let before = client.put(&name, "old").await.unwrap();
    let value = bytes(1 << 20, 1);
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
    let source = stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let (putter, other) = (client.clone(), name.clone());
    let put = tokio::spawn(async move {
        putter.put_stream(&other, 1 << 20, source, PutOptions::default()).await
    });
    for chunk in value.chunks(100_000) {
        sender.send(Ok(Bytes::copy_from_slice(chunk))).await.unwrap();
        assert_eq!(client.get(&name).await.unwrap().version, before, "a part of it is seen");
    }
    assert!(!put.is_finished());
    drop(sender);
    let version = put.await.unwrap().unwrap();
    let object = client.get(&name).await.unwrap();
    assert!(object.version == version && object.value == value);
    node.stop().await;
}

#[tokio::test]
async fn a_value_that_breaks_off_is_not_there_and_takes_no_memory() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(8)));
    let (client, name) = (node.client(), key("k"));
    client.put(&key("other"), "v").await.unwrap();
    let used = node.used_bytes();
    let value = bytes(3 << 20, 1);
    let put =
        |len, chunks| client.put_stream(&name, len, stream::iter(chunks), PutOptions::default());
    let error = put(3 << 20, chunks(&value[1..], &[70_000])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "too short: {error}");
    let error = put((3 << 20) - 1, chunks(&value, &[70_000])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "too long: {error}");
    let error = put(0, chunks(&value, &[70_000])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "too long: {error}");
    let mut broken = chunks(&value, &[1 << 20]);
    broken[2] = Err(io::Error::other("the disk is gone"));
    let error = put(3 << 20, broken).await.unwrap_err();
    assert!(error.kind() == Kind::Closed && error.to_string().contains("the disk"), "{error}");
    let error = put(9 << 20, chunks(&bytes(9 << 20, 1), &[1 << 20])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::OutOfMemory, "{error}");
    let error = put(1 << 40, Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge, "{error}");
    let absent = PutOptions { condition: Condition::IfAbsent, expires_at: None };
    let source = stream::iter(chunks(b"value", &[2]));
    let error = client.put_stream(&key("other"), 5, source, absent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongVersion);
    assert_eq!(client.get(&name).await.unwrap_err().kind(), Kind::NotFound);
    until("what was reserved is given back", || node.used_bytes() <= used).await;
    node.stop().await;
}

#[tokio::test]
async fn a_value_that_is_written_while_it_is_read_says_so() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(256)));
    let (client, name) = (node.client(), key("k"));
    client.put(&name, bytes(20 << 20, 1)).await.unwrap();
    let mut got = client.get_stream(&name).await.unwrap();
    got.next().await.unwrap().unwrap();
    let now = client.put(&name, bytes(20 << 20, 2)).await.unwrap();
    let error = loop {
        if let Err(error) = got.next().await.expect("the value does not end here") {
            break error;
        }
    };
    assert_eq!((error.kind(), error.detail()), (Kind::WrongVersion, now.0), "{error}");
    assert!(got.next().await.is_none(), "nothing follows an error");
    let mut got = client.get_stream(&name).await.unwrap();
    client.delete(&name).await.unwrap();
    let mut read = Vec::new();
    let error = got.read_to_end(&mut read).await.unwrap_err();
    assert!(read.len() < 20 << 20 && error.to_string().contains("not there"), "{error}");
    node.stop().await;
}

/// What the link in the middle does with the connection of the put that is on its way.
#[derive(Clone, Copy)]
enum Cut {
    /// The node gets all of it; its answer is lost.
    Answer,
    /// The node gets all but the table until `late` says so; the client sees the link fail.
    Table,
}

/// A name that leads to the node, but for the second connection, which is cut in this way.
/// What is sent when the node has answered a late table.
async fn in_the_middle(
    network: &SimNetwork,
    cut: Cut,
    late: oneshot::Receiver<()>,
) -> oneshot::Receiver<BytesMut> {
    let mut listener = Listener::Sim(network.listen("middle"));
    let network = network.clone();
    let (told, telling) = oneshot::channel();
    tokio::spawn(async move {
        let (mut late, mut told) = (Some(late), Some(told));
        for number in 0.. {
            let mut near = listener.accept().await.unwrap().open().unwrap();
            let mut far = Endpoint::Sim(network.clone(), "node".into()).connect().await.unwrap();
            if number != 1 {
                tokio::spawn(async move {
                    let there = tokio::io::copy(&mut near.reader, &mut far.writer);
                    let back = tokio::io::copy(&mut far.reader, &mut near.writer);
                    let _ = tokio::join!(there, back);
                });
                continue;
            }
            let mut buffer = [0; 56];
            let mut hello = [0; 48];
            near.reader.read_exact(&mut hello).await.unwrap();
            far.writer.write_all(&hello).await.unwrap();
            far.reader.read_exact(&mut buffer).await.unwrap();
            near.writer.write_all(&buffer).await.unwrap();
            // Head with a body of 32 bytes and a key of one, two blocks, and their table.
            let mut frame = vec![0; 32 + 32 + 1 + 2 * BLOCK_BYTES + 8];
            near.reader.read_exact(&mut frame).await.unwrap();
            let (first, table) = frame.split_at(frame.len() - 8);
            far.writer.write_all(first).await.unwrap();
            match cut {
                Cut::Answer => {
                    far.writer.write_all(table).await.unwrap();
                    far.reader.read_exact(&mut buffer[..40]).await.unwrap();
                }
                Cut::Table => {
                    let (late, told) = (late.take().unwrap(), told.take().unwrap());
                    let table = table.to_vec();
                    tokio::spawn(async move {
                        late.await.unwrap();
                        far.writer.write_all(&table).await.unwrap();
                        let mut answer = BytesMut::new();
                        far.reader.read_buf(&mut answer).await.unwrap();
                        told.send(answer).unwrap();
                    });
                }
            }
        }
    });
    telling
}

#[tokio::test]
async fn a_lost_answer_is_asked_for() {
    let network = quiet();
    let node = Node::sim(&network, "node", options(ByteSize::mib(64)));
    let (_late, never) = oneshot::channel();
    let _told = in_the_middle(&network, Cut::Answer, never).await;
    let client = Client::new("middle", node.client_options());
    let value = bytes(2 * BLOCK_BYTES, 1);
    let (name, len) = (key("k"), value.len() as u64);
    let put = client.put_reader(&name, len, &value[..], PutOptions::default());
    let version = put.await.unwrap();
    let object = node.client().get(&key("k")).await.unwrap();
    assert!(object.version == version && object.value == value);
    node.stop().await;
}

#[tokio::test]
async fn a_put_that_was_given_up_is_void_when_it_comes_late() {
    let network = quiet();
    let node = Node::sim(&network, "node", options(ByteSize::mib(64)));
    let (late, now) = oneshot::channel();
    let told = in_the_middle(&network, Cut::Table, now).await;
    let client = Client::new("middle", node.client_options());
    let value = bytes(2 * BLOCK_BYTES, 1);
    let (name, len) = (key("k"), value.len() as u64);
    let put = client.put_reader(&name, len, &value[..], PutOptions::default());
    let error = put.await.unwrap_err();
    assert_eq!(error.kind(), Kind::Closed, "it was not applied, and that is known: {error}");
    late.send(()).unwrap();
    let answer = told.await.unwrap();
    assert_eq!(answer[0], 0xFF, "the node carried a void put out");
    assert_eq!(node.client().get(&key("k")).await.unwrap_err().kind(), Kind::NotFound);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blocking_client_has_the_same_operations() {
    let mut node_options = options(ByteSize::mib(64));
    node_options.limits.value_bytes_max = 16 << 20;
    let node = Node::tcp(node_options).await;
    let address = node.address.clone();
    tokio::task::spawn_blocking(move || {
        let mut client = BlockingClient::new(&address, ClientOptions::default());
        values_and_conditions(&mut client);
        queues_and_waits(&mut client);
        many_at_once(&mut client);
        parts(&mut client);
    })
    .await
    .unwrap();
    node.stop().await;
}

fn values_and_conditions(client: &mut BlockingClient) {
    let name = key("k");
    for len in [0, 1, 16_384, 16_385, 200_000] {
        let value = bytes(len, 7);
        let version = client.put(&name, value.clone()).unwrap();
        let object = client.get(&name).unwrap();
        assert!(object.value == value && object.version == version, "{len} bytes");
        assert!(client.get_if_newer(&name, version).unwrap().is_none());
        assert!(client.get_if_newer(&name, Version(version.0 - 1)).unwrap().is_some());
    }
    let part = client.get_range(&name, 70_001, 65_536).unwrap();
    assert!(part.value == bytes(200_000, 7)[70_001..][..65_536]);
    let version = client.stat(&name).unwrap().version;
    let only_if = |condition| PutOptions { condition, expires_at: None };
    let error = client.put_with(&name, "v", only_if(Condition::IfAbsent)).unwrap_err();
    assert_eq!((error.kind(), error.detail()), (Kind::WrongVersion, version.0));
    client.put_with(&name, "v", only_if(Condition::IfVersion(version))).unwrap();
    let error = client.delete_with(&name, Condition::IfVersion(version)).unwrap_err();
    assert_eq!(error.kind(), Kind::WrongVersion);
    client.delete(&name).unwrap();
    let error = client.put(&name, bytes(17 << 20, 1)).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert!(client.stats().unwrap().starts_with(b"{"));
}

fn queues_and_waits(client: &mut BlockingClient) {
    let name = key("q");
    assert_eq!(client.pop(&name).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(client.push(&name, "one", 100).unwrap(), 1);
    assert_eq!(client.push(&name, bytes(20_000, 1), 1 << 20).unwrap(), 2);
    assert_eq!(&client.pop(&name).unwrap()[..], b"one");
    assert!(client.pop(&name).unwrap() == bytes(20_000, 1));
    assert_eq!(client.add(&key("n"), 4).unwrap(), 4);
    let version = client.wait(&key("n"), Version(0), Duration::from_secs(5)).unwrap().version;
    let error = client.wait(&key("n"), version, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
}

fn many_at_once(client: &mut BlockingClient) {
    let names: Vec<_> = (0..1200).map(|n| key(format!("many/{n}"))).collect();
    let value = |n: usize| Bytes::from(bytes(if n == 600 { 3 << 20 } else { n }, n as u64));
    let objects: Vec<_> = names.iter().cloned().zip((0..).map(value)).collect();
    client.put_many(&objects).into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
    client.delete(&names[7]).unwrap();
    for (n, object) in client.get_many(&names).into_iter().enumerate() {
        match n {
            7 => assert_eq!(object.unwrap_err().kind(), Kind::NotFound),
            _ => assert!(object.unwrap().value == value(n), "item {n}"),
        }
    }
    assert_eq!(client.list(b"many/").unwrap().len(), 1199);
    let deleted = client.delete_many(&names);
    assert_eq!(deleted.iter().filter(|deleted| deleted.is_err()).count(), 1);
}

fn parts(client: &mut BlockingClient) {
    let name = key("parts");
    for len in [0, 5, (3 << 20) + 9] {
        let value = bytes(len, 3);
        let mut source = Cursor::new(&value);
        let options = PutOptions::default();
        let version = client.put_reader(&name, len as u64, &mut source, options).unwrap();
        let mut read = Vec::new();
        assert_eq!(client.get_to(&name, &mut read).unwrap(), version);
        assert!(read == value, "{len} bytes");
    }
    let before = client.stat(&name).unwrap();
    let error = client.put_reader(&name, 100_000, &mut &[1; 99_999][..], PutOptions::default());
    assert_eq!(error.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(client.stat(&name).unwrap(), before);
}
