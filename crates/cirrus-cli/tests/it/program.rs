//! The first program of the README.
//!
//! Owns the check that it runs, and that the README has it word for word. Invariant: what a reader
//! pastes is what was tested.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Sandbox;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// An example, as `cargo build --examples` leaves it beside the program.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_cirrus")).with_file_name("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --release --workspace --example {name}",
        path.display()
    );
    path
}

#[test]
fn the_first_program_runs() {
    let sandbox = Sandbox::new();
    let run = |args: &[&str]| sandbox.start(sandbox.command(&example("first"), args)).wait();
    let ended = run(&["run"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.text().contains("sum: 333328333350000\n"), "{}", ended.text());
    assert!(ended.text().contains("every record exactly once"), "{}", ended.text());
    assert!(run(&["plan"]).text().contains("task square"));
    assert!(run(&["status"]).text().contains("first: the latest run is done"));
    assert_eq!(run(&["down"]).line(0), "first: nothing is running");
    assert_eq!(run(&["logs", "sum-0"]).code, Some(0));
    assert_eq!(sandbox.processes(), [], "orphans");
}

#[test]
fn an_epoch_that_was_read_is_read_from_the_cache() {
    let sandbox = Sandbox::new();
    let run = sandbox.command(&example("epochs"), ["run", "--json", "figures.json"]);
    let results = &sandbox.start(run).figures()["results"];
    for (epoch, fetched) in [(1, 10_000), (2, 0), (3, 0)] {
        assert_eq!(results[format!("epoch {epoch}, bytes")], 10_000_000, "{results}");
        assert_eq!(results[format!("epoch {epoch}, fetched")], fetched, "{results}");
    }
    assert_eq!(sandbox.processes(), [], "orphans");
}

#[test]
fn a_graph_is_walked_as_the_docs_say() {
    let sandbox = Sandbox::new();
    let ended = sandbox.start(sandbox.command(&example("graph"), [""; 0])).wait();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let docs = fs::read_to_string(repository().join("docs/iterators.md")).expect("the docs");
    let text = ended.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(docs.contains(lines[0]), "{text}");
    let hits = |line: &str| -> f64 {
        let reads = line.strip_suffix(" of them hits; ranks as in memory");
        let ratio = reads.and_then(|reads| reads.rsplit(' ').next());
        ratio.and_then(|ratio| ratio.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    let (lru, clairvoyant) = (hits(lines[1]), hits(lines[2]));
    assert!(lru < 0.05 && clairvoyant > 0.4, "{lru}, {clairvoyant}");
}

#[test]
fn the_readme_has_the_first_program_word_for_word() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).expect(path);
    let program = read("crates/cirrus/examples/first.rs");
    assert!(program.lines().count() <= 45, "it is to be read at a glance");
    let block = format!("```rust\n{}\n```\n", program.trim_end());
    assert!(read("README.md").contains(&block), "README.md lacks crates/cirrus/examples/first.rs");
}
