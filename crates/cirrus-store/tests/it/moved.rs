//! Clients of a pool whose slots move.

use std::time::Duration;

use cirrus_store::client::{ViewFuture, Views};
use cirrus_store::view::{NodeId, SlotRange, View, ViewNode};
use cirrus_store::{ByteSize, Client, ClientOptions, Kind, SLOTS, Version};
use tokio::sync::watch;

use crate::rig::{Node, key, options, quiet};

/// What a coordinator would be: a view that others can wait for.
#[derive(Debug)]
struct Board(watch::Sender<View>);

impl Views for Board {
    fn newer_than(&self, epoch: u32) -> ViewFuture<'_> {
        let mut news = self.0.subscribe();
        Box::pin(async move {
            let view = news.wait_for(|view| view.epoch > epoch).await.expect("the board is here");
            Ok(view.clone())
        })
    }
}

/// Two nodes; slots from `first_of_b` on belong to the second.
fn view(epoch: u32, nodes: [&Node; 2], first_of_b: u16) -> View {
    let nodes = nodes.iter().zip(0..);
    let nodes = nodes.map(|(node, id)| ViewNode { id: NodeId(id), address: node.address.clone() });
    let mut slots = Vec::new();
    if first_of_b > 0 {
        slots.push(SlotRange { first: 0, last: first_of_b - 1, node: NodeId(0) });
    }
    if first_of_b < SLOTS {
        slots.push(SlotRange { first: first_of_b, last: SLOTS - 1, node: NodeId(1) });
    }
    View { epoch, nodes: nodes.collect(), slots }
}

struct Pool {
    a: Node,
    b: Node,
    board: &'static Board,
    client: Client,
}

/// A `'static` board, so that both the client and the test hold it.
#[derive(Debug)]
struct Shared(&'static Board);

impl Views for Shared {
    fn newer_than(&self, epoch: u32) -> ViewFuture<'_> {
        self.0.newer_than(epoch)
    }
}

impl Pool {
    async fn new(first_of_b: u16, request_timeout: Duration) -> Self {
        let network = quiet();
        let a = Node::sim(&network, "a", options(ByteSize::mib(64)));
        let b = Node::sim(&network, "b", options(ByteSize::mib(64)));
        let first = view(2, [&a, &b], first_of_b);
        a.handle.set_view(NodeId(0), first.clone());
        b.handle.set_view(NodeId(1), first.clone());
        let board: &'static Board = Box::leak(Box::new(Board(watch::Sender::new(first))));
        let mut options = ClientOptions::default();
        options.network = Some(network);
        options.request_timeout = request_timeout;
        let client = Client::with_views(std::sync::Arc::new(Shared(board)), options).await.unwrap();
        Self { a, b, board, client }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_follows_slots_to_their_new_node() {
    let pool = Pool::new(SLOTS, Duration::from_secs(5)).await;
    let (one, two) = (key("one"), key("two"));
    let before = pool.client.put(&one, "a").await.unwrap();
    assert_eq!(pool.a.handle.stats().objects, 1);

    let next = view(3, [&pool.a, &pool.b], 0);
    pool.a.handle.set_view(NodeId(0), next.clone());
    pool.b.handle.set_view(NodeId(1), next.clone());
    pool.board.0.send_replace(next);
    let after = pool.client.put(&one, "b").await.unwrap();
    assert!(after > before && after >= Version(3 << 50), "{after} after {before}");
    assert_eq!(pool.b.handle.stats().objects, 1);
    let many = vec![(one.clone(), "c".into()), (two.clone(), "d".into())];
    for version in pool.client.put_many(many).await {
        version.unwrap();
    }
    assert_eq!(&pool.client.get(&one).await.unwrap().value[..], b"c");
    assert_eq!(pool.client.add(&key("n"), 2).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_cut_where_the_slots_are() {
    let pool = Pool::new(SLOTS / 2, Duration::from_secs(5)).await;
    let keys: Vec<_> = (0..300).map(|n| key(format!("object/{n}"))).collect();
    let objects = keys.iter().map(|key| (key.clone(), key.to_bytes())).collect();
    pool.client.put_many(objects).await.into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
    let (a, b) = (pool.a.handle.stats().objects, pool.b.handle.stats().objects);
    assert!(a > 50 && b > 50 && a + b == 300, "{a} + {b}");

    // A part moves while the client does not know: those items answer Moved and go on alone.
    let next = view(3, [&pool.a, &pool.b], SLOTS / 4);
    pool.a.handle.set_view(NodeId(0), next.clone());
    pool.b.handle.set_view(NodeId(1), next.clone());
    pool.board.0.send_replace(next);
    let objects: Vec<_> = keys.iter().map(|key| (key.clone(), key.to_bytes())).collect();
    pool.client.put_many(objects).await.into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
    for (key, object) in keys.iter().zip(pool.client.get_many(&keys).await) {
        assert_eq!(object.unwrap().value, key.to_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_until_the_view_that_a_node_knows_has_come() {
    let pool = Pool::new(SLOTS, Duration::from_secs(5)).await;
    let next = view(3, [&pool.a, &pool.b], 0);
    // The old holder knows already; the coordinator tells the client only later.
    pool.a.handle.set_view(NodeId(0), next.clone());
    let board = pool.board;
    let b = pool.b.handle.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        board.0.send_replace(next.clone());
        // And the new holder learns it last.
        tokio::time::sleep(Duration::from_secs(1)).await;
        b.set_view(NodeId(1), next);
    });
    pool.client.put(&key("k"), "v").await.unwrap();
    assert_eq!(pool.b.handle.stats().objects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_view_that_never_comes_ends_in_a_timeout() {
    let pool = Pool::new(SLOTS, Duration::from_secs(2)).await;
    pool.a.handle.set_view(NodeId(0), view(3, [&pool.a, &pool.b], 0));
    let error = pool.client.put(&key("k"), "v").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_client_of_one_node_is_told_that_the_slot_has_moved() {
    let pool = Pool::new(SLOTS, Duration::from_secs(2)).await;
    let alone = pool.a.client();
    alone.put(&key("k"), "v").await.unwrap();
    pool.a.handle.set_view(NodeId(0), view(7, [&pool.a, &pool.b], 0));
    let error = alone.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Moved, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_follows_its_slot() {
    let pool = Pool::new(SLOTS, Duration::from_secs(5)).await;
    let client = pool.client.clone();
    let waiting =
        tokio::spawn(
            async move { client.wait(&key("k"), Version(0), Duration::from_secs(60)).await },
        );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let next = view(3, [&pool.a, &pool.b], 0);
    pool.a.handle.set_view(NodeId(0), next.clone());
    pool.b.handle.set_view(NodeId(1), next.clone());
    pool.board.0.send_replace(next);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let version = pool.client.put(&key("k"), "v").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().version, version);
}

#[tokio::test(start_paused = true)]
async fn scans_go_from_node_to_node() {
    let pool = Pool::new(SLOTS / 3, Duration::from_secs(5)).await;
    let keys: Vec<_> = (0..500).map(|n| key(format!("s/{n}"))).collect();
    let objects = keys.iter().map(|key| (key.clone(), key.to_bytes())).collect();
    pool.client.put_many(objects).await.into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
    pool.client.put(&key("other"), "v").await.unwrap();
    // What a node has of slots that it does not hold is not there.
    let stray = (0..).map(|n| key(format!("s/stray/{n}")));
    let stray = stray.into_iter().find(|key| key.slot().number() >= SLOTS / 3).unwrap();
    let alone = View::single(9, "a");
    let far = pool.b.handle.stats().objects;
    for limit in [1, 7, 4096] {
        let mut seen = Vec::new();
        let mut from = (0, 0);
        while from.0 < SLOTS {
            let page = pool.client.scan(b"s/", from, limit).await.unwrap();
            assert!(page.next > from);
            from = page.next;
            seen.extend(page.items.into_iter().map(|item| item.key));
        }
        seen.sort();
        let mut expected = keys.clone();
        expected.sort();
        assert_eq!(seen, expected, "pages of {limit}");
    }
    assert_eq!(pool.client.list(b"").await.unwrap().len(), 501);
    let reports = pool.client.stats_of_nodes().await;
    let objects: Vec<u64> = reports
        .iter()
        .map(|report| {
            let json: serde_json::Value =
                serde_json::from_slice(report.stats.as_ref().unwrap()).unwrap();
            json["objects"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(reports.len(), 2);
    assert!(objects[0] > 0 && objects[1] == far && objects.iter().sum::<u64>() == 501);

    pool.a.handle.set_view(NodeId(0), alone);
    pool.a.client().put(&stray, "v").await.unwrap();
    assert_eq!(pool.client.list(b"s/").await.unwrap().len(), 500);
}
