//! Traces that are published, where they are at hand: beside the workspace, in `shared/data`.

use std::path::PathBuf;

use cirrus_trace::formats::Format;
use cirrus_trace::record::Record;

use crate::support::{read, uses};

/// `None`, with a message, where the data are not at hand.
fn shared(path: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if root.exists() {
        return Some(root);
    }
    eprintln!("skipped: {} is not there", root.display());
    None
}

#[test]
fn every_machine_event_of_2011_is_read() {
    let name = "google-2011/machine_events-part-00000-of-00001.csv.gz";
    let Some(path) = shared(name) else { return };
    let (records, problems) = read(Format::Google2011, &path);
    assert!(problems.is_empty(), "{problems}");
    assert_eq!(records.len(), 37_780);
    let mut there = std::collections::HashSet::new();
    for record in &records {
        let Record::Machine(machine) = record else { panic!("{record:?}") };
        if machine.at < 1_228_200_000_000 {
            if machine.capacity.is_some() {
                there.insert(machine.machine);
            } else {
                there.remove(&machine.machine);
            }
        }
    }
    assert!(there.len() > 12_000 && there.len() < 12_700, "{}", there.len());
}

/// The share of what was asked for that was not used, weighted by time.
#[test]
fn the_sample_of_2019_has_its_known_share() {
    let Some(path) = shared("google-2019-sample/borg2019_sample_usage.csv.gz") else { return };
    let (records, _) = read(Format::Google2019, &path);
    let (mut asked, mut unused) = (0.0, 0.0);
    for used in uses(&records) {
        if let (Some(request), Some(mean)) = (used.request.memory, used.mean.memory) {
            #[expect(clippy::cast_precision_loss, reason = "minutes in microseconds")]
            let time = (used.end - used.start) as f64;
            asked += request * time;
            unused += (request - mean).max(0.0) * time;
        }
    }
    assert_eq!(records.len(), 354_953);
    // Computed once by other means, over the rows of jobs that are in no alloc set.
    let share: f64 = unused / asked;
    assert!((share - 0.407_044).abs() < 1e-5, "{share}");
}
