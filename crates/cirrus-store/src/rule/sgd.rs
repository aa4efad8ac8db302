//! Stochastic gradient descent (Robbins and Monro, 1951).

use super::{Penalty, Rule};

/// A step is the rate times the gradient. It keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sgd;

impl Rule for Sgd {
    fn width(&self) -> usize {
        1
    }

    #[inline]
    fn update(&self, rate: f32, penalty: Penalty, row: &mut [f32], gradients: &[f32]) {
        for (value, &gradient) in row.iter_mut().zip(gradients) {
            let gradient = penalty.gradient(*value, gradient);
            *value = penalty.shrunk(*value - rate * gradient, rate);
        }
    }
}
