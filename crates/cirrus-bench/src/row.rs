//! One line of results.
//!
//! Owns the columns of results.jsonl. Invariant: a line can be read without the program that wrote
//! it: names, units, both numbers, the ratio with its interval, the target and the verdict.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::ratio::{Ratio, Round, Target, Verdict, median, sorted};
use crate::side::{Compared, Slice};

/// A comparison of one number.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Whom Cirrus is compared with.
    pub(crate) peer: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
    pub(crate) ratio: Option<f64>,
    pub(crate) ratio_low: Option<f64>,
    pub(crate) ratio_high: Option<f64>,
    /// Ours over itself, as noisy as the ratio.
    pub(crate) again: Option<f64>,
    pub(crate) target: Option<f64>,
    /// Which side of the target is good.
    pub(crate) better: &'static str,
    /// `None` where there is no target.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) detail: Map<String, Value>,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    OperationsPerServerSecond,
    OperationsPerClientSecond,
    OperationsPerSecond,
    LatencyP99,
    SyscallsPerOperation,
    /// `fdatasync`s for each acknowledged put.
    SyncsPerOperation,
    GigabytesPerSecond,
    /// Of all threads together.
    NanosecondsPerHit,
    /// Bytes of memory for each object, beside its key and value.
    OverheadBytes,
    /// Reads that found their object in a cache.
    Hits,
    /// The part of its time that a reader waits.
    WaitedShare,
    /// Bytes that were asked for and not handed out.
    BytesAhead,
    /// Of what a plan rents, in dollars an hour.
    PlanCost,
    /// Until a plan is found.
    PlanSeconds,
    /// The most memory that a process had.
    PeakBytes,
    /// Of all processes together.
    ExamplesPerCpuSecond,
    /// Of examples that were not learnt from.
    HeldOutLoss,
    /// Between workers and shards.
    BytesPerExample,
}

impl Number {
    /// The last part of a row's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OperationsPerServerSecond => "per-cpu-second",
            Self::OperationsPerClientSecond => "per-client-cpu-second",
            Self::OperationsPerSecond => "per-second",
            Self::LatencyP99 => "p99",
            Self::SyscallsPerOperation => "syscalls",
            Self::SyncsPerOperation => "syncs",
            Self::GigabytesPerSecond => "bandwidth",
            Self::NanosecondsPerHit => "hit",
            Self::OverheadBytes => "overhead",
            Self::Hits => "hits",
            Self::WaitedShare => "waited",
            Self::BytesAhead => "ahead",
            Self::PlanCost => "cost",
            Self::PlanSeconds => "time",
            Self::PeakBytes => "peak",
            Self::ExamplesPerCpuSecond => "per-cpu-second",
            Self::HeldOutLoss => "loss",
            Self::BytesPerExample => "bytes",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::OperationsPerServerSecond => "operations per server CPU-second",
            Self::OperationsPerClientSecond => "operations per client CPU-second",
            Self::OperationsPerSecond => "operations per second",
            Self::LatencyP99 => "µs",
            Self::SyscallsPerOperation => "system calls per operation",
            Self::SyncsPerOperation => "fdatasyncs per put",
            Self::GigabytesPerSecond => "GB/s",
            Self::NanosecondsPerHit => "ns per hit",
            Self::OverheadBytes => "bytes per object",
            Self::Hits => "hits",
            Self::WaitedShare => "of the time",
            Self::BytesAhead => "bytes",
            Self::PlanCost => "$/h",
            Self::PlanSeconds => "s",
            Self::PeakBytes => "bytes",
            Self::ExamplesPerCpuSecond => "examples per CPU-second",
            Self::HeldOutLoss => "held-out loss",
            Self::BytesPerExample => "bytes per example",
        }
    }

    fn better(self) -> &'static str {
        match self {
            Self::LatencyP99
            | Self::SyscallsPerOperation
            | Self::SyncsPerOperation
            | Self::NanosecondsPerHit
            | Self::OverheadBytes
            | Self::WaitedShare
            | Self::BytesAhead
            | Self::PlanCost
            | Self::PlanSeconds
            | Self::PeakBytes
            | Self::HeldOutLoss
            | Self::BytesPerExample => "lower",
            Self::OperationsPerServerSecond
            | Self::OperationsPerClientSecond
            | Self::OperationsPerSecond
            | Self::GigabytesPerSecond
            | Self::Hits
            | Self::ExamplesPerCpuSecond => "higher",
        }
    }

    /// The number of a slice whose operations move `bytes` each.
    #[expect(clippy::cast_precision_loss, reason = "counts within a second")]
    fn of(self, slice: &Slice, bytes: usize) -> f64 {
        let operations = slice.work.operations as f64;
        match self {
            Self::OperationsPerServerSecond => operations / slice.server.as_secs_f64(),
            Self::OperationsPerClientSecond => operations / slice.client.as_secs_f64(),
            Self::OperationsPerSecond => operations / slice.work.elapsed.as_secs_f64(),
            Self::LatencyP99 => slice.p99_us,
            Self::GigabytesPerSecond => {
                operations * bytes as f64 / 1e9 / slice.work.elapsed.as_secs_f64()
            }
            Self::NanosecondsPerHit => slice.work.elapsed.as_secs_f64() * 1e9 / operations,
            // These are not read off slices.
            Self::SyscallsPerOperation
            | Self::SyncsPerOperation
            | Self::OverheadBytes
            | Self::Hits
            | Self::WaitedShare
            | Self::BytesAhead
            | Self::PlanCost
            | Self::PlanSeconds
            | Self::PeakBytes
            | Self::ExamplesPerCpuSecond
            | Self::HeldOutLoss
            | Self::BytesPerExample => f64::NAN,
        }
    }
}

/// What a cell compares, beside the numbers.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) peer: String,
    pub(crate) value_bytes: usize,
}

impl Subject {
    /// A row of the slices.
    pub(crate) fn row(&self, compared: &Compared, number: Number, target: Option<Target>) -> Row {
        let rounds = compared.rounds(|slice| number.of(slice, self.value_bytes));
        self.row_of(&rounds, number, target, detail(compared))
    }

    /// A row of rounds.
    pub(crate) fn row_of(
        &self,
        rounds: &[Round],
        number: Number,
        target: Option<Target>,
        mut detail: Map<String, Value>,
    ) -> Row {
        let ratio = Ratio::of(rounds);
        let middle = |side: fn(&Round) -> f64| median(&sorted(rounds.iter().map(side).collect()));
        detail.insert("rounds".to_owned(), json!(rounds.len()));
        Row {
            name: format!("{}/{}", self.name, number.name()),
            peer: self.peer.clone(),
            unit: number.unit(),
            ours: middle(|round| round.ours),
            theirs: middle(|round| round.theirs),
            ratio: ratio.map(|ratio| ratio.middle),
            ratio_low: ratio.map(|ratio| ratio.low),
            ratio_high: ratio.map(|ratio| ratio.high),
            again: ratio.map(|ratio| ratio.again),
            target: target.map(Target::number),
            better: number.better(),
            verdict: target
                .map(|target| ratio.map_or(Verdict::Inconclusive, |ratio| ratio.verdict(target))),
            detail,
        }
    }
}

/// Everything else that is worth knowing of a comparison.
fn detail(compared: &Compared) -> Map<String, Value> {
    let side = |account: &crate::side::Account| {
        let share = |part: fn(&Slice) -> f64| {
            (account.mean(|slice| part(slice) / slice.work.elapsed.as_secs_f64()) * 1e3).round()
                / 1e3
        };
        json!({
            "operations_per_second":
                account.mean(|slice| Number::OperationsPerSecond.of(slice, 0)).round(),
            "p50_us": account.latency.percentile_us(50.0),
            "p99_us": account.latency.percentile_us(99.0),
            "p99_9_us": account.latency.percentile_us(99.9),
            "server_busy": share(|slice| slice.server.as_secs_f64()),
            "client_busy": share(|slice| slice.client.as_secs_f64()),
        })
    };
    let mut detail = Map::new();
    detail.insert("ours".to_owned(), side(&compared.ours));
    detail.insert("theirs".to_owned(), side(&compared.theirs));
    detail
}
