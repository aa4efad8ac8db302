//! The rules against reference implementations, step by step, and what holds of all of them.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// What tests/steps.py wrote.
#[derive(Deserialize)]
struct Steps {
    /// By step, by coordinate.
    gradients: Vec<Vec<f32>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    rule: String,
    rate: f32,
    l1: f32,
    l2: f32,
    /// After each step, by coordinate; they begin at 0.
    values: Vec<Vec<f64>>,
}

fn rules() -> impl Iterator<Item = (&'static str, Box<dyn Rule>)> {
    Optimizer::NAMES.into_iter().map(|name| (name, Optimizer::named(name).unwrap().rule()))
}

#[test]
fn each_step_is_the_references() {
    let steps: Steps = serde_json::from_str(include_str!("tests/steps.json")).unwrap();
    for case in &steps.cases {
        let (name, rule) = rules().find(|(name, _)| *name == case.rule).unwrap();
        let penalty = Penalty { l1: case.l1, l2: case.l2 };
        let width = rule.width();
        let mut rows = vec![0.0; steps.gradients[0].len() * width];
        assert_eq!(case.values.len(), steps.gradients.len());
        for (step, (gradients, expected)) in steps.gradients.iter().zip(&case.values).enumerate() {
            rule.update_all(case.rate, penalty, 1, &mut rows, gradients);
            for (place, (row, &expected)) in rows.chunks_exact(width).zip(expected).enumerate() {
                let off = (f64::from(row[0]) - expected).abs();
                let about = format!("{name} {penalty:?}, step {step}, coordinate {place}");
                assert!(off <= 1e-7 + 1e-5 * expected.abs(), "{about}: {} {expected}", row[0]);
                assert_eq!(row[0] == 0.0, expected == 0.0, "{about}: {} {expected}", row[0]);
            }
        }
    }
    for (name, _) in rules() {
        assert_eq!(steps.cases.iter().filter(|case| case.rule == name).count(), 3, "{name}");
    }
}

#[test]
fn what_diverges_stays_visible() {
    let penalty = Penalty { l1: 0.1, l2: 0.1 };
    for (name, rule) in rules() {
        let mut row = vec![0.0; rule.width()];
        rule.update(0.1, penalty, &mut row, &[f32::NAN]);
        assert!(row[0].is_nan(), "{name}: {row:?}");
        rule.update(0.1, penalty, &mut row, &[1.0]);
        assert!(row[0].is_nan(), "{name}: {row:?}");
    }
}

#[test]
fn a_coordinate_that_is_touched_very_often_is_corrected_no_more() {
    let mut row = [1.0, 0.5, 0.25, 16_777_216.0];
    Adam::default().update(0.1, Penalty::default(), &mut row, &[0.5]);
    assert_eq!(row[3], 16_777_216.0);
    assert!((row[0] - 0.9).abs() < 1e-3, "{row:?}");
}

proptest! {
    #[test]
    fn columns_change_as_each_alone(
        steps in prop::collection::vec(prop::collection::vec(-10.0f32..10.0, 3), 1..20),
        l1 in 0.0f32..0.1,
        l2 in 0.0f32..0.1,
    ) {
        let penalty = Penalty { l1, l2 };
        for (_, rule) in rules() {
            let width = rule.width();
            let mut together = vec![0.0; 3 * width];
            for gradients in &steps {
                rule.update(0.05, penalty, &mut together, gradients);
            }
            for column in 0..3 {
                let mut alone = vec![0.0; width];
                for gradients in &steps {
                    rule.update(0.05, penalty, &mut alone, &[gradients[column]]);
                }
                let planes: Vec<f32> = together.iter().skip(column).step_by(3).copied().collect();
                prop_assert_eq!(planes, alone);
            }
        }
    }
}
