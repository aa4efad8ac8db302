//! What a pipeline costs, and what it is compared with.
//!
//! Owns [`PipelinePlan`]. Knows not how it is found. Displays money first, and draws itself.

use std::fmt;

use serde::Serialize;

use crate::money::UsdPerHour;
use crate::packing::Plan;
use crate::svg::{Anchor, Svg};

/// A plan that keeps the devices busy, and what less would cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PipelinePlan {
    /// Throughputs and their prices; the last one feeds the devices fully.
    pub frontier: Vec<Point>,
    /// Two, four and eight times as many devices, fed fully, as far as there are machines.
    pub beyond: Vec<Point>,
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
    /// Devices that learn.
    pub devices: u32,
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
    /// The devices that were asked for; it may have fewer.
    pub devices_asked: u32,
    /// What it does.
    #[serde(flatten)]
    pub point: Point,
    /// The cheapest machine that feeds all devices alone; `None`: there is none.
    pub feeding: Option<Feeding>,
}

/// A machine that feeds all devices alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Feeding {
    /// The offer's name.
    pub offer: String,
    /// What it does.
    #[serde(flatten)]
    pub point: Point,
}

impl PipelinePlan {
    /// The plan that feeds the devices fully.
    pub fn full(&self) -> Point {
        self.frontier[self.frontier.len() - 1]
    }

    /// Draws dollars an epoch over samples a second up to the devices asked for, as an SVG file.
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
            let Collocated { offer, device_busy, point, break_even_device_seconds, .. } = it;
            writeln!(
                f,
                "all on one {offer}: {:.4} $ an epoch, {:.4} $/h, {:.0} samples/s\n  {} of {} devices, \
                 busy {:.0} %; break-even at {:.3} ms of device time a sample",
                point.usd_epoch,
                point.usd_hour,
                point.samples_second,
                point.devices,
                it.devices_asked,
                100.0 * device_busy,
                1000.0 * break_even_device_seconds
            )?;
            match &it.feeding {
                Some(Feeding { offer, point }) => writeln!(
                    f,
                    "  the cheapest alone to feed all: {offer}, {:.4} $ an epoch, {:.4} $/h",
                    point.usd_epoch, point.usd_hour
                )?,
                None => writeln!(f, "  no single machine feeds all")?,
            }
        }
        if let Some(next) = &self.next {
            writeln!(
                f,
                "next step: {} devices, {:+.4} $/h for {:+.0} % samples/s",
                next.point.devices,
                next.delta_usd_hour,
                100.0 * next.throughput_share
            )?;
        }
        let [rate, devices, cost, epoch] = ["samples/s", "devices", "$/h", "$ an epoch"];
        writeln!(f, "\n{rate:>12}{devices:>9}{cost:>10}{epoch:>12}")?;
        for it in self.frontier.iter().chain(&self.beyond) {
            write!(f, "{:>12.0}{:>9}", it.samples_second, it.devices)?;
            writeln!(f, "{:>10.4}{:>12.4}", it.usd_hour, it.usd_epoch)?;
        }
        write!(f, "\n{}", self.plan)
    }
}
