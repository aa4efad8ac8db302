//! The journal on a real disk: what it keeps, refuses and promises.
//!
//! Owns one test a promise. May not know the state's rules; a sealed set stands for any event.
//! Invariant: each test fails when its promise is broken.

use super::*;
use crate::error::Kind;
use crate::spec::tests::example;
use crate::split::SplitSpec;

pub(super) fn spec() -> AppSpec {
    example(1000, SplitSpec::default())
}

pub(super) fn sealed(count: u64) -> Event {
    Event::SetSealed { set: "train".into(), count }
}

pub(super) fn wait(journal: &Journal, sequence: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.gate().passed(sequence))
}

fn open_error(dir: &Path, spec: &AppSpec) -> Error {
    Journal::open(dir, spec).map(|_| ()).unwrap_err()
}

#[test]
fn synced_events_are_there_without_a_clean_end() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, recovered) = Journal::open(dir.path(), &spec()).unwrap();
    assert!(recovered.events.is_empty());
    let last = journal.append((0..100).map(sealed).collect());
    wait(&journal, last).unwrap();
    // What a kill -9 at this moment would leave.
    let crashed = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join(FILE), crashed.path().join(FILE)).unwrap();
    let (_, recovered) = Journal::open(crashed.path(), &spec()).unwrap();
    assert_eq!(recovered.events, (0..100).map(sealed).collect::<Vec<_>>());
}

#[test]
fn a_snapshot_replaces_the_events_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &spec()).unwrap();
    journal.append((0..SNAPSHOT_EVERY - 1).map(sealed).collect());
    assert!(!journal.wants_snapshot());
    journal.append(vec![sealed(7)]);
    assert!(journal.wants_snapshot());
    journal.snapshot(Durable::default());
    assert!(!journal.wants_snapshot());
    let last = journal.append(vec![sealed(8)]);
    assert_eq!(last, SNAPSHOT_EVERY + 1);
    journal.close();
    let (journal, recovered) = Journal::open(dir.path(), &spec()).unwrap();
    assert_eq!(recovered.snapshot, Some(Durable::default()));
    assert_eq!(recovered.events, [sealed(8)]);
    assert_eq!(journal.append(vec![sealed(9)]), last + 1);
}

#[test]
fn a_journal_has_one_owner_and_one_spec() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &spec()).unwrap();
    let error = open_error(dir.path(), &spec()).to_string();
    assert!(error.contains("another coordinator"), "{error}");
    drop(journal);
    let mut other = spec();
    other.tasks[0].replicas = 9;
    other.pools[0].capacity = cirrus_units::ByteSize::gib(2);
    drop(Journal::open(dir.path(), &other).unwrap());
    other.tasks[0].writes.pop();
    let error = open_error(dir.path(), &other);
    assert_eq!(error.kind(), Kind::Input);
    assert!(error.to_string().contains("`photos`, run `one`"), "{error}");
    assert!(error.to_string().contains("changed since in its tasks"), "{error}");
}

#[test]
fn a_damaged_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &spec()).unwrap();
    journal.append((0..5000).map(sealed).collect());
    journal.close();
    drop(journal);
    let path = dir.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    let (mut silent, mut refused) = (Vec::new(), 0);
    for at in (0..whole.len()).step_by(whole.len() / 97) {
        let mut damaged = whole.clone();
        let end = (at + 64).min(whole.len());
        damaged[at..end].iter_mut().for_each(|byte| *byte ^= 0xa5);
        fs::write(&path, damaged).unwrap();
        match Journal::open(dir.path(), &spec()) {
            Ok((_, recovered)) if recovered.events.len() == 5000 => {}
            Ok((_, recovered)) => silent.push((at, recovered.events.len())),
            Err(error) => {
                assert!(error.to_string().contains("journal.redb"), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(silent, [], "events vanished without a word");
    assert!(refused > 10, "{refused}");
    fs::write(&path, b"not a journal").unwrap();
    assert_eq!(open_error(dir.path(), &spec()).kind(), Kind::Corrupt);
}

#[test]
fn a_closed_journal_promises_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &spec()).unwrap();
    journal.close();
    let sequence = journal.append(vec![sealed(1)]);
    assert_eq!(wait(&journal, sequence).unwrap_err().kind(), Kind::Io);
}
