//! The figures as pictures.
//!
//! Owns the two plots, and the page that holds everything. Knows nothing of how figures are found.
//! Invariant: a picture is one file that asks for no other.

mod chart;
mod page;
#[cfg(test)]
mod tests;

use crate::report::{AtTime, Report};
use chart::{Chart, Line};
pub use page::html;

/// The most points of a line: longer series are drawn as means of equal stretches.
const POINTS_MAX: usize = 1_000;

const CAP: &str = "#777777";
const SHARE: &str = "#1f77b4";
const PUBLISHED: &str = "#d95f02";
const RESERVED: &str = "#e6a100";

/// What could be lent, by the share of its memory that each machine keeps: per own capacity, as
/// published, and the cap 1-L. A drawing in SVG.
#[must_use]
pub fn recoverable(report: &Report) -> String {
    let rows = &report.recoverable;
    let points = |of: fn(&crate::report::Recoverable) -> Option<f64>| -> Vec<[f64; 2]> {
        rows.iter().filter_map(|row| Some([row.local_fraction, of(row)?])).collect()
    };
    let lines = [
        Line::dashed("cap 1-L", CAP, points(|row| Some(row.cap_share))),
        Line::solid(
            "as published: every machine of size 1",
            PUBLISHED,
            points(|row| row.as_published_share),
        ),
        Line::solid("of the memory that is there", SHARE, points(|row| row.share)),
    ];
    Chart {
        title: "Memory that could be lent, of all memory",
        across: "share of its memory that each machine keeps for itself, L",
        across_range: [0.0, 1.0],
        lines: lines.into(),
    }
    .draw()
}

/// Memory over time, in shares of the most capacity that was up: capacity, requests, use. A drawing
/// in SVG.
#[must_use]
pub fn over_time(report: &Report) -> String {
    let series = &report.over_time;
    let most = series.iter().filter_map(|slot| slot.capacity.memory).fold(0.0, f64::max);
    let first = report.trace.first_s.unwrap_or(0.0);
    let last = report.trace.last_s.unwrap_or(1.0);
    let (unit, unit_s) = unit(last - first);
    let line = |of: fn(&AtTime) -> Option<f64>| {
        let points = series.iter().filter_map(|slot| {
            let middle = slot.at_s + slot.measured_s / 2.0 - first;
            Some(([middle / unit_s, of(slot)? / most], slot.measured_s))
        });
        decimate(&points.collect::<Vec<_>>(), POINTS_MAX)
    };
    let lines = [
        Line::solid("capacity", CAP, line(|slot| slot.capacity.memory)),
        Line::solid("reserved", RESERVED, line(|slot| slot.reserved.memory)),
        Line::solid("used", SHARE, line(|slot| slot.used.memory)),
    ];
    Chart {
        title: "Memory over time, of the most capacity that was up",
        across: unit,
        across_range: [0.0, ((last - first) / unit_s).max(f64::MIN_POSITIVE)],
        lines: lines.into(),
    }
    .draw()
}

/// Both, one above the other.
#[must_use]
pub fn both(report: &Report) -> String {
    chart::stacked(&[recoverable(report), over_time(report)])
}

/// The unit in which a length of time is drawn.
fn unit(seconds: f64) -> (&'static str, f64) {
    match seconds {
        long if long >= 2.0 * 86_400.0 => ("days", 86_400.0),
        long if long >= 2.0 * 3_600.0 => ("hours", 3_600.0),
        long if long >= 120.0 => ("minutes", 60.0),
        _ => ("seconds", 1.0),
    }
}

/// At most so many points: means of equally many neighbours, weighted.
fn decimate(points: &[([f64; 2], f64)], most: usize) -> Vec<[f64; 2]> {
    let mean = |points: &[([f64; 2], f64)]| {
        let weight: f64 = points.iter().map(|(_, weight)| weight).sum();
        [0, 1].map(|axis| points.iter().map(|(point, by)| point[axis] * by).sum::<f64>() / weight)
    };
    points.chunks(points.len().div_ceil(most).max(1)).map(mean).collect()
}
