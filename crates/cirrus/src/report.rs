//! What a run has achieved, for people and for programs.
//!
//! Owns [`Summary`], made from the coordinator's status and ledgers at the end of a run. May not
//! know tasks' bodies. Invariant: every figure comes from a counter or a report, none is assumed.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::context::PROGRESS;
use crate::control::Control;
use crate::coordinator::ledger;
use crate::coordinator::status::{Status, TaskStatus};
use crate::counters::{
    BUSY_US, BYTES_IN, BYTES_OUT, CPU_US, FIRST_US, RECORDS, RESIDENT_MAX, WAIT_US,
};
use crate::error::{Error, Result};
use crate::rundir::{RunDir, write_whole};
use crate::spec::AppSpec;
use crate::split::SplitPlan;

/// The figures of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    app: String,
    run: String,
    /// Wall time of the run.
    seconds: f64,
    /// Where logs, ledgers and what tasks left are.
    run_dir: String,
    /// What tasks reported.
    results: BTreeMap<String, serde_json::Value>,
    stages: Vec<Stage>,
    channels: BTreeMap<String, Delivery>,
}

/// One task.
#[derive(Debug, Clone, Serialize)]
struct Stage {
    task: String,
    replicas: u32,
    /// Processes that were started.
    processes: usize,
    records: u64,
    /// While it had something to do: over all replicas, waiting included.
    records_per_second: f64,
    /// While it worked: what one replica could do if it never waited.
    records_per_busy_second: f64,
    /// Share of the time that it waited for data or for room.
    wait_share: f64,
    cpu_seconds: f64,
    /// In which it worked, over all replicas.
    busy_seconds: f64,
    /// Of records or batches.
    bytes_in: u64,
    bytes_out: u64,
    /// The most that a process had resident, as a mean over its processes.
    memory_bytes: u64,
    /// From its start to its first batch.
    first_batch_seconds: f64,
}

/// What the ledger of a channel shows.
#[derive(Debug, Clone, Serialize)]
struct Delivery {
    /// Batches in checkpointed state.
    batches: u64,
    /// Every record of every epoch, dropped tails aside, is in exactly one of them.
    exactly_once: bool,
    /// Deliveries that were undone by a restart.
    rolled_back: u64,
    /// Why it is not exactly once.
    fault: Option<String>,
}

impl Summary {
    /// Asks the coordinator, and leaves the ledgers in the run's folder.
    pub(crate) fn collect(
        control: &Control,
        spec: &AppSpec,
        dir: &RunDir,
        seconds: f64,
    ) -> Result<Self> {
        let status = control.status()?;
        let mut channels = BTreeMap::new();
        for channel in &spec.channels {
            let delivery = delivery(control, spec, dir, &status, &channel.name)?;
            channels.insert(channel.name.clone(), delivery);
        }
        let results = status.reports.iter().filter(|line| line.key != PROGRESS);
        Ok(Self {
            app: spec.name.clone(),
            run: spec.run.clone(),
            seconds,
            run_dir: dir.path().display().to_string(),
            results: results.map(|line| (line.key.clone(), line.value.clone())).collect(),
            stages: spec
                .tasks
                .iter()
                .filter_map(|task| {
                    let status = status.tasks.get(&task.name)?;
                    Some(Stage::of(&task.name, task.replicas, status))
                })
                .collect(),
            channels,
        })
    }

    /// The text that a run ends with.
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header([
            "task",
            "replicas",
            "records",
            "records/s",
            "if never waiting",
            "waited",
            "CPU s",
        ]);
        for stage in &self.stages {
            table.add_row([
                stage.task.clone(),
                stage.replicas.to_string(),
                stage.records.to_string(),
                format!("{:.0}", stage.records_per_second),
                format!("{:.0}", stage.records_per_busy_second),
                format!("{:.1} %", stage.wait_share * 100.0),
                format!("{:.1}", stage.cpu_seconds),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("{table}\n");
        for (channel, delivery) in &self.channels {
            let verdict = match &delivery.fault {
                None => "every record exactly once".to_owned(),
                Some(fault) => format!("NOT exactly once: {fault}"),
            };
            text += &format!(
                "channel {channel}: {} batches, {verdict}, {} rolled back\n",
                delivery.batches, delivery.rolled_back
            );
        }
        for (key, value) in &self.results {
            let value = match value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Number(number) if number.is_f64() => {
                    format!("{:.4}", number.as_f64().unwrap_or(f64::NAN))
                }
                // Rows of figures are for programs.
                serde_json::Value::Array(rows) if rows.iter().any(serde_json::Value::is_object) => {
                    format!("{}, in --json", rows.len())
                }
                other => other.to_string(),
            };
            text += &format!("{}: {value}\n", key.replace('_', " "));
        }
        text + &format!(
            "{} took {:.1} s; logs and ledger: {}",
            self.app, self.seconds, self.run_dir
        )
    }
}

impl Stage {
    fn of(task: &str, replicas: u32, status: &TaskStatus) -> Self {
        let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
        let seconds = |name: &str| Duration::from_micros(counter(name)).as_secs_f64();
        let records = counter(RECORDS);
        let (busy, wait) = (seconds(BUSY_US), seconds(WAIT_US));
        let per = |time: f64| if time > 0.0 { float(records) / time } else { 0.0 };
        Self {
            task: task.to_owned(),
            replicas,
            processes: status.members.len(),
            records,
            records_per_second: per((busy + wait) / f64::from(replicas)),
            records_per_busy_second: per(busy),
            wait_share: if busy + wait > 0.0 { wait / (busy + wait) } else { 0.0 },
            cpu_seconds: seconds(CPU_US),
            busy_seconds: busy,
            bytes_in: counter(BYTES_IN),
            bytes_out: counter(BYTES_OUT),
            memory_bytes: counter(RESIDENT_MAX) / (status.members.len() as u64).max(1),
            first_batch_seconds: seconds(FIRST_US),
        }
    }
}

fn delivery(
    control: &Control,
    spec: &AppSpec,
    dir: &RunDir,
    status: &Status,
    channel: &str,
) -> Result<Delivery> {
    let lines = control.ledger(channel)?;
    let mut text = Vec::new();
    for line in &lines {
        serde_json::to_writer(&mut text, line)
            .map_err(|error| Error::internal("a ledger line").with_source(error))?;
        text.push(b'\n');
    }
    write_whole(&dir.path().join(format!("ledger-{channel}.jsonl")), &text)?;
    let set = spec.channel_feed(channel)?;
    let feed = spec.feeds.get(set).cloned().unwrap_or_default();
    let count = status.sets.get(set).and_then(|set| set.count).unwrap_or(0);
    Ok(match ledger::check(&SplitPlan::new(&feed, count)?, lines) {
        Ok(summary) => Delivery {
            batches: summary.kept,
            exactly_once: true,
            rolled_back: summary.rolled_back,
            fault: None,
        },
        Err(fault) => Delivery {
            batches: status.channels.get(channel).map_or(0, |channel| channel.cursor),
            exactly_once: false,
            rolled_back: 0,
            fault: Some(fault.to_string()),
        },
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people; 53 bits are plenty")]
fn float(count: u64) -> f64 {
    count as f64
}
