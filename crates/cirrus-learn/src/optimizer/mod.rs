//! How do gradients change parameters?
//!
//! Owns the update rules, one file each, what they keep for each coordinate, and the rate of a step.
//! Knows nothing of models, of who sends gradients, and of where parameters lie: it is given rows.
//! Invariant: a coordinate's new row is a function of its old row, its gradient, the rate and the
//! penalty alone. So a coordinate that no gradient touches stays as it is, whatever the others do.
//!
//! A **row** is what is kept of one coordinate: its value first, then the rule's own state, which
//! begins at zero. That rules go by coordinate is what makes them fit for sparse gradients; where a
//! rule decays something with every step (momentum, Adam), it does so when the coordinate is
//! touched, as PyTorch's `SparseAdam` does.

mod adagrad;
mod adam;
mod ftrl;
mod momentum;
mod schedule;
mod sgd;
#[cfg(test)]
mod tests;

use std::fmt;

pub use adagrad::Adagrad;
pub use adam::Adam;
pub use ftrl::Ftrl;
pub use momentum::Momentum;
pub use schedule::{OneCycle, Schedule};
pub use sgd::Sgd;

/// What large values cost, for each coordinate; both are 0 or more.
///
/// The second norm is added to the gradient (`l2` times the value). The first is a proximal step:
/// after the gradient's step a value moves towards zero by its rate times `l1`, and stops there
/// (Duchi and Singer, "Efficient Online and Batch Learning Using Forward Backward Splitting", 2009), so
/// that weights become exactly zero. [`Ftrl`] has both in its own objective.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
        self.l2.mul_add(value, gradient)
    }

    /// A value after its step of `rate`, moved towards zero.
    #[inline]
    fn shrunk(self, value: f32, rate: f32) -> f32 {
        // A value that is not a number must stay one, which `max` would make 0.
        let shift = rate * self.l1;
        if value.abs() <= shift { 0.0 } else { value - shift.copysign(value) }
    }
}

/// How a gradient changes a coordinate. A rule is one file; it decides, and keeps nothing itself.
pub trait Rule: fmt::Debug + Send + Sync {
    /// Floats in a row: the value and the state.
    fn width(&self) -> usize;

    /// Changes one row, of [`width`](Self::width) floats, against its gradient.
    fn update(&self, rate: f32, penalty: Penalty, row: &mut [f32], gradient: f32);

    /// Changes rows that lie one behind the other, one for each gradient.
    fn update_all(&self, rate: f32, penalty: Penalty, rows: &mut [f32], gradients: &[f32]) {
        for (row, &gradient) in rows.chunks_exact_mut(self.width()).zip(gradients) {
            self.update(rate, penalty, row, gradient);
        }
    }

    /// Changes the rows of these places, in this order; a place that comes twice is changed twice.
    ///
    /// # Panics
    ///
    /// When a place is beyond `rows`.
    fn update_at(
        &self,
        rate: f32,
        penalty: Penalty,
        rows: &mut [f32],
        places: &[u32],
        gradients: &[f32],
    ) {
        let width = self.width();
        for (&place, &gradient) in places.iter().zip(gradients) {
            let at = place as usize * width;
            self.update(rate, penalty, &mut rows[at..at + width], gradient);
        }
    }
}
