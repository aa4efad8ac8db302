//! Retries over a network that delays and cuts, under many seeds: nothing is applied twice, and
//! nothing that was acknowledged is lost.
//!
//! Every failure names its seed; the same seed gives the same faults in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cirrus_store::transport::{Endpoint, Incoming, Listener, SimFaults, SimNetwork};
use cirrus_store::wire::{ClientHello, Limits, Reply, Request, ServerHello, Status, Write};
use cirrus_store::{ByteSize, Client, Condition, Kind, PutOptions, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::Raw;
use crate::rig::{Node, Random, bytes, key, options, quiet, until};

const CLIENTS: u64 = 4;
const ROUNDS: u64 = 25;

/// What the clients have seen.
#[derive(Debug, Default)]
struct History {
    added: i64,
    added_perhaps: Vec<i64>,
    pushed: BTreeSet<Bytes>,
    pushed_perhaps: BTreeSet<Bytes>,
    popped: Vec<Bytes>,
    popped_perhaps: usize,
    appended: BTreeSet<String>,
    appended_perhaps: BTreeSet<String>,
    /// Answered with `WrongVersion`: never to be seen.
    refused: BTreeSet<String>,
    objects: BTreeMap<String, Bytes>,
    unknown: usize,
}

/// What the node holds when all is quiet.
#[derive(Debug, Default)]
struct Rest {
    sum: i64,
    queue: Vec<Bytes>,
    cell: Vec<String>,
}

/// Checks a history against what is there at the end; says what is wrong.
fn check(history: &History, rest: &Rest) -> Result<(), String> {
    let mut sums = BTreeSet::from([history.added]);
    for perhaps in &history.added_perhaps {
        sums.extend(sums.clone().into_iter().map(|sum| sum + perhaps));
    }
    if !sums.contains(&rest.sum) {
        return Err(format!(
            "the sum is {}, the acknowledged adds are {}",
            rest.sum, history.added
        ));
    }
    let mut seen = BTreeSet::new();
    for item in history.popped.iter().chain(&rest.queue) {
        if !seen.insert(item.clone()) {
            return Err(format!("{item:?} came twice"));
        }
        if !history.pushed.contains(item) && !history.pushed_perhaps.contains(item) {
            return Err(format!("{item:?} came and was never pushed"));
        }
    }
    let lost = history.pushed.iter().filter(|item| !seen.contains(*item)).count();
    if lost > history.popped_perhaps {
        return Err(format!("{lost} items are lost, {} pops unknown", history.popped_perhaps));
    }
    let cell: BTreeSet<&String> = rest.cell.iter().collect();
    if cell.len() != rest.cell.len() {
        return Err(format!("a put was applied twice: {:?}", rest.cell));
    }
    for word in &history.appended {
        if !cell.contains(word) {
            return Err(format!("{word} was acknowledged and is not there"));
        }
    }
    for word in &rest.cell {
        if history.refused.contains(word) {
            return Err(format!("{word} was refused and is there"));
        }
    }
    Ok(())
}

/// Runs a future in virtual time, on one thread: the same order every time.
pub(crate) fn simulate<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(work)
}

fn faults(seed: u64) -> SimFaults {
    let cut_after_bytes_max = [3_000, 8_000, 40_000, 300_000][usize::try_from(seed % 4).unwrap()];
    let delay_max = Duration::from_millis([0, 1, 20][usize::try_from(seed % 3).unwrap()]);
    let mut faults = SimFaults::default();
    (faults.seed, faults.delay_max, faults.cut_after_bytes_max) =
        (seed, delay_max, cut_after_bytes_max);
    faults
}

async fn one_step(
    client: &Client,
    (id, round): (u64, u64),
    faults: SimFaults,
    random: &mut Random,
    all: &Mutex<History>,
) {
    let unknown = |error: &cirrus_store::Error| {
        assert_eq!(error.kind(), Kind::Unknown, "{error}");
        all.lock().unwrap().unknown += 1;
    };
    match random.below(5) {
        0 => {
            let delta = i64::try_from(1 + random.below(1000)).unwrap();
            match client.add(&key("sum"), delta).await {
                Ok(_) => all.lock().unwrap().added += delta,
                Err(error) => {
                    unknown(&error);
                    all.lock().unwrap().added_perhaps.push(delta);
                }
            }
        }
        1 => {
            let item = Bytes::from(format!("{id}/{round}"));
            match client.push(&key("queue"), item.clone(), u64::MAX).await {
                Ok(_) => drop(all.lock().unwrap().pushed.insert(item)),
                Err(error) => {
                    unknown(&error);
                    all.lock().unwrap().pushed_perhaps.insert(item);
                }
            }
        }
        2 => match client.pop(&key("queue")).await {
            Ok(item) => all.lock().unwrap().popped.push(item),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => {
                unknown(&error);
                all.lock().unwrap().popped_perhaps += 1;
            }
        },
        3 => append(client, format!("{id}.{round}"), all).await,
        _ => {
            let name = |n: usize| format!("object/{id}/{round}/{n}");
            // The last one is over what travels inline, over the large lane, where cuts allow it.
            let scale = if faults.cut_after_bytes_max > 100_000 { 35_000 } else { 150 };
            let value = |n: usize| Bytes::from(bytes(n * scale, round));
            let objects = (0..3).map(|n| (key(name(n)), value(n))).collect();
            for (n, put) in (0..).zip(client.put_many(objects).await) {
                match put {
                    Ok(_) => drop(all.lock().unwrap().objects.insert(name(n), value(n))),
                    Err(error) => unknown(&error),
                }
            }
        }
    }
}

/// Reads a list of words, adds one, and puts it back if nobody else has meanwhile.
async fn append(client: &Client, word: String, all: &Mutex<History>) {
    let (text, condition) = match client.get(&key("cell")).await {
        Ok(cell) => {
            let text = String::from_utf8(cell.value.to_vec()).unwrap();
            (format!("{text} {word}"), Condition::IfVersion(cell.version))
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::NotFound, "{error}");
            (word.clone(), Condition::IfAbsent)
        }
    };
    let put = PutOptions { condition, expires_at: None };
    let put = client.put_with(&key("cell"), text, put).await;
    let mut all = all.lock().unwrap();
    match put {
        Ok(_) => drop(all.appended.insert(word)),
        Err(error) if error.kind() == Kind::WrongVersion => drop(all.refused.insert(word)),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Unknown, "{error}");
            all.unknown += 1;
            all.appended_perhaps.insert(word);
        }
    }
}

/// Several clients through one seed's faults; the history and what is there at the end.
async fn soak(seed: u64) -> (History, Rest) {
    let network = SimNetwork::new(faults(seed));
    let node = Node::sim(&network, "node", options(ByteSize::mib(64)));
    let all = Arc::new(Mutex::new(History::default()));
    let mut tasks = Vec::new();
    for id in 0..CLIENTS {
        let mut options = node.client_options();
        options.request_timeout = Duration::from_secs(60);
        let (client, all) = (Client::new("node", options), all.clone());
        tasks.push(tokio::spawn(async move {
            let mut random = Random(seed * 31 + id);
            for round in 0..ROUNDS {
                one_step(&client, (id, round), faults(seed), &mut random, &all).await;
            }
            client.close().await;
        }));
    }
    for task in tasks {
        task.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    network.set_faults(SimFaults::default());
    let client = node.client();
    let mut rest = Rest { sum: client.add(&key("sum"), 0).await.unwrap(), ..Rest::default() };
    while let Ok(item) = client.pop(&key("queue")).await {
        rest.queue.push(item);
    }
    if let Ok(cell) = client.get(&key("cell")).await {
        let text = String::from_utf8(cell.value.to_vec()).unwrap();
        rest.cell = text.split(' ').map(str::to_owned).collect();
    }
    let history = std::mem::take(&mut *all.lock().unwrap());
    for (name, value) in &history.objects {
        let object = client.get(&key(name.as_str())).await;
        assert!(object.is_ok_and(|object| object.value == *value), "seed {seed}: {name}");
    }
    client.close().await;
    node.stop().await;
    (history, rest)
}

#[test]
fn nothing_is_lost_or_applied_twice_under_any_seed() {
    // The long form: CIRRUS_SEEDS=5000. One of them: CIRRUS_SEED=n.
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().unwrap());
    let seeds = match number("CIRRUS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CIRRUS_SEEDS").unwrap_or(120),
    };
    let (mut unknown, mut done) = (0, 0);
    for seed in seeds.clone() {
        let (history, rest) = simulate(soak(seed));
        check(&history, &rest).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        unknown += history.unknown;
        done += history.popped.len() + history.appended.len() + history.objects.len();
    }
    let count = seeds.count();
    assert!(done > 10 * count, "only {done} operations came through");
    // The node never restarts and the time is long, so hardly any write stays in doubt.
    assert!(unknown <= count / 6, "{unknown} writes are in doubt");
}

/// Adds and pops with retries, by hand: under the same name again or, wrongly, under a new one.
async fn by_hand(seed: u64, renames: bool) -> (History, Rest) {
    let mut faults = faults(seed);
    faults.cut_after_bytes_max = 600;
    let network = SimNetwork::new(faults);
    let node = Node::sim(&network, "node", options(ByteSize::mib(64)));
    let mut history = History::default();
    let mut raw: Option<Raw> = None;
    let mut sequence = 0;
    for round in 0..60 {
        sequence += 1;
        let mut retry = false;
        loop {
            let write = Write { sequence, acknowledged: sequence - 1, retry };
            let request = Request::Add { key: key("sum"), write, delta: 1 };
            let reply = match raw.take() {
                Some(mut open) => {
                    let reply = open.call(&request).await;
                    raw = reply.is_ok().then_some(open);
                    reply
                }
                None => {
                    raw = Raw::open(&node.endpoint, 77).await.ok();
                    continue;
                }
            };
            match reply {
                Ok(Reply::Added { .. }) => break history.added += 1,
                Ok(other) => panic!("seed {seed}, round {round}: {other:?}"),
                Err(_) if renames => sequence += 1,
                Err(_) => retry = true,
            }
        }
    }
    network.set_faults(SimFaults::default());
    let sum = node.client().add(&key("sum"), 0).await.unwrap();
    (history, Rest { sum, ..Rest::default() })
}

#[test]
fn the_check_finds_a_client_that_renames_its_retries() {
    let caught = |renames| {
        let wrong = (0..40).filter(|seed| {
            let (history, rest) = simulate(by_hand(*seed, renames));
            check(&history, &rest).is_err()
        });
        wrong.count()
    };
    assert_eq!(caught(false), 0, "a client that keeps to the rules is found wanting");
    assert!(caught(true) > 10, "the planted fault is not found");
}

/// An add to a node that is replaced by an empty one as soon as it has applied something.
async fn restarted(seed: u64) -> Option<Kind> {
    let mut faults = SimFaults::default();
    (faults.seed, faults.cut_after_bytes_max) = (seed, 300);
    let network = SimNetwork::new(faults);
    let first = Node::sim(&network, "node", options(ByteSize::mib(64)));
    let client = first.client();
    let writer = client.clone();
    let adding = tokio::spawn(async move { writer.add(&key("sum"), 1).await });
    until("the add is applied", || first.handle.stats().requests > 0).await;
    first.stop().await;
    network.set_faults(SimFaults::default());
    let second = Node::sim(&network, "node", options(ByteSize::mib(64)));
    let added = adding.await.unwrap();
    assert_eq!(second.handle.stats().objects, 0, "seed {seed}: it was sent again");
    assert_eq!(client.add(&key("sum"), 1).await.unwrap(), 1, "seed {seed}: new writes go on");
    client.close().await;
    second.stop().await;
    added.err().map(|error| error.kind())
}

#[test]
fn a_write_in_doubt_at_a_restart_is_unknown() {
    let answers: Vec<Option<Kind>> = (0..60).map(|seed| simulate(restarted(seed))).collect();
    let unknown = answers.iter().filter(|kind| **kind == Some(Kind::Unknown)).count();
    let answered = answers.iter().filter(|kind| kind.is_none()).count();
    assert_eq!(unknown + answered, answers.len(), "{answers:?}");
    assert!(unknown > 5 && answered > 5, "{unknown} unknown, {answered} answered");
}

#[tokio::test]
async fn a_condition_from_before_a_restart_does_not_hold_after_it() {
    let network = quiet();
    let node = Node::sim(&network, "node", options(ByteSize::mib(16)));
    let (name, mut before) = (key("counted"), Vec::new());
    for _ in 0..50 {
        before.push(node.client().put(&name, "before").await.unwrap());
    }
    let node = node.restarted().await;
    let client = node.client();
    for old in before {
        let now = client.put(&name, "after").await.unwrap();
        assert!(now > old, "{now} after {old}");
        let stale = PutOptions { condition: Condition::IfVersion(old), ..PutOptions::default() };
        let refused = client.put_with(&name, "stale", stale).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::WrongVersion, "{refused}");
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn results_are_kept_for_their_session_and_no_longer() {
    let network = quiet();
    let mut options = options(ByteSize::mib(64));
    options.session_idle = Duration::ZERO;
    options.sweep_interval = Duration::from_millis(10);
    let node = Node::sim(&network, "node", options);
    let add = |sequence, acknowledged, retry| {
        let write = Write { sequence, acknowledged, retry };
        Request::Add { key: key("n"), write, delta: 1 }
    };
    let added = |reply: Reply| match reply {
        Reply::Added { value, .. } => value,
        other => panic!("{other:?}"),
    };
    let kind = |reply: Reply| match reply {
        Reply::Failed(fault) => fault.kind,
        other => panic!("{other:?}"),
    };
    let mut one = Raw::open(&node.endpoint, 5).await.unwrap();
    let mut two = Raw::open(&node.endpoint, 5).await.unwrap();
    let life = |raw: &Raw| raw.hello.as_ref().unwrap().session_life;
    assert_eq!(life(&one), life(&two));
    assert_eq!(added(one.call(&add(1, 0, false)).await.unwrap()), 1);
    assert_eq!(added(two.call(&add(1, 0, true)).await.unwrap()), 1, "over another connection");
    assert_eq!(added(two.call(&add(2, 1, false)).await.unwrap()), 2);
    assert_eq!(kind(one.call(&add(1, 0, true)).await.unwrap()), Kind::Unknown, "acknowledged");
    // A refusal of a repeated write is final, for the copy that comes late too.
    let put = |retry| Request::Put {
        key: key("n"),
        write: Write { sequence: 3, acknowledged: 2, retry },
        condition: Condition::IfAbsent,
        expires_at: 0,
        value: Bytes::new(),
        sums: cirrus_store::Sums::default(),
    };
    assert_eq!(kind(one.call(&put(true)).await.unwrap()), Kind::WrongVersion);
    let other = node.client();
    other.delete(&key("n")).await.unwrap();
    assert_eq!(kind(two.call(&put(false)).await.unwrap()), Kind::WrongVersion);
    assert_eq!(other.get(&key("n")).await.unwrap_err().kind(), Kind::NotFound);
    // Without connections the session is forgotten, and comes back as another.
    let before = life(&one);
    drop((one, two));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let again = Raw::open(&node.endpoint, 5).await.unwrap();
    assert_ne!(life(&again), before);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_applied_says_so_on_a_node_that_has_become_full() {
    let node = Node::sim(&quiet(), "node", options(ByteSize::mib(1)));
    let mut raw = Raw::open(&node.endpoint, 5).await.unwrap();
    let value = Bytes::from(bytes(700_000, 1));
    let put = |retry| Request::Put {
        key: key("k"),
        write: Write { sequence: 1, acknowledged: 0, retry },
        condition: Condition::Always,
        expires_at: 0,
        sums: cirrus_store::Sums::of(0, &value),
        value: value.clone(),
    };
    let Reply::Written { version } = raw.call(&put(false)).await.unwrap() else { panic!() };
    assert_eq!(raw.call(&put(true)).await.unwrap(), Reply::Written { version });
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_falls_silent_is_given_up() {
    let network = quiet();
    let mut listener = Listener::Sim(network.listen("mute"));
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let links = accepted.clone();
    let mute = tokio::spawn(async move {
        while let Ok(mut link) = listener.accept().await.and_then(Incoming::open) {
            let mut buffer = BytesMut::new();
            while ClientHello::take(&mut buffer).unwrap().is_none() {
                link.reader.read_buf(&mut buffer).await.unwrap();
            }
            let mut hello = BytesMut::new();
            ServerHello {
                version: 1,
                status: Status::Ok,
                features: 0,
                session_life: 1,
                incarnation: 1,
                epoch: 1,
                limits: Limits::default(),
            }
            .put(&mut hello);
            link.writer.write_all(&hello).await.unwrap();
            links.lock().unwrap().push(link);
        }
    });
    let Endpoint::Sim(network, _) = Endpoint::Sim(network, String::new()) else { panic!() };
    let mut options = cirrus_store::ClientOptions::default();
    options.network = Some(network);
    options.request_timeout = Duration::from_secs(8);
    let client = Client::new("mute", options);
    for round in 1..=3 {
        let error = client.get(&key("k")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        assert_eq!(accepted.lock().unwrap().len(), round, "each time it connects anew");
    }
    let error = client.put(&key("k"), "v").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unknown, "{error}");
    let waiting = client.wait(&key("k"), Version(0), Duration::from_secs(60)).await;
    assert_eq!(waiting.unwrap_err().kind(), Kind::Timeout);
    mute.abort();
}
