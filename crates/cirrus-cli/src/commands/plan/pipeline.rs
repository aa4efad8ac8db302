//! `cirrus plan pipeline`: replicas and machines that keep GPUs busy.
//!
//! Owns the table `[pipeline]` of a job file: what a sample costs each stage. May not know how it is
//! planned. Invariant: a cost is stated, or measured by a run; none is assumed.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use cirrus::plan::{self, PipelineError};
use cirrus::{ByteSize, print};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::tasks::{refused, written};
use super::{Prices, json_with, patiently};
use crate::commands::objects::write_whole;
use crate::failure::Failure;
use crate::toml_file;

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
    /// Take costs that the job file leaves out from what `cirrus run ... --json FILE` wrote
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
        let figures = self.figures.as_deref().map(Figures::read).transpose()?;
        let costs = Stated { file: &self.file, figures: figures.as_ref() };
        let pipeline = costs.pipeline(file.pipeline)?;
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
            return Ok(print(&json_with(&plan, more)?)?);
        }
        Ok(print(plan.to_string().trim_end())?)
    }
}

/// What a run measured of each task, and from where.
struct Figures {
    path: PathBuf,
    stages: Vec<Figure>,
}

/// What `cirrus run ... --json FILE` says of a task, among more.
#[derive(Debug, Deserialize)]
struct Figure {
    task: String,
    records: f64,
    cpu_seconds: f64,
    #[serde(default)]
    busy_seconds: f64,
    #[serde(default)]
    bytes_in: f64,
    #[serde(default)]
    bytes_out: f64,
    #[serde(default)]
    memory_bytes: u64,
}

impl Figures {
    fn read(path: &Path) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Written {
            stages: Vec<Figure>,
        }
        let wrong = |problem: String| wrong_figures(path, &problem);
        let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let written: Written = serde_json::from_slice(&text).map_err(|error| {
            wrong(format!("{error}; expected what `cirrus run ... --json FILE` writes"))
        })?;
        Ok(Self { path: path.to_owned(), stages: written.stages })
    }

    fn of(&self, name: &str) -> Option<&Figure> {
        self.stages.iter().find(|it| it.task == name && it.records > 0.0)
    }
}

fn wrong_figures(path: &Path, problem: &str) -> Failure {
    Failure::input(format!("figures {}: {problem}", path.display()))
}

/// Bytes for a sample, rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn bytes_each(bytes: f64, samples: f64) -> u64 {
    (bytes / samples).ceil() as u64
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
    #[serde(default, deserialize_with = "written")]
    working_set: Option<ByteSize>,
    stage: Vec<Stage>,
    trainer: Trainer,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    #[serde(default)]
    cpu_seconds: Option<f64>,
    #[serde(default, deserialize_with = "written")]
    bytes_in: Option<ByteSize>,
    #[serde(default, deserialize_with = "written")]
    bytes_out: Option<ByteSize>,
    #[serde(default, deserialize_with = "written")]
    memory: Option<ByteSize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trainer {
    /// The task that a run's figures have of it.
    #[serde(default = "Trainer::usual_name")]
    name: String,
    #[serde(default)]
    device_seconds: Option<f64>,
    #[serde(default)]
    cpu_seconds: Option<f64>,
    #[serde(default, deserialize_with = "written")]
    bytes_in: Option<ByteSize>,
    #[serde(default, deserialize_with = "written")]
    memory: Option<ByteSize>,
    #[serde(default)]
    devices: Option<NonZeroU32>,
    #[serde(default)]
    gpu: Option<String>,
}

impl Trainer {
    fn usual_name() -> String {
        "train".to_owned()
    }
}

/// A job file, and what was measured of what it leaves out.
#[derive(Clone, Copy)]
struct Stated<'a> {
    file: &'a str,
    figures: Option<&'a Figures>,
}

impl<'a> Stated<'a> {
    fn pipeline(self, costs: Costs) -> Result<plan::Pipeline, Failure> {
        let ours = |task: &str| {
            task == costs.trainer.name || costs.stage.iter().any(|stage| stage.name == task)
        };
        let working_set = match (costs.working_set, self.figures) {
            (Some(stated), _) => stated,
            // What the others wrote is what these read.
            (None, Some(figures)) => {
                let others = figures.stages.iter().filter(|it| !ours(&it.task));
                ByteSize::new(bytes_each(others.map(|it| it.bytes_out).sum(), 1.0))
            }
            (None, None) => return Err(self.unstated("[pipeline]", "working_set")),
        };
        let trainer = self.trainer(&costs.trainer)?;
        let stages = costs.stage.iter().map(|it| self.stage(it)).collect::<Result<_, _>>()?;
        Ok(plan::Pipeline::new(costs.samples, working_set, stages, trainer))
    }

    fn stage(self, it: &'a Stage) -> Result<plan::Stage, Failure> {
        let cost = self.cost_of(&it.name);
        let cpu_seconds = cost.seconds("cpu_seconds", it.cpu_seconds, |it| it.cpu_seconds)?;
        let mut stage = plan::Stage::new(it.name.clone(), cpu_seconds, cost.memory(it.memory)?);
        stage.bytes_in = cost.bytes(it.bytes_in, |it| it.bytes_in);
        stage.bytes_out = cost.bytes(it.bytes_out, |it| it.bytes_out);
        Ok(stage)
    }

    fn trainer(self, it: &'a Trainer) -> Result<plan::Trainer, Failure> {
        let cost = self.cost_of(&it.name);
        let device_seconds =
            cost.seconds("device_seconds", it.device_seconds, |it| it.busy_seconds)?;
        let cpu_seconds = cost.seconds("cpu_seconds", it.cpu_seconds, |it| it.cpu_seconds)?;
        let mut trainer = plan::Trainer::new(device_seconds, cpu_seconds, cost.memory(it.memory)?);
        trainer.bytes_in = cost.bytes(it.bytes_in, |it| it.bytes_in);
        trainer.devices = it.devices.unwrap_or(trainer.devices);
        trainer.gpu.clone_from(&it.gpu);
        Ok(trainer)
    }

    fn cost_of(self, name: &'a str) -> Cost<'a> {
        Cost { name, figure: self.figures.and_then(|figures| figures.of(name)), stated: self }
    }

    fn unstated(self, name: &str, what: &str) -> Failure {
        match self.figures {
            Some(Figures { path, .. }) => Failure::input(format!(
                "{}: `{name}` has no {what}, and figures {} have no records of a task of this \
                 name; state it, or name the stage as the task",
                self.file,
                path.display()
            )),
            None => Failure::input(format!(
                "{}: `{name}` has no {what}; state it, or give what a run measured with --figures \
                 FILE",
                self.file
            )),
        }
    }
}

/// What a sample costs a task, as it is stated, or else as it was measured.
struct Cost<'a> {
    name: &'a str,
    figure: Option<&'a Figure>,
    stated: Stated<'a>,
}

impl Cost<'_> {
    fn seconds(
        &self,
        what: &str,
        stated: Option<f64>,
        measured: fn(&Figure) -> f64,
    ) -> Result<f64, Failure> {
        let measured = self.figure.map(|figure| measured(figure) / figure.records);
        stated.or(measured).ok_or_else(|| self.stated.unstated(self.name, what))
    }

    fn memory(&self, stated: Option<ByteSize>) -> Result<ByteSize, Failure> {
        let measured = self.figure.map(|figure| ByteSize::new(figure.memory_bytes));
        stated.or(measured).ok_or_else(|| self.stated.unstated(self.name, "memory"))
    }

    /// Bytes of a sample; who states none and measured none asks for no network.
    fn bytes(&self, stated: Option<ByteSize>, measured: fn(&Figure) -> f64) -> u64 {
        let measured = self.figure.map_or(0, |it| bytes_each(measured(it), it.records));
        stated.map_or(measured, ByteSize::bytes)
    }
}
