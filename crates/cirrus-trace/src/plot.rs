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
const POINTS_MAX: i64 = 1_000;

const CAP: &str = "#777777";
const SHARE: &str = "#1f77b4";
const PUBLISHED: &str = "#d95f02";
const RESERVED: &str = "#e6a100";

/// What could be lent, by the share of its memory that each machine keeps: per own capacity, as
/// published, and the cap 1-L. A drawing in SVG.
#[must_use]
pub fn recoverable(report: &Report) -> String {
    let rows = &report.recoverable;
    let points = |of: fn(&crate::report::Recoverable) -> Option<f64>| -> Vec<Vec<[f64; 2]>> {
        let points = rows.iter().filter_map(|row| Some([row.local_fraction, of(row)?]));
        Some(points.collect::<Vec<_>>()).filter(|points| !points.is_empty()).into_iter().collect()
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

/// Memory over time, in shares of the most capacity that was up: capacity, requests, use. Where
/// nothing was measured no line is drawn. A drawing in SVG.
#[must_use]
pub fn over_time(report: &Report) -> String {
    let series = &report.over_time;
    let most = series.iter().filter_map(|slot| slot.capacity.memory).fold(0.0, f64::max);
    let first = report.trace.first_s.unwrap_or(0.0);
    let last = report.trace.last_s.unwrap_or(1.0);
    let (unit, unit_s) = unit(last - first);
    let step = |point: &AtTime| step(point.at_s, report.over_time_step_s);
    let steps = series.first().zip(series.last()).map_or(1, |(one, end)| step(end) - step(one) + 1);
    let together = (steps - 1) / POINTS_MAX + 1;
    let line = |of: fn(&AtTime) -> Option<f64>| {
        let points = series.iter().filter_map(|point| {
            let middle = point.at_s + point.measured_s / 2.0 - first;
            Some(Point {
                stretch: step(point).div_euclid(together),
                at: [middle / unit_s, of(point)? / most],
                length: point.measured_s / unit_s,
            })
        });
        pieces(points)
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

/// The number of the step of time that a moment is in.
#[expect(clippy::cast_possible_truncation, reason = "microseconds of 36,000 years at most")]
fn step(at_s: f64, step_s: f64) -> i64 {
    let micros = |seconds: f64| (seconds * 1e6).round() as i64;
    micros(at_s).div_euclid(micros(step_s).max(1))
}

/// A value that held for a while.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// Points of one stretch of time are drawn as one.
    stretch: i64,
    at: [f64; 2],
    length: f64,
}

/// A piece of line for stretches that follow each other: means, weighted. A stretch alone is as long
/// as what was measured of it.
fn pieces(points: impl Iterator<Item = Point>) -> Vec<Vec<[f64; 2]>> {
    let mut stretches: Vec<Point> = Vec::new();
    for point in points {
        match stretches.last_mut().filter(|last| last.stretch == point.stretch) {
            Some(last) => {
                let length = last.length + point.length;
                let mean = |axis: usize| {
                    (last.at[axis] * last.length + point.at[axis] * point.length) / length
                };
                *last = Point { at: [mean(0), mean(1)], length, ..point };
            }
            None => stretches.push(point),
        }
    }
    let pieces = stretches.chunk_by(|one, next| one.stretch + 1 == next.stretch);
    let piece = |piece: &[Point]| match piece {
        [Point { at: [middle, share], length, .. }] => {
            vec![[middle - length / 2.0, *share], [middle + length / 2.0, *share]]
        }
        _ => piece.iter().map(|point| point.at).collect(),
    };
    pieces.map(piece).collect()
}
