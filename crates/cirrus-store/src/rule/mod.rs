//! How do gradients change parameters?
//!
//! Owns the update rules, one file each, and what they keep of each coordinate. Knows nothing of
//! models, of who sends gradients, and of where parameters lie: it is given rows.
//! Invariant: a coordinate's new value and state are a function of its old ones, its gradient, the
//! rate and the penalty alone. So a coordinate that no gradient touches stays as it is, whatever the
//! others do.
//!
//! A **row** is what is kept of a few coordinates, its columns, that are touched together: their
//! values, then for each float of the rule's state one such plane, which begins at zero. That rules
//! go by coordinate is what makes them fit for sparse gradients; where a rule decays something with
//! every step (momentum, Adam), it does so when the coordinate is touched, as PyTorch's `SparseAdam`
//! does.

mod adagrad;
mod adam;
mod ftrl;
mod momentum;
mod optimizer;
mod sgd;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use adagrad::Adagrad;
pub use adam::Adam;
pub use ftrl::Ftrl;
pub use momentum::Momentum;
pub use optimizer::{Optimizer, WithRule};
pub use sgd::Sgd;

/// What large values cost, for each coordinate; both are 0 or more.
///
/// The second norm is added to the gradient (`l2` times the value). The first is a proximal step:
/// after the gradient's step a value moves towards zero by its rate times `l1`, and stops there
/// (Duchi and Singer, "Efficient Online and Batch Learning Using Forward Backward Splitting", 2009), so
/// that weights become exactly zero. [`Ftrl`] has both in its own objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// Weight of the sum of absolute values.
    pub l1: f32,
    /// Weight of half of the sum of squares.
    pub l2: f32,
}

impl Penalty {
    /// The gradient with the second norm's own.
    #[inline]
    fn gradient(self, value: f32, gradient: f32) -> f32 {
        // Not fused: without the instruction that is a call for each coordinate.
        gradient + self.l2 * value
    }

    /// A value after its step of `rate`, moved towards zero.
    #[inline]
    fn shrunk(self, value: f32, rate: f32) -> f32 {
        // A value that is not a number must stay one, which `max` would make 0.
        let shift = rate * self.l1;
        if value.abs() <= shift { 0.0 } else { value - shift.copysign(value) }
    }
}

/// How gradients change a row. A rule is one file; it decides, and keeps nothing itself.
pub trait Rule: fmt::Debug + Send + Sync {
    /// Floats that are kept of each coordinate: its value and the state.
    fn width(&self) -> usize;

    /// Changes one row, of [`width`](Self::width) planes of as many floats as there are gradients.
    fn update(&self, rate: f32, penalty: Penalty, row: &mut [f32], gradients: &[f32]);

    /// Changes rows of `columns` coordinates that lie one behind the other.
    fn update_all(
        &self,
        rate: f32,
        penalty: Penalty,
        columns: usize,
        rows: &mut [f32],
        gradients: &[f32],
    ) {
        let rows = rows.chunks_exact_mut(self.width() * columns);
        for (row, gradients) in rows.zip(gradients.chunks_exact(columns)) {
            self.update(rate, penalty, row, gradients);
        }
    }
}
