//! A rule by name and numbers: what is said of it on command lines and to nodes.

use serde::{Deserialize, Serialize};

use super::{Adagrad, Adam, Ftrl, Momentum, Rule, Sgd};

/// Which rule, and its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Optimizer {
    /// [`Sgd`].
    Sgd,
    /// [`Momentum`], Nesterov's too.
    Momentum(Momentum),
    /// [`Adagrad`].
    Adagrad(Adagrad),
    /// [`Adam`].
    Adam(Adam),
    /// [`Ftrl`].
    Ftrl(Ftrl),
}

impl Optimizer {
    /// What people call them.
    pub const NAMES: [&str; 6] = ["sgd", "momentum", "nesterov", "adagrad", "adam", "ftrl"];

    /// The rule of one of [`NAMES`](Self::NAMES), with its usual numbers.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sgd" => Self::Sgd,
            "momentum" => Self::Momentum(Momentum::default()),
            "nesterov" => Self::Momentum(Momentum { nesterov: true, ..Momentum::default() }),
            "adagrad" => Self::Adagrad(Adagrad::default()),
            "adam" => Self::Adam(Adam::default()),
            "ftrl" => Self::Ftrl(Ftrl::default()),
            _ => return None,
        })
    }

    /// Says which of its numbers no rule can work with.
    pub fn check(self) -> Result<(), String> {
        let decay = |name: &str, value: f32| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(format!("{name} of {value}; it is 0 or more, and below 1")),
        };
        let epsilon = |value: f32| match value >= 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(format!("epsilon of {value}; it is 0 or more")),
        };
        match self {
            Self::Sgd => Ok(()),
            Self::Momentum(Momentum { decay: value, .. }) => decay("decay", value),
            Self::Adagrad(rule) => epsilon(rule.epsilon),
            Self::Adam(rule) => decay("beta_1", rule.beta_1)
                .and_then(|()| decay("beta_2", rule.beta_2))
                .and_then(|()| epsilon(rule.epsilon)),
            Self::Ftrl(rule) if rule.beta > 0.0 && rule.beta.is_finite() => Ok(()),
            Self::Ftrl(rule) => Err(format!("beta of {}; it is above 0", rule.beta)),
        }
    }

    /// Does something with the rule itself, compiled for each.
    pub fn with<W: WithRule>(self, what: W) -> W::Output {
        match self {
            Self::Sgd => what.call(&Sgd),
            Self::Momentum(rule) => what.call(&rule),
            Self::Adagrad(rule) => what.call(&rule),
            Self::Adam(rule) => what.call(&rule),
            Self::Ftrl(rule) => what.call(&rule),
        }
    }

    /// The rule itself.
    pub fn rule(self) -> Box<dyn Rule> {
        match self {
            Self::Sgd => Box::new(Sgd),
            Self::Momentum(rule) => Box::new(rule),
            Self::Adagrad(rule) => Box::new(rule),
            Self::Adam(rule) => Box::new(rule),
            Self::Ftrl(rule) => Box::new(rule),
        }
    }
}

/// What is done with a rule whose type is not known before: the inner loops of who applies gradients.
pub trait WithRule {
    /// What comes of it.
    type Output;

    /// Does it.
    fn call(self, rule: &impl Rule) -> Self::Output;
}
