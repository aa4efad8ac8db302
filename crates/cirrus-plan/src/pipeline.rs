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
use crate::offer::Offer;
use crate::packing::{Application, PackError, PackedTask, Plan, Role, pack};
use crate::pool::to_f64;
pub use plan::{Collocated, Feeding, NextStep, PipelinePlan, Point};

/// The steps of the frontier.
const STEPS: u32 = 10;
/// So many times the devices that are asked for are planned, too.
const BEYOND: [u32; 3] = [2, 4, 8];
/// No sample takes so many seconds.
const SECONDS_MAX: f64 = 1e6;

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

    /// Plans a tenth of the devices' throughput, two tenths, up to all of it, each with as many
    /// devices as it takes; then two, four and eight times as many devices, as long as there are
    /// machines for them; and what machines would do that prepare their own samples. Costs a
    /// packing for each.
    ///
    /// # Errors
    /// When a cost is no time, or when a task fits no machine.
    pub fn plan(&self, catalog: &Catalog) -> Result<PipelinePlan, PipelineError> {
        self.check()?;
        let all = self.trainer.devices;
        let mut frontier = Vec::new();
        for step in 1..STEPS {
            let rate = self.throughput_max() * f64::from(step) / f64::from(STEPS);
            let part = u64::from(all.get()) * u64::from(step);
            let devices = u32::try_from(part.div_ceil(u64::from(STEPS))).unwrap_or(all.get());
            let packed = pack(&self.application(rate, devices)?, catalog);
            let cost = packed.map_err(PipelineError::Pack)?.usd_hour;
            frontier.push(self.point(rate, devices, cost));
        }
        let application = self.application(self.throughput_max(), all.get())?;
        let plan = pack(&application, catalog).map_err(PipelineError::Pack)?;
        frontier.push(self.point(self.throughput_max(), all.get(), plan.usd_hour));
        let more = BEYOND.into_iter().map_while(|times| all.checked_mul(NonZeroU32::new(times)?));
        let beyond: Vec<Point> =
            more.map_while(|devices| self.with_devices(devices).full(catalog)).collect();
        // Who does more does less, too: a packing that is not the best is not shown.
        let mut least = plan.usd_hour;
        for point in frontier.iter_mut().rev() {
            least = least.min(point.usd_hour);
            *point = self.point(point.samples_second, point.devices, least);
        }
        let replicas = application.tasks.iter();
        let replicas =
            replicas.map(|task| (task.name.clone(), task.demand.replicas.min())).collect();
        let collocated = self.collocated(catalog);
        let next = self.next(catalog, &plan);
        Ok(PipelinePlan { frontier, beyond, replicas, plan, collocated, next })
    }

    fn with_devices(&self, devices: NonZeroU32) -> Self {
        let mut other = self.clone();
        other.trainer.devices = devices;
        other
    }

    /// What it costs to feed all devices; `None` where that cannot be packed.
    fn full(&self, catalog: &Catalog) -> Option<Point> {
        let (rate, devices) = (self.throughput_max(), self.trainer.devices.get());
        let plan = pack(&self.application(rate, devices).ok()?, catalog).ok()?;
        Some(self.point(rate, devices, plan.usd_hour))
    }

    /// What so many samples a second need on so many devices.
    fn application(&self, rate: f64, devices: u32) -> Result<Application, PipelineError> {
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
        let more = self.with_devices(self.trainer.devices.checked_add(1)?);
        let point = more.full(catalog)?;
        Some(NextStep {
            delta_usd_hour: point.usd_hour.as_dollars() - plan.usd_hour.as_dollars(),
            throughput_share: point.samples_second / self.throughput_max() - 1.0,
            point,
        })
    }

    fn point(&self, rate: f64, devices: u32, usd_hour: UsdPerHour) -> Point {
        let hours = to_f64(self.samples) / rate / 3600.0;
        Point { samples_second: rate, devices, usd_hour, usd_epoch: usd_hour.as_dollars() * hours }
    }

    /// The machine on which an epoch is cheapest when it prepares its own samples, every sample
    /// in its memory; and the cheapest one that feeds all devices.
    fn collocated(&self, catalog: &Catalog) -> Option<Collocated> {
        let alone = |offer| Some((offer, self.alone(offer)?));
        let all: Vec<(&Offer, Alone)> = catalog.offers().iter().filter_map(alone).collect();
        let (offer, best) =
            all.iter().min_by(|(_, a), (_, b)| a.point.usd_epoch.total_cmp(&b.point.usd_epoch))?;
        let rate = self.throughput_max() * (1.0 - 1e-9);
        let feeds = |(_, it): &&(&Offer, Alone)| it.point.samples_second >= rate;
        let feeding = all.iter().filter(feeds).min_by_key(|(_, it)| it.point.usd_hour);
        Some(Collocated {
            offer: offer.sku.clone(),
            devices_asked: self.trainer.devices.get(),
            device_busy: best.device_busy,
            break_even_device_seconds: self.break_even_device_seconds(
                offer.sustained.as_cores() / f64::from(best.point.devices),
            ),
            point: best.point,
            feeding: feeding
                .map(|(offer, it)| Feeding { offer: offer.sku.clone(), point: it.point }),
        })
    }

    /// What one machine does that prepares its own samples; `None` where it has not what it takes.
    fn alone(&self, offer: &Offer) -> Option<Alone> {
        let gpu = offer.gpu.as_ref()?;
        let wanted = self.trainer.gpu.as_deref();
        let devices = gpu.count().min(self.trainer.devices.get());
        let trainers = self.trainer.memory.bytes().saturating_mul(u64::from(devices));
        let held = self.working_set.bytes().saturating_add(trainers);
        if (wanted.is_some() && gpu.kind() != wanted) || offer.allocatable.bytes() < held {
            return None;
        }
        let taken = f64::from(devices) / self.trainer.device_seconds;
        let prepared = offer.sustained.as_cores() / self.cpu_seconds();
        let price = offer.price.plus(offer.charges);
        let point = self.point(taken.min(prepared), devices, price);
        Some(Alone { device_busy: (prepared / taken).min(1.0), point })
    }

    fn check(&self) -> Result<(), PipelineError> {
        if self.samples == 0 {
            return Err(PipelineError::Samples);
        }
        let is_time = |seconds: f64| (0.0..=SECONDS_MAX).contains(&seconds);
        let stages = self.stages.iter().map(|stage| (stage.name.as_str(), stage.cpu_seconds));
        let all = stages.chain([
            ("trainer", self.trainer.cpu_seconds),
            ("trainer", self.trainer.device_seconds),
        ]);
        for (name, seconds) in all {
            if !is_time(seconds) {
                return Err(PipelineError::Time { name: name.into(), seconds });
            }
        }
        let seconds = self.trainer.device_seconds;
        if seconds < 1e-9 {
            return Err(PipelineError::Time { name: "trainer".into(), seconds });
        }
        match self.cpu_seconds() > 0.0 {
            true => Ok(()),
            false => Err(PipelineError::Idle),
        }
    }
}

/// What one machine does that prepares its own samples.
struct Alone {
    device_busy: f64,
    point: Point,
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
    /// An epoch without samples.
    Samples,
    /// Nobody needs a processor, so that there is nothing to feed the devices with.
    Idle,
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
            Self::Samples => f.write_str("an epoch has 0 samples; expected at least 1"),
            Self::Idle => f.write_str(
                "a sample costs no processor time anywhere; expected cpu_seconds above 0 of a \
                 stage or of the trainer",
            ),
            Self::Time { name, seconds } => write!(
                f,
                "a sample costs `{name}` {seconds} seconds; expected a measured time above 0, at most \
                 {SECONDS_MAX}"
            ),
            Self::Replicas(error) => error.fmt(f),
            Self::Pack(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PipelineError {}

#[cfg(test)]
mod tests;
