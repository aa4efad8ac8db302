//! `cirrus plan pipeline`: replicas and machines that keep GPUs busy.
//!
//! Owns the table `[pipeline]` of a job file: what a sample costs each stage. May not know how it is
//! planned. Invariant: a cost is stated, or measured by a run; none is assumed.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use cirrus::ByteSize;
use cirrus::plan::{self, PipelineError};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::tasks::{refused, written};
use super::{Prices, json_with, patiently};
use crate::commands::objects::write_whole;
use crate::failure::Failure;
use crate::{print, toml_file};

const HINT: &str = "it has a table [pipeline] with samples, working_set, [[pipeline.stage]] and \
                    [pipeline.trainer], as docs/cost.md says";

/// Arguments of `pipeline`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pipeline {
    /// A job file with a table [pipeline]; docs/cost.md has the format
    file: String,
    #[command(flatten)]
    prices: Prices,
    /// Offers to choose from [default: all]
    #[arg(long, value_name = "OFFER,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Take the stages' processor time from what `cirrus run ... --json FILE` wrote
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Draw dollars an epoch over samples a second, as an SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Pipeline {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let file: File = toml_file::read("job file", &self.file, HINT)?;
        let mut pipeline = file.pipeline.measured();
        if let Some(path) = &self.figures {
            take_figures(&mut pipeline, path)?;
        }
        let catalog = self.prices.only(&self.only)?;
        let plan =
            patiently("packing", || pipeline.plan(&catalog)).map_err(|error| match error {
                PipelineError::Pack(error) => refused(&error),
                error => Failure::input(format!("{}: {error}", self.file)),
            })?;
        if let Some(path) = &self.plot {
            write_whole(path, plan.figure().as_bytes())?;
        }
        if self.json {
            let more = [("catalog", json!(self.prices.catalog)), ("pipeline", json!(pipeline))];
            print(&json_with(&plan, more)?);
        } else {
            print(plan.to_string().trim_end());
        }
        Ok(())
    }
}

/// Puts the processor time that a run measured in the place of what the file says of each stage.
fn take_figures(pipeline: &mut plan::Pipeline, path: &Path) -> Result<(), Failure> {
    let wrong = |problem: String| Failure::input(format!("figures {}: {problem}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let figures: Value = serde_json::from_slice(&text).map_err(|error| {
        wrong(format!("{error}; expected what `cirrus run ... --json FILE` writes"))
    })?;
    let stages = figures["stages"].as_array().map_or(&[][..], Vec::as_slice);
    for stage in &mut pipeline.stages {
        let figure = stages.iter().find(|it| it["task"] == *stage.name);
        let of = |name: &str| figure.and_then(|it| it[name].as_f64());
        stage.cpu_seconds = match (of("cpu_seconds"), of("records")) {
            (Some(seconds), Some(records)) if records > 0.0 => seconds / records,
            _ => {
                let name = &stage.name;
                return Err(wrong(format!("no records of a task `{name}`; name the stage so")));
            }
        };
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// For `cirrus run`.
    #[serde(default, rename = "app")]
    _app: IgnoredAny,
    #[serde(default, rename = "args")]
    _args: IgnoredAny,
    pipeline: Costs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Costs {
    samples: u64,
    #[serde(deserialize_with = "written")]
    working_set: Option<ByteSize>,
    stage: Vec<Stage>,
    trainer: Trainer,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    cpu_seconds: f64,
    #[serde(default, deserialize_with = "written")]
    bytes_in: Option<ByteSize>,
    #[serde(default, deserialize_with = "written")]
    bytes_out: Option<ByteSize>,
    #[serde(deserialize_with = "written")]
    memory: Option<ByteSize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trainer {
    device_seconds: f64,
    cpu_seconds: f64,
    #[serde(default, deserialize_with = "written")]
    bytes_in: Option<ByteSize>,
    #[serde(deserialize_with = "written")]
    memory: Option<ByteSize>,
    #[serde(default)]
    devices: Option<NonZeroU32>,
    #[serde(default)]
    gpu: Option<String>,
}

impl Costs {
    fn measured(self) -> plan::Pipeline {
        let bytes = |size: Option<ByteSize>| size.unwrap_or_default().bytes();
        let stage = |it: Stage| {
            let memory = it.memory.unwrap_or_default();
            let mut stage = plan::Stage::new(it.name, it.cpu_seconds, memory);
            stage.bytes_in = bytes(it.bytes_in);
            stage.bytes_out = bytes(it.bytes_out);
            stage
        };
        let Trainer { device_seconds, cpu_seconds, bytes_in, memory, devices, gpu } = self.trainer;
        let memory = memory.unwrap_or_default();
        let mut trainer = plan::Trainer::new(device_seconds, cpu_seconds, memory);
        trainer.bytes_in = bytes(bytes_in);
        trainer.devices = devices.unwrap_or(trainer.devices);
        trainer.gpu = gpu;
        let stages = self.stage.into_iter().map(stage).collect();
        plan::Pipeline::new(self.samples, self.working_set.unwrap_or_default(), stages, trainer)
    }
}
