//! What other policies would have hit.
//!
//! Owns the ghosts: a cache of names for each policy on trial, fed with what the running policy
//! hears. Knows nothing of values, sources or tasks.
//! Invariant: all lines of a report count the same reads.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::evict::{Clairvoyant, Entry, Evict, Hits, Place};
use super::foresight::Trace;
use super::{Cache, Source};
use crate::key::Key;

/// Reads that a report is about, unless [`Shadow::with_window`] says otherwise.
const WINDOW: usize = 1 << 20;
/// The running policy and those on trial have a bit each.
const POLICIES_MAX: usize = 63;

/// Policies on trial: each decides over a cache of names as large as the cache, on what the cache
/// is asked for. What they would have hit is in [`Cache::shadow_report`].
///
/// A read is what the running policy hears: an entry that was read, one that came in, or one that
/// was refused. So callers who shared a fetch are one read, a put is one too, and what is larger
/// than the cache, or was not there, is none. What is invalidated is invalid in all ghosts.
///
/// Each policy costs its own time under the cache's lock for each read, and about 60 bytes an entry
/// beside its own; a read of the window costs 24 bytes. The running policy hears of every hit.
#[derive(Debug)]
pub struct Shadow {
    policies: Vec<Box<dyn Evict>>,
    window: usize,
    one_in: u64,
}

impl Shadow {
    /// Tries `policies` on every read; a report is about the last 1,048,576. Only the first 63
    /// policies are tried.
    pub fn new(mut policies: Vec<Box<dyn Evict>>) -> Self {
        policies.truncate(POLICIES_MAX);
        Self { policies, window: WINDOW, one_in: 1 }
    }

    /// A report is about the last `reads` reads.
    #[must_use]
    pub fn with_window(self, reads: usize) -> Self {
        Self { window: reads.max(1), ..self }
    }

    /// Looks at one key in `keys` only, chosen by its hash, in ghosts that are as much smaller: an
    /// estimate for that part of the cost. Waldspurger, Park, Garthwaite and Ahmad, "Efficient MRC
    /// construction with SHARDS", FAST 2015; there a few thousand keys in the sample are enough.
    #[must_use]
    pub fn with_sample(self, keys: u64) -> Self {
        Self { one_in: keys.max(1), ..self }
    }
}

/// What one policy hit, or would have hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShadowLine {
    /// The policy's name, or `min`.
    pub policy: &'static str,
    /// Reads in the window, of the keys in the sample; the same in all lines.
    pub reads: u64,
    /// Those that found their entry.
    pub hits: u64,
    /// Bytes that were read, as entries count them; the same in all lines.
    pub bytes: u64,
    /// Those of the hits.
    pub hit_bytes: u64,
}

impl ShadowLine {
    /// The share of reads that found their entry; 0 when there were none.
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.hits, self.reads)
    }

    /// The share of bytes that were read from the cache; 0 when there were none.
    pub fn byte_hit_ratio(&self) -> f64 {
        ratio(self.hit_bytes, self.bytes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl<S: Source> Cache<S> {
    /// What the running policy hit in the last reads, what those on trial would have hit, and, as
    /// the last line, Belady's `min`; empty without [`CacheOptions::shadow`].
    ///
    /// With entries of equal size nothing that keeps what it fetches hits more than `min`. It
    /// starts with what is best for it when reads before the window are forgotten. With unequal
    /// sizes it evicts what is read furthest ahead, which is not always the best. It does not know
    /// of invalidations.
    ///
    /// Takes about a microsecond for each read of the window, and keeps the cache waiting while
    /// it copies them.
    ///
    /// [`CacheOptions::shadow`]: super::CacheOptions::shadow
    pub fn shadow_report(&self) -> Vec<ShadowLine> {
        let Some(watch) = &self.owner.watch else { return Vec::new() };
        // Takes the cache's lock, after which the policy has heard of every read that has ended.
        self.counters();
        let window = watch.lock().window();
        window.report()
    }
}

/// The policy to run, and what its shadow is read from.
pub(super) fn watch(
    running: Box<dyn Evict>,
    shadow: Option<Shadow>,
) -> (Box<dyn Evict>, Option<Arc<Mutex<Watch>>>) {
    let Some(Shadow { policies, window, one_in }) = shadow else { return (running, None) };
    let watch = Arc::new(Mutex::new(Watch {
        running: running.name(),
        ghosts: policies.into_iter().map(Ghost::new).collect(),
        reads: VecDeque::new(),
        window,
        one_in,
        capacity: 0,
        is_cut: false,
    }));
    let watched = Watched { running, watch: Arc::clone(&watch), entries: Vec::new(), named: None };
    (Box::new(watched), Some(watch))
}

/// Forwards to the running policy, and tells the ghosts.
#[derive(Debug)]
struct Watched {
    running: Box<dyn Evict>,
    watch: Arc<Mutex<Watch>>,
    entries: Vec<Option<Name>>,
    named: Option<Place>,
}

#[derive(Debug, Clone)]
struct Name {
    key: Key,
    hash: u64,
    bytes: u64,
}

impl Name {
    fn entry(&self) -> Entry<'_> {
        Entry { key: &self.key, key_hash: self.hash, bytes: self.bytes }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything")]
impl Evict for Watched {
    fn name(&self) -> &'static str {
        self.running.name()
    }

    fn on_capacity(&mut self, bytes: u64) {
        self.watch.lock().on_capacity(bytes);
        self.running.on_capacity(bytes);
    }

    fn hits(&self) -> Hits {
        Hits::Every
    }

    /// The cache asks once for each entry that is to come in: that read was no hit.
    fn admit(&mut self, entry: Entry<'_>) -> bool {
        self.watch.lock().read(entry, false);
        self.running.admit(entry)
    }

    fn on_insert(&mut self, place: Place, entry: Entry<'_>) {
        let Entry { key, key_hash: hash, bytes } = entry;
        let name = Name { key: key.detached(), hash, bytes };
        self.entries.resize(self.entries.len().max(place.index() + 1), None);
        self.entries[place.index()] = Some(name);
        self.running.on_insert(place, entry);
    }

    fn on_access(&mut self, place: Place) {
        if let Some(Some(name)) = self.entries.get(place.index()) {
            self.watch.lock().read(name.entry(), true);
        }
        self.running.on_access(place);
    }

    fn on_remove(&mut self, place: Place) {
        let name = self.entries.get_mut(place.index()).and_then(Option::take);
        if self.named.take() != Some(place)
            && let Some(name) = name
        {
            self.watch.lock().forget(name.hash);
        }
        self.running.on_remove(place);
    }

    fn victim(&mut self) -> Option<Place> {
        self.named = self.running.victim();
        self.named
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.running.counters()
    }
}

/// The ghosts, and who hit what in the last reads.
#[derive(Debug)]
pub(super) struct Watch {
    running: &'static str,
    ghosts: Vec<Ghost>,
    reads: VecDeque<Read>,
    window: usize,
    one_in: u64,
    /// Of each ghost.
    capacity: u64,
    /// Reads were left out at the window's start.
    is_cut: bool,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    hash: u64,
    bytes: u64,
    /// A bit for each policy that hit, the running one lowest.
    hits: u64,
}

impl Watch {
    fn on_capacity(&mut self, bytes: u64) {
        self.capacity = bytes / self.one_in;
        for ghost in &mut self.ghosts {
            ghost.on_capacity(self.capacity);
        }
    }

    fn read(&mut self, entry: Entry<'_>, is_hit: bool) {
        if !entry.key_hash.is_multiple_of(self.one_in) {
            return;
        }
        let mut hits = u64::from(is_hit);
        for (bit, ghost) in (1..).zip(&mut self.ghosts) {
            hits |= u64::from(ghost.read(entry)) << bit;
        }
        if self.reads.len() == self.window {
            self.reads.pop_front();
            self.is_cut = true;
        }
        self.reads.push_back(Read { hash: entry.key_hash, bytes: entry.bytes, hits });
    }

    fn forget(&mut self, hash: u64) {
        for ghost in &mut self.ghosts {
            ghost.forget(hash);
        }
    }

    fn window(&self) -> Window {
        let on_trial = self.ghosts.iter().map(|ghost| ghost.policy.name());
        Window {
            policies: std::iter::once(self.running).chain(on_trial).collect(),
            reads: self.reads.iter().copied().collect(),
            capacity: self.capacity,
            is_cut: self.is_cut,
        }
    }
}

/// A copy of the last reads, to be looked at without a lock.
#[derive(Debug)]
struct Window {
    policies: Vec<&'static str>,
    reads: Vec<Read>,
    capacity: u64,
    is_cut: bool,
}

impl Window {
    fn report(&self) -> Vec<ShadowLine> {
        let of_policy = |(bit, policy): (u32, &&'static str)| {
            self.line(policy, |read| read.hits >> bit & 1 == 1)
        };
        let mut lines: Vec<ShadowLine> = (0..).zip(&self.policies).map(of_policy).collect();
        let mut min = self.min();
        lines.push(self.line("min", |read| min.read(name_of(read).entry())));
        lines
    }

    fn line(&self, policy: &'static str, mut is_hit: impl FnMut(&Read) -> bool) -> ShadowLine {
        let mut line = ShadowLine { policy, reads: 0, hits: 0, bytes: 0, hit_bytes: 0 };
        for read in &self.reads {
            line.reads += 1;
            line.bytes += read.bytes;
            if is_hit(read) {
                line.hits += 1;
                line.hit_bytes += read.bytes;
            }
        }
        line
    }

    /// A clairvoyant ghost, about to read the window. Where reads were left out it holds what the
    /// window asks for first: with equal sizes no other contents serve the window better.
    fn min(&self) -> Ghost {
        let before = if self.is_cut { self.first_that_fit() } else { Vec::new() };
        let reads = before.iter().chain(&self.reads);
        let trace = Trace::new(reads.map(|read| name_of(read).key));
        let mut ghost = Ghost::new(Box::new(Clairvoyant::new(Arc::new(trace))));
        ghost.on_capacity(self.capacity);
        for read in &before {
            ghost.read(name_of(read).entry());
        }
        ghost
    }

    fn first_that_fit(&self) -> Vec<Read> {
        let (mut seen, mut first, mut bytes) = (HashSet::new(), Vec::new(), 0);
        for read in &self.reads {
            if !seen.insert(read.hash) {
                continue;
            }
            bytes += read.bytes;
            if bytes > self.capacity {
                break;
            }
            first.push(*read);
        }
        first
    }
}

/// A key that stands for the one with this hash.
fn name_of(read: &Read) -> Name {
    let bytes = Bytes::copy_from_slice(&read.hash.to_be_bytes());
    let key = Key::new(bytes).expect("eight bytes are a key");
    Name { key, hash: read.hash, bytes: read.bytes }
}

/// A cache without values, in which a policy decides.
#[derive(Debug)]
struct Ghost {
    policy: Box<dyn Evict>,
    places: HashMap<u64, Place, foldhash::fast::FixedState>,
    /// Hash and size of the entry at each place.
    entries: Vec<(u64, u64)>,
    free: Vec<Place>,
    bytes: u64,
    capacity: u64,
}

impl Ghost {
    fn new(policy: Box<dyn Evict>) -> Self {
        let places = HashMap::default();
        Self { policy, places, entries: Vec::new(), free: Vec::new(), bytes: 0, capacity: 0 }
    }

    fn on_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
        self.policy.on_capacity(bytes);
    }

    /// Whether the entry is here; if not it comes in, where the policy wants it and finds room.
    fn read(&mut self, entry: Entry<'_>) -> bool {
        if let Some(place) = self.places.get(&entry.key_hash).copied() {
            if self.entries[place.index()].1 == entry.bytes {
                self.policy.on_access(place);
                return true;
            }
            // Another size is another entry, as in the cache.
            self.remove(place);
        }
        if entry.bytes <= self.capacity && self.policy.admit(entry) {
            self.insert(entry);
        }
        false
    }

    fn insert(&mut self, entry: Entry<'_>) {
        while self.bytes + entry.bytes > self.capacity {
            // A policy that names what is not there is wrong; it costs a miss, as in the cache.
            let is_held = |place: &Place| {
                let held = self.entries.get(place.index());
                held.is_some_and(|(hash, _)| self.places.get(hash) == Some(place))
            };
            let Some(place) = self.policy.victim().filter(is_held) else { return };
            self.remove(place);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, 0));
            Place::new(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
        });
        self.entries[place.index()] = (entry.key_hash, entry.bytes);
        self.places.insert(entry.key_hash, place);
        self.bytes += entry.bytes;
        self.policy.on_insert(place, entry);
    }

    fn forget(&mut self, hash: u64) {
        if let Some(place) = self.places.get(&hash).copied() {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: Place) {
        let (hash, bytes) = self.entries[place.index()];
        self.places.remove(&hash);
        self.bytes -= bytes;
        self.free.push(place);
        self.policy.on_remove(place);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ByteSize;
    use crate::cache::evict::reference::{min_hits, numbers};
    use crate::cache::evict::suite::{compare, hash, key, steps};
    use crate::cache::evict::{Fifo, Lfu, Lru, Random, S3Fifo, Sieve};
    use crate::cache::map_source::MapSource;
    use crate::cache::{CacheOptions, Freshness};

    fn on_trial() -> Vec<Box<dyn Evict>> {
        vec![
            Box::new(Lru::new()),
            Box::new(Fifo::new()),
            Box::new(Lfu::new()),
            Box::new(Random::new(3)),
            Box::new(S3Fifo::new()),
            Box::new(Sieve::new()),
        ]
    }

    /// What an entry takes beside key and value.
    async fn overhead() -> u64 {
        let cache = cache(1, Box::new(Lru::new()), None);
        cache.source().write(&key(1), "");
        cache.get(&key(1)).await.unwrap();
        cache.counters().bytes - 1
    }

    /// A cache for pages of 1,000 bytes each, keys and overhead included.
    fn cache(pages: u64, evict: Box<dyn Evict>, shadow: Option<Shadow>) -> Cache<MapSource> {
        let options = CacheOptions {
            freshness: Freshness::Immutable,
            evict,
            shadow,
            ..CacheOptions::default()
        };
        Cache::new(MapSource::default(), ByteSize::new(1000 * pages), options)
    }

    async fn read(cache: &Cache<MapSource>, page: u32) {
        let key = key(page);
        if cache.source().current(&key).is_none() {
            let len = 1000 - overhead().await - key.as_bytes().len() as u64;
            cache.source().write(&key, vec![0; usize::try_from(len).unwrap()]);
        }
        cache.get(&key).await.unwrap();
    }

    fn skewed(seed: u64, len: u32, pages: u32) -> Vec<u32> {
        let mut number = numbers(seed);
        let page = |_| {
            let most = 1 + number(pages);
            number(most)
        };
        (0..len).map(page).collect()
    }

    #[tokio::test]
    async fn lines_are_what_real_caches_hit_and_what_min_would() {
        let reads = skewed(1, 3000, 60);
        let shadow = Shadow::new(on_trial());
        let watched = cache(20, Box::new(Sieve::new()), Some(shadow));
        for page in &reads {
            read(&watched, *page).await;
        }
        let report = watched.shadow_report();
        assert_eq!(report[0].hits, watched.counters().hits);
        assert_eq!((report[0].policy, report[0].reads), ("sieve", 3000));
        assert_eq!((report[0].bytes, report[0].hit_bytes), (3_000_000, 1000 * report[0].hits));
        for (policy, line) in on_trial().into_iter().zip(&report[1..]) {
            assert_eq!(policy.name(), line.policy);
            let alone = cache(20, policy, None);
            for page in &reads {
                read(&alone, *page).await;
            }
            assert_eq!(line.hits, alone.counters().hits, "{}", line.policy);
        }
        let min = report.last().unwrap();
        assert_eq!((min.policy, min.hits), ("min", min_hits(&reads, |_| 1, 20)));
        assert_eq!(report.len(), 8);
    }

    #[tokio::test]
    async fn without_a_shadow_there_is_no_report() {
        let cache = cache(3, Box::new(Lru::new()), None);
        read(&cache, 1).await;
        assert!(cache.shadow_report().is_empty());
        let watched = self::cache(3, Box::new(Lru::new()), Some(Shadow::new(Vec::new())));
        let report = watched.shadow_report();
        assert_eq!((report.len(), report[0].hit_ratio(), report[1].hits), (2, 0.0, 0));
    }

    #[tokio::test]
    async fn what_is_invalidated_is_a_miss_for_all() {
        let cache = cache(10, Box::new(Lru::new()), Some(Shadow::new(on_trial())));
        for _ in 0..5 {
            read(&cache, 1).await;
            cache.invalidate(&key(1));
        }
        let report = cache.shadow_report();
        assert!(report[..7].iter().all(|line| (line.reads, line.hits) == (5, 0)), "{report:?}");
    }

    proptest! {
        #[test]
        fn a_policy_decides_the_same_when_others_are_tried(steps in steps()) {
            let (mut watched, _) = watch(Box::new(Lfu::new()), Some(Shadow::new(on_trial())));
            compare(&mut *watched, &mut Lfu::new(), &steps);
        }
    }

    /// Reads pages of size 1 into a watch of its own.
    fn watched(shadow: Shadow, capacity: u64, reads: &[u32]) -> Vec<ShadowLine> {
        let (mut running, watch) = watch(Box::new(Lru::new()), Some(shadow));
        running.on_capacity(capacity);
        let watch = watch.unwrap();
        for page in reads {
            let key = key(*page);
            watch.lock().read(Entry { key: &key, key_hash: hash(*page), bytes: 1 }, false);
        }
        let window = watch.lock().window();
        window.report()
    }

    #[test]
    fn in_any_window_nothing_hits_more_than_min() {
        for seed in 0..200 {
            let reads = skewed(seed, 1000, 40);
            let window = 1 + usize::try_from(seed).unwrap() * 7;
            let report =
                watched(Shadow::new(on_trial()).with_window(window), 1 + seed % 30, &reads);
            let min = report.last().unwrap();
            assert_eq!(min.reads, window.min(1000) as u64);
            assert!(report.iter().all(|line| line.hits <= min.hits), "seed {seed}: {report:?}");
        }
    }

    #[test]
    fn a_sample_tells_about_the_same() {
        let reads = skewed(5, 400_000, 20_000);
        let all = watched(Shadow::new(on_trial()), 4000, &reads);
        let some = watched(Shadow::new(on_trial()).with_sample(8), 4000, &reads);
        assert!(some[0].reads < all[0].reads / 6 && some[0].reads > all[0].reads / 10);
        for (all, some) in all.iter().zip(&some) {
            let gap = (all.hit_ratio() - some.hit_ratio()).abs();
            assert!(gap < 0.03, "{}: {} {}", all.policy, all.hit_ratio(), some.hit_ratio());
        }
    }
}
