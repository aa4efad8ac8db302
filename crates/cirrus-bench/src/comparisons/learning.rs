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
use crate::ratio::{ROUNDS_MIN, Round, Target};
use crate::row::{Number, Row, Subject};

const SCRIPT: &str = include_str!("learning.py");

/// Where `make bench` installs them.
const PYTHON: &str = ".tools/learning/bin/python";

/// How much worse our loss may be, as a share of theirs.
const WORSE_MAX: f64 = 0.01;

pub(super) const FAMILY: Family = Family {
    name: "learning",
    about: "training: against Vowpal Wabbit, scikit-learn, surprise; more workers; 16-bit gradients",
    cells: || {
        let clicks = "logistic --epochs 2 --rate 0.05 --minibatch 512 --l2 0 --bits 18";
        let ratings =
            "factorization --epochs 15 --rate 0.01 --l2 0.05 --factors 16 --minibatch 1024";
        let of = |name, make, peer, args, ending, loss, examples| {
            cell(name, move || Job { name, make, peer, args, ending, loss, examples }.measured())
        };
        vec![
            of("learning/vw", "write", "vw", clicks, "svm", "test_log_loss", 400_000.0),
            of("learning/sgdclassifier", "write", "sgd", clicks, "svm", "test_log_loss", 400_000.0),
            of(
                "learning/surprise",
                "ratings",
                "surprise",
                ratings,
                "inter",
                "test_rmse",
                360_000.0,
            ),
            cell("learning/movielens", movielens),
            cell("learning/lda", topics),
            cell("learning/workers-2", || workers("learning/workers-2", 2)),
            cell("learning/workers-4", || workers("learning/workers-4", 4)),
            cell("learning/half", half),
        ]
    },
};

fn cell(name: &'static str, measure: impl Fn() -> Result<Vec<Row>> + 'static) -> Cell {
    Cell {
        name: name.to_owned(),
        is_quick: true,
        measure: Box::new(move |_: &mut Bench| measure()),
    }
}

/// The same splits, factors, rate and epochs: the mean of errors may be larger by 0.005 of 0.91.
fn movielens() -> Result<Vec<Row>> {
    let target = Target::AtMost(1.0 + 0.005 / 0.91);
    each_seed("learning/movielens", "surprise", target, |folder, cache, seed| {
        script(&["splits", folder, seed, cache])?;
        let args = "factorization --data train.inter --test-data test.inter --workers 2 --seed";
        let ours = || figure(&train(folder, &format!("{args} {seed}"))?.results, "test_rmse");
        let theirs: Trained = serde_json::from_slice(&script(&["svd", folder, seed])?)?;
        Ok(Round { ours: ours()?, theirs: theirs.loss, again: ours()? })
    })
}

/// Topics of the same mails, both scored by `cirrus predict`.
fn topics() -> Result<Vec<Row>> {
    each_seed("learning/lda", "scikit-learn", Target::AtMost(1.05), |folder, cache, seed| {
        script(&["mails", folder, seed, cache])?;
        let args = "lda --data train.svm --test-data test.svm --factors 20 --epochs 10 --workers 2 \
                    --save ours.safetensors --seed";
        let perplexity = |model: &str| -> Result<f64> {
            let words = ["predict", model, "--data", "test.svm", "--json", "predicted.json"];
            cirrus(folder, &words.map(str::to_owned))?;
            figure(&read_json(&Path::new(folder).join("predicted.json"))?, "perplexity")
        };
        let ours = || {
            train(folder, &format!("{args} {seed}"))?;
            perplexity("ours.safetensors")
        };
        let first = ours()?;
        script(&["lda", folder, seed])?;
        Ok(Round { ours: first, theirs: perplexity("theirs.safetensors")?, again: ours()? })
    })
}

fn each_seed(
    name: &str,
    peer: &str,
    target: Target,
    round: impl Fn(&str, &str, &str) -> Result<Round>,
) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("a folder's name")?;
    let cache = folder.path().join("cache");
    let cache = std::env::var("CIRRUS_CACHE_DIR").map_or(cache, Into::into);
    // Has the data fetched.
    for (model, data) in [("factorization", "movielens-100k"), ("logistic", "spamassassin")] {
        train(path, &format!("{model} --data {data} --epochs 1"))?;
    }
    let cache = cache.to_str().context("a folder's name")?;
    let rounds: Result<Vec<Round>> =
        (0..ROUNDS_MIN).map(|seed| round(path, cache, &(seed + 1).to_string())).collect();
    let subject = Subject { name: name.to_owned(), peer: peer.to_owned(), value_bytes: 0 };
    Ok(vec![subject.row_of(&rounds?, Number::HeldOutLoss, Some(target), Map::new())])
}

/// So many workers with as many examples each as one has alone.
fn workers(name: &str, workers: u32) -> Result<Vec<Row>> {
    const EACH: u32 = 200_000;
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("a folder's name")?;
    let (mut rounds, mut seconds) = (Vec::new(), (0.0, 0.0));
    for _ in 0..ROUNDS_MIN {
        let run = |workers: u32| -> Result<(f64, f64)> {
            let examples = EACH * workers;
            let args = "logistic --epochs 2 --minibatch 512 --bits 18";
            let args = format!("{args} --data synthetic-clicks:{examples} --workers {workers}");
            let ran = train(path, &args)?;
            Ok((f64::from(examples) / ran.cpu, ran.seconds))
        };
        let (ours, theirs, again) = (run(workers)?, run(1)?, run(workers)?);
        seconds = (ours.1, theirs.1);
        rounds.push(Round { ours: ours.0, theirs: theirs.0, again: again.0 });
    }
    let detail = Map::from_iter([
        ("seconds".to_owned(), json!(seconds.0)),
        ("their_seconds".to_owned(), json!(seconds.1)),
    ]);
    let subject = Subject { name: name.to_owned(), peer: "one worker".to_owned(), value_bytes: 0 };
    Ok(vec![subject.row_of(&rounds, Number::ExamplesPerCpuSecond, None, detail)])
}

/// 16-bit gradients, against whole ones.
fn half() -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("a folder's name")?;
    let mut rounds = Vec::new();
    for seed in 0..ROUNDS_MIN {
        let run = |more: &str| {
            let args = "logistic --data synthetic-clicks:100000 --epochs 1 --minibatch 512";
            let ran = train(path, &format!("{args} --seed {seed}{more}"))?;
            figure(&ran.results, "bytes_per_example")
        };
        let ours = run(" --half")?;
        rounds.push(Round { ours, theirs: run("")?, again: run(" --half")? });
    }
    let (name, peer) = ("learning/half".to_owned(), "float32".to_owned());
    let subject = Subject { name, peer, value_bytes: 0 };
    Ok(vec![subject.row_of(&rounds, Number::BytesPerExample, None, Map::new())])
}

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
        let made = tempfile::tempdir()?;
        let folder = made.path().to_str().context("a folder's name")?;
        script(&[self.make, folder])?;
        let (mut rounds, mut last) = (Vec::new(), None);
        for _ in 0..ROUNDS_MIN {
            let ours = self.ours(folder)?;
            let theirs: Trained = serde_json::from_slice(&script(&[self.peer, folder])?)
                .context("what it printed")?;
            let again = self.ours(folder)?;
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

    fn ours(self, folder: &str) -> Result<Trained> {
        let Self { args, ending, .. } = self;
        let args = format!("{args} --data train.{ending} --test-data test.{ending}");
        let ran = train(folder, &args)?;
        Ok(Trained { cpu: ran.cpu, loss: figure(&ran.results, self.loss)? })
    }
}

/// What a run of ours took, and found.
struct Ran {
    /// Processor seconds of all its processes.
    cpu: f64,
    seconds: f64,
    results: Value,
}

fn train(folder: &str, args: &str) -> Result<Ran> {
    let before = children_time()?;
    let words = ["train"].into_iter().chain(args.split_whitespace());
    let words: Vec<String> = words.chain(["--json", "figures.json"]).map(str::to_owned).collect();
    cirrus(folder, &words)?;
    let cpu = (children_time()? - before).as_secs_f64();
    let figures = read_json(&Path::new(folder).join("figures.json"))?;
    Ok(Ran { cpu, seconds: figure(&figures, "seconds")?, results: figures["results"].clone() })
}

fn cirrus(folder: &str, words: &[String]) -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("cirrus");
    let mut command = Command::new(&program);
    command.args(words).current_dir(folder);
    command.env("CIRRUS_STATE_DIR", Path::new(folder).join("state"));
    if std::env::var_os("CIRRUS_CACHE_DIR").is_none() {
        command.env("CIRRUS_CACHE_DIR", Path::new(folder).join("cache"));
    }
    let ended = command.output().with_context(|| format!("{}: is it built?", program.display()))?;
    ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    Ok(())
}

fn read_json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn figure(figures: &Value, name: &str) -> Result<f64> {
    figures[name].as_f64().with_context(|| format!("no {name} in {figures}"))
}

/// Runs a function of the script with these words, the folder first.
fn script(words: &[&str]) -> Result<Vec<u8>> {
    let python = if Path::new(PYTHON).exists() { PYTHON } else { "python3" };
    let ended = Command::new(python)
        .args(["-W", "ignore", "-c", SCRIPT])
        .args(words)
        .output()
        .with_context(|| format!("{python} cannot be started"))?;
    let errors = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{}", errors.lines().last().unwrap_or_default());
    Ok(ended.stdout)
}
