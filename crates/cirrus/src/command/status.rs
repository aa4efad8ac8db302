//! The `status` command.
//!
//! Owns how a run's status is shown. May not ask anybody but the coordinator and the run's folder.
//! Invariant: what is shown of a run that is over is what it left.

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde::Serialize;

use crate::command::{print, print_json};
use crate::control::Control;
use crate::coordinator::status::{MemberStatus, Status};
use crate::error::Result;
use crate::rundir::{RunDir, read_json};

/// What `status --json` prints.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Shown {
    Running { status: Box<Status> },
    Over { run_dir: String, summary: Option<serde_json::Value> },
}

pub(super) fn print_status(app: &str, json: bool) -> Result<()> {
    let (dir, over) = RunDir::latest(app)?;
    if over {
        let summary = read_json(&dir.summary()).ok();
        let run_dir = dir.path().display().to_string();
        if json {
            return print_json(&Shown::Over { run_dir, summary });
        }
        let how = match summary {
            Some(_) => "is done",
            None => "ended before it was done, `run --resume` goes on with it",
        };
        return print(&format!("{app}: the latest run {how}; logs and figures: {run_dir}"));
    }
    let status = Control::new(dir.record()?.coordinator).status()?;
    if json {
        return print_json(&Shown::Running { status: Box::new(status) });
    }
    print(&text(&status))
}

fn text(status: &Status) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["task", "replica", "process", "state", "records"]);
    for (task, members) in &status.tasks {
        for member in &members.members {
            let records = member.counters.get(crate::counters::RECORDS).copied().unwrap_or(0);
            table.add_row([
                task.clone(),
                member.replica.to_string(),
                member.pid.to_string(),
                state(member),
                records.to_string(),
            ]);
        }
    }
    let mut text = format!("{} run {}\n{table}", status.name, status.run);
    for (name, set) in &status.sets {
        let count = set.count.map_or("being written".to_owned(), |n| format!("{n} records"));
        text += &format!(
            "\nset {name}: {count}; splits: {} done, {} committed, {} leased, {} to come",
            set.done, set.committed, set.leased, set.pending
        );
    }
    for (name, channel) in &status.channels {
        text += &format!(
            "\nchannel {name}: {} of {} batches checkpointed, {} of {} used",
            channel.cursor,
            channel.batches,
            cirrus_units::ByteSize::new(channel.retained_bytes),
            cirrus_units::ByteSize::new(channel.capacity_bytes)
        );
    }
    text
}

fn state(member: &MemberStatus) -> String {
    use crate::coordinator::status::Ending;
    match &member.ending {
        None => "running".to_owned(),
        Some(Ending::Done) => "done".to_owned(),
        Some(Ending::Failed { message, .. }) => format!("failed: {message}"),
        Some(Ending::Expired) => "silent, given up".to_owned(),
        Some(Ending::Gone) => "died".to_owned(),
        Some(Ending::Replaced) => "replaced".to_owned(),
    }
}
