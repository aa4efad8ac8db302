//! How many replicas feed the GPUs, and on which machines.
//!
//! Owns [`Pipeline`]: measured costs of stages made into applications, one for each throughput.
//! Knows no solver. A throughput is never promised beyond what the devices take.

use std::fmt;
use std::num::NonZeroU32;

use cirrus_units::{ByteRate, ByteSize, Cores};
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::demand::{Cpu, Demand, Gpu, Replicas};
use crate::money::UsdPerHour;
use crate::packing::{Application, PackError, PackedTask, Plan, Role, pack};
use crate::pool::to_f64;
use crate::svg::{Anchor, Svg};

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

/// A plan that keeps the devices busy, and what less would cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PipelinePlan {
    /// Throughputs and their prices; the last one feeds the devices fully.
    pub frontier: Vec<Point>,
    /// How many replicas of each task that takes.
    pub replicas: Vec<(String, u32)>,
    /// The machines that feed the devices fully.
    #[serde(flatten)]
    pub plan: Plan,
    /// The best machine that prepares its own samples.
    pub collocated: Option<Collocated>,
    /// What goes beyond the devices that there are.
    pub next: Option<NextStep>,
}

/// The next step that raises the throughput when the devices are fed fully: one more of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NextStep {
    /// How many devices that makes.
    pub devices: u32,
    /// What it costs besides, in dollars an hour.
    pub delta_usd_hour: f64,
    /// The share by which the throughput grows.
    pub throughput_share: f64,
    /// What is reached.
    #[serde(flatten)]
    pub point: Point,
}

/// A throughput and its price.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// Samples a second.
    pub samples_second: f64,
    /// What the machines cost.
    pub usd_hour: UsdPerHour,
    /// What an epoch costs, in dollars.
    pub usd_epoch: f64,
}

/// One machine that does everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Collocated {
    /// The offer's name.
    pub offer: String,
    /// The share of the time in which its devices have something to do.
    pub device_busy: f64,
    /// The device time of a sample from which on it would feed its devices alone.
    pub break_even_device_seconds: f64,
    /// What it does.
    #[serde(flatten)]
    pub point: Point,
}

impl PipelinePlan {
    /// The plan that feeds the devices fully.
    pub fn full(&self) -> Point {
        self.frontier[self.frontier.len() - 1]
    }

    /// Draws dollars an epoch over samples a second, as an SVG file.
    pub fn figure(&self) -> String {
        let (width, height, left, top) = (460.0, 240.0, 70.0, 40.0);
        let collocated = self.collocated.as_ref().map(|it| it.point);
        let points = || self.frontier.iter().copied().chain(collocated);
        let most = |of: fn(Point) -> f64| points().map(of).fold(f64::MIN_POSITIVE, f64::max);
        let (x_scale, y_scale) =
            (width / most(|it| it.samples_second), height / most(|it| it.usd_epoch));
        let at = |point: Point| {
            [left + point.samples_second * x_scale, top + height - point.usd_epoch * y_scale]
        };
        let mut svg = Svg::new(left + width + 60.0, top + height + 50.0);
        svg.text([left, 20.0], Anchor::Start, "$ an epoch over samples/s");
        svg.line([left, top], [left, top + height], "#222");
        svg.line([left, top + height], [left + width, top + height], "#222");
        for pair in self.frontier.windows(2) {
            svg.line(at(pair[0]), at(pair[1]), "#8fb3d9");
        }
        for (point, colour) in self
            .frontier
            .iter()
            .map(|it| (*it, "#8fb3d9"))
            .chain(collocated.map(|it| (it, "#d98f5c")))
        {
            let [x, y] = at(point);
            svg.rect([x - 3.0, y - 3.0], [6.0, 6.0], colour);
        }
        let full = self.full();
        let [x, y] = at(full);
        svg.text([x, y - 8.0], Anchor::Middle, &format!("{:.4}", full.usd_epoch));
        svg.text([x, top + height + 18.0], Anchor::Middle, &format!("{:.0}", full.samples_second));
        svg.text([left - 8.0, top + height + 4.0], Anchor::End, "0");
        let [_, y] = at(self.frontier[0]);
        let first = format!("{:.4}", self.frontier[0].usd_epoch);
        svg.text([left - 8.0, y + 4.0], Anchor::End, &first);
        if let Some(it) = &self.collocated {
            // Below, where the frontier does not pass.
            let [x, y] = at(it.point);
            let label = format!("all on {} {:.4}", it.offer, it.point.usd_epoch);
            svg.text([x + 12.0, y + 26.0], Anchor::End, &label);
        }
        svg.finish()
    }
}

impl fmt::Display for PipelinePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.full();
        writeln!(
            f,
            "{:.4} $ an epoch, {:.4} $/h, {:.0} samples/s, devices fed fully",
            full.usd_epoch, full.usd_hour, full.samples_second
        )?;
        let replicas = self.replicas.iter().map(|(name, count)| format!("{count} {name}"));
        writeln!(f, "replicas: {}", replicas.collect::<Vec<_>>().join(", "))?;
        if let Some(it) = &self.collocated {
            let Collocated { offer, device_busy, point, break_even_device_seconds } = it;
            writeln!(
                f,
                "all on one {offer}: {:.4} $ an epoch, {:.4} $/h, {:.0} samples/s\n  devices busy \
                 {:.0} %; break-even at {:.3} ms of device time a sample",
                point.usd_epoch,
                point.usd_hour,
                point.samples_second,
                100.0 * device_busy,
                1000.0 * break_even_device_seconds
            )?;
        }
        if let Some(next) = &self.next {
            writeln!(
                f,
                "next step: {} devices, {:+.4} $/h for {:+.0} % samples/s",
                next.devices,
                next.delta_usd_hour,
                100.0 * next.throughput_share
            )?;
        }
        writeln!(f, "\n{:>12}{:>10}{:>12}", "samples/s", "$/h", "$ an epoch")?;
        for it in &self.frontier {
            writeln!(f, "{:>12.0}{:>10.4}{:>12.4}", it.samples_second, it.usd_hour, it.usd_epoch)?;
        }
        write!(f, "\n{}", self.plan)
    }
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
