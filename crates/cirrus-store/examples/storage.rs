//! Figures of the durable engine on this machine's disk.
//!
//! `storage FOLDER put [SECONDS]`: durable puts per second with 1, 16 and 64 writers.
//! `storage FOLDER overwrite [SECONDS]`: 64 writers, 64 KiB values, compaction: the longest pause.
//! `storage FOLDER fill OBJECTS`: fills a store, closes it, and opens it again, also without close.

#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cirrus_store::Key;
use cirrus_store::segments::{Engine, Options};
use parking_lot::Mutex;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, mode, number) = match &arguments[..] {
        [folder, mode] => (PathBuf::from(folder), mode.as_str(), None),
        [folder, mode, number] => (PathBuf::from(folder), mode.as_str(), Some(number.parse()?)),
        _ => return Err("usage: storage FOLDER put|overwrite|fill [NUMBER]".into()),
    };
    match mode {
        "put" => [1, 16, 64].into_iter().try_for_each(|writers| {
            puts(&folder, writers, 1024, Duration::from_secs(number.unwrap_or(5)))
        }),
        "overwrite" => overwrite(&folder, Duration::from_secs(number.unwrap_or(20))),
        "fill" => fill(&folder, number.unwrap_or(1_000_000)),
        other => Err(format!("no figures for {other}").into()),
    }
}

/// Writers put `keys` keys each, over and over, one write at a time.
fn write_all(
    engine: &Engine,
    writers: u64,
    keys: u64,
    value: &Bytes,
    time: Duration,
) -> Outcome<(u64, Vec<u64>)> {
    let (next, done) = (Mutex::new(1u64), AtomicBool::new(false));
    let count = AtomicU64::new(0);
    let began = Instant::now();
    let all = std::thread::scope(|scope| {
        let writer = |writer: u64| -> Outcome<Vec<u64>> {
            let mut latencies = Vec::new();
            for turn in 0.. {
                if done.load(Ordering::Relaxed) || began.elapsed() > time {
                    break;
                }
                let key = Key::try_from(format!("key-{writer}-{}", turn % keys))?;
                let start = Instant::now();
                let durable = {
                    // Versions are submitted in their order.
                    let mut next = next.lock();
                    *next += 1;
                    engine.put(key, *next, value.clone())?
                };
                durable.wait()?;
                latencies.push(u64::try_from(start.elapsed().as_micros())?);
                count.fetch_add(1, Ordering::Relaxed);
            }
            done.store(true, Ordering::Relaxed);
            Ok(latencies)
        };
        let threads: Vec<_> = (0..writers).map(|n| scope.spawn(move || writer(n))).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a writer panicked"));
        let mut all = Vec::new();
        for latencies in joined {
            all.extend(latencies??);
        }
        Outcome::Ok(all)
    })?;
    Ok((count.load(Ordering::Relaxed), all))
}

fn puts(folder: &Path, writers: u64, bytes: usize, time: Duration) -> Outcome<()> {
    let _ = std::fs::remove_dir_all(folder);
    let engine = Engine::open_folder(folder, Options::default())?;
    let value = Bytes::from(vec![7; bytes]);
    let (count, mut latencies) = write_all(&engine, writers, 10_000, &value, time)?;
    latencies.sort_unstable();
    let stats = engine.stats()?;
    println!(
        "{writers:>3} writers, {bytes} B: {:>8.0} puts/s, {:.3} fdatasyncs per put, \
         p50 {} us, p99 {} us, longest commit {} us",
        count as f64 / time.as_secs_f64(),
        stats.syncs as f64 / stats.writes as f64,
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
        stats.commit_us_max,
    );
    engine.close()?;
    Ok(())
}

fn overwrite(folder: &Path, time: Duration) -> Outcome<()> {
    let _ = std::fs::remove_dir_all(folder);
    let mut options = Options::default();
    options.capacity = 2 << 30;
    options.segment_bytes = 32 << 20;
    let engine = Engine::open_folder(folder, options)?;
    let value = Bytes::from(vec![7; 64 << 10]);
    let (count, mut latencies) = write_all(&engine, 64, 50, &value, time)?;
    latencies.sort_unstable();
    let stats = engine.stats()?;
    println!(
        "64 writers, 64 KiB over 3,200 keys: {:.0} MB/s, {} segments compacted, {} MB moved, \
         disk {} MB for {} MB live; p50 {} us, p99 {} us, max {} us; longest pause {} us",
        count as f64 * value.len() as f64 / 1e6 / time.as_secs_f64(),
        stats.compactions,
        stats.moved_bytes / 1_000_000,
        stats.disk_bytes / 1_000_000,
        stats.live_bytes / 1_000_000,
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
        latencies[latencies.len() - 1],
        stats.pause_us_max,
    );
    engine.close()?;
    Ok(())
}

fn fill(folder: &Path, objects: u64) -> Outcome<()> {
    let _ = std::fs::remove_dir_all(folder);
    let engine = Engine::open_folder(folder, Options::default())?;
    let value = Bytes::from(vec![7; 100]);
    let began = Instant::now();
    let mut waiting = std::collections::VecDeque::new();
    for number in 1..=objects {
        let key = Key::try_from(format!("object-{number}"))?;
        waiting.push_back(engine.put(key, number, value.clone())?);
        if waiting.len() > 4096
            && let Some(durable) = waiting.pop_front()
        {
            durable.wait()?;
        }
    }
    waiting.drain(..).try_for_each(|durable| durable.wait())?;
    let stats = engine.stats()?;
    println!(
        "{objects} objects of 100 B in {:.1} s; {} rows not in the index yet; pause {} us",
        began.elapsed().as_secs_f64(),
        stats.rows_in_memory,
        stats.pause_us_max
    );
    engine.close()?;
    start(folder, "after a close")?;
    // As a kill leaves it: the files while the engine is open.
    let engine = Engine::open_folder(folder, Options::default())?;
    for number in objects + 1..=objects + 100_000 {
        waiting.push_back(engine.put(
            Key::try_from(format!("object-{number}"))?,
            number,
            value.clone(),
        )?);
    }
    waiting.drain(..).try_for_each(|durable| durable.wait())?;
    let copy = folder.with_extension("killed");
    let _ = std::fs::remove_dir_all(&copy);
    std::fs::create_dir_all(&copy)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    engine.close()?;
    start(&copy, "after a kill, 100,000 objects later")?;
    std::fs::remove_file(copy.join("index.redb"))?;
    start(&copy, "without its index")
}

fn start(folder: &Path, what: &str) -> Outcome<()> {
    let began = Instant::now();
    let engine = Engine::open_folder(folder, Options::default())?;
    let (took, stats) = (began.elapsed(), engine.stats()?);
    println!(
        "start {what}: {:.3} s, {} objects, {} MB of segments, {} MB of index",
        took.as_secs_f64(),
        stats.objects,
        (stats.disk_bytes - stats.index_bytes) / 1_000_000,
        stats.index_bytes / 1_000_000
    );
    engine.close()?;
    Ok(())
}
