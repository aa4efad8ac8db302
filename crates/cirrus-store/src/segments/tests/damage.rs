//! Flipped bits: found by a start, by a read and by a check, with their place.

use std::sync::Arc;

use super::{key, open, put, small, value};
use crate::error::Kind;
use crate::segments::sim::SimDisk;
use crate::segments::{Disk, Engine};

const SEGMENT: &str = "segment-0000000001";

fn filled(close: bool) -> SimDisk {
    let disk = SimDisk::default();
    let mut options = small();
    // Enough for all of it, and not too much of zeros behind.
    options.segment_bytes = 32 << 10;
    let engine = open(&disk, &options).unwrap();
    for version in 1..=10 {
        engine.write(vec![put(version, version)]).unwrap().wait().unwrap();
    }
    if close {
        engine.close().unwrap();
        return disk;
    }
    // As a kill leaves it: without a mark and without a checkpoint.
    let left = disk.power_cut(crate::segments::sim::Loss::All, 0);
    drop(engine);
    left
}

#[test]
fn a_start_refuses_a_damaged_log_and_names_the_place() {
    let len = filled(false).bytes(SEGMENT).unwrap().len();
    let mut cut = 0;
    for offset in (0..len).step_by(7) {
        let disk = filled(false);
        disk.flip(SEGMENT, offset, 4);
        match open(&disk, &small()) {
            Err(error) => {
                assert_eq!(error.kind(), Kind::Corrupt, "{error}");
                let text = error.to_string();
                assert!(text.contains(SEGMENT) && text.contains("cirrus store check"), "{text}");
                assert!(error.detail() <= offset as u64, "flipped {offset}: {text}");
            }
            // Padding is no record's, and the last group before a kill looks torn.
            Ok(engine) => {
                let there = (1..=10).filter(|n| engine.read(&key(*n)).unwrap().is_some()).count();
                assert!(there >= 9, "flipped {offset}: {there} of 10 are there");
                cut += usize::from(there == 9);
            }
        }
    }
    assert!(cut > 0, "the last group was never damaged");
}

#[test]
fn after_a_close_the_last_group_is_no_torn_tail() {
    let disk = filled(true);
    disk.remove("index.redb").unwrap();
    let place = disk.bytes(SEGMENT).unwrap().len() - 200;
    disk.flip(SEGMENT, place, 1);
    assert_eq!(open(&disk, &small()).unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn a_read_and_a_check_find_a_flipped_bit() {
    let mut options = small();
    options.hot_bytes = 0;
    for version in 1..=10u64 {
        let disk = filled(true);
        let bytes = disk.bytes(SEGMENT).unwrap();
        let wanted = value(version);
        let at = bytes.windows(wanted.len()).position(|part| part == wanted).unwrap();
        disk.flip(SEGMENT, at + wanted.len() / 2, 0x10);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let report = Engine::check(&shared, None, |_, _| ()).unwrap();
        assert_eq!(report.damage.len(), 1);
        let damage = &report.damage[0];
        assert!(damage.file == SEGMENT && damage.offset < at as u64, "{damage}");
        assert_eq!(report.records, version, "the slots, and what lies before the damage");
        // The checkpoint covers it, so it starts; the read finds it.
        let engine = open(&disk, &options).unwrap();
        let error = engine.read(&key(version)).unwrap_err();
        assert_eq!((error.kind(), error.detail()), (Kind::Corrupt, damage.offset));
        let part = engine.read_range(&key(version), 0, 1).unwrap_err();
        assert_eq!(part.kind(), Kind::Corrupt);
        let others = (1..=10).filter(|n| *n != version);
        assert!(others.into_iter().all(|n| engine.read(&key(n)).unwrap().is_some()));
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = SimDisk::default();
    let engine = open(&disk, &small()).unwrap();
    for version in 1..=60 {
        engine.write(vec![put(version, version)]).unwrap().wait().unwrap();
    }
    engine.close().unwrap();
    disk.remove("segment-0000000002").unwrap();
    let error = open(&disk, &small()).unwrap_err();
    assert!(error.to_string().contains("segment-0000000002 is missing"), "{error}");
}

#[test]
fn a_damaged_index_is_made_again() {
    let disk = filled(true);
    for offset in 0..4096 {
        disk.flip("index.redb", offset, 0xFF);
    }
    let engine = open(&disk, &small()).unwrap();
    assert!((1..=10).all(|n| engine.read(&key(n)).unwrap().is_some()));
}

#[test]
fn a_sound_store_has_a_clean_report() {
    let disk: Arc<dyn Disk> = Arc::new(filled(true));
    let report = Engine::check(&disk, None, |_, _| ()).unwrap();
    assert_eq!((report.objects, report.rows, report.torn_bytes), (10, 10, 0));
    assert!(report.damage.is_empty() && report.records == 12, "{report:?}");
}
