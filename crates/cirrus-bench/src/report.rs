//! Where results go.
//!
//! Owns results.jsonl, the table, and the progress bar. Invariant: a row is in the file as soon as
//! it is measured, so that a run that is interrupted leaves what it has.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::ratio::Verdict;
use crate::row::Row;

#[derive(Debug)]
pub(crate) struct Report {
    path: PathBuf,
    file: BufWriter<File>,
    rows: Vec<Row>,
    /// Comparisons that could not be measured.
    failed: usize,
    /// Rows go to stdout as JSON as well.
    is_json: bool,
    bar: ProgressBar,
    elsewhere_max: f64,
}

/// What other processes may take of the machine before the person is told.
const ELSEWHERE_MAX: f64 = 0.05;

impl Report {
    /// Begins `results.jsonl` in `folder` afresh.
    pub(crate) fn create(folder: &Path, cells: usize, is_json: bool) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let path = folder.join("results.jsonl");
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let bar = ProgressBar::with_draw_target(Some(cells as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (file, rows, failed) = (BufWriter::new(file), Vec::new(), 0);
        Ok(Self { path, file, rows, failed, is_json, bar, elsewhere_max: 0.0 })
    }

    /// The cell that is measured now.
    pub(crate) fn begin(&self, name: &str) {
        self.bar.set_message(name.to_owned());
    }

    /// The cell has been measured, while other processes had this share of the machine.
    pub(crate) fn add(&mut self, rows: Vec<Row>, elsewhere: f64) -> Result<()> {
        self.elsewhere_max = self.elsewhere_max.max(elsewhere);
        for row in rows {
            self.write(&serde_json::to_string(&row).context("a row")?)?;
            self.rows.push(row);
        }
        self.bar.inc(1);
        Ok(())
    }

    /// The cell could not be measured: its line says why.
    pub(crate) fn fail(&mut self, name: &str, error: &anyhow::Error) -> Result<()> {
        let error = format!("{error:#}");
        self.bar.suspend(|| crate::say(&format!("{name}: not measured: {error}")));
        self.failed += 1;
        self.write(&json!({ "name": name, "error": error }).to_string())?;
        self.bar.inc(1);
        Ok(())
    }

    fn write(&mut self, line: &str) -> Result<()> {
        writeln!(self.file, "{line}").context("results.jsonl")?;
        self.file.flush().context("results.jsonl")?;
        if self.is_json { crate::print(line) } else { Ok(()) }
    }

    /// The table, unless JSON was asked for.
    pub(crate) fn finish(self) -> Result<()> {
        self.bar.finish_and_clear();
        if !self.is_json && !self.rows.is_empty() {
            crate::print(&table(&self.rows).to_string())?;
        }
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == Some(verdict)).count();
        crate::say(&format!(
            "{} met, {} missed, {} inconclusive, {} without a target, {} not measured; in {}",
            count(Verdict::Met),
            count(Verdict::Missed),
            count(Verdict::Inconclusive),
            self.rows.iter().filter(|row| row.verdict.is_none()).count(),
            self.failed,
            self.path.display()
        ));
        if self.elsewhere_max > ELSEWHERE_MAX {
            crate::say(&format!(
                "other processes took up to {:.0} % of this machine meanwhile: expect wide intervals; \
                 processor time per operation suffers least",
                100.0 * self.elsewhere_max
            ));
        }
        Ok(())
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "comparison",
        "ours",
        "theirs",
        "ratio (95 %)",
        "again",
        "target",
        "verdict",
    ]);
    for row in rows {
        let ratio = match (row.ratio, row.ratio_low, row.ratio_high) {
            (Some(ratio), Some(low), Some(high)) => format!("{ratio:.2} ({low:.2}–{high:.2})"),
            _ => "–".to_owned(),
        };
        let sign = if row.better == "higher" { "≥" } else { "≤" };
        let verdict = match row.verdict {
            Some(Verdict::Met) => "met",
            Some(Verdict::Missed) => "MISSED",
            Some(Verdict::Inconclusive) => "inconclusive",
            None => "",
        };
        table.add_row([
            row.name.clone(),
            short(row.ours),
            short(row.theirs),
            ratio,
            row.again.map_or_else(|| "–".to_owned(), |again| format!("{again:.2}")),
            row.target.map_or_else(String::new, |target| format!("{sign} {target:.2}")),
            verdict.to_owned(),
        ]);
    }
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Three or four digits and a unit's prefix.
fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        n if n >= 100.0 => format!("{n:.0}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_measured_has_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::create(folder.path(), 1, false).unwrap();
        let error = anyhow::anyhow!("No such file").context("cannot start memcached");
        report.fail("memcached/get", &error).unwrap();
        let text = fs::read_to_string(folder.path().join("results.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["error"], "cannot start memcached: No such file");
        assert_eq!(line["name"], "memcached/get");
    }

    #[test]
    fn numbers_are_short() {
        let shown = [1_234_567.0, 98_765.0, 1234.0, 4.5678].map(short);
        assert_eq!(shown, ["1.23 M", "98.8 k", "1234", "4.57"]);
    }
}
