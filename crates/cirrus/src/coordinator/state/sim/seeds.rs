//! Thousands of runs, and bugs that must break some of them.
//!
//! Owns which seeds are run and what is planted. May not know how a run goes.
//! Invariant: a promise of exactly once that is broken in shipped code is noticed here.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::simulate;
use crate::coordinator::plant::{Bug, Planted};

/// By default; `make accept` has more.
const SEEDS: u64 = 2000;
/// Within so many runs every planted bug is noticed; most are by the first.
const SEEDS_OF_A_BUG_MAX: u64 = 4_000;

const BUGS: [Bug; 26] = [
    Bug::AnswerBeforeSync,
    Bug::ReadBeforeSync,
    Bug::SnapshotTooEarly,
    Bug::NoAttemptFence,
    Bug::NoMemberFence,
    Bug::NoGenerationFence,
    Bug::RepeatedCommitCounts,
    Bug::AnyLossCounts,
    Bug::CursorGoesBack,
    Bug::LeasedTwice,
    Bug::AttemptReused,
    Bug::LeaseForEver,
    Bug::NoBackPressure,
    Bug::BeyondForgotten,
    Bug::FreedInPart,
    Bug::UncommittedRead,
    Bug::RolledBackKept,
    Bug::AbandonedForgotten,
    Bug::CheckpointsForgotten,
    Bug::SilentForEver,
    Bug::ResumedKeepsCommits,
    Bug::UndeliveredCovered,
    Bug::DoomedKeyRecorded,
    Bug::CommitBeforePut,
    Bug::AttemptInBatches,
    Bug::CursorBeforeCheckpoint,
];

#[test]
fn effects_are_exactly_once_under_any_faults() {
    let seeds = std::env::var("CIRRUS_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let (next, sum) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < seeds
        {
            let tally = simulate(seed);
            let mut sum = sum.lock();
            tally.faults().iter().for_each(|(what, n)| *sum.entry(*what).or_insert(0) += n);
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().unwrap().get();
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    let sum = sum.into_inner();
    println!("{sum:?}");
    for (what, times) in &sum {
        assert!(*times > seeds / 4, "too few {what}: {sum:?}");
    }
}

#[test]
fn each_planted_bug_is_noticed() {
    let mut unnoticed = Vec::new();
    for bug in BUGS {
        let planted = Planted::new(bug);
        match (0..SEEDS_OF_A_BUG_MAX).find_map(|seed| Some((seed, verdict(seed)?))) {
            Some((seed, verdict)) => println!("{bug:?}: noticed by seed {seed}: {verdict}"),
            None => unnoticed.push(bug),
        }
        drop(planted);
    }
    assert_eq!(unnoticed, []);
}

/// The promise that the run of a seed is found to break. Every verdict names the seed; any other
/// panic is none.
fn verdict(seed: u64) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| simulate(seed))).err()?;
    let text = panic.downcast::<String>().ok()?;
    let lines = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    lines.contains(&format!("seed {seed}")).then(|| lines.chars().take(200).collect())
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in 0..12 {
        assert_eq!(simulate(seed), simulate(seed), "seed {seed}");
    }
}
