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
