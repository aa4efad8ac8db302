//! PageRank over a graph that lies in a memory node, read in an order of its own.
//!
//! `graph [NODES]`: every node's list of successors is a record of a set, 16 records to an object.
//! Each round of PageRank reads all lists, those of the nodes with the most successors first, through
//! a cache that holds a quarter of the graph: once under LRU, once under the clairvoyant policy,
//! which has been told the order. The ranks are compared with those computed in memory.

#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::cast_possible_truncation, reason = "numbers of nodes, all under 2^32")]

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use cirrus_store::cache::evict::{Clairvoyant, Lru};
use cirrus_store::cache::{Cache, CacheOptions, Evict, Freshness};
use cirrus_store::iter::{Announced, Epochs, Order, Records, RecordsOptions, Share};
use cirrus_store::server::{NodeOptions, Server};
use cirrus_store::set::{Manifest, Set, SetName, pack};
use cirrus_store::{ByteSize, Client, ClientOptions};
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PACKING: u32 = 16;
const ROUNDS: u64 = 10;
const DAMPING: f64 = 0.85;

/// The nodes with the most successors first. A user's order: which record comes at a position.
#[derive(Debug)]
struct ByDegree {
    nodes: Vec<u64>,
}

impl ByDegree {
    fn new(graph: &[Vec<u32>]) -> Self {
        let mut nodes: Vec<u64> = (0..graph.len() as u64).collect();
        nodes.sort_by_key(|node| std::cmp::Reverse(graph[*node as usize].len()));
        Self { nodes }
    }
}

impl Order for ByDegree {
    fn len(&self) -> u64 {
        self.nodes.len() as u64
    }

    fn record(&self, position: u64) -> Option<u64> {
        self.nodes.get(usize::try_from(position).ok()?).copied()
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let nodes = std::env::args().nth(1).map_or(Ok(20_000), |nodes| nodes.parse())?;
    let graph = graph(nodes);
    let server = Server::bind("127.0.0.1:0", NodeOptions::new(ByteSize::mib(256))).await?;
    let address = server.local_address().ok_or("a server without an address")?.to_string();
    let ends = CancellationToken::new();
    let node = tokio::spawn(server.run(ends.clone()));
    let client = Client::new(&address, ClientOptions::default());

    let (set, bytes) = store(&client, &graph).await?;
    let edges: usize = graph.iter().map(Vec::len).sum();
    println!("{nodes} nodes, {edges} edges, {} objects, {bytes} bytes", set.manifest().objects());
    let expected = in_memory(&graph);
    let by_degree = Arc::new(ByDegree::new(&graph));
    let order: Arc<dyn Order> = Arc::new(Epochs::new(ROUNDS, move |_| by_degree.clone()));
    for knows in [false, true] {
        let announced = Announced::new(set.clone(), order.clone(), Share::WHOLE);
        let evict: Box<dyn Evict> = match knows {
            true => Box::new(Clairvoyant::new(announced.clone())),
            false => Box::new(Lru::new()),
        };
        let name = evict.name();
        let mut options = CacheOptions::default();
        options.freshness = Freshness::Immutable;
        options.evict = evict;
        let cache = Arc::new(Cache::new(client.clone(), ByteSize::new(bytes / 4), options));
        // Little ahead of the reader, so that the cache and not the reader keeps the objects.
        let mut options = RecordsOptions::default();
        options.ahead_size = ByteSize::new(bytes / 100);
        let records =
            Records::new(cache.clone(), set.clone(), order.clone(), 0..order.len(), options);
        let ranks = page_rank(nodes, records.announced(announced)).await?;
        let error = ranks.iter().zip(&expected).map(|(rank, other)| (rank - other).abs());
        let error = error.fold(0.0, f64::max) * nodes as f64;
        if error > 1e-9 {
            return Err(format!("{name}: ranks differ by {error:e} of their mean").into());
        }
        let counters = cache.counters();
        let reads = counters.hits + counters.misses;
        let ratio = counters.hits as f64 / reads as f64;
        println!("{name}: {reads} reads of objects, {ratio:.3} of them hits; ranks as in memory");
    }
    client.close().await;
    ends.cancel();
    node.await??;
    Ok(())
}

/// A graph of which a few nodes have most of the edges; the same for every run.
fn graph(nodes: usize) -> Vec<Vec<u32>> {
    let mut state = 1u64;
    let mut draw = |below: usize| {
        // Knuth's multiplier for a generator of this kind.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((u128::from(state) * below as u128) >> 64) as usize
    };
    let mut successors = |_: usize| -> Vec<u32> {
        let degree = 1 + draw(8) * draw(8);
        // The smaller of two: low numbers are popular.
        (0..degree).map(|_| draw(nodes).min(draw(nodes)) as u32).collect()
    };
    (0..nodes).map(&mut successors).collect()
}

/// Puts the graph into the set `graph`; the set, and how many bytes a cache needs for all of it.
async fn store(client: &Client, graph: &[Vec<u32>]) -> Outcome<(Set, u64)> {
    let count = graph.len() as u64;
    let manifest = Manifest::empty().with_count(count).with_packing(PACKING)?.sealed();
    let name = SetName::new("graph")?;
    let mut bytes = 0;
    for (object, lists) in (0..).zip(graph.chunks(PACKING as usize)) {
        let records: Vec<Vec<u8>> = lists
            .iter()
            .map(|list| list.iter().flat_map(|node| node.to_le_bytes()).collect())
            .collect();
        let value: Bytes = pack(&records)?;
        // About 500 for an entry, beside its value.
        bytes += value.len() as u64 + 500;
        client.put(&name.object_key(object), value).await?;
    }
    client.put(&name.manifest_key(), manifest.to_bytes()).await?;
    Ok((Set::new(name, manifest), bytes))
}

/// The ranks after [`ROUNDS`] rounds over the lists of successors as they are read.
async fn page_rank(nodes: usize, mut lists: Records<Cache<Client>>) -> Outcome<Vec<f64>> {
    let mut ranks = vec![1.0 / nodes as f64; nodes];
    for _ in 0..ROUNDS {
        let mut next = vec![(1.0 - DAMPING) / nodes as f64; nodes];
        for _ in 0..nodes {
            let list = lists.next().await.ok_or("fewer lists than nodes")??;
            let (successors, _) = list.bytes.as_chunks::<4>();
            let part = DAMPING * ranks[list.index as usize] / successors.len() as f64;
            for successor in successors {
                next[u32::from_le_bytes(*successor) as usize] += part;
            }
        }
        ranks = next;
    }
    Ok(ranks)
}

/// The same from the graph itself, node by node.
fn in_memory(graph: &[Vec<u32>]) -> Vec<f64> {
    let nodes = graph.len() as f64;
    let mut ranks = vec![1.0 / nodes; graph.len()];
    for _ in 0..ROUNDS {
        let mut next = vec![(1.0 - DAMPING) / nodes; graph.len()];
        for (rank, successors) in ranks.iter().zip(graph) {
            for successor in successors {
                next[*successor as usize] += DAMPING * rank / successors.len() as f64;
            }
        }
        ranks = next;
    }
    ranks
}
