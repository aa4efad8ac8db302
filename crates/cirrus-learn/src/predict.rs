//! What does a saved model say of examples?
//!
//! Owns reading examples as the model's own were, and judging what they are said to be. Knows no command line.
//! Invariant: there are predictions for each example, in the data's order.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::examples::Examples;
use crate::examples::source::{self, Format, Options};
use crate::fetch::Progress;
use crate::job::About;
use crate::metrics::Measures;
use crate::models::Minibatch;
use crate::saved::Saved;

/// Examples that are predicted together.
const TOGETHER: usize = 1024;

/// What was predicted, beside the predictions.
#[derive(Clone, Debug, Default)]
pub struct Predicted {
    /// How many examples.
    pub examples: u64,
    /// How good the predictions are by the labels of the data.
    pub measures: Measures,
    /// Rows that were wrong and left out.
    pub bad_rows: u64,
}

/// Has a model predict every example of a data set: `each` is given an example's numbers.
///
/// # Errors
/// Those of reading the model and the data, and of `each`.
pub fn predict(
    model: &Path,
    data: &str,
    format: Option<Format>,
    bad_rows_max: u64,
    (cache_dir, progress): (&Path, &dyn Progress),
    each: &mut dyn FnMut(&[f32]) -> Result<()>,
) -> Result<Predicted> {
    let saved: Saved<About> = Saved::read(model)?;
    let learnt = saved.about.model();
    let outputs = learnt.outputs();
    let mut options = Options { format, bad_rows_max, held_out: 0.0, ..saved.about.options() };
    options.names.clone_from(&saved.about.names);
    let (mut predicted, mut part, mut predictions) =
        (Predicted::default(), Examples::default(), Vec::new());
    let mut judge = |part: &mut Examples, predicted: &mut Predicted| {
        let minibatch = Minibatch::new(std::mem::take(part), learnt.as_ref());
        let values = saved.values(&minibatch);
        predictions.clear();
        learnt.predict(&minibatch, &values, &mut predictions);
        learnt.measure(&minibatch, &values, &mut predicted.measures);
        predicted.examples += minibatch.len() as u64;
        predictions.chunks_exact(outputs).try_for_each(&mut *each)
    };
    let features = saved.about.facts.features;
    let mut add = |_, label: f32, row: &[(u32, f32)]| {
        // What the model has never seen says nothing; of users and items the place does.
        let is_rating = options_is_rating(&saved.about);
        let known = row.iter().copied().filter(|(index, _)| is_rating || *index < features);
        part.push(label, known);
        match part.len() >= TOGETHER {
            true => judge(&mut part, &mut predicted),
            false => Ok(()),
        }
    };
    let read = source::read(data, &options, cache_dir, progress, &mut add)?;
    if !part.is_empty() {
        judge(&mut part, &mut predicted)?;
    }
    predicted.bad_rows = read.bad_rows;
    if predicted.examples == 0 {
        return Err(Error::new(ErrorKind::Input, format!("--data {data}: there are no examples")));
    }
    Ok(predicted)
}

fn options_is_rating(about: &About) -> bool {
    about.names.is_some()
}
