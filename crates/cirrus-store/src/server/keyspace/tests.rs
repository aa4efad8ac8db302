//! The keyspace against a map, under random calls, and what it costs.

use std::collections::{HashMap, VecDeque};
use std::process::Command;

use super::value::Item;
use super::*;
use crate::key::{Key, Version};
use crate::wire::NEVER;

/// Small random numbers that follow a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let seed = self.below(256);
        (0..len).map(|n| (n.wrapping_mul(31) ^ seed).to_le_bytes()[0]).collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Value(Vec<u8>),
    Queue(VecDeque<Vec<u8>>),
}

fn put(space: &Keyspace, key: &Key, value: &[u8], expires_at: u64) -> Result<(), Fault> {
    let large = (value.len() > SMALL_BYTES_MAX).then(|| {
        let mut filling = space.filling(value.len())?;
        filling.bytes_mut().copy_from_slice(value);
        Ok::<_, Fault>(filling.finish_summed())
    });
    let value = match large {
        Some(large) => Value::Large(large?),
        None => Value::small(value),
    };
    space.at(key, 0, |place| place.put(value, expires_at, 1)).map(drop)
}

fn content(found: &Found<'_>) -> Content {
    match &found.content {
        Contents::Value(stored) => {
            assert!(stored.to_sums().check(0, stored.bytes()).is_ok());
            Content::Value(stored.bytes().to_vec())
        }
        Contents::Queue(queue) => {
            let items = (0..queue.len()).filter_map(|index| queue.get(index));
            Content::Queue(items.map(|item| item.bytes().to_vec()).collect())
        }
        Contents::Cold(cold) => panic!("{cold:?} was not warmed"),
    }
}

/// Random operations on keys of this thread's own.
#[expect(clippy::too_many_lines, reason = "an arm for each operation")]
fn play(space: &Keyspace, thread: u64, rounds: u64, sizes: [u64; 3]) {
    let mut random = Random(thread);
    let mut model: HashMap<Key, (Content, u64)> = HashMap::new();
    let mut versions: HashMap<u16, u64> = HashMap::new();
    for round in 0..rounds {
        let key = Key::try_from(format!("{thread}/{}", random.below(900))).unwrap();
        let now_ms = 1 + round;
        let size = sizes[usize::try_from(random.below(3)).unwrap()];
        let value = {
            let len = random.below(size);
            random.bytes(len)
        };
        let ends = if random.below(4) == 0 { now_ms + 1 + random.below(rounds) } else { NEVER };
        if model.get(&key).is_some_and(|(_, ends)| *ends != NEVER && *ends <= now_ms) {
            model.remove(&key);
        }
        let grown = |version: Version, versions: &mut HashMap<u16, u64>| {
            // Other threads write in the same slots.
            let last = versions.insert(key.slot().number(), version.0).unwrap_or(0);
            assert!(version.0 > last, "{key} went from {last} to {version}");
        };
        match random.below(10) {
            0..4 => {
                if put(space, &key, &value, ends).is_ok() {
                    model.insert(key.clone(), (Content::Value(value), ends));
                }
            }
            4 => {
                let removed = space.at(&key, now_ms, |place| place.remove(1)).unwrap();
                assert_eq!(removed.is_some(), model.remove(&key).is_some());
                removed.into_iter().for_each(|version| grown(version, &mut versions));
            }
            5 => {
                let changed = space.at(&key, now_ms, |place| place.set_expires_at(ends, 1));
                match (changed, model.get_mut(&key)) {
                    (Ok(true), Some((_, expires_at))) => *expires_at = ends,
                    (Ok(false), None) | (Err(_), Some(_)) => {}
                    (changed, expected) => panic!("{changed:?} for {expected:?}"),
                }
            }
            6 | 7 => {
                let end = if random.below(3) == 0 { End::Front } else { End::Back };
                let short = &value[..value.len().min(200)];
                let pushed =
                    space.at(&key, now_ms, |place| place.queue_push(end, Value::small(short), 1));
                let entry = model.get_mut(&key).map(|(content, _)| content);
                match (pushed, entry) {
                    (Err(fault), Some(Content::Value(_))) => {
                        assert_eq!(fault.kind, Kind::WrongType);
                    }
                    (Ok((version, items)), Some(Content::Queue(queue))) => {
                        match end {
                            End::Front => queue.push_front(short.to_vec()),
                            End::Back => queue.push_back(short.to_vec()),
                        }
                        assert_eq!(items, queue.len() as u64);
                        grown(version, &mut versions);
                    }
                    (Ok((version, 1)), None) => {
                        let queue = VecDeque::from([short.to_vec()]);
                        model.insert(key.clone(), (Content::Queue(queue), NEVER));
                        grown(version, &mut versions);
                    }
                    (Err(fault), _) => assert_eq!(fault.kind, Kind::OutOfMemory),
                    (pushed, expected) => panic!("{pushed:?} for {expected:?}"),
                }
            }
            8 => {
                let popped = space.at(&key, now_ms, |place| place.queue_pop(End::Front, 1));
                match (popped, model.get_mut(&key).map(|(content, _)| content)) {
                    (Err(fault), Some(Content::Value(_))) => {
                        assert_eq!(fault.kind, Kind::WrongType);
                    }
                    (Ok(None), None) => {}
                    (Ok(Some(popped)), Some(Content::Queue(queue))) => {
                        let item: Item = popped.item;
                        assert_eq!(Some(item.into_parts().0.to_vec()), queue.pop_front());
                        assert_eq!(popped.items, queue.len() as u64);
                        if queue.is_empty() {
                            model.remove(&key);
                        }
                    }
                    (popped, expected) => panic!("{popped:?} for {expected:?}"),
                }
            }
            _ => {
                let census = Census::default();
                if random.below(40) == 0 {
                    space.sweep(0, &census);
                }
            }
        }
        let expected = model.get(&key);
        space.at(&key, now_ms, |place| {
            let found = place.found();
            let is = found.as_ref().map(|found| (content(found), found.expires_at));
            assert_eq!(is.as_ref(), expected, "{key} in round {round}");
        });
    }
    for (key, (expected, ends)) in &model {
        let is = space.at(key, 0, |place| place.found().map(|found| content(&found)));
        assert_eq!(is.as_ref(), Some(expected), "{key} ends at {ends}");
    }
}

#[test]
fn it_does_what_a_map_does() {
    let space = Keyspace::new(64 << 20, None).unwrap();
    play(&space, 1, if cfg!(miri) { 200 } else { 30_000 }, [100, 3000, 40_000]);
    space.clear(0.into(), 1).unwrap();
    space.sweep(0, &Census::default());
    let holdings = space.holdings();
    assert_eq!((holdings.objects, holdings.object_bytes, holdings.index_bytes), (0, 0, 0));
    assert_eq!(space.memory.used(), holdings.kept_bytes);
}

#[test]
fn it_does_what_a_map_does_when_it_is_full() {
    // About twice as much is put as there is room for.
    let space = Keyspace::new(8 << 20, None).unwrap();
    play(&space, 1, if cfg!(miri) { 200 } else { 60_000 }, [100, 30_000, 60_000]);
    assert!(space.memory.used() <= space.memory.capacity());
}

#[test]
fn it_does_what_a_map_does_for_several_threads_at_once() {
    let space = Keyspace::new(24 << 20, None).unwrap();
    std::thread::scope(|scope| {
        for thread in 1..=3 {
            let space = &space;
            scope.spawn(move || {
                play(space, thread, if cfg!(miri) { 50 } else { 20_000 }, [100, 3000, 40_000]);
            });
        }
    });
    let bytes: u64 = space.holdings().object_bytes;
    space.clear(0.into(), 1).unwrap();
    space.sweep(0, &Census::default());
    assert!(bytes > 0);
    assert_eq!(space.memory.used(), space.holdings().kept_bytes);
}

#[test]
fn several_places_are_one() {
    let space = Keyspace::new(8 << 20, None).unwrap();
    let names: Vec<Key> = (0..40).map(|n| Key::try_from(format!("k{}", n % 30)).unwrap()).collect();
    let keys: Vec<KeyRef<'_>> = names.iter().map(KeyRef::from).collect();
    // Two threads, in opposite orders: they would lock each other out, or see halves.
    std::thread::scope(|scope| {
        for thread in [1_u8, 2] {
            let (space, mut keys) = (&space, keys.clone());
            scope.spawn(move || {
                if thread == 2 {
                    keys.reverse();
                }
                for _ in 0..2000 {
                    space.at_all(&keys, 0, |places| {
                        let first = places.at(0).found().map(|found| content(&found));
                        for index in 0..40 {
                            let is = places.at(index).found().map(|found| content(&found));
                            assert_eq!(is, first);
                        }
                        for index in 0..40 {
                            let value = Value::small(std::slice::from_ref(&thread));
                            places.at(index).put(value, NEVER, 1).unwrap();
                        }
                    });
                }
            });
        }
    });
    assert_eq!(space.len(), 30);
}

#[test]
fn room_is_made_of_holes_before_a_put_is_refused() {
    let space = Keyspace::new(32 << 20, None).unwrap();
    let name = |n: u64| Key::try_from(format!("{n}")).unwrap();
    let value = |n: u64| n.to_le_bytes().repeat(12);
    let mut count = 0;
    while put(&space, &name(count), &value(count), NEVER).is_ok() {
        count += 1;
    }
    let before = space.holdings();
    for n in (0..count).filter(|n| n % 4 != 0) {
        space.at(&name(n), 0, |place| place.remove(1)).unwrap().unwrap();
    }
    // Three quarters are free, in holes for other sizes.
    let mut refilled = 0;
    while put(&space, &name(count + refilled), &[2; 1500], NEVER).is_ok() {
        refilled += 1;
    }
    let after = space.holdings();
    assert!(refilled * 1500 > 20 << 20, "{refilled} objects of 1,500 bytes");
    assert!(after.hole_bytes < before.record_bytes / 8, "{after:?}");
    for n in (0..count).step_by(4) {
        let is = space.at(&name(n), 0, |place| place.found().map(|found| content(&found)));
        assert_eq!(is, Some(Content::Value(value(n))), "{n}");
    }
    // And for large values.
    for n in 0..refilled {
        space.at(&name(count + n), 0, |place| place.remove(1)).unwrap().unwrap();
    }
    put(&space, &name(0), &vec![3; 20 << 20], NEVER).unwrap();
}

#[test]
fn a_value_is_replaced_where_it_lies() {
    let space = Keyspace::new(1 << 20, None).unwrap();
    let key = Key::try_from("k").unwrap();
    put(&space, &key, &[0; 16_000], NEVER).unwrap();
    let used = space.memory.used();
    for n in 0..200 {
        put(&space, &key, &[n; 16_000], NEVER).unwrap();
        assert_eq!(space.memory.used(), used);
    }
}

#[test]
fn values_under_way_are_bounded() {
    let space = Keyspace::new(64 << 20, None).unwrap();
    let first = space.filling(40 << 20).unwrap();
    assert_eq!(space.filling(1 << 20).unwrap_err().kind, Kind::Busy);
    let value = first.finish_summed();
    assert_eq!(space.filling(40 << 20).unwrap_err().kind, Kind::OutOfMemory);
    drop(value);
    assert!(space.filling(40 << 20).is_ok());
}

/// Runs a test that measures its whole process in one of its own.
fn alone(name: &str) {
    let program = std::env::current_exe().unwrap();
    let name = format!("server::keyspace::tests::{name}");
    let output =
        Command::new(program).args(["--exact", &name, "--ignored", "--nocapture"]).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{name} did not run: {text}");
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

const GIB: u64 = 1 << 30;

/// Fills a keyspace with values of `len` bytes until so many bytes of keys and values are in it.
fn fill(space: &Keyspace, prefix: &str, len: usize, bytes: u64) -> u64 {
    let value = vec![7; len];
    let mut count = 0;
    let before = space.holdings().object_bytes;
    loop {
        let key = Key::try_from(format!("{prefix}{count:012}")).unwrap();
        put(space, &key, &value, NEVER).unwrap();
        count += 1;
        if count % (bytes / len as u64 / 256).max(1) == 0
            && space.holdings().object_bytes - before >= bytes
        {
            return count;
        }
    }
}

fn accounting_is_honest(len: usize) {
    let space = Keyspace::new(4 * GIB, None).unwrap();
    let resident = resident_bytes();
    let objects = fill(&space, "a", len, GIB);
    let (grown, used) = (resident_bytes() - resident, space.memory.used());
    let holdings = space.holdings();
    let overhead = (used - holdings.object_bytes) / objects;
    println!(
        "{len} B: {objects} objects, used {used}, resident {grown} ({:.4}), {overhead} B beyond \
         key and value each, index {}, longest rehash {:?}",
        used as f64 / grown as f64,
        holdings.index_bytes,
        holdings.rehash_max,
    );
    assert!(used.abs_diff(grown) <= grown / 20, "used {used}, resident {grown}");
    assert!(len > 64 || overhead <= 72, "{overhead} bytes an object");
}

fn memory_follows_what_is_live(before: usize, after: usize) {
    let space = Keyspace::new(8 * GIB, None).unwrap();
    let resident = resident_bytes();
    let objects = fill(&space, "a", before, GIB);
    let per_object = space.memory.used() / objects;
    let mut random = Random(5);
    let mut left = objects;
    for n in 0..objects {
        if random.below(2) == 0 {
            let key = Key::try_from(format!("a{n:012}")).unwrap();
            space.at(&key, 0, |place| place.remove(1)).unwrap().unwrap();
            left -= 1;
        }
    }
    let refilled = fill(&space, "b", after, GIB / 2);
    let grown = resident_bytes() - resident;
    let holdings = space.holdings();
    // What the objects cost when nothing else was ever there: the overhead is that of the fill.
    let overhead = (per_object * objects - objects * (before as u64 + 13)) / objects;
    let live = holdings.object_bytes + (left + refilled) * overhead.min(72);
    println!(
        "{before} B, half deleted, then {after} B: live {live}, resident {grown} ({:.3}), holes \
         {}, longest step {:?}",
        grown as f64 / live as f64,
        holdings.hole_bytes,
        holdings.compaction_max,
    );
    assert!(grown * 10 <= live * 13, "live {live}, resident {grown}");
}

#[test]
#[ignore = "run by accounting_is_honest_at_every_size"]
fn honest_64() {
    accounting_is_honest(64);
}

#[test]
#[ignore = "run by accounting_is_honest_at_every_size"]
fn honest_4096() {
    accounting_is_honest(4096);
}

#[test]
#[ignore = "run by accounting_is_honest_at_every_size"]
fn honest_1048576() {
    accounting_is_honest(1 << 20);
}

#[test]
#[cfg_attr(miri, ignore = "measures the process")]
fn accounting_is_honest_at_every_size() {
    ["honest_64", "honest_4096", "honest_1048576"].into_iter().for_each(alone);
}

#[test]
#[ignore = "run by memory_follows_what_is_live_at_every_size"]
fn follows_64_to_4096() {
    memory_follows_what_is_live(64, 4096);
}

#[test]
#[ignore = "run by memory_follows_what_is_live_at_every_size"]
fn follows_4096_to_100() {
    memory_follows_what_is_live(4096, 100);
}

#[test]
#[ignore = "run by memory_follows_what_is_live_at_every_size"]
fn follows_1048576_to_1000() {
    memory_follows_what_is_live(1 << 20, 1000);
}

#[test]
#[cfg_attr(miri, ignore = "measures the process")]
fn memory_follows_what_is_live_at_every_size() {
    ["follows_64_to_4096", "follows_4096_to_100", "follows_1048576_to_1000"]
        .into_iter()
        .for_each(alone);
}
