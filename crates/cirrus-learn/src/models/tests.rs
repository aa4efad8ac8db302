//! Gradients against differences of the loss, and what each model can learn.

use proptest::prelude::*;

use super::*;

/// Some examples with these labels, of so many features each.
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
fn examples(labels: &[f32], features: usize) -> Examples {
    let mut examples = Examples::default();
    for (number, label) in labels.iter().enumerate() {
        let feature =
            |place: usize| ((number * 5 + place * 3) as u32 % 11, 0.5 + place as f32 * 0.25);
        examples.push(*label, (0..features).map(feature));
    }
    examples
}

/// Compares gradients with central differences of `loss`.
fn check(model: &dyn Model, minibatch: &Minibatch, loss: impl Fn(&[f32]) -> f64) {
    let columns = model.shape().columns as usize;
    let mut values = vec![0.0; minibatch.rows().len() * columns];
    for (place, value) in values.iter_mut().enumerate() {
        *value = ((place * 37 % 19) as f32 - 9.0) / 20.0;
    }
    let mut gradients = vec![0.0; values.len()];
    model.gradients(minibatch, &values, &mut gradients);
    for place in 0..values.len() {
        let step = 1e-2;
        let at = |moved: f32| {
            let mut values = values.clone();
            values[place] += moved;
            loss(&values)
        };
        let expected = (at(step) - at(-step)) / (2.0 * f64::from(step));
        let found = f64::from(gradients[place]);
        let off = (found - expected).abs();
        assert!(off < 1e-3 + 5e-3 * expected.abs(), "{model:?} {place}: {found} {expected}");
    }
}

/// The mean loss, as the model says it.
fn mean_loss(model: &dyn Model, minibatch: &Minibatch, values: &[f32]) -> f64 {
    let mut gradients = vec![0.0; values.len()];
    model.gradients(minibatch, values, &mut gradients) / minibatch.len() as f64
}

#[test]
fn gradients_are_those_of_the_loss() {
    let classes = [1.0, 0.0, 1.0, 1.0, 0.0];
    let class = FactorizationMachine {
        features: 11,
        factors: 3,
        target: Target::Class,
        deviation: 0.1,
        seed: 1,
    };
    let number = FactorizationMachine { target: Target::Number, ..class };
    let of_classes: [&dyn Model; 2] = [&Logistic { features: 11 }, &class];
    for model in of_classes {
        let minibatch = Minibatch::new(examples(&classes, 4), model);
        check(model, &minibatch, |values| mean_loss(model, &minibatch, values));
    }
    let softmax = Softmax { features: 11, classes: 4 };
    let minibatch = Minibatch::new(examples(&[3.0, 0.0, 1.0, 2.0], 4), &softmax);
    check(&softmax, &minibatch, |values| mean_loss(&softmax, &minibatch, values));
    // The gradients of half of the squares.
    let minibatch = Minibatch::new(examples(&[1.5, -2.0, 0.3], 4), &number);
    check(&number, &minibatch, |values| mean_loss(&number, &minibatch, values) / 2.0);
}

#[test]
fn ratings_have_gradients_of_their_sum_and_of_the_penalty_of_each() {
    let model = Factorization {
        users: 3,
        items: 4,
        factors: 2,
        mean: 3.5,
        l2: 0.1,
        deviation: 0.1,
        seed: 1,
    };
    let mut examples = Examples::default();
    let ratings = [(0, 3, 5.0), (0, 4, 3.0), (1, 3, 1.0), (2, 6, 4.0), (0, 3, 4.0)];
    ratings.iter().for_each(|(user, item, rating)| {
        examples.push(*rating, [(*user, 1.0), (*item, 1.0)]);
    });
    let minibatch = Minibatch::new(examples, &model);
    assert_eq!(minibatch.rows()[..], [0, 1, 2, 3, 4, 6]);
    check(&model, &minibatch, |values| {
        let mut gradients = vec![0.0; values.len()];
        let squares = model.gradients(&minibatch, values, &mut gradients);
        let row = |row: u32| minibatch.rows().iter().position(|found| *found == row).unwrap() * 3;
        let of_rows = |row: usize| -> f64 {
            values[row..row + 3].iter().map(|value| f64::from(*value).powi(2)).sum()
        };
        let penalty: f64 =
            ratings.iter().map(|(user, item, _)| of_rows(row(*user)) + of_rows(row(*item))).sum();
        (squares + 0.1 * penalty) / 2.0
    });
}

#[test]
fn digamma_has_its_known_values() {
    // Abramowitz and Stegun, table 6.1 and 6.3.3.
    let euler = 0.577_215_664_901_532_9;
    assert!((lda::digamma(1.0) + euler).abs() < 1e-9);
    assert!((lda::digamma(0.5) + euler + 2.0 * 2.0_f64.ln()).abs() < 1e-9);
    assert!((lda::digamma(10.0) - 2.251_752_589_066_721).abs() < 1e-9);
}

/// Documents of two topics that share no word: each topic's words come together.
#[test]
fn topics_of_separate_words_are_found() {
    let model = Lda { words: 20, topics: 2, documents: 200, alpha: 0.1, eta: 0.01, seed: 3 };
    let mut documents = Examples::default();
    for number in 0..200_u32 {
        let first = 10 * (number % 2);
        documents.push(
            0.0,
            (0..6).map(|word| (first + (number * 7 + word * 3) % 10, 1.0 + (word % 2) as f32)),
        );
    }
    let mut values = vec![0.0; 40];
    for (row, values) in (0..).zip(values.chunks_exact_mut(2)) {
        model.shape().initial.fill(row, values);
    }
    for step in 0..60 {
        let mut part = Examples::default();
        (0..20).for_each(|n| part.push_example(documents.get((step * 20 + n) % 200)));
        let minibatch = Minibatch::new(part, &model);
        let mut gradients = vec![0.0; 40];
        let loss = model.gradients(&minibatch, &values, &mut gradients);
        assert!(loss.is_finite());
        let rate = (1.0 + step as f32).powf(-0.7);
        for (value, gradient) in values.iter_mut().zip(&gradients) {
            *value -= rate * (*value * model.penalty(Penalty::default()).l2 + gradient);
        }
    }
    assert!(values.iter().all(|value| *value > 0.0), "{values:?}");
    let topic = usize::from(values[1] > values[0]);
    for (word, row) in values.chunks_exact(2).enumerate() {
        let of = if word < 10 { topic } else { 1 - topic };
        assert!(row[of] > 20.0 * row[1 - of], "word {word}: {row:?}");
    }
    let minibatch = Minibatch::new(documents, &model);
    let (mut measures, mut predictions) = (Measures::default(), Vec::new());
    model.measure(&minibatch, &values, &mut measures);
    // What is hidden is five of a topic's ten words, which come twice as often as the others.
    let perplexity = measures.named()["perplexity"];
    assert!((7.4..8.5).contains(&perplexity), "{perplexity}");
    model.predict(&minibatch, &values, &mut predictions);
    assert!(
        predictions[topic] > 0.9 && predictions[2 + 1 - topic] > 0.9,
        "{:?}",
        &predictions[..4]
    );
}

proptest! {
    #[test]
    fn places_lead_to_the_rows_of_features(
        rows in prop::collection::vec(prop::collection::vec(0_u32..40, 0..8), 1..10),
    ) {
        let mut examples = Examples::default();
        for row in &rows {
            examples.push(1.0, row.iter().map(|row| (*row, 1.0)));
        }
        let minibatch = Minibatch::new(examples, &Logistic { features: 40 });
        let found: Vec<Vec<u32>> = minibatch
            .iter()
            .map(|example| example.features().map(|(place, _)| minibatch.rows()[place]).collect())
            .collect();
        prop_assert_eq!(found, rows);
        prop_assert!(minibatch.rows().is_sorted_by(|a, b| a < b));
        prop_assert_eq!(minibatch.rows().last(), Some(&40));
    }
}
