//! Whether a ledger shows every image exactly once in each epoch.
//!
//! Owns a check of its own, from the lines and the seeded permutation alone. May not use the
//! coordinator's. Invariant: a ledger passes only if each record of each epoch is in one kept line.

use std::path::Path;

use cirrus::store::iter::{EpochSeed, Permutation};
use serde::Deserialize;
use serde_json::Value;

/// What the check needs of a line.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Line {
    epoch: u32,
    first_position: u64,
    records: u64,
    pub(crate) state: String,
}

/// How a set was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) seed: u64,
    pub(crate) epochs: u32,
    /// Records of the set.
    pub(crate) count: u64,
}

/// The ledger that a run left.
pub(crate) fn lines(figures: &Value) -> Vec<Line> {
    let folder = figures["run_dir"].as_str().expect("the run's folder");
    let text = std::fs::read_to_string(Path::new(folder).join("ledger-batches.jsonl"));
    let text = text.expect("the ledger");
    text.lines().map(|line| serde_json::from_str(line).expect("a ledger line")).collect()
}

/// Lists the index of every record that the kept lines hold, and finds each exactly once.
pub(crate) fn check(lines: &[Line], reading: Reading) -> Result<(), String> {
    let Reading { seed, epochs, count } = reading;
    for epoch in 0..epochs {
        let permutation = Permutation::new(EpochSeed { seed, epoch: u64::from(epoch) }, count);
        let mut times = vec![0; usize::try_from(count).expect("a small set")];
        let kept = lines.iter().filter(|line| line.epoch == epoch && line.state == "kept");
        for position in
            kept.flat_map(|line| line.first_position..line.first_position + line.records)
        {
            let index = permutation.permute(position).ok_or(format!("position {position}"))?;
            times[usize::try_from(index).expect("a small set")] += 1;
        }
        if let Some(index) = times.iter().position(|times| *times != 1) {
            return Err(format!("image {index} of epoch {epoch}: {} times", times[index]));
        }
    }
    match lines.iter().find(|line| line.epoch >= epochs) {
        Some(line) => Err(format!("there is no epoch {}", line.epoch)),
        None => Ok(()),
    }
}

/// The check finds what it is for: any line dropped, any line twice, any line of another batch.
pub(crate) fn assert_faults_are_caught(lines: &[Line], reading: Reading) {
    let kept = |(_, line): &(usize, &Line)| line.state == "kept";
    let places: Vec<usize> = lines.iter().enumerate().filter(kept).map(|(at, _)| at).collect();
    for place in [places[0], places[places.len() / 2], places[places.len() - 1]] {
        let mut dropped = lines.to_vec();
        dropped.remove(place);
        check(&dropped, reading).expect_err("a line is missing");
        let mut twice = lines.to_vec();
        twice.push(lines[place].clone());
        check(&twice, reading).expect_err("a line is there twice");
        let mut undone = lines.to_vec();
        "rolled_back".clone_into(&mut undone[place].state);
        check(&undone, reading).expect_err("a line is rolled back");
    }
    let other = Reading { seed: reading.seed, epochs: reading.epochs, count: reading.count + 1 };
    check(lines, other).expect_err("the set has one image more");
}
