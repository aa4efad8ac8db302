//! How many replicas feed the GPUs, and on which machines.
//!
//! Owns [`Pipeline`]: measured costs of stages made into applications, one for each throughput.
//! Knows no solver. A throughput is never promised beyond what the devices take.

mod plan;

use std::fmt;
use std::num::NonZeroU32;

use cirrus_units::{ByteRate, ByteSize, Cores};
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::demand::{Cpu, Demand, Gpu, Replicas};
use crate::money::UsdPerHour;
use crate::packing::{Application, PackError, PackedTask, Plan, Role, pack};
use crate::pool::to_f64;
pub use plan::{Collocated, NextStep, PipelinePlan, Point};

/// The steps of the frontier.
const STEPS: u32 = 10;

/// Stages between a data set and the devices that learn from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Pipeline {
    /// Samples of an epoch.
    pub samples: u64,
    /// What is kept in memory: the encoded set and the channels.
    pub working_set: ByteSize,
    /// What prepares samples, in order.
    pub stages: Vec<Stage>,
    /// What learns from them.
    pub trainer: Trainer,
}

/// What one sample costs a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Stage {
    /// The task's name.
    pub name: String,
    /// Processor time for a sample.
    pub cpu_seconds: f64,
    /// What a sample has when it comes.
    pub bytes_in: u64,
    /// What it has when it goes.
    pub bytes_out: u64,
    /// Memory of a replica.
    pub memory: ByteSize,
}

/// What one sample costs the trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Trainer {
    /// Time of one device for a sample.
    pub device_seconds: f64,
    /// Processor time for a sample.
    pub cpu_seconds: f64,
    /// What a sample has when it comes.
    pub bytes_in: u64,
    /// Memory of a replica, of which each has one device.
    pub memory: ByteSize,
    /// Devices that learn together.
    pub devices: NonZeroU32,
    /// Their kind; `None` takes any.
    pub gpu: Option<String>,
}

impl Stage {
    /// A stage whose samples come and go without bytes that count.
    pub fn new(name: impl Into<String>, cpu_seconds: f64, memory: ByteSize) -> Self {
        Self { name: name.into(), cpu_seconds, bytes_in: 0, bytes_out: 0, memory }
    }
}

impl Trainer {
    /// A trainer on one device of any kind, whose samples have no bytes that count.
    pub fn new(device_seconds: f64, cpu_seconds: f64, memory: ByteSize) -> Self {
        let devices = NonZeroU32::MIN;
        Self { device_seconds, cpu_seconds, bytes_in: 0, memory, devices, gpu: None }
    }
}

impl Pipeline {
    /// So many samples an epoch, so much in memory, these stages before this trainer.
    pub fn new(samples: u64, working_set: ByteSize, stages: Vec<Stage>, trainer: Trainer) -> Self {
        Self { samples, working_set, stages, trainer }
    }

    /// What the devices take when nothing keeps them waiting, in samples a second.
    pub fn throughput_max(&self) -> f64 {
        f64::from(self.trainer.devices.get()) / self.trainer.device_seconds
    }

    /// The device time of a sample below which a machine with so many processors for each device
    /// cannot feed it alone.
    pub fn break_even_device_seconds(&self, vcpus: f64) -> f64 {
        self.cpu_seconds() / vcpus
    }

    fn cpu_seconds(&self) -> f64 {
        self.stages.iter().map(|stage| stage.cpu_seconds).sum::<f64>() + self.trainer.cpu_seconds
    }

    /// Plans a tenth of the devices' throughput, two tenths, up to all of it, and what the best
    /// machine would do that prepares its own samples. Costs a packing for each.
    ///
    /// # Errors
    /// When a cost is no time, or when a task fits no machine.
    pub fn plan(&self, catalog: &Catalog) -> Result<PipelinePlan, PipelineError> {
        self.check()?;
        let mut frontier = Vec::new();
        for step in 1..=STEPS {
            let rate = self.throughput_max() * f64::from(step) / f64::from(STEPS);
            let application = self.application(rate)?;
            let plan = pack(&application, catalog).map_err(PipelineError::Pack)?;
            frontier.push(self.point(rate, plan.usd_hour));
            if step == STEPS {
                let replicas = application.tasks.iter();
                let replicas =
                    replicas.map(|task| (task.name.clone(), task.demand.replicas.min())).collect();
                let collocated = self.collocated(catalog);
                let next = self.next(catalog, &plan);
                return Ok(PipelinePlan { frontier, replicas, plan, collocated, next });
            }
        }
        unreachable!("the last step returns")
    }

    /// What one needs that many samples a second.
    fn application(&self, rate: f64) -> Result<Application, PipelineError> {
        let mut application = Application::default();
        for stage in &self.stages {
            let busy = rate * stage.cpu_seconds;
            let replicas = count(busy.ceil().max(1.0));
            let each = rate / f64::from(replicas);
            let demand = Demand::default()
                .with_cpu(Cpu::sustained(Cores::milli(
                    count((busy / f64::from(replicas) * 1000.0).ceil()).max(1),
                )))
                .with_memory(stage.memory)
                .with_network(bytes(each * to_f64(stage.bytes_in.saturating_add(stage.bytes_out))))
                .with_replicas(Replicas::new(replicas, replicas).map_err(PipelineError::Replicas)?);
            application.tasks.push(PackedTask::new(&stage.name, demand));
        }
        let trainer = &self.trainer;
        let devices = trainer.devices.get();
        let each = rate / f64::from(devices);
        let gpu = Gpu::new(NonZeroU32::MIN);
        let demand = Demand::default()
            .with_cpu(Cpu::sustained(Cores::milli(
                count((each * trainer.cpu_seconds * 1000.0).ceil()).max(1),
            )))
            .with_memory(trainer.memory)
            .with_network(bytes(each * to_f64(trainer.bytes_in)))
            .with_gpu(match &trainer.gpu {
                Some(kind) => gpu.of_kind(kind),
                None => gpu,
            })
            .with_replicas(Replicas::new(devices, devices).map_err(PipelineError::Replicas)?);
        application.tasks.push(PackedTask::new("trainer", demand));
        let mut memory = PackedTask::new(
            "memory",
            Demand::default()
                .with_cpu(Cpu::sustained(Cores::milli(500)))
                .with_memory(self.working_set),
        );
        memory.role = Role::Memory;
        application.tasks.push(memory);
        Ok(application)
    }

    /// One device more, and what feeds it; `None` where that cannot be packed.
    fn next(&self, catalog: &Catalog, plan: &Plan) -> Option<NextStep> {
        let mut more = self.clone();
        more.trainer.devices = more.trainer.devices.checked_add(1)?;
        let rate = more.throughput_max();
        let cost = pack(&more.application(rate).ok()?, catalog).ok()?.usd_hour;
        Some(NextStep {
            devices: more.trainer.devices.get(),
            delta_usd_hour: cost.as_dollars() - plan.usd_hour.as_dollars(),
            throughput_share: rate / self.throughput_max() - 1.0,
            point: self.point(rate, cost),
        })
    }

    fn point(&self, rate: f64, usd_hour: UsdPerHour) -> Point {
        let hours = to_f64(self.samples) / rate / 3600.0;
        Point { samples_second: rate, usd_hour, usd_epoch: usd_hour.as_dollars() * hours }
    }

    /// The machine on which an epoch is cheapest when it prepares its own samples, every sample
    /// in its memory.
    fn collocated(&self, catalog: &Catalog) -> Option<Collocated> {
        let point = |offer: &&crate::offer::Offer| {
            let gpu = offer.gpu.as_ref()?;
            let wanted = self.trainer.gpu.as_deref();
            let held = self.working_set.bytes().saturating_add(self.trainer.memory.bytes());
            if (wanted.is_some() && gpu.kind() != wanted) || offer.allocatable.bytes() < held {
                return None;
            }
            let devices = f64::from(gpu.count().min(self.trainer.devices.get()));
            let taken = devices / self.trainer.device_seconds;
            let prepared = offer.sustained.as_cores() / self.cpu_seconds();
            let point = self.point(taken.min(prepared), offer.price.plus(offer.charges));
            Some(Collocated {
                offer: offer.sku.clone(),
                device_busy: (prepared / taken).min(1.0),
                break_even_device_seconds: self
                    .break_even_device_seconds(offer.sustained.as_cores() / devices),
                point,
            })
        };
        let points = catalog.offers().iter().filter_map(|offer| point(&offer));
        points.min_by(|a, b| a.point.usd_epoch.total_cmp(&b.point.usd_epoch))
    }

    fn check(&self) -> Result<(), PipelineError> {
        let is_time = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        let stages = self.stages.iter().map(|stage| (stage.name.as_str(), stage.cpu_seconds));
        let all = stages.chain([("trainer", self.trainer.cpu_seconds)]);
        for (name, seconds) in all {
            if !is_time(seconds) {
                return Err(PipelineError::Time { name: name.into(), seconds });
            }
        }
        let seconds = self.trainer.device_seconds;
        if !is_time(seconds) || seconds < 1e-9 || self.cpu_seconds() <= 0.0 {
            return Err(PipelineError::Time { name: "trainer".into(), seconds });
        }
        Ok(())
    }
}

/// How many, at least none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn count(amount: f64) -> u32 {
    amount as u32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn bytes(rate: f64) -> ByteRate {
    ByteRate::per_second(rate.ceil() as u64)
}

/// Why a pipeline has no plan.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PipelineError {
    /// A cost that is no time.
    Time {
        /// Whose.
        name: String,
        /// The number that was given.
        seconds: f64,
    },
    /// A stage takes more replicas than a task can have.
    Replicas(crate::demand::ReplicasError),
    /// A task fits no machine.
    Pack(PackError),
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { name, seconds } => write!(
                f,
                "a sample costs `{name}` {seconds} seconds; expected a measured time above 0"
            ),
            Self::Replicas(error) => error.fmt(f),
            Self::Pack(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PipelineError {}

#[cfg(test)]
mod tests;
