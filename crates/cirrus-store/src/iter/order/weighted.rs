//! Some records more often than others.

use std::sync::Arc;

use super::Order;
use crate::error::{Error, Kind, Result};
use crate::iter::EpochSeed;

/// Records drawn by weight, with replacement: at each position any record comes, as likely as its
/// weight is large, whatever comes at the others. Some come often and some never, so that this is
/// not an epoch in which each record is read exactly once.
///
/// By the alias method (Walker 1977; built as in Vose 1991, "A linear algorithm for generating
/// random numbers with a given distribution"): constant time, 12 bytes a record, shared by clones.
#[derive(Debug, Clone)]
pub struct Weighted {
    seed: EpochSeed,
    draws: u64,
    table: Arc<[Cell]>,
}

/// A column of the table: below the threshold it is the record itself, else the other one.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
struct Cell {
    threshold: u64,
    other: u32,
}

impl Weighted {
    /// `draws` positions, at each of which record `i` comes with a probability of `weights[i]` over
    /// their sum.
    ///
    /// [`Kind::Invalid`] without a weight above 0, or with one that is negative or not finite;
    /// [`Kind::TooLarge`] from 2³² weights on.
    pub fn new(seed: EpochSeed, weights: &[f64], draws: u64) -> Result<Self> {
        if u32::try_from(weights.len()).is_err() {
            let text = format!("{} weights; under 2^32 can be drawn from", weights.len());
            return Err(Error::new(Kind::TooLarge, text).with_detail(u64::from(u32::MAX)));
        }
        let wrong = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0));
        if let Some(at) = wrong {
            let text = format!("weight {at} is {}; expected 0 or more", weights[at]);
            return Err(Error::new(Kind::Invalid, text));
        }
        let sum: f64 = weights.iter().sum();
        if !sum.is_normal() {
            let text = format!("{} weights whose sum is {sum}; scale them", weights.len());
            return Err(Error::new(Kind::Invalid, text));
        }
        Ok(Self { seed, draws, table: table(weights, sum) })
    }

    /// The same weights for another epoch, or seed.
    #[must_use]
    pub fn with_seed(&self, seed: EpochSeed) -> Self {
        Self { seed, ..self.clone() }
    }
}

/// Vose's table: each column as high as the mean, of its own record below and one other above.
#[expect(clippy::cast_possible_truncation, reason = "under 2^32 weights, as `new` checks")]
fn table(weights: &[f64], sum: f64) -> Arc<[Cell]> {
    let columns = weights.len() as f64;
    let mut heights: Vec<f64> = weights.iter().map(|weight| weight / sum * columns).collect();
    let mut cells: Vec<Cell> =
        (0..weights.len()).map(|at| Cell { threshold: u64::MAX, other: at as u32 }).collect();
    let (mut low, mut high): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|at| heights[*at] < 1.0);
    while let (Some(short), Some(tall)) = (low.pop(), high.pop()) {
        cells[short] = Cell { threshold: part(heights[short]), other: tall as u32 };
        heights[tall] = (heights[tall] + heights[short]) - 1.0;
        if heights[tall] < 1.0 { low.push(tall) } else { high.push(tall) }
    }
    // What is left is as high as the mean, but for rounding: unless it weighs nothing at all.
    for at in low.into_iter().filter(|at| weights[*at] == 0.0) {
        let heaviest = (0..weights.len()).max_by(|a, b| weights[*a].total_cmp(&weights[*b]));
        cells[at] = Cell { threshold: 0, other: heaviest.unwrap_or(0) as u32 };
    }
    cells.into()
}

/// A height of 0 to 1 as a part of 2⁶⁴.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn part(height: f64) -> u64 {
    (height * 18_446_744_073_709_551_616.0) as u64
}

impl Order for Weighted {
    fn len(&self) -> u64 {
        self.draws
    }

    fn record(&self, position: u64) -> Option<u64> {
        if position >= self.draws {
            return None;
        }
        let columns = u128::from(self.seed.draw(position, 0)) * self.table.len() as u128;
        let column = u64::try_from(columns >> 64).ok()?;
        let Cell { threshold, other } = *self.table.get(usize::try_from(column).ok()?)?;
        let is_own = self.seed.draw(position, 1) < threshold;
        Some(if is_own { column } else { u64::from(other) })
    }
}
