//! FTRL-proximal (McMahan and others, "Ad Click Prediction: a View from the Trenches", 2013,
//! Algorithm 1), whose `alpha` is the rate.

use serde::{Deserialize, Serialize};

use super::{Penalty, Rule};

/// Follows the regularised leader: the value that the sum of all gradients so far asks for, with both
/// norms, exactly zero while that sum is below `l1`. It keeps the paper's `z` and `n`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ftrl {
    /// Holds the first steps of a coordinate back; above 0.
    pub beta: f32,
}

impl Default for Ftrl {
    fn default() -> Self {
        Self { beta: 1.0 }
    }
}

impl Rule for Ftrl {
    fn width(&self) -> usize {
        3
    }

    #[inline]
    fn update(&self, rate: f32, penalty: Penalty, row: &mut [f32], gradients: &[f32]) {
        let (values, state) = row.split_at_mut(gradients.len());
        let (sums, squares) = state.split_at_mut(gradients.len());
        let state = sums.iter_mut().zip(squares);
        for ((value, (sum, squares)), &gradient) in values.iter_mut().zip(state).zip(gradients) {
            let before = squares.sqrt();
            *squares += gradient * gradient;
            let after = squares.sqrt();
            *sum += gradient - (after - before) / rate * *value;
            let curvature = (self.beta + after) / rate + penalty.l2;
            // What of the sum is beyond `l1`.
            *value = -penalty.shrunk(*sum, 1.0) / curvature;
        }
    }
}
