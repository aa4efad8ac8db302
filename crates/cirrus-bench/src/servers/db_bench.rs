//! RocksDB's own benchmark, as Debian's rocksdb-tools has it: no server, but a process as well.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::servers::launch::Launch;

/// Puts that are synced, over objects that were there before, by several threads.
#[derive(Debug)]
pub(crate) struct DbBench {
    launch: Launch,
    folder: PathBuf,
    threads: usize,
    objects: u64,
    value_bytes: usize,
    version: String,
}

impl DbBench {
    pub(super) fn new(
        launch: Launch,
        folder: PathBuf,
        threads: usize,
        objects: u64,
        value_bytes: usize,
    ) -> Result<Self> {
        let version = "rocksdb".to_owned();
        let mut this = Self { launch, folder, threads, objects, value_bytes, version };
        let text = this.run(&["--benchmarks=fillseq", "--use_existing_db=0", "--threads=1"])?;
        // "RocksDB:    version 7.8.3"
        let number = text.lines().find_map(|line| line.strip_prefix("RocksDB:"));
        if let Some(number) = number.and_then(|rest| rest.trim().strip_prefix("version ")) {
            this.version = format!("rocksdb {number}");
        }
        Ok(this)
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Puts for about so long, in whole seconds, and at least for one.
    pub(crate) fn puts_per_second(&self, duration: Duration) -> Result<f64> {
        let seconds = duration.as_secs().max(1);
        let (threads, duration) =
            (format!("--threads={}", self.threads), format!("--duration={seconds}"));
        let text = self.run(&[
            "--benchmarks=overwrite",
            "--use_existing_db=1",
            "--sync=1",
            &threads,
            &duration,
        ])?;
        // "overwrite    :     512.312 micros/op 1951 ops/sec 1.000 seconds 1952 operations; …"
        let line = text.lines().find(|line| line.starts_with("overwrite"));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        let number = words.windows(2).find(|pair| pair[1] == "ops/sec").map(|pair| pair[0]);
        let number = number.with_context(|| format!("db_bench printed {text:?}"))?;
        number.parse().with_context(|| format!("db_bench's operations per second: {number:?}"))
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let shape = [
            format!("--db={}", self.folder.display()),
            format!("--num={}", self.objects),
            format!("--value_size={}", self.value_bytes),
            "--compression_type=none".to_owned(),
        ];
        let arguments: Vec<&str> =
            arguments.iter().copied().chain(shape.iter().map(String::as_str)).collect();
        let output = self.launch.output("db_bench", &arguments)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!("db_bench {arguments:?} failed, is rocksdb-tools installed? {reason}");
        }
        ensure!(!text.is_empty(), "db_bench {arguments:?} printed nothing");
        Ok(text)
    }
}
