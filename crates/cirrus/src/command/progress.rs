//! What a person sees of a run that goes on.
//!
//! Owns the progress bar on stderr; where stderr is no terminal there is none, and only notes are
//! written. May not decide anything. Invariant: it never stands in the way of a note or an error.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::PROGRESS;
use crate::coordinator::status::Status;
use crate::counters::RECORDS;
use crate::engine::local::Watcher;
use crate::spec::AppSpec;

/// The progress of one run.
#[derive(Debug)]
pub(crate) struct Progress {
    app: String,
    bar: ProgressBar,
    /// The first channel and the task that reads it: its batches are the run's length.
    channel: Option<(String, String)>,
    /// When the last look was, and how many records the reader had then.
    last: Option<(Instant, u64)>,
    rate: f64,
}

impl Progress {
    pub(crate) fn new(spec: &AppSpec) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message("starting");
        let channel = spec.channels.first().and_then(|channel| {
            let reader = spec.tasks.iter().find(|task| task.reads.contains(&channel.name))?;
            Some((channel.name.clone(), reader.name.clone()))
        });
        Self { app: spec.name.clone(), bar, channel, last: None, rate: 0.0 }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn reading(&mut self, status: &Status) -> Option<()> {
        let (channel, reader) = self.channel.as_ref()?;
        let total = status.channels.get(channel)?.batches;
        let counters = &status.tasks.get(reader)?.counters;
        let batches = *counters.get("batches")?;
        let records = counters.get(RECORDS).copied().unwrap_or(0);
        let now = Instant::now();
        if let Some((then, before)) = self.last {
            let seconds = (now - then).as_secs_f64();
            let new = f64::from(u32::try_from(records.saturating_sub(before)).unwrap_or(u32::MAX));
            // A moving average over about three seconds.
            let weight = (seconds / 3.0).min(1.0);
            self.rate += weight * (new / seconds.max(1e-6) - self.rate);
        }
        self.last = Some((now, records));
        if self.bar.length() != Some(total) && total > 0 {
            let template = "{elapsed_precise} [{wide_bar}] {pos}/{len} {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style.progress_chars("=> "));
            }
            self.bar.set_length(total);
        }
        // After a restart some batches are read again: the bar shows the run's length, not more.
        self.bar.set_position(batches.min(total));
        let told = status.reports.iter().find(|line| line.key == PROGRESS);
        self.bar.set_message(match told.and_then(|line| line.value.as_str()) {
            Some(text) => text.to_owned(),
            None => format!("batches, {:.0} records/s", self.rate),
        });
        Some(())
    }
}

impl Watcher for Progress {
    fn status(&mut self, status: &Status) {
        if self.reading(status).is_some() {
            return;
        }
        let working = status.tasks.iter().filter_map(|(task, status)| {
            let records = status.counters.get(RECORDS).filter(|records| **records > 0)?;
            Some(format!("{task}: {records} records"))
        });
        let working: Vec<String> = working.collect();
        if !working.is_empty() {
            self.bar.set_message(working.join(", "));
        }
        self.bar.tick();
    }

    fn note(&mut self, text: &str) {
        self.bar.suspend(|| crate::command::say(&format!("{}: {text}", self.app)));
    }
}
