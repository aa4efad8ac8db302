//! How do gradients change the weights?
//!
//! Owns Adam (Kingma and Ba, 2015), per coordinate. Knows nothing of the network.
//! Invariant: a step is a function of weights, moments, gradients, rate and step number alone, so
//! that saved moments continue exactly.

use burn::tensor::Tensor;

/// Decay of the mean of gradients.
const BETA_1: f32 = 0.9;
/// Decay of the mean of squared gradients: 0.99, because training is a thousand steps, not a
/// hundred thousand.
const BETA_2: f32 = 0.99;
/// Keeps the division away from zero.
const EPSILON: f32 = 1e-7;

/// The two moments of each tensor.
#[derive(Clone, Debug)]
pub(crate) struct Adam {
    pub(crate) means: Vec<Tensor<1>>,
    pub(crate) squares: Vec<Tensor<1>>,
}

impl Adam {
    /// Moments of zero for tensors like `parameters`.
    pub(crate) fn new(parameters: &[Tensor<1>]) -> Self {
        let zeros: Vec<Tensor<1>> = parameters.iter().map(Tensor::zeros_like).collect();
        Self { means: zeros.clone(), squares: zeros }
    }

    /// Moves `parameters` against `gradients` by `rate`; `step` is 0 the first time.
    pub(crate) fn step(
        &mut self,
        parameters: &mut [Tensor<1>],
        gradients: Vec<Tensor<1>>,
        rate: f32,
        step: u64,
    ) {
        // Past this many steps both corrections are exactly one.
        let power = i32::try_from(step + 1).unwrap_or(i32::MAX);
        let correction_1 = 1.0 - BETA_1.powi(power);
        let correction_2 = 1.0 - BETA_2.powi(power);
        for (place, gradient) in gradients.into_iter().enumerate() {
            let mean = self.means[place].clone().mul_scalar(BETA_1)
                + gradient.clone().mul_scalar(1.0 - BETA_1);
            let square = self.squares[place].clone().mul_scalar(BETA_2)
                + gradient.square().mul_scalar(1.0 - BETA_2);
            let spread = square.clone().mul_scalar(1.0 / correction_2).sqrt().add_scalar(EPSILON);
            let change = mean.clone().div(spread).mul_scalar(rate / correction_1);
            parameters[place] = parameters[place].clone() - change;
            self.means[place] = mean;
            self.squares[place] = square;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn finds_the_bottom_of_a_bowl() {
        let device = Device::flex();
        let mut parameters = vec![Tensor::<1>::from_floats([3.0, -2.0], &device)];
        let mut adam = Adam::new(&parameters);
        for step in 0..400 {
            let gradient = parameters[0].clone().mul_scalar(2.0);
            adam.step(&mut parameters, vec![gradient], 0.05, step);
        }
        let values = parameters[0].to_data();
        let values: &[f32] = values.as_slice().unwrap();
        assert!(values.iter().all(|value| value.abs() < 0.05), "{values:?}");
    }

    #[test]
    fn the_first_step_is_the_rate_against_the_sign() {
        let device = Device::flex();
        let mut parameters = vec![Tensor::<1>::from_floats([1.0, 1.0], &device)];
        let mut adam = Adam::new(&parameters);
        let gradient = Tensor::<1>::from_floats([5.0, -0.5], &device);
        adam.step(&mut parameters, vec![gradient], 0.1, 0);
        let values = parameters[0].to_data();
        let values: &[f32] = values.as_slice().unwrap();
        assert!((values[0] - 0.9).abs() < 1e-4 && (values[1] - 1.1).abs() < 1e-4, "{values:?}");
    }
}
