//! Training, against other systems on the same files.
//!
//! What is compared is examples for each second of processor time, from the files to the model, over all
//! processes; an example counts once however often it is gone over. Each side runs with settings that reach about the
//! same held-out loss; ours must not be worse than theirs by more than a hundredth.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::comparisons::{Bench, Cell, Family};
use crate::processor::children_time;
use crate::ratio::{ROUNDS_MIN, Round};
use crate::row::{Number, Row, Subject};

const SCRIPT: &str = include_str!("learning.py");

/// Where `make bench` installs them.
const PYTHON: &str = ".tools/learning/bin/python";

/// How much worse our loss may be, as a share of theirs.
const WORSE_MAX: f64 = 0.01;

pub(super) const FAMILY: Family = Family {
    name: "learning",
    about: "training, against Vowpal Wabbit, scikit-learn's SGDClassifier and surprise",
    cells: || {
        let clicks = "logistic --epochs 2 --rate 0.05 --minibatch 512 --l2 0 --bits 18";
        let ratings =
            "factorization --epochs 15 --rate 0.01 --l2 0.05 --factors 16 --minibatch 1024";
        [
            ("learning/vw", "write", "vw", clicks, "svm", "test_log_loss", 400_000.0),
            ("learning/sgdclassifier", "write", "sgd", clicks, "svm", "test_log_loss", 400_000.0),
            ("learning/surprise", "ratings", "surprise", ratings, "inter", "test_rmse", 360_000.0),
        ]
        .map(|(name, make, peer, args, ending, loss, examples)| Cell {
            name: name.to_owned(),
            is_quick: true,
            measure: Box::new(move |_: &mut Bench| {
                let job = Job { name, make, peer, args, ending, loss, examples };
                job.measured()
            }),
        })
        .into()
    },
};

#[derive(Debug, Clone, Copy)]
struct Job {
    name: &'static str,
    make: &'static str,
    peer: &'static str,
    args: &'static str,
    ending: &'static str,
    loss: &'static str,
    examples: f64,
}

/// What training took, and how good it is.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Trained {
    cpu: f64,
    loss: f64,
}

impl Job {
    fn measured(self) -> Result<Vec<Row>> {
        let folder = tempfile::tempdir()?;
        script(&[self.make], folder.path())?;
        let (mut rounds, mut last) = (Vec::new(), None);
        for _ in 0..ROUNDS_MIN {
            let ours = self.ours(folder.path())?;
            let theirs: Trained = serde_json::from_slice(&script(&[self.peer], folder.path())?)
                .context("what it printed")?;
            let again = self.ours(folder.path())?;
            ensure!(
                ours.loss <= theirs.loss * (1.0 + WORSE_MAX),
                "a held-out loss of {} against {}",
                ours.loss,
                theirs.loss
            );
            let each = |trained: Trained| self.examples / trained.cpu;
            rounds.push(Round { ours: each(ours), theirs: each(theirs), again: each(again) });
            last = Some((ours.loss, theirs.loss));
        }
        let (ours, theirs) = last.context("no round")?;
        let subject =
            Subject { name: self.name.to_owned(), peer: self.peer.to_owned(), value_bytes: 0 };
        let detail = Map::from_iter([
            ("loss".to_owned(), json!(ours)),
            ("their_loss".to_owned(), json!(theirs)),
        ]);
        Ok(vec![subject.row_of(&rounds, Number::ExamplesPerCpuSecond, None, detail)])
    }

    fn ours(self, folder: &Path) -> Result<Trained> {
        let program = std::env::current_exe()?.with_file_name("cirrus");
        let path = |name: &str| folder.join(format!("{name}.{}", self.ending));
        let figures = folder.join("figures.json");
        let before = children_time()?;
        let ended = Command::new(&program)
            .arg("train")
            .args(self.args.split(' '))
            .arg("--data")
            .arg(path("train"))
            .arg("--test-data")
            .arg(path("test"))
            .arg("--json")
            .arg(&figures)
            .env("CIRRUS_STATE_DIR", folder.join("state"))
            .output()
            .with_context(|| format!("{}: is it built?", program.display()))?;
        let cpu = (children_time()? - before).as_secs_f64();
        ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let figures: Value = serde_json::from_slice(&std::fs::read(&figures)?)?;
        let loss = figures["results"][self.loss].as_f64().context("a loss")?;
        Ok(Trained { cpu, loss })
    }
}

fn script(words: &[&str], folder: &Path) -> Result<Vec<u8>> {
    let python = if Path::new(PYTHON).exists() { PYTHON } else { "python3" };
    let ended = Command::new(python)
        .args(["-W", "ignore", "-c", SCRIPT])
        .args(words)
        .arg(folder)
        .output()
        .with_context(|| format!("{python} cannot be started"))?;
    let errors = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{}", errors.lines().last().unwrap_or_default());
    Ok(ended.stdout)
}
