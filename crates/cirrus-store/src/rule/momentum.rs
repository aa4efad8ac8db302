//! Momentum (Polyak, 1964), and Nesterov's (1983), as Sutskever and others wrote it for gradients
//! that are noisy ("On the importance of initialization and momentum in deep learning", 2013) and
//! PyTorch has it: the velocity is a sum of gradients, and the rate comes last.

use serde::{Deserialize, Serialize};

use super::{Penalty, Rule};

/// A step is the rate times the velocity, to which each gradient adds. It keeps the velocity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Momentum {
    /// What is left of the velocity at each step, from 0 up to, but not, 1.
    pub decay: f32,
    /// Whether the step looks ahead: the gradient once more, and the decayed velocity.
    pub nesterov: bool,
}

impl Default for Momentum {
    fn default() -> Self {
        Self { decay: 0.9, nesterov: false }
    }
}

impl Rule for Momentum {
    fn width(&self) -> usize {
        2
    }

    #[inline]
    fn update(&self, rate: f32, penalty: Penalty, row: &mut [f32], gradients: &[f32]) {
        let (values, velocities) = row.split_at_mut(gradients.len());
        for ((value, velocity), &gradient) in values.iter_mut().zip(velocities).zip(gradients) {
            let gradient = penalty.gradient(*value, gradient);
            *velocity = self.decay * *velocity + gradient;
            let step = if self.nesterov { gradient + self.decay * *velocity } else { *velocity };
            *value = penalty.shrunk(*value - rate * step, rate);
        }
    }
}
