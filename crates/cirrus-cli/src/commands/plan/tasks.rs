//! `cirrus plan tasks`: whole tasks on whole machines.
//!
//! Owns the format of the file: tasks as an annotation spells them, rules, limits. May not know how
//! they are packed. Invariant: what the file does not say is as in an annotation that does not.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::str::FromStr;

use cirrus::plan::{
    Application, Cpu, Demand, Gpu, PackError, PackedTask, Replicas, Role, next_steps, pack, what_if,
};
use cirrus::{ByteRate, ByteSize, Cores, print};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::{Prices, json_with, patiently};
use crate::failure::Failure;
use crate::toml_file;

const HINT: &str = "it has tables [[task]] with a name and, for each replica, cpu = 4, memory = \
                    \"8GiB\" and so on, as docs/cost.md says";

/// Arguments of `tasks`.
#[derive(Debug, clap::Args)]
pub(crate) struct Tasks {
    /// The tasks, in TOML; docs/cost.md has the format
    file: String,
    #[command(flatten)]
    prices: Prices,
    /// Offers to choose from [default: all]
    #[arg(long, value_name = "OFFER,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Plan again with spot machines, bursts, less memory, more processors or GPUs, elsewhere, and
    /// with one more of each task
    #[arg(long)]
    what_if: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Tasks {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let file: File = toml_file::read("tasks", &self.file, HINT)?;
        let application = file.application();
        let catalog = self.prices.only(&self.only)?;
        let limited: Vec<String> = application.limits.keys().cloned().collect();
        self.prices
            .only(&limited)
            .map_err(|failure| Failure::input(format!("{}: [limits]: {failure}", self.file)))?;
        let plan = patiently("packing", || pack(&application, &catalog));
        let mut plan = plan.map_err(|error| refused(&error))?;
        let (answers, steps) = match self.what_if {
            true => patiently("what if", || {
                // First, for they can find a better plan.
                let steps = next_steps(&application, &catalog, &mut plan);
                (what_if(&application, &catalog, &plan), steps)
            }),
            false => Default::default(),
        };
        if self.json {
            let more = [
                ("catalog", json!(self.prices.catalog)),
                ("what_if", json!(answers)),
                ("next_steps", json!(steps)),
            ];
            return Ok(print(&json_with(&plan, more)?)?);
        }
        print(plan.to_string().trim_end())?;
        if !answers.is_empty() {
            print("\nwhat if")?;
            answers.iter().try_for_each(|answer| print(&answer.to_string()))?;
        }
        if !steps.is_empty() {
            print("\nnext steps, the cheapest first")?;
            steps.iter().try_for_each(|step| print(&step.to_string()))?;
        }
        Ok(())
    }
}

/// One line, whatever is in the way.
pub(super) fn refused(error: &PackError) -> Failure {
    Failure::input(error.to_string().replace('\n', "; "))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    task: Vec<Task>,
    #[serde(default)]
    rules: Rules,
    #[serde(default)]
    limits: BTreeMap<String, u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rules {
    together: Vec<Vec<String>>,
    apart: Vec<[String; 2]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    name: String,
    #[serde(default, deserialize_with = "cpu")]
    cpu: Option<Cpu>,
    #[serde(default, deserialize_with = "written")]
    memory: Option<ByteSize>,
    #[serde(default, deserialize_with = "gpu")]
    gpu: Option<Gpu>,
    #[serde(default, deserialize_with = "written")]
    disk: Option<ByteSize>,
    #[serde(default, deserialize_with = "written")]
    network: Option<ByteRate>,
    #[serde(default)]
    spot: bool,
    #[serde(default, deserialize_with = "replicas")]
    replicas: Option<Replicas>,
    #[serde(default)]
    role: Role,
    #[serde(default)]
    alone: bool,
    #[serde(default)]
    serves: bool,
    #[serde(default)]
    run_minutes: Option<u32>,
}

impl File {
    fn application(self) -> Application {
        let mut application = Application::default();
        application.tasks = self.task.into_iter().map(Task::packed).collect();
        application.together = self.rules.together;
        application.apart = self.rules.apart;
        application.limits = self.limits;
        application
    }
}

impl Task {
    fn packed(self) -> PackedTask {
        let mut demand = Demand::default().with_spot(self.spot);
        demand.gpu = self.gpu;
        demand.cpu = self.cpu.unwrap_or(demand.cpu);
        demand.memory = self.memory.unwrap_or(demand.memory);
        demand.disk = self.disk.unwrap_or(demand.disk);
        demand.network = self.network.unwrap_or(demand.network);
        demand.replicas = self.replicas.unwrap_or(demand.replicas);
        let mut task = PackedTask::new(self.name, demand);
        task.role = self.role;
        task.alone = self.alone;
        task.serves = self.serves;
        task.run_minutes = self.run_minutes;
        task
    }
}

/// A text such as `"8GiB"`.
pub(super) fn written<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = text(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

/// What stands there, in quotes or not.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => text,
        other => other.to_string(),
    })
}

/// `4`, `0.5` or `"burst(0.5)"`, as an annotation has it.
fn cpu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cpu>, D::Error> {
    let text = text(deserializer)?;
    let burst = text.strip_prefix("burst(").and_then(|rest| rest.strip_suffix(')'));
    let cores: Cores = burst
        .unwrap_or(&text)
        .trim()
        .parse()
        .map_err(|error| D::Error::custom(format!("{error}, or \"burst(0.5)\"")))?;
    Ok(Some(if burst.is_some() { Cpu::burst(cores) } else { Cpu::sustained(cores) }))
}

/// `1` or `"h100(2)"`, as an annotation has it.
fn gpu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Gpu>, D::Error> {
    let text = text(deserializer)?;
    let of_kind = text.strip_suffix(')').and_then(|rest| rest.split_once('('));
    let (kind, count) = of_kind.map_or((None, &*text), |(kind, count)| (Some(kind), count));
    let count: NonZeroU32 = count.trim().parse().map_err(|_| {
        D::Error::custom(format!("`{text}` is no number of GPUs; expected 1 or \"h100(2)\""))
    })?;
    let gpu = Gpu::new(count);
    Ok(Some(match kind {
        Some(kind) => gpu.of_kind(kind.trim()),
        None => gpu,
    }))
}

fn replicas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Replicas>, D::Error> {
    let count = u32::deserialize(deserializer)?;
    Replicas::new(count, count).map(Some).map_err(D::Error::custom)
}
