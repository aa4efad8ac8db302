//! What is the learning rate at a step?
//!
//! Owns the curves. Knows no model and no rule.
//! Invariant: the rate is a pure function of the step.

/// How the rate changes from step to step; the first step is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// It does not.
    #[default]
    Constant,
    /// Half after `half_life` steps, a third after two half-lives: falls as Robbins and Monro (1951)
    /// ask for. A half-life of 0 is taken for 1.
    InverseTime {
        /// Steps until the rate is half.
        half_life: u64,
    },
    /// Falls with the square root of the steps: half after three times `steps`. 0 is taken for 1.
    InverseRoot {
        /// Steps until what is under the root is 2.
        steps: u64,
    },
    /// Times `factor` after each `every` steps. 0 is taken for 1.
    Staircase {
        /// Steps of the same rate.
        every: u64,
        /// What is left of the rate at each stair.
        factor: f32,
    },
    /// [`OneCycle`] over this many steps.
    OneCycle {
        /// Steps until the rate is 0.
        steps_total: u64,
    },
}

impl Schedule {
    /// The rate of step `step`, where `rate` is the first, or for a cycle the largest.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a rate of many digits is rounded")]
    pub fn rate(self, rate: f32, step: u64) -> f32 {
        // Counts beyond 2^53 are rounded.
        let share = |steps: u64| step as f64 / steps.max(1) as f64;
        let factor = match self {
            Self::Constant => 1.0,
            Self::InverseTime { half_life } => 1.0 / (1.0 + share(half_life)),
            Self::InverseRoot { steps } => 1.0 / (1.0 + share(steps)).sqrt(),
            Self::Staircase { every, factor } => f64::from(factor).powf(share(every).floor()),
            Self::OneCycle { steps_total } => return OneCycle::new(rate, steps_total).rate(step),
        };
        (f64::from(rate) * factor) as f32
    }
}

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

    #[test]
    fn rates_fall_as_their_names_say() {
        let time = Schedule::InverseTime { half_life: 100 };
        assert_eq!([0, 100, 200].map(|step| time.rate(0.6, step)), [0.6, 0.3, 0.2]);
        let root = Schedule::InverseRoot { steps: 100 };
        assert_eq!([0, 300, 800].map(|step| root.rate(0.6, step)), [0.6, 0.3, 0.2]);
        let stairs = Schedule::Staircase { every: 10, factor: 0.5 };
        assert_eq!([0, 9, 10, 29].map(|step| stairs.rate(0.8, step)), [0.8, 0.8, 0.4, 0.2]);
        assert_eq!(Schedule::Constant.rate(0.3, u64::MAX), 0.3);
        let cycle = Schedule::OneCycle { steps_total: 8 };
        assert_eq!([2, 8].map(|step| cycle.rate(0.5, step)), [0.5, 0.0]);
        // Nothing is divided by 0.
        assert_eq!(Schedule::InverseTime { half_life: 0 }.rate(1.0, 1), 0.5);
        assert_eq!(Schedule::Staircase { every: 0, factor: 0.5 }.rate(1.0, 1), 0.5);
    }
}
