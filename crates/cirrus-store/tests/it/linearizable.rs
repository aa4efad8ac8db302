//! Operations on one key are linearizable: recorded histories of many clients at once, checked.
//!
//! Over TCP, and over the simulated network with cuts and delays; with restarts of the node, after
//! which it is empty and has another incarnation. A failure prints its seed and the shortest prefix
//! that no order explains.

use std::sync::Arc;
use std::time::Duration;

use cirrus_store::segments::sim::SimDisk;
use cirrus_store::transport::{SimFaults, SimNetwork};
use cirrus_store::{BlockingClient, ByteSize, Client, ClientOptions};

use crate::faults::simulate;
use crate::history::{Actor, Recorder, Workload};
use crate::linear::{Violation, check};
use crate::model::{Action, Answer, Operation};
use crate::respclient::RespClient;
use crate::rig::{Node, Random, options, until, until_within};
use crate::tamper::{Middleman, Tampering};

/// How much is done over TCP.
struct Load {
    seed: u64,
    native: u64,
    blocking: u64,
    resp: u64,
    steps: u64,
    restarts: u32,
    in_doubt_max: usize,
}

fn client_options() -> ClientOptions {
    let mut options = ClientOptions::default();
    options.request_timeout = Duration::from_secs(20);
    options
}

/// Clients do what they do, at `address`; meanwhile the node is restarted.
async fn recorded(mut node: Node, address: &str, load: &Load) -> (Vec<Operation>, Node) {
    let recorder = Arc::new(Recorder::default());
    let workload = Workload { in_doubt_max: load.in_doubt_max, ..Workload::all() };
    let workload = Arc::new(workload);
    let mut tasks = Vec::new();
    for id in 0..load.native {
        let client = Client::new(address, client_options());
        // Two callers a client, so that requests of one connection overlap.
        for caller in 0..2 {
            let (recorder, workload, client) = (recorder.clone(), workload.clone(), client.clone());
            let (id, steps) = (id * 2 + caller, load.steps);
            let random = Random(load.seed * 1000 + id);
            tasks.push(tokio::spawn(async move {
                let mut actor = Actor::new(id, &recorder, &workload, random);
                for _ in 0..steps {
                    actor.step(&client).await;
                }
            }));
        }
    }
    for id in 100..100 + load.blocking {
        let (recorder, workload) = (recorder.clone(), workload.clone());
        let mut client = BlockingClient::new(address, client_options());
        let (steps, random) = (load.steps, Random(load.seed * 1000 + id));
        tasks.push(tokio::task::spawn_blocking(move || {
            let mut actor = Actor::new(id, &recorder, &workload, random);
            for _ in 0..steps {
                actor.step_blocking(&mut client);
            }
        }));
    }
    for id in 200..200 + load.resp {
        let (recorder, workload) = (recorder.clone(), workload.clone());
        // The middleman speaks frames only.
        let mut client = RespClient::new(&node.address);
        let (steps, random) = (load.steps, Random(load.seed * 1000 + id));
        tasks.push(tokio::task::spawn_blocking(move || {
            let mut actor = Actor::new(id, &recorder, &workload, random);
            for _ in 0..steps {
                actor.step_resp(&mut client);
            }
        }));
    }
    let callers = load.native * 2 + load.blocking + load.resp;
    let all = usize::try_from(callers * load.steps).unwrap();
    for number in 1..=usize::try_from(load.restarts).unwrap() {
        let from = all * number / (usize::try_from(load.restarts).unwrap() + 1);
        until("some operations are done", || recorder.len() >= from * 3 / 4).await;
        let begun = recorder.begin(u64::MAX >> 32);
        node = node.restarted().await;
        recorder.end(&begun, "", Action::Restart, Some(Answer::Done));
    }
    for task in tasks {
        task.await.unwrap();
    }
    (recorder.take(), node)
}

fn assert_linearizable(history: &[Operation], seed: u64) {
    if let Err(violation) = check(history) {
        panic!("seed {seed}: {violation}");
    }
}

/// How many operations there are, and how many of them with unknown answers.
fn counts(history: &[Operation]) -> (usize, usize) {
    let unknown = history.iter().filter(|operation| operation.answer == Answer::Unknown).count();
    (history.len(), unknown)
}

async fn over_tcp(load: Load, cut_every: u64) -> (usize, usize) {
    let node = Node::tcp(options(ByteSize::mib(64))).await;
    let middleman = Middleman::start(&node.address, Tampering::None, 0, cut_every).await;
    let (history, node) = recorded(node, &middleman.address, &load).await;
    middleman.stop().await;
    node.stop().await;
    assert_linearizable(&history, load.seed);
    counts(&history)
}

/// A node whose objects are on a disk, and whose power goes: what was answered stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_storage_node_with_power_cuts() {
    let load =
        Load { seed: 3, native: 3, blocking: 2, resp: 2, steps: 500, restarts: 4, in_doubt_max: 6 };
    let node = Node::storage(options(ByteSize::mib(8)), SimDisk::default()).await;
    let address = node.address.clone();
    let (history, node) = recorded(node, &address, &load).await;
    node.stop().await;
    let stays = |operation: &&Operation| operation.action != Action::Restart;
    let history: Vec<Operation> = history.iter().filter(stays).cloned().collect();
    assert_linearizable(&history, load.seed);
    let (done, unknown) = counts(&history);
    assert!(done > 3500, "{done} operations");
    assert!(unknown > 0, "nothing was ever in doubt: the power cuts do not bite");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_with_cuts_and_restarts() {
    let load = Load {
        seed: 1,
        native: 3,
        blocking: 2,
        resp: 2,
        steps: 700,
        restarts: 2,
        in_doubt_max: usize::MAX,
    };
    let (done, unknown) = over_tcp(load, 150).await;
    assert!(done > 5000, "{done} operations");
    assert!(unknown > 0, "nothing was ever in doubt: the faults do not bite");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_undisturbed() {
    let node = Node::tcp(options(ByteSize::mib(64))).await;
    let address = node.address.clone();
    let load = Load {
        seed: 2,
        native: 3,
        blocking: 2,
        resp: 2,
        steps: 1000,
        restarts: 0,
        in_doubt_max: usize::MAX,
    };
    let (history, node) = recorded(node, &address, &load).await;
    node.stop().await;
    assert_linearizable(&history, load.seed);
    assert!(counts(&history).0 > 7500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make accept"]
async fn over_tcp_with_cuts_and_restarts_for_long() {
    for seed in 0..40 {
        let load = Load {
            seed,
            native: 3,
            blocking: 2,
            resp: 2,
            steps: 700,
            restarts: 2,
            in_doubt_max: usize::MAX,
        };
        let (done, unknown) = over_tcp(load, 150 + seed * 20).await;
        assert!(done > 5000 && unknown > 0, "seed {seed}: {done} operations, {unknown} unknown");
    }
}

fn faults(seed: u64) -> SimFaults {
    SimFaults {
        seed,
        delay_max: Duration::from_millis([1, 5, 20][usize::try_from(seed % 3).unwrap()]),
        cut_after_bytes_max: [0, 4_000, 20_000, 200_000][usize::try_from(seed / 3 % 4).unwrap()],
    }
}

/// One seed's clients in virtual time; half of the seeds restart the node.
async fn over_sim(seed: u64) -> Vec<Operation> {
    let network = SimNetwork::new(faults(seed));
    let mut node = Node::sim(&network, "node", options(ByteSize::mib(64)));
    let recorder = Arc::new(Recorder::default());
    // Objects end by the wall clock, which does not follow the seed: here they have ended at once.
    let mut workload = Workload { brief_ms: 0, ..Workload::all() };
    if (1..=20_000).contains(&faults(seed).cut_after_bytes_max) {
        // No large value comes through: small ones only.
        workload.keys.retain(|name| !name.starts_with("value"));
        workload.batches = 0;
    }
    let workload = Arc::new(workload);
    let mut tasks = Vec::new();
    for id in 0..4 {
        let mut options = node.client_options();
        options.request_timeout = Duration::from_secs(30);
        let client = Client::new("node", options);
        let (recorder, workload) = (recorder.clone(), workload.clone());
        tasks.push(tokio::spawn(async move {
            let mut actor = Actor::new(id, &recorder, &workload, Random(seed * 31 + id));
            for _ in 0..50 {
                actor.step(&client).await;
            }
            client.close().await;
        }));
    }
    for number in 0..seed % 3 {
        let from = usize::try_from((number + 1) * 40).unwrap();
        // Cuts and delays may take long, in virtual time.
        let limit = Duration::from_secs(1800);
        until_within(limit, "some operations are done", || recorder.len() >= from).await;
        let begun = recorder.begin(u64::MAX >> 32);
        node = node.restarted().await;
        recorder.end(&begun, "", Action::Restart, Some(Answer::Done));
    }
    for task in tasks {
        task.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    node.stop().await;
    recorder.take()
}

fn over_seeds(seeds: std::ops::Range<u64>) -> (usize, usize) {
    let (mut all, mut unknown) = (0, 0);
    for seed in seeds {
        let history = simulate(over_sim(seed));
        assert_linearizable(&history, seed);
        let (done, in_doubt) = counts(&history);
        (all, unknown) = (all + done, unknown + in_doubt);
    }
    (all, unknown)
}

#[test]
fn over_the_simulated_network_with_cuts_delays_and_restarts() {
    let (all, unknown) = over_seeds(0..60);
    assert!(all > 10_000, "{all} operations");
    assert!(unknown > 20, "{unknown} unknown answers: the faults do not bite");
}

#[test]
#[ignore = "long: make accept"]
fn over_the_simulated_network_under_many_seeds() {
    let (all, unknown) = over_seeds(1000..4000);
    assert!(all > 400_000 && unknown > 1000, "{all} operations, {unknown} unknown");
}

/// Operations that may pass before a planted fault must have been found.
const BOUND: usize = 30_000;

/// Runs through a middleman until the checker complains: after how many operations, and what it
/// says.
async fn caught(tampering: Tampering, every: u64) -> Option<(usize, Box<Violation>)> {
    let mut done = 0;
    for seed in 0_u64.. {
        let node = Node::tcp(options(ByteSize::mib(64))).await;
        let middleman = Middleman::start(&node.address, tampering, every, 0).await;
        let load = Load {
            seed,
            native: 2,
            blocking: 1,
            resp: 0,
            steps: 150,
            restarts: 0,
            in_doubt_max: usize::MAX,
        };
        let (history, node) = recorded(node, &middleman.address, &load).await;
        let tampered = middleman.stop().await;
        node.stop().await;
        done += history.len();
        if let Err(violation) = check(&history) {
            assert!(tampered > 0, "{violation}");
            return Some((done, violation));
        }
        if done > BOUND {
            return None;
        }
    }
    None
}

macro_rules! planted {
    ($($name:ident: $tampering:ident 1 in $every:literal on $keys:expr,)*) => {
        mod planted {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let found = caught(Tampering::$tampering, $every).await;
                let (operations, violation) = found.expect("the planted fault is not found");
                eprintln!("found within {operations} operations:\n{violation}");
                let keys: &[&str] = &$keys;
                let is_there = keys.iter().any(|key| violation.key().starts_with(key));
                assert!(is_there, "another fault than the planted one: {violation}");
            })*
        }
    };
}

planted! {
    a_put_that_is_acknowledged_and_dropped: AcknowledgesPuts 1 in 6 on ["value", "number", "brief", "mixed"],
    a_write_that_is_applied_twice: AppliesTwice 1 in 6 on ["number", "queue", "mixed"],
    a_get_that_is_answered_with_an_older_value: AnswersOlder 1 in 6 on ["value", "number", "brief", "mixed"],
    two_items_of_a_queue_that_are_swapped: SwapsItems 1 in 6 on ["queue", "mixed"],
    a_value_that_outlives_its_end: KeepsExpired 1 in 1 on ["brief"],
    an_item_of_a_batch_that_is_forgotten: ForgetsBatchItems 1 in 6 on ["value"],
    a_put_that_is_granted_although_its_version_is_wrong:
        GrantsIfVersion 1 in 6 on ["value", "number", "brief", "mixed"],
}
