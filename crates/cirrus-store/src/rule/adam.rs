//! Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015).

use serde::{Deserialize, Serialize};

use super::{Penalty, Rule};

/// A step is the mean of gradients over the root of the mean of their squares. It keeps both, and how
/// often the coordinate was touched: both means begin at zero, which is corrected by that number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Decay of the mean of gradients, from 0 up to, but not, 1.
    pub beta_1: f32,
    /// Decay of the mean of squared gradients, from 0 up to, but not, 1.
    pub beta_2: f32,
    /// Keeps the division away from zero.
    pub epsilon: f32,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 }
    }
}

/// Floats count exactly up to here, and both corrections are long 1.
const TOUCHED_MAX: f32 = 16_777_216.0;

impl Rule for Adam {
    fn width(&self) -> usize {
        4
    }

    #[inline]
    fn update(&self, rate: f32, penalty: Penalty, row: &mut [f32], gradients: &[f32]) {
        let (values, state) = row.split_at_mut(gradients.len());
        let (means, state) = state.split_at_mut(gradients.len());
        let (squares, touched) = state.split_at_mut(gradients.len());
        let state = means.iter_mut().zip(squares).zip(touched);
        for ((value, ((mean, square), touched)), &gradient) in
            values.iter_mut().zip(state).zip(gradients)
        {
            let gradient = penalty.gradient(*value, gradient);
            *mean = self.beta_1 * *mean + (1.0 - self.beta_1) * gradient;
            *square = self.beta_2 * *square + (1.0 - self.beta_2) * gradient * gradient;
            *touched = (*touched + 1.0).min(TOUCHED_MAX);
            let mean = *mean / correction(self.beta_1, *touched);
            let square = *square / correction(self.beta_2, *touched);
            let rate = rate / (square.sqrt() + self.epsilon);
            let moved = *value - rate * mean;
            *value = if square == 0.0 { moved } else { penalty.shrunk(moved, rate) };
        }
    }
}

/// What is missing of a mean that began at zero: in double, for 1 less nearly 1 has few digits.
#[inline]
fn correction(beta: f32, touched: f32) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "a share of 1")]
    let share = (1.0 - f64::from(beta).powf(f64::from(touched))) as f32;
    share
}
