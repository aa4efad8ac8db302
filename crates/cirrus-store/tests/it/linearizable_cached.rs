//! Operations through caches are linearizable where versions are checked: histories of callers who
//! each share one of several caches over the same node.
//!
//! Each test plants mistakes too: a freshness that allows older answers must be found out.

use std::sync::Arc;
use std::time::Duration;

use cirrus_store::cache::{Cache, CacheOptions, Freshness};
use cirrus_store::transport::{SimFaults, SimNetwork};
use cirrus_store::{ByteSize, Client};

use crate::faults::simulate;
use crate::history::{Actor, Recorder, Workload};
use crate::linear::check;
use crate::model::Operation;
use crate::rig::{Node, Random, options};

/// Freshnesses that hand out what others have overwritten.
const STALE: [Freshness; 2] =
    [Freshness::Immutable, Freshness::TimeToLive(Duration::from_secs(600))];

/// Two callers for each cache, a cache for each client.
async fn recorded(clients: Vec<Client>, freshness: Freshness, seed: u64) -> Vec<Operation> {
    let recorder = Arc::new(Recorder::default());
    // Objects end by the wall clock, which virtual time does not follow: here they have ended at once.
    let workload = Arc::new(Workload { brief_ms: 0, batches: 0, ..Workload::all() });
    let (mut tasks, mut caches) = (Vec::new(), Vec::new());
    for (number, client) in (0..).zip(clients) {
        let mut options = CacheOptions::default();
        options.freshness = freshness;
        // The largest values of two keys do not fit beside each other.
        let cache = Cache::new(client, ByteSize::kib(120), options);
        for id in [2 * number, 2 * number + 1] {
            let (recorder, workload, cache) = (recorder.clone(), workload.clone(), cache.clone());
            tasks.push(tokio::spawn(async move {
                let mut actor = Actor::new(id, &recorder, &workload, Random(seed * 1000 + id));
                for _ in 0..300 {
                    actor.step_cached(&cache).await;
                }
            }));
        }
        caches.push(cache);
    }
    for task in tasks {
        task.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    let (mut hits, mut misses) = (0, 0);
    for cache in caches {
        cache.close().await;
        cache.source().close().await;
        let counters = cache.counters();
        (hits, misses) = (hits + counters.hits, misses + counters.misses);
    }
    assert!(hits > 20 && misses > 20, "seed {seed}: {hits} hits, {misses} misses");
    recorder.take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_that_check_versions_are_linearizable() {
    for (seed, freshness) in (0..).zip([Freshness::VersionCheck].into_iter().chain(STALE)) {
        let node = Node::tcp(options(ByteSize::mib(64))).await;
        let clients = (0..3).map(|_| Client::new(&node.address, node.client_options()));
        let history = recorded(clients.collect(), freshness, seed).await;
        node.stop().await;
        assert!(history.len() > 1500, "{} operations", history.len());
        let violation = check(&history).err();
        assert_eq!(violation.is_some(), STALE.contains(&freshness), "{freshness:?}: {violation:?}");
    }
}

/// One seed in virtual time, with delays and cuts.
async fn over_sim(seed: u64, freshness: Freshness) -> Vec<Operation> {
    let delay_max = Duration::from_millis(1 + seed % 5);
    let faults = SimFaults { seed, delay_max, cut_after_bytes_max: 300_000 };
    let network = SimNetwork::new(faults);
    let node = Node::sim(&network, "node", options(ByteSize::mib(64)));
    let clients = (0..2 + seed % 2).map(|_| Client::new("node", node.client_options()));
    let history = recorded(clients.collect(), freshness, seed).await;
    node.stop().await;
    history
}

#[test]
fn so_are_they_over_the_simulated_network() {
    for seed in 0..12 {
        let history = simulate(over_sim(seed, Freshness::VersionCheck));
        if let Err(violation) = check(&history) {
            panic!("seed {seed}: {violation}");
        }
        let freshness = STALE[usize::from(seed % 2 == 0)];
        let history = simulate(over_sim(seed, freshness));
        assert!(check(&history).is_err(), "seed {seed}: {freshness:?} is not found out");
    }
}
