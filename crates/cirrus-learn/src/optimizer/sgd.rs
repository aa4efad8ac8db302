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
    fn update(&self, rate: f32, penalty: Penalty, row: &mut [f32], gradient: f32) {
        let [value] = row else { unreachable!("a row is as wide as its rule says") };
        let gradient = penalty.gradient(*value, gradient);
        *value = penalty.shrunk(*value - rate * gradient, rate);
    }
}
