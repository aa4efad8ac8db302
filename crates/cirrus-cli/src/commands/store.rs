//! `cirrus store`: a storage node's folder, while no node has it open.
//!
//! Owns what is said of it. Repairs nothing. Invariant: exit code 0 means that every byte of the
//! disk was read, and of the bucket if it was given, and is as it was written.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use cirrus_store::segments::{Disk, Engine, Folder, ObjectBucket, Report};
use cirrus_units::ByteSize;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::failure::Failure;

/// What to do with a folder.
#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Read every record and compare the index with them; 1 where something is damaged
    Check(Check),
}

/// A folder to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The folder of a storage node that does not run
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The bucket behind it, to check what lies there, too
    #[arg(long, value_name = "URL")]
    cold: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Store {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let Self::Check(check) = self;
        check.run()
    }
}

impl Check {
    fn run(self) -> Result<ExitCode, Failure> {
        let disk = open(&self.dir)?;
        let bar = ProgressBar::new(0);
        let style = "reading {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar()));
        let bucket = self.cold.as_deref().map(ObjectBucket::from_url).transpose()?;
        let bucket = bucket.map(|bucket| Arc::new(bucket) as _);
        let report = Engine::check(&disk, bucket, |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let report = report?;
        cirrus::print(&text_of(&report, self.json))?;
        Ok(ExitCode::from(u8::from(!report.damage.is_empty())))
    }
}

/// Opens a store that is there: checking must not make one.
fn open(dir: &Path) -> Result<Arc<dyn Disk>, Failure> {
    let cannot = |why: String| Failure::input(format!("cannot check {}: {why}", dir.display()));
    let names = std::fs::read_dir(dir).map_err(|error| cannot(error.to_string()))?;
    let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    if !names.any(|name| name.starts_with("segment-")) {
        return Err(cannot("it is no storage node's folder: no segment is in it".to_owned()));
    }
    let folder = Folder::open(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::ResourceBusy => cannot(format!("{error}; stop the node first")),
        _ => cannot(error.to_string()),
    })?;
    Ok(Arc::new(folder))
}

fn text_of(report: &Report, is_json: bool) -> String {
    let damage = report.damage.iter();
    if is_json {
        let damage =
            damage.map(|one| json!({"file": one.file, "offset": one.offset, "what": one.what}));
        json!({
            "segments": report.segments,
            "bytes": report.bytes,
            "records": report.records,
            "objects": report.objects,
            "rows": report.rows,
            "torn_bytes": report.torn_bytes,
            "unread_segments": report.unread_segments,
            "damage": damage.collect::<Vec<_>>(),
        })
        .to_string()
    } else {
        let mut text = format!(
            "{} objects in {} records, {} in {} segments",
            report.objects,
            report.records,
            ByteSize::new(report.bytes),
            report.segments
        );
        if report.torn_bytes > 0 {
            let torn = report.torn_bytes;
            text += &format!(
                "\n{torn} bytes at the end were never acknowledged; the next start cuts them off"
            );
        }
        for one in damage {
            text += &format!("\ndamaged: {one}");
        }
        if report.unread_segments > 0 {
            let unread = report.unread_segments;
            text += &format!(
                "\n{unread} more segments lie in a bucket and were not read; give --cold URL"
            );
        }
        text += match report.damage.len() {
            0 if report.unread_segments > 0 => "\nevery byte that was read is as it was written",
            0 => "\nevery byte is as it was written",
            _ => "\nrestore the folder from a copy: what is damaged is an error when it is read",
        };
        text
    }
}
