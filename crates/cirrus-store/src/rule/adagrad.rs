//! Adagrad (Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and
//! Stochastic Optimization", 2011), with the diagonal matrix and composite mirror descent.

use serde::{Deserialize, Serialize};

use super::{Penalty, Rule};

/// A coordinate's rate falls with the square root of the sum of its squared gradients, which is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adagrad {
    /// Keeps the division away from zero.
    pub epsilon: f32,
}

impl Default for Adagrad {
    fn default() -> Self {
        Self { epsilon: 1e-10 }
    }
}

impl Rule for Adagrad {
    fn width(&self) -> usize {
        2
    }

    #[inline]
    fn update(&self, rate: f32, penalty: Penalty, row: &mut [f32], gradients: &[f32]) {
        let (values, squares) = row.split_at_mut(gradients.len());
        for ((value, squares), &gradient) in values.iter_mut().zip(squares).zip(gradients) {
            let gradient = penalty.gradient(*value, gradient);
            *squares += gradient * gradient;
            let rate = rate / (squares.sqrt() + self.epsilon);
            let moved = *value - rate * gradient;
            // The rate of a coordinate that has seen no gradient would be endless.
            *value = if *squares == 0.0 { moved } else { penalty.shrunk(moved, rate) };
        }
    }
}
