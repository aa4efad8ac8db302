//! A consumer against a whole run within this process.
//!
//! Owns what `Batches` must do where reading fails, the channel is full, or memory answers late or
//! not at all. May not know how the run is put together. Invariant: nothing waits without a bound.

use cirrus_units::ByteSize;
use serde::{Deserialize, Deserializer};

use super::*;
use crate::rig::{CHANNEL, Hand, Rig, SET};
use crate::spec::tests::example;
use crate::split::SplitSpec;

/// Splits of two batches of one record each.
fn splits(window: u32) -> SplitSpec {
    SplitSpec { batch: 1, batches_per_split: 2, window, ..SplitSpec::default() }
}

fn open<T: DeserializeOwned + Send + 'static>(rig: &Rig) -> Batches<T> {
    rig.context("train", 0).batches(CHANNEL).unwrap()
}

/// One item, as a worker encodes a batch.
fn encoded(item: u64) -> Vec<u8> {
    postcard::to_stdvec(&[item][..]).unwrap()
}

#[derive(Debug)]
struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("a user's mistake")
    }
}

#[test]
fn a_channel_that_failed_fails_again() {
    let rig = Rig::new(splits(4));
    rig.write_set(4, 1);
    let hand = Hand::new(&rig, 0);
    let whole = encoded(7);
    hand.commit(&hand.lease().unwrap(), &whole, &whole);
    // No list at all.
    hand.commit(&hand.lease().unwrap(), &[0xff; 11], &[0xff; 11]);
    let mut batches = open::<u64>(&rig);
    let items = |batch: Batch<u64>| batch.items;
    assert_eq!(batches.next().unwrap().map(items), Some(vec![7]));
    assert_eq!(batches.next().unwrap().map(items), Some(vec![7]));
    let first = batches.next().unwrap_err();
    assert_eq!(first.kind(), Kind::Input);
    assert!(first.to_string().contains("batch 2 of channel `batches` is not a list"), "{first}");
    for _ in 0..2 {
        let again = batches.next().unwrap_err();
        assert_eq!((again.kind(), again.to_string()), (first.kind(), first.to_string()));
    }
    batches.checkpoint("what came before it").unwrap();
    assert_eq!(rig.channel().cursor, 2);
}

#[test]
fn a_panic_while_a_batch_is_decoded_is_an_error_of_next() {
    let rig = Rig::new(splits(4));
    rig.write_set(2, 1);
    let hand = Hand::new(&rig, 0);
    hand.commit(&hand.lease().unwrap(), &encoded(7), &encoded(7));
    let mut batches = open::<Panics>(&rig);
    for _ in 0..2 {
        let error = batches.next().unwrap_err();
        assert_eq!(error.kind(), Kind::Task);
        assert!(error.to_string().contains("channel `batches` panicked"), "{error}");
    }
}

#[test]
fn two_splits_that_are_altered_in_turn_end_the_channel() {
    let mut spec = example(1 << 20, splits(4));
    spec.channels[0].unordered = true;
    let rig = Rig::of(spec, ByteSize::mib(64));
    rig.write_set(4, 1);
    let hand = Hand::new(&rig, 0);
    let make = |count: usize| {
        let leased: Vec<_> = std::iter::from_fn(|| hand.lease()).take(count).collect();
        leased.iter().for_each(|grant| hand.commit(grant, b"altered", b"told"));
        leased.len() == count
    };
    assert!(make(1) && make(1));
    let error = std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            // Always both, so that they are altered in turn.
            for _ in 0..5 {
                if !make(2) {
                    return;
                }
            }
            panic!("altered splits are made again without end");
        });
        let batches = open::<u64>(&rig);
        let error = loop {
            match batches.ahead.take(Duration::from_secs(5)) {
                Taken::Failed(error) => break error,
                Taken::Nothing => assert!(!making.is_finished(), "they are made no more"),
                Taken::Batch(..) | Taken::End | Taken::WindowFull => panic!("nothing is whole"),
            }
        };
        making.join().unwrap();
        error
    });
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("of channel `batches` has checksum"), "{error}");
}

#[test]
fn a_channel_that_is_full_without_a_checkpoint_is_an_error_that_says_so() {
    // By its bytes, and by its window.
    for (capacity, window, most) in [(20, 8, 6), (1 << 20, 2, 4)] {
        let rig = Rig::of(example(capacity, splits(window)), ByteSize::mib(64));
        rig.write_set(16, 1);
        let worker = rig.context("decode", 0);
        let working = std::thread::spawn(move || {
            worker.splits(SET).unwrap().map_into(CHANNEL, |_, _| Ok(7u64 << 40))
        });
        let mut batches = open::<u64>(&rig);
        let mut count = 0;
        let error = loop {
            match batches.next() {
                Ok(batch) => count += u64::from(batch.is_some()),
                Err(error) => break error,
            }
            assert!(count <= most, "{count} batches and no checkpoint");
        };
        assert!(count > 0, "nothing was read");
        assert_eq!(error.kind(), Kind::Input);
        let text = error.to_string();
        assert!(text.contains("channel `batches` holds all that it may"), "{text}");
        assert!(text.contains("since batch 0; call checkpoint_when_due"), "{text}");
        // That is what it takes: it goes on from there.
        while count < 16 {
            batches.checkpoint("state").unwrap();
            while count < 16
                && let Ok(Some(_)) = batches.next()
            {
                count += 1;
            }
        }
        batches.checkpoint("state").unwrap();
        assert!(batches.next().unwrap().is_none());
        working.join().unwrap().unwrap();
    }
}

/// A rig whose first split is committed and may be read, and whose second waits for a checkpoint.
fn one_split_in_the_window(memory: ByteSize) -> (Rig, Hand) {
    let rig = Rig::of(example(64 << 20, splits(1)), memory);
    rig.write_set(4, 1);
    let hand = Hand::new(&rig, 0);
    hand.commit(&hand.lease().unwrap(), &encoded(7), &encoded(7));
    (rig, hand)
}

#[test]
fn the_cursor_moves_only_when_the_checkpoint_is_acknowledged() {
    let (rig, hand) = one_split_in_the_window(ByteSize::mib(64));
    let mut batches = open::<u64>(&rig);
    batches.next().unwrap().unwrap();
    batches.next().unwrap().unwrap();
    rig.hold();
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| batches.checkpoint("state"));
        // For as long as the coordinator holds the call, when the node has answered: the window
        // does not move.
        while !rig.is_holding() {
            assert_eq!(hand.lease(), None);
        }
        assert_eq!(hand.lease(), None);
        assert_eq!(rig.channel().cursor, 0);
        rig.release();
        saving.join().unwrap().unwrap();
    });
    assert_eq!(rig.channel().cursor, 2);
    assert_eq!(hand.lease().map(|grant| grant.split), Some(1));
}

#[test]
fn a_checkpoint_that_is_never_acknowledged_moves_no_cursor() {
    let (rig, hand) = one_split_in_the_window(ByteSize::mib(2));
    let mut batches = open::<u64>(&rig);
    batches.next().unwrap().unwrap();
    batches.next().unwrap().unwrap();
    let error = batches.checkpoint(vec![7; 4 << 20]).unwrap_err();
    assert!(matches!(error.kind(), Kind::OutOfMemory | Kind::TooLarge), "{error:?}");
    assert_eq!((rig.channel().cursor, hand.lease()), (0, None));
    // Nor one that is not in the run's folder.
    std::fs::remove_dir_all(rig.dir().checkpoints()).unwrap();
    assert_eq!(batches.checkpoint("state").unwrap_err().kind(), Kind::Io);
    assert_eq!((rig.channel().cursor, hand.lease()), (0, None));
}
