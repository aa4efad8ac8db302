//! `cirrus predict`: what a saved model says of examples.
//!
//! Owns what is printed. May not hold anything that a library could. Invariant: a line for each example, in
//! the data's order; how good they are goes to stderr, or to a file.

use std::io::Write as _;
use std::path::PathBuf;

use cirrus_learn::examples::source::Format;
use cirrus_learn::fetch::{Terminal, default_cache_dir};
use cirrus_learn::predict::predict;

use crate::failure::Failure;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Predict {
    /// The model: a file that `cirrus train` left
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What to predict: as for `cirrus train`, labels included
    #[arg(long, value_name = "NAME|FILE|DIR")]
    data: String,
    /// Format of the files: libsvm, criteo, csv, ratings or text; by default guessed
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Rows that may be wrong; they are left out and counted
    #[arg(long, value_name = "N", default_value_t = 0)]
    bad_rows: u64,
    /// Write how good the predictions are to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Predict {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let learnt = |error: cirrus_learn::Error| Failure::from(cirrus::Error::from(error));
        let cache_dir = default_cache_dir().map_err(learnt)?;
        let progress = Terminal::default();
        let mut predicted = None;
        let mut failed = None;
        cirrus::output(|out| {
            let mut each = |numbers: &[f32]| {
                let line = numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(" ");
                // A reader that has gone away ends it.
                writeln!(out, "{line}").map_err(|error| {
                    let kind = cirrus_learn::ErrorKind::Cancelled;
                    let error = failed.insert(error).to_string();
                    cirrus_learn::Error::new(kind, error)
                })
            };
            let way = (cache_dir.as_path(), &progress as &dyn cirrus_learn::fetch::Progress);
            let result =
                predict(&self.model, &self.data, self.format, self.bad_rows, way, &mut each);
            predicted = Some(result);
            match failed.take() {
                Some(error) => Err(error),
                None => Ok(()),
            }
        })?;
        let Some(Ok(predicted)) = predicted else {
            return match predicted {
                Some(Err(error)) if error.kind() != cirrus_learn::ErrorKind::Cancelled => {
                    Err(learnt(error))
                }
                _ => Ok(()),
            };
        };
        let mut figures = predicted.measures.named();
        figures.insert("examples".to_owned(), predicted.examples as f64);
        figures.insert("bad_rows".to_owned(), predicted.bad_rows as f64);
        if let Some(path) = &self.json {
            let json = serde_json::to_vec_pretty(&figures)
                .map_err(|error| cirrus::Error::internal("figures").with_source(error))?;
            std::fs::write(path, json).map_err(|error| {
                cirrus::Error::io(format!("cannot write {}", path.display()), error)
            })?;
        }
        let figures: Vec<String> =
            figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
        crate::say(&format!("predict: {}", figures.join(", ")));
        Ok(())
    }
}
