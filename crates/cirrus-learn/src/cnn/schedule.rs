//! What is the learning rate at a step?
//!
//! Owns the one-cycle curve. Knows no model and no optimiser.
//! Invariant: the rate is a pure function of the step, positive up to the last step, and zero
//! from then on.

/// A one-cycle learning rate: a straight rise to the maximum, then half a cosine to zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneCycle {
    rate_max: f32,
    steps_total: u64,
}

impl OneCycle {
    /// The share of the steps in which the rate rises.
    const RISE: f32 = 0.25;
    /// The first rate, as a share of the maximum.
    const START: f32 = 0.1;

    /// A cycle of `steps_total` steps that peaks at `rate_max`.
    pub fn new(rate_max: f32, steps_total: u64) -> Self {
        Self { rate_max, steps_total }
    }

    /// The rate of step `step`, the first of which is 0.
    pub fn rate(&self, step: u64) -> f32 {
        if step >= self.steps_total {
            return 0.0;
        }
        let progress = step as f32 / self.steps_total as f32;
        let share = if progress < Self::RISE {
            Self::START + (1.0 - Self::START) * progress / Self::RISE
        } else {
            let fall = (progress - Self::RISE) / (1.0 - Self::RISE);
            0.5 * (1.0 + (std::f32::consts::PI * fall).cos())
        };
        self.rate_max * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_peaks_falls_and_ends() {
        let cycle = OneCycle::new(0.02, 1000);
        assert!((cycle.rate(0) - 0.002).abs() < 1e-6);
        assert!((cycle.rate(250) - 0.02).abs() < 1e-6);
        assert!(cycle.rate(100) < cycle.rate(200));
        assert!(cycle.rate(400) > cycle.rate(800));
        assert!(cycle.rate(999) > 0.0);
        assert_eq!(cycle.rate(1000), 0.0);
        assert_eq!(OneCycle::new(0.02, 0).rate(0), 0.0);
    }
}
