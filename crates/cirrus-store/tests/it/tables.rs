//! Tables of parameters over links: what arrives, and what failures leave of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cirrus_store::client::{Pull, Push, RowList, Stepper};
use cirrus_store::rule::{Optimizer, Penalty};
use cirrus_store::table::{Call, Initial, OBSERVER, TableSpec};
use cirrus_store::transport::{SimFaults, SimNetwork};
use cirrus_store::{ByteSize, Client, Kind};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::faults::simulate;
use crate::rig::{Node, Random, key, options, until};

const ROWS: u32 = 64;

/// With it a coordinate is less by each of its gradients.
fn spec(first_row: u32, columns: u32, staleness: Option<u32>) -> TableSpec {
    TableSpec {
        first_row,
        rows: ROWS,
        columns,
        initial: Initial::Zero,
        optimizer: Optimizer::Sgd,
        penalty: Penalty::default(),
        staleness,
        seat_ms: 3_000,
        generation: 1,
    }
}

fn pull(rows: RowList<'_>, read_for: u32) -> Pull<'_> {
    Pull { read_for, rows, patience: Duration::from_secs(600) }
}

fn push<'a>(rows: RowList<'a>, gradients: &'a [f32]) -> Push<'a> {
    Push { split: 0, minibatch: 0, rate: 1.0, rows, gradients, half: false }
}

async fn what_is_pushed_is_pulled(node: Node) {
    let (client, table) = (node.client(), key("model"));
    let missing = client.table(&table, &Call::Stand).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    // A row is 4,096 floats, so that all of them are 1 MiB, in the large lane.
    let columns = 4_096;
    client.table(&table, &Call::Open(spec(0, columns, None))).await.unwrap();
    let stand = client.table(&table, &Call::Join { worker: 9, clock: 0 }).await.unwrap();
    assert_eq!((stand.workers, stand.generation), (1, 1));
    let all = RowList::All(ROWS);
    let gradients: Vec<f32> = (0..ROWS * columns).map(|n| f32::from((n % 1_000) as u16)).collect();
    let stepper = Stepper { worker: 9, generation: 1, clock: 1 };
    let (stepped, values) =
        client.step(&table, stepper, Some(push(all, &gradients)), pull(all, 1)).await.unwrap();
    assert!(!stepped.repeated && stepped.slowest == 1);
    assert!(values.iter().eq(gradients.iter().map(|gradient| 0.0 - gradient)));
    // The same again, as bfloat16, and some rows.
    let rows = [5, 60];
    let half =
        Push { minibatch: 1, half: true, ..push(RowList::Named(&rows), &gradients[..8_192]) };
    let stepper = Stepper { clock: 2, ..stepper };
    let (_, values) =
        client.step(&table, stepper, Some(half), pull(RowList::Named(&rows), 2)).await.unwrap();
    let before = rows.iter().flat_map(|row| &gradients[(row * columns) as usize..][..4_096]);
    for ((value, before), gradient) in values.iter().zip(before).zip(&gradients) {
        let off = (value + before + gradient).abs();
        assert!(off <= gradient / 256.0, "{value} {before} {gradient}");
    }
    let wrong = pull(RowList::Named(&[ROWS]), 0);
    let observer = Stepper { worker: OBSERVER, generation: 1, clock: 0 };
    assert_eq!(client.step(&table, observer, None, wrong).await.unwrap_err().kind(), Kind::Invalid);
    let stranger = Stepper { worker: 10, ..stepper };
    let refused = client.step(&table, stranger, None, pull(all, 0)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.detail()), (Kind::WrongVersion, 1));
    // Objects of the same name are something else.
    assert_eq!(client.get(&table).await.unwrap_err().kind(), Kind::NotFound);
    node.stop().await;
}

#[tokio::test]
async fn what_is_pushed_is_pulled_over_tcp() {
    what_is_pushed_is_pulled(Node::tcp(options(ByteSize::mib(256))).await).await;
}

#[tokio::test]
async fn what_is_pushed_is_pulled_over_shared_memory() {
    what_is_pushed_is_pulled(Node::shm(options(ByteSize::mib(256))).await).await;
}

#[tokio::test]
async fn answers_are_paid_for_before_they_are_made() {
    let node = Node::tcp(options(ByteSize::mib(64))).await;
    let (client, table) = (node.client(), key("wide"));
    let wide = TableSpec { rows: 1 << 20, columns: 65_536, ..spec(0, 1, None) };
    client.table(&table, &Call::Open(wide)).await.unwrap();
    let observer = Stepper { worker: OBSERVER, generation: 1, clock: 0 };
    // 16,384 rows in 64 KiB of request would be 4 GiB of answer.
    let rows: Vec<u32> = (0..16_384).collect();
    let asked = client.step(&table, observer, None, pull(RowList::Named(&rows), 0)).await;
    assert_eq!(asked.unwrap_err().kind(), Kind::TooLarge);
    assert!(node.used_bytes() < 8 << 20, "{}", node.used_bytes());
    node.stop().await;
}

/// One split: its minibatches are so many gradients of 1, for these rows of each part.
#[derive(Clone)]
struct Split {
    number: u64,
    minibatches: Vec<Vec<Vec<u32>>>,
}

/// What the workers of a simulation share.
struct Work {
    splits: Mutex<VecDeque<Split>>,
    done: Mutex<u64>,
    repeated: Mutex<u64>,
    staleness: Option<u32>,
}

/// Works on splits, and vanishes after so many steps; the split in hand goes back.
async fn work(worker: u64, clients: Vec<Client>, work: Arc<Work>, steps_max: u64) {
    let table = key("model");
    let mut clock = 0;
    for client in &clients {
        let joined = client.table(&table, &Call::Join { worker, clock }).await.unwrap();
        clock = clock.max(joined.clock);
    }
    // Who waits at one part is heard of at the others.
    let mut beats = JoinSet::new();
    for client in &clients {
        let client = client.clone();
        beats.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                // What is wrong shows in the next step.
                let _ = client.table(&key("model"), &Call::Beat { worker }).await;
            }
        });
    }
    let mut steps = 0;
    loop {
        let Some(split) = work.splits.lock().unwrap().pop_front() else { break };
        let mut mark = u32::MAX;
        for client in &clients {
            let call = Call::Mark { split: split.number };
            mark = mark.min(client.table(&table, &call).await.unwrap().mark);
        }
        for minibatch in mark..u32::try_from(split.minibatches.len()).unwrap() {
            clock += 1;
            steps += 1;
            for (client, rows) in clients.iter().zip(&split.minibatches[minibatch as usize]) {
                let gradients = vec![1.0; rows.len()];
                let rows = RowList::Named(rows);
                let push = Push { split: split.number, minibatch, ..push(rows, &gradients) };
                let stepper = Stepper { worker, generation: 1, clock };
                let pull = pull(RowList::Named(&[]), 0);
                let (stepped, _) = client.step(&table, stepper, Some(push), pull).await.unwrap();
                *work.repeated.lock().unwrap() += u64::from(stepped.repeated);
                if steps >= steps_max {
                    // It is gone, between its parts; nobody says so.
                    work.splits.lock().unwrap().push_back(split.clone());
                    return;
                }
            }
            for (client, first_row) in clients.iter().zip((0..).step_by(ROWS as usize)) {
                let stepper = Stepper { worker, generation: 1, clock };
                let rows = [first_row];
                let pull = pull(RowList::Named(&rows), clock);
                let (stepped, _) = client.step(&table, stepper, None, pull).await.unwrap();
                if let Some(bound) = work.staleness {
                    assert!(stepped.slowest + bound >= clock, "{} {clock}", stepped.slowest);
                }
            }
        }
        *work.done.lock().unwrap() += 1;
    }
    for client in &clients {
        client.table(&table, &Call::Leave { worker }).await.unwrap();
    }
}

fn below_3(number: u64) -> usize {
    usize::try_from(number % 3).unwrap()
}

/// How many there are of all.
#[derive(Clone, Copy)]
struct Scale {
    workers: u64,
    parts: u32,
    splits: u64,
}

/// Workers that vanish, over a network that delays and cuts.
async fn train(seed: u64, scale: Scale) -> u64 {
    let mut random = Random(seed);
    let (cut_after_bytes_max, delay_ms) = [(3_000, 0), (8_000, 1), (40_000, 20)][below_3(seed)];
    let mut faults = SimFaults::default();
    let delay_max = Duration::from_millis(delay_ms);
    (faults.seed, faults.delay_max, faults.cut_after_bytes_max) =
        (seed, delay_max, cut_after_bytes_max);
    let network = SimNetwork::new(faults);
    let node = |part: u32| Node::sim(&network, &format!("part-{part}"), options(ByteSize::mib(64)));
    let nodes: Vec<Node> = (0..scale.parts).map(node).collect();
    let clients = || nodes.iter().map(Node::client).collect::<Vec<Client>>();
    let staleness = [Some(0), Some(3), None][below_3(random.below(3))];
    let observers = clients();
    for (client, first_row) in observers.iter().zip((0..).step_by(ROWS as usize)) {
        let open = Call::Open(spec(first_row, 1, staleness));
        client.table(&key("model"), &open).await.unwrap();
    }
    let mut expected = BTreeMap::new();
    let mut rows = |part: u32| {
        let mut rows = Vec::new();
        for row in part * ROWS..(part + 1) * ROWS {
            if random.below(8) == 0 {
                *expected.entry(row).or_insert(0_u16) += 1;
                rows.push(row);
            }
        }
        rows
    };
    let mut minibatch = || (0..scale.parts).map(&mut rows).collect();
    let splits: VecDeque<Split> = (0..scale.splits)
        .map(|number| Split { number, minibatches: (0..5).map(|_| minibatch()).collect() })
        .collect();
    let shared = Arc::new(Work {
        splits: Mutex::new(splits),
        done: Mutex::default(),
        repeated: Mutex::default(),
        staleness,
    });
    // All at a time, of which each vanishes sometime; then one that stays.
    let mut workers = Vec::new();
    for worker in 1..=scale.workers {
        let steps_max = 1 + random.below(20);
        workers.push(tokio::spawn(work(worker, clients(), shared.clone(), steps_max)));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    work(scale.workers + 1, clients(), shared.clone(), u64::MAX).await;
    assert_eq!(*shared.done.lock().unwrap(), scale.splits, "seed {seed}");
    let observer = Stepper { worker: OBSERVER, generation: 1, clock: 0 };
    for (client, first_row) in observers.iter().zip((0..).step_by(ROWS as usize)) {
        let rows = RowList::All(ROWS);
        let (_, values) = client.step(&key("model"), observer, None, pull(rows, 0)).await.unwrap();
        for (value, row) in values.iter().zip(first_row..) {
            let expected = -f32::from(expected.get(&row).copied().unwrap_or(0));
            assert_eq!(value, expected, "seed {seed}, row {row}");
        }
    }
    let repeated = *shared.repeated.lock().unwrap();
    for node in nodes {
        node.stop().await;
    }
    repeated
}

#[test]
fn each_minibatch_counts_once_whoever_vanishes_and_whatever_is_cut() {
    let seeds = std::env::var("CIRRUS_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let repeated: u64 = (0..seeds)
        .map(|seed| simulate(train(seed, Scale { workers: 4, parts: 2, splits: 12 })))
        .sum();
    assert!(repeated > 0, "nothing was ever repeated");
}

#[test]
fn sixty_four_workers_and_sixteen_parts_are_no_different() {
    for seed in [1, 2, 3] {
        simulate(train(seed, Scale { workers: 64, parts: 16, splits: 128 }));
    }
}

/// The simulated time of a training in which each worker has the same work: 40 steps, each of them 2 to 8 ms of
/// computation, then a push to and a pull from all parts at once, over links of up to 1 ms.
async fn lasts(workers: u64, parts: u32, staleness: Option<u32>) -> Duration {
    let mut faults = SimFaults::default();
    (faults.seed, faults.delay_max) = (workers, Duration::from_millis(1));
    let network = SimNetwork::new(faults);
    let node = |part: u32| Node::sim(&network, &format!("part-{part}"), options(ByteSize::mib(64)));
    let nodes: Vec<Node> = (0..parts).map(node).collect();
    let table = key("model");
    for node in &nodes {
        node.client().table(&table, &Call::Open(spec(0, 1, staleness))).await.unwrap();
    }
    let all_have_joined = Arc::new(Barrier::new(1 + usize::try_from(workers).unwrap()));
    let mut all = JoinSet::new();
    for worker in 1..=workers {
        let clients: Vec<Client> = nodes.iter().map(Node::client).collect();
        let all_have_joined = all_have_joined.clone();
        all.spawn(async move {
            let mut random = Random(worker);
            for client in &clients {
                client.table(&key("model"), &Call::Join { worker, clock: 0 }).await.unwrap();
            }
            all_have_joined.wait().await;
            for clock in 1..=40 {
                tokio::time::sleep(Duration::from_micros(2_000 + random.below(6_000))).await;
                let stepper = Stepper { worker, generation: 1, clock };
                let one = |client: Client| async move {
                    let rows = RowList::Named(&[7, 9]);
                    let split = worker << 32 | u64::from(clock);
                    let push = Push { split, ..push(rows, &[0.5, 0.5]) };
                    client.step(&key("model"), stepper, Some(push), pull(rows, clock)).await
                };
                let mut steps: JoinSet<_> = clients.iter().cloned().map(one).collect();
                while let Some(stepped) = steps.join_next().await {
                    stepped.unwrap().unwrap();
                }
            }
            for client in clients {
                client.table(&key("model"), &Call::Leave { worker }).await.unwrap();
            }
        });
    }
    all_have_joined.wait().await;
    let began = tokio::time::Instant::now();
    all.join_all().await;
    let lasted = began.elapsed();
    let observer = Stepper { worker: OBSERVER, generation: 1, clock: 0 };
    for node in nodes {
        let read = pull(RowList::Named(&[7]), 0);
        let (_, values) = node.client().step(&table, observer, None, read).await.unwrap();
        assert!(values.iter().eq([-20.0 * workers as f32]), "a step is missing");
        node.stop().await;
    }
    lasted
}

/// Efficiency with the work of each worker held fixed: 1 if nobody ever waits for others.
#[test]
fn who_may_be_ahead_waits_less_for_sixty_three_others() {
    let mut of_most = Vec::new();
    for (mode, staleness) in [("bsp", Some(0)), ("ssp:4", Some(4)), ("asp", None)] {
        let alone = simulate(lasts(1, 16, staleness)).as_secs_f64();
        let efficiencies =
            [2, 4, 64].map(|workers| alone / simulate(lasts(workers, 16, staleness)).as_secs_f64());
        println!("{mode}: 2, 4 and 64 workers, 16 parts: efficiency {efficiencies:.2?}");
        of_most.push(efficiencies[2]);
    }
    // In step, each step lasts as long as the slowest of 64: 8 ms instead of 5.
    assert!(of_most[0] > 0.6, "{of_most:?}");
    assert!(of_most[1] > of_most[0] + 0.1 && of_most[1] > 0.75, "{of_most:?}");
    assert!(of_most[2] > 0.8, "{of_most:?}");
}

#[tokio::test]
async fn a_table_that_comes_back_ends_the_waits_of_the_one_before() {
    let node = Node::tcp(options(ByteSize::mib(64))).await;
    let (client, table) = (node.client(), key("model"));
    client.table(&table, &Call::Open(spec(0, 1, Some(0)))).await.unwrap();
    for worker in [1, 2] {
        client.table(&table, &Call::Join { worker, clock: 0 }).await.unwrap();
    }
    let stepper = Stepper { worker: 1, generation: 1, clock: 1 };
    let rows = [3];
    let gradient = push(RowList::Named(&rows), &[1.0]);
    client.step(&table, stepper, Some(gradient), pull(RowList::Named(&[]), 0)).await.unwrap();
    let kept = node.handle.freeze_table(&table).unwrap();
    let (waiting, name) = (client.clone(), table.clone());
    let wait = tokio::spawn(async move {
        waiting.step(&name, stepper, None, pull(RowList::Named(&[3]), 1)).await
    });
    // Its own seat is at 1 and the other's at 0: it waits, which the node's requests show.
    let handle = node.handle.clone();
    let before = handle.stats().requests;
    until("the read waits", || handle.stats().requests > before || wait.is_finished()).await;
    assert!(!wait.is_finished());
    let mut restore = node.handle.restore_table(&table, &kept.head(), 2).unwrap();
    kept.pieces().for_each(|piece| restore.piece(&piece).unwrap());
    restore.finish();
    let error = wait.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::WrongVersion);
    let stand = client.table(&table, &Call::Mark { split: 0 }).await.unwrap();
    assert_eq!((stand.generation, stand.mark), (2, 1));
    let observer = Stepper { worker: OBSERVER, generation: 2, clock: 0 };
    let (_, values) =
        client.step(&table, observer, None, pull(RowList::Named(&[3]), 0)).await.unwrap();
    assert_eq!(values.iter().collect::<Vec<_>>(), [-1.0]);
    node.stop().await;
}
