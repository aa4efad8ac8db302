//! `cirrus train` and `cirrus predict`: what is learnt, and what is left of it when processes are killed.
//!
//! Owns real runs over made-up data, and (ignored: they fetch packages) over real ones. May not reach into
//! the program. Invariant: a disturbed run counts every minibatch once, and is as good as an undisturbed one.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Ended, Running, Sandbox, signal, wait_for};

fn start(sandbox: &Sandbox, args: &str) -> Running {
    let words = ["train"].into_iter().chain(args.split(' '));
    sandbox.start(sandbox.cirrus(words.chain(["--json", "figures.json"])))
}

fn train(sandbox: &Sandbox, args: &str) -> Value {
    start(sandbox, args).figures()
}

fn measure(figures: &Value, name: &str) -> f64 {
    let value = &figures["results"][format!("test_{name}")];
    value.as_f64().unwrap_or_else(|| panic!("no {name} in {figures}"))
}

fn assert_exactly_once(figures: &Value) {
    let delivery = &figures["channels"]["done"];
    assert_eq!(delivery["exactly_once"], true, "{delivery}");
}

fn status(sandbox: &Sandbox) -> Option<Value> {
    let ended = sandbox.run(["status", "train", "--json"]);
    let shown: Value = serde_json::from_slice(&ended.stdout).ok()?;
    (shown["state"] == "running").then(|| shown["status"].clone())
}

/// Splits that a cut holds, up to the first that it lacks.
fn cut(sandbox: &Sandbox) -> u64 {
    let status = status(sandbox).unwrap_or_default();
    status["channels"]["done"]["cursor"].as_u64().unwrap_or(0)
}

/// Waits until a cut holds so many splits, kills the process and waits for another of its name.
fn kill_after(sandbox: &Sandbox, run: &mut Running, batches: u64, name: &str) {
    let pid = sandbox.process(name);
    wait_for("a cut", || (cut(sandbox) >= batches).then_some(()));
    assert!(!run.has_ended(), "it is too short to be killed: {:?}", run.read());
    signal(pid, Signal::KILL);
    wait_for(&format!("another {name}"), || (sandbox.process(name) != pid).then_some(()));
}

fn assert_fails(ended: &Ended, says: &[&str]) {
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for words in says {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

const CLICKS: &str = "logistic --data synthetic-clicks:40000 --epochs 2 --bits 16";

#[test]
fn every_mode_learns_and_keeps_its_bound() {
    let sandbox = Sandbox::new();
    for (mode, bound) in [("bsp", Some(0)), ("ssp:1", Some(1)), ("ssp:6", Some(6)), ("asp", None)] {
        let figures = train(&sandbox, &format!("{CLICKS} --workers 3 --shards 2 --mode {mode}"));
        assert_exactly_once(&figures);
        assert!(measure(&figures, "auc") > 0.68, "{mode}: {figures}");
        let staleness = figures["results"]["staleness_max"].as_u64().unwrap();
        assert!(bound.is_none_or(|bound| staleness <= bound), "{mode}: {staleness}");
    }
}

#[test]
fn sixteen_bits_travel_in_fewer_bytes_and_learn_as_well() {
    let sandbox = Sandbox::new();
    let whole = train(&sandbox, CLICKS);
    let half = train(&sandbox, &format!("{CLICKS} --half"));
    let bytes = |figures: &Value| figures["results"]["bytes_per_example"].as_f64().unwrap();
    // Of the 16 bytes for a feature (two rows, a gradient, a value) two are saved.
    let share = bytes(&half) / bytes(&whole);
    assert!((0.86..0.89).contains(&share), "{share}");
    assert!((measure(&half, "auc") - measure(&whole, "auc")).abs() < 0.01);
}

#[test]
fn each_model_learns_what_is_there_and_predicts_it_again() {
    let sandbox = Sandbox::new();
    let model = sandbox.path("model.safetensors");
    for (args, name, least, most) in [
        ("logistic --data synthetic-clicks:40000 --epochs 3 --bits 16", "auc", 0.68, 1.0),
        ("fm --data synthetic-clicks:40000 --epochs 2 --bits 16 --factors 4", "auc", 0.66, 1.0),
        ("softmax --data synthetic-clicks:20000 --bits 12", "accuracy", 0.72, 1.0),
        // The noise alone is 0.5; the mean would be off by 0.9.
        ("factorization --data synthetic-ratings:60000 --factors 8 --epochs 20", "rmse", 0.5, 0.8),
        ("lda --data synthetic-topics:4000 --epochs 2", "perplexity", 50.0, 300.0),
    ] {
        let saved = format!("{args} --workers 2 --shards 2 --save {}", model.display());
        let figures = train(&sandbox, &saved);
        assert_exactly_once(&figures);
        let found = measure(&figures, name);
        assert!((least..most).contains(&found), "{args}: {name} {found}");
        let data = args.split(' ').nth(2).unwrap();
        let predict =
            ["predict", model.to_str().unwrap(), "--data", data, "--json", "predicted.json"];
        let ended = sandbox.run(predict);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let json = fs::read(sandbox.path("predicted.json")).unwrap();
        let predicted: Value = serde_json::from_slice(&json).unwrap();
        let rows: u64 = data.split(':').nth(1).unwrap().parse().unwrap();
        assert_eq!(predicted["examples"].as_f64(), Some(rows as f64));
        assert_eq!(ended.text().lines().count() as u64, rows);
        // Most of these were learnt from, and are known at least as well.
        let again = predicted[name].as_f64().unwrap();
        let is_more_better = ["auc", "accuracy"].contains(&name);
        let better = if is_more_better { again / found } else { found / again };
        assert!(better > 0.95, "{args}: {name} {found}, then {again}");
    }
}

#[test]
fn ratings_of_another_file_are_of_the_same_users_and_items() {
    let sandbox = Sandbox::new();
    let rating = |user: u64, item: u64| 1 + (user * 7 + item * 3) % 5;
    let lines = |pairs: &mut dyn Iterator<Item = (u64, u64)>| -> String {
        pairs.map(|(user, item)| format!("u{user}\ti{item}\t{}\n", rating(user, item))).collect()
    };
    let all = || (0..40).flat_map(|user| (0..40).map(move |item| (user, item)));
    sandbox.write("train.inter", lines(&mut all()));
    // In another order, and with one whom nobody knows.
    sandbox.write(
        "test.inter",
        lines(&mut all().collect::<Vec<_>>().into_iter().rev()) + "new\ti1\t5\n",
    );
    let args = "factorization --data train.inter --test-data test.inter --factors 8 --epochs 200 \
                --rate 0.05 --l2 0 --minibatch 64 --save model";
    let figures = train(&sandbox, args);
    // They are known by heart; the mean would be off by 1.4.
    assert!(measure(&figures, "rmse") < 0.7, "{figures}");
    assert_eq!(figures["results"]["test_unknown"], 1);
    let ended = sandbox.run(["predict", "model", "--data", "test.inter", "--json", "p.json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let predicted: Value =
        serde_json::from_slice(&fs::read(sandbox.path("p.json")).unwrap()).unwrap();
    assert!(predicted["rmse"].as_f64() < Some(0.7), "{predicted}");
    assert_eq!(ended.text().lines().count(), 1_601);
}

#[test]
fn ratings_as_netflix_has_them_and_images_as_mnist_has_them_are_read() {
    let sandbox = Sandbox::new();
    for item in 1..=20 {
        let rating = |user: u64| 1 + (user + item) % 5;
        let lines = (0..30).map(|user| format!("{user},{},2005-09-06\n", rating(user)));
        let text = format!("{item}:\n{}", lines.collect::<String>());
        sandbox.write(&format!("netflix/mv_{item:07}.txt"), text);
    }
    let figures = train(&sandbox, "factorization --data netflix --epochs 2 --save model");
    let of = |name: &str| figures["results"][name].as_u64().unwrap();
    assert_eq!(of("examples") + of("test_examples"), 600);
    // Users, items.
    assert_eq!(of("model_rows"), 50);

    let mut noise = 1_u32;
    let mut image = |label: u8| -> Vec<u8> {
        let pixel = |at: u8| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 25) as u8 + if at % 4 == label { 120 } else { 0 }
        };
        (0..16).map(pixel).collect()
    };
    for (part, count) in [("train", 400_u32), ("t10k", 100)] {
        let labels: Vec<u8> = (0..count).map(|at| (at % 4) as u8).collect();
        let pixels: Vec<u8> = labels.iter().flat_map(|label| image(*label)).collect();
        let head = |magic: u32, words: &[u32]| -> Vec<u8> {
            [&[magic, count], words].concat().iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        let images = [head(0x803, &[4, 4]), pixels].concat();
        sandbox.write(&format!("images/{part}-images-idx3-ubyte"), images);
        sandbox.write(
            &format!("images/{part}-labels-idx1-ubyte"),
            [head(0x801, &[]), labels].concat(),
        );
    }
    let figures = train(&sandbox, "softmax --data images");
    assert!(measure(&figures, "accuracy") > 0.95, "{figures}");
    assert_eq!(figures["results"]["test_examples"], 100);
    fs::remove_file(sandbox.path("images/train-labels-idx1-ubyte")).unwrap();
    let ended = start(&sandbox, "softmax --data images").wait();
    assert_fails(&ended, &["no train-labels-idx1-ubyte in images"]);
}

/// Long enough that processes can be killed in its midst: a cut whenever something was done.
const LONG: &str = "logistic --data synthetic-clicks:60000 --bits 14 --epochs 16 --workers 2 \
                    --shards 2 --minibatch 64 --cut-every 0.2";

#[test]
fn a_shard_that_is_killed_takes_all_back_to_the_last_cut_and_nothing_counts_twice() {
    let sandbox = Sandbox::new();
    let undisturbed = train(&sandbox, LONG);
    let mut run = start(&sandbox, LONG);
    kill_after(&sandbox, &mut run, 60, "shard-1");
    let figures = run.figures();
    assert_exactly_once(&figures);
    assert!(figures["results"]["rollbacks"].as_u64() >= Some(1), "{figures}");
    let (found, expected) = (measure(&figures, "auc"), measure(&undisturbed, "auc"));
    assert!((found - expected).abs() < 0.02, "{found} {expected}");
}

#[test]
fn workers_the_chief_and_the_keeper_may_be_killed() {
    let sandbox = Sandbox::new();
    let mut run = start(&sandbox, LONG);
    for (batches, name) in [(30, "work-0"), (100, "chief-0"), (200, "keep-0"), (300, "work-1")] {
        kill_after(&sandbox, &mut run, batches, name);
    }
    let figures = run.figures();
    assert_exactly_once(&figures);
    assert!(measure(&figures, "auc") > 0.65, "{figures}");
    assert_eq!(figures["results"]["rollbacks"], 0, "no shard was lost");
}

#[test]
fn a_training_whose_processes_are_all_killed_goes_on_from_its_last_cut() {
    let sandbox = Sandbox::new();
    let undisturbed = measure(&train(&sandbox, LONG), "log_loss");
    let mut run = start(&sandbox, LONG);
    wait_for("a cut", || (cut(&sandbox) >= 40).then_some(()));
    assert!(!run.has_ended(), "it is too short to be killed: {:?}", run.read());
    let processes = sandbox.processes();
    signal(run.pid(), Signal::KILL);
    run.wait();
    sandbox.wait_until_empty();
    assert!(processes.len() > 6, "{processes:?}");
    let resumed = ["run", "train", "--resume", "--json", "figures.json"];
    let figures = sandbox.start(sandbox.cirrus(resumed)).figures();
    assert_exactly_once(&figures);
    let off = (measure(&figures, "log_loss") - undisturbed).abs();
    assert!(off < 0.01, "{off}: {figures}");
}

#[test]
fn what_diverges_is_stopped_and_said() {
    let sandbox = Sandbox::new();
    let rated = "factorization --data synthetic-ratings:20000 --rate 5 --json f.json";
    let ended = sandbox.run(["train"].into_iter().chain(rated.split(' ')));
    assert_fails(&ended, &["the training diverges", "at rate 5", "lower --rate"]);
}

#[test]
fn wrong_input_is_refused_before_anything_is_started() {
    let sandbox = Sandbox::new();
    sandbox.write("rows.svm", "1 1:1\n0 2:x\n1 3:1\n0 4\n");
    for (args, says) in [
        ("logit --data synthetic-clicks", &["logit", "softmax"][..]),
        ("logistic --data nowhere", &["nowhere", "mnist"]),
        ("logistic --data synthetic-clicks:many", &["many"]),
        ("logistic --data synthetic-clicks --mode ssp:x", &["`x`", "ssp:4"]),
        ("logistic --data synthetic-clicks --optimizer newton", &["newton", "ftrl"]),
        ("logistic --data synthetic-clicks --held-out 2", &["`2`", "share"]),
        ("logistic --data synthetic-clicks --schedule line", &["cycle"]),
        ("logistic --data synthetic-clicks --save /nowhere/m", &["--save", "/nowhere/m"]),
        ("logistic --data rows.svm", &["rows.svm:2", "`x`", "--bad-rows"]),
        ("softmax --data synthetic-ratings:1000", &["label", "softmax"]),
    ] {
        let ended = sandbox.run(["train"].into_iter().chain(args.split(' ')));
        assert_fails(&ended, says);
    }
    let figures = train(&sandbox, "logistic --data rows.svm --bad-rows 2 --epochs 1 --held-out 0");
    assert_eq!(figures["results"]["bad_rows"], 2);
    assert!(figures["results"]["bad_rows_first"][1].as_str().unwrap().contains("rows.svm:4"));
    let ended = sandbox.run(["predict", "rows.svm", "--data", "rows.svm"]);
    assert_fails(&ended, &["rows.svm", "no model"]);
}

#[test]
#[ignore = "fetches 56 MB of packages"]
fn real_data_are_learnt_as_well_as_they_must() {
    let sandbox = Sandbox::new();
    for (args, name, least) in [
        ("softmax --data mnist --workers 2", "accuracy", 0.92),
        ("logistic --data spamassassin --held-out 0.2 --workers 2 --shards 2", "auc", 0.995),
        ("logistic --data adult --workers 2 --shards 2", "auc", 0.885),
    ] {
        let found = measure(&train(&sandbox, args), name);
        assert!(found >= least, "{args}: {name} {found}");
    }
    let rmse = (1..=5).map(|seed| {
        let args = format!("factorization --data movielens-100k --workers 2 --seed {seed}");
        measure(&train(&sandbox, &args), "rmse")
    });
    let rmse: Vec<f64> = rmse.collect();
    let mean = rmse.iter().sum::<f64>() / 5.0;
    assert!(mean <= 0.92, "{rmse:?}");
}

/// Rows of ten features of a thousand, whose labels follow from a logistic model.
fn rows(count: u64, seed: u64) -> String {
    let mut state = seed;
    let mut draw = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut text = String::new();
    for _ in 0..count {
        let features: Vec<u64> = (0..10).map(|place| place * 100 + draw(100)).collect();
        let weight = |feature: &u64| (feature * 7_919 % 200) as f64 / 100.0 - 1.0;
        let score: f64 = features.iter().map(weight).sum();
        let label = u8::from((draw(1_000_000) as f64) < 1e6 / (1.0 + (-score).exp()));
        let features: Vec<String> = features.iter().map(|feature| format!("{feature}:1")).collect();
        text += &format!("{label} {}\n", features.join(" "));
    }
    text
}

/// Mean and standard deviation.
fn spread(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (values.len() - 1) as f64).sqrt())
}

/// Over five seeds: one worker and one shard in step, which is what a single process would do, against
/// several that are not, and those against the same with a shard that is killed.
#[test]
#[ignore = "fifteen runs"]
fn many_processes_and_killed_ones_learn_as_well_as_one() {
    let sandbox = Sandbox::new();
    // The same rows for every seed, which draws their order alone.
    sandbox.write("train.svm", rows(60_000, 1));
    sandbox.write("test.svm", rows(10_000, 2));
    let settings = "logistic --data train.svm --test-data test.svm --epochs 8 --minibatch 64 \
                    --rate 0.02 --cut-every 0.2";
    let (mut alone, mut many, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 1..=5 {
        let settings = format!("{settings} --seed {seed}");
        let one = train(&sandbox, &format!("{settings} --workers 1 --shards 1 --mode bsp"));
        alone.push(measure(&one, "log_loss"));
        let several = format!("{settings} --workers 3 --shards 2 --mode ssp:4");
        many.push(measure(&train(&sandbox, &several), "log_loss"));
        let mut run = start(&sandbox, &several);
        kill_after(&sandbox, &mut run, 60, "shard-0");
        let figures = run.figures();
        assert!(figures["results"]["rollbacks"].as_u64() >= Some(1), "{figures}");
        killed.push(measure(&figures, "log_loss"));
    }
    let [alone, many, killed] = [alone, many, killed].map(|losses| spread(&losses));
    println!(
        "held-out log-loss, mean and deviation of five seeds: one process {alone:?}, many {many:?}, killed {killed:?}"
    );
    assert!((many.0 - alone.0).abs() <= 2.0 * alone.1, "{alone:?} {many:?}");
    assert!((killed.0 - many.0).abs() <= 2.0 * many.1, "{many:?} {killed:?}");
}
