//! Which models are there, and what suits each?
//!
//! Owns the list of models by name, and the settings that they are learnt with unless others are given. Knows no
//! files.
//! Invariant: a model follows from the arguments and the facts of the data alone.

use std::str::FromStr;

use cirrus_store::rule::{Adagrad, Optimizer};
use serde::{Deserialize, Serialize};

use super::{Args, Curve};
use crate::examples::source::{Options, UsersAndItems};
use crate::models::{Factorization, FactorizationMachine, Lda, Logistic, Model, Softmax, Target};
use crate::schedule::Schedule;

/// A model by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// [`Logistic`].
    #[default]
    Logistic,
    /// [`Softmax`].
    Softmax,
    /// [`Factorization`].
    Factorization,
    /// [`FactorizationMachine`].
    Fm,
    /// [`Lda`].
    Lda,
}

/// What is known of the data once they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Indices are below this.
    pub features: u32,
    /// Of them, those of users; the others are items.
    pub users: u32,
    /// Labels are below this, if they are classes.
    pub classes: u32,
    /// The mean of the labels of the examples to learn from.
    pub mean: f32,
    /// Examples to learn from.
    pub examples: u64,
}

/// What a model in a file is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Which model.
    pub kind: Kind,
    /// Factors or topics, where it has some.
    pub factors: u32,
    /// What is known of the data that it was learnt from.
    pub facts: Facts,
    /// Hashed features are 2 to the power of this.
    pub bits: u32,
    /// Whether texts are counts of words.
    pub counts: bool,
    /// What was drawn was drawn from this: made-up data are the same again.
    pub seed: u64,
    /// The names of users and items, where it has some.
    pub names: Option<UsersAndItems>,
}

impl About {
    /// The model, to predict with.
    pub fn model(&self) -> Box<dyn Model> {
        self.kind.of(&self.facts, self.factors, 0.0, 0)
    }

    /// How data for it are read.
    pub fn options(&self) -> Options {
        let (bits, counts) = (self.bits, self.counts);
        let (format, seed, held_out, bad_rows_max, names) = (None, self.seed, 0.0, 0, None);
        Options { format, bits, counts, seed, held_out, bad_rows_max, names }
    }
}

/// Settings that suit a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    pub(super) optimizer: Optimizer,
    pub(super) rate: f32,
    pub(super) schedule: Curve,
    pub(super) l2: f32,
    pub(super) minibatch: u32,
    pub(super) epochs: u32,
    pub(super) factors: u32,
}

const CONSTANT: Curve = Curve::Fixed(Schedule::Constant);

impl Kind {
    const NAMES: [(&str, Self); 5] = [
        ("logistic", Self::Logistic),
        ("softmax", Self::Softmax),
        ("factorization", Self::Factorization),
        ("fm", Self::Fm),
        ("lda", Self::Lda),
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    pub(super) fn usual(self) -> Usual {
        let adagrad = Optimizer::Adagrad(Adagrad::default());
        match self {
            Self::Logistic => Usual {
                optimizer: adagrad,
                rate: 0.1,
                schedule: CONSTANT,
                l2: 1e-5,
                minibatch: 128,
                epochs: 3,
                factors: 0,
            },
            Self::Softmax => Usual {
                optimizer: adagrad,
                rate: 0.05,
                schedule: CONSTANT,
                l2: 1e-5,
                minibatch: 128,
                epochs: 10,
                factors: 0,
            },
            Self::Factorization => Usual {
                optimizer: Optimizer::Sgd,
                rate: 0.01,
                schedule: CONSTANT,
                l2: 0.08,
                minibatch: 512,
                epochs: 25,
                factors: 16,
            },
            Self::Fm => Usual {
                optimizer: adagrad,
                rate: 0.05,
                schedule: CONSTANT,
                l2: 1e-5,
                minibatch: 128,
                epochs: 5,
                factors: 8,
            },
            Self::Lda => Usual {
                optimizer: Optimizer::Sgd,
                rate: 0.5,
                schedule: Curve::Fixed(Schedule::InverseRoot { steps: 20 }),
                l2: 0.0,
                minibatch: 256,
                epochs: 5,
                factors: 20,
            },
        }
    }

    /// The model for data of which this is known.
    pub(super) fn model(self, args: &Args, facts: &Facts) -> Box<dyn Model> {
        self.of(facts, args.factors(), args.l2(), args.seed)
    }

    fn of(self, facts: &Facts, factors: u32, l2: f32, seed: u64) -> Box<dyn Model> {
        let Facts { features, users, classes, mean, examples } = *facts;
        match self {
            Self::Logistic => Box::new(Logistic { features }),
            Self::Softmax => Box::new(Softmax { features, classes: classes.max(2) }),
            Self::Factorization => Box::new(Factorization {
                users,
                items: features - users,
                factors,
                mean,
                l2,
                deviation: 0.1,
                seed,
            }),
            Self::Fm => {
                let target = if classes == 2 { Target::Class } else { Target::Number };
                Box::new(FactorizationMachine { features, factors, target, deviation: 0.01, seed })
            }
            Self::Lda => {
                let prior = 1.0 / factors as f32;
                let (words, topics, documents) = (features, factors, examples);
                Box::new(Lda { words, topics, documents, alpha: prior, eta: prior, seed })
            }
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            format!("there is no model `{text}`; there are {}", names.join(", "))
        })
    }
}
