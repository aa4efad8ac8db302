//! The cache against a map: random calls, several at a time, that take random time and are given up
//! at random moments, over a source that refuses some writes; every freshness, every policy, writes
//! through and later.
//!
//! The model knows of each key what a get may answer. A write that has ended leaves one answer; one
//! that was given up, or that ran beside others of its key, leaves several until a get tells.

use std::collections::BTreeSet;
use std::fmt::Debug;

use tokio::time::timeout;

use super::*;
use crate::cache::evict::{Clairvoyant, Lfu, Lru, Random, S3Fifo, Sieve};

const KEYS: u8 = 12;
const FRESHNESS: [Freshness; 3] = [
    Freshness::Immutable,
    Freshness::VersionCheck,
    Freshness::TimeToLive(Duration::from_millis(40)),
];

fn policy(number: usize) -> Box<dyn Evict> {
    let names = (0..200u16).map(|n| name(u8::try_from(n * 7 % u16::from(KEYS)).unwrap()));
    match number {
        0 => Box::new(Lru::new()),
        1 => Box::new(evict::Fifo::new()),
        2 => Box::new(Random::new(5)),
        3 => Box::new(Sieve::new()),
        4 => Box::new(S3Fifo::new()),
        5 => Box::new(Lfu::new()),
        _ => Box::new(Clairvoyant::new(Arc::new(Trace::new(names)))),
    }
}

const POLICIES: usize = 7;

fn name(n: u8) -> Key {
    key(&format!("s/{n:012}"))
}

/// What one caller does.
#[derive(Debug, Clone)]
enum Call {
    Get(u8),
    Range(u8, u64, u64),
    Many(Vec<u8>),
    Put(u8, usize),
    PutBack(u8, usize),
    Delete(u8),
    Invalidate(u8),
    InvalidateAll,
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// Calls at the same time, given up after so many milliseconds.
    Together(Vec<(Call, Option<u64>)>),
    Refuse(u8, bool),
    /// Somebody else writes, or erases; only where versions are checked.
    WriteBehind(u8, Option<usize>),
    Flush,
    /// The cache is dropped, and another takes its place.
    Replace,
    Look(u8),
    Sleep(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (name, len) = (0..KEYS, 0usize..700);
    let call = prop_oneof![
        5 => name.clone().prop_map(Call::Get),
        1 => (name.clone(), 0u64..800, 0u64..800).prop_map(|(n, at, len)| Call::Range(n, at, len)),
        1 => proptest::collection::vec(name.clone(), 1..8).prop_map(Call::Many),
        2 => (name.clone(), len.clone()).prop_map(|(n, len)| Call::Put(n, len)),
        3 => (name.clone(), len.clone()).prop_map(|(n, len)| Call::PutBack(n, len)),
        1 => name.clone().prop_map(Call::Delete),
        1 => name.clone().prop_map(Call::Invalidate),
        1 => Just(Call::InvalidateAll),
    ];
    let limit = prop_oneof![2 => Just(None), 1 => (0u64..14).prop_map(Some)];
    let step = prop_oneof![
        20 => proptest::collection::vec((call, limit), 1..6).prop_map(Step::Together),
        1 => (name.clone(), any::<bool>()).prop_map(|(n, is_refused)| Step::Refuse(n, is_refused)),
        3 => (name, proptest::option::of(len)).prop_map(|(n, len)| Step::WriteBehind(n, len)),
        4 => (0..KEYS).prop_map(Step::Look),
        1 => Just(Step::Flush),
        1 => Just(Step::Replace),
        2 => (0u64..30).prop_map(Step::Sleep),
    ];
    proptest::collection::vec(step, 0..60)
}

type Value = Option<Bytes>;

/// What a get of each key may answer.
#[derive(Debug, Default)]
struct Model {
    possible: HashMap<u8, BTreeSet<Value>>,
}

impl Model {
    fn of(&self, n: u8) -> BTreeSet<Value> {
        self.possible.get(&n).cloned().unwrap_or_else(|| BTreeSet::from([None]))
    }

    fn is(&mut self, n: u8, value: Value) {
        self.possible.insert(n, BTreeSet::from([value]));
    }

    fn may_be(&mut self, n: u8, value: Value) {
        let mut possible = self.of(n);
        possible.insert(value);
        self.possible.insert(n, possible);
    }

    fn check(&self, n: u8, answer: &Result<Object>, cut: impl Fn(&Bytes) -> Bytes) {
        let possible = self.of(n);
        let got = match answer {
            Ok(object) => Some(object.value.clone()),
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => panic!("a get of {n} fails: {error}"),
        };
        let is_possible = possible.iter().any(|value| value.as_ref().map(&cut) == got);
        assert!(is_possible, "{n}: got {}, not one of {}", shown(&got), list(&possible));
    }
}

fn shown(value: &Value) -> String {
    value
        .as_ref()
        .map_or("nothing".into(), |value| format!("{} x {:?}", value.len(), value.first()))
}

fn list(possible: &BTreeSet<Value>) -> String {
    possible.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// The outcome of a write: carried out, not carried out, or given up.
fn outcome<T: Debug, E>(ended: std::result::Result<Result<T>, E>) -> Option<bool> {
    match ended {
        Ok(Ok(_)) => Some(true),
        Ok(Err(error)) => {
            // Keys that are refused are the only cause.
            assert_eq!(error.kind(), Kind::OutOfMemory, "{error}");
            Some(false)
        }
        Err(_) => None,
    }
}

struct World {
    source: Arc<MapSource>,
    cache: Cache<Arc<MapSource>>,
    model: Model,
    freshness: Freshness,
    policy: usize,
    serial: u8,
}

const CAPACITY: ByteSize = ByteSize::new(12_000);

impl World {
    fn new(freshness: Freshness, policy: usize, seed: u64) -> Self {
        let state = parking_lot::Mutex::new(crate::cache::evict::reference::numbers(seed));
        let latency = move |_: &Key| Duration::from_millis(u64::from((*state.lock())(10)));
        let source = Arc::new(MapSource::with_latency(latency));
        let cache = Self::cache(&source, freshness, policy);
        Self { source, cache, model: Model::default(), freshness, policy, serial: 0 }
    }

    fn cache(
        source: &Arc<MapSource>,
        freshness: Freshness,
        number: usize,
    ) -> Cache<Arc<MapSource>> {
        let sequential = Sequential::new(SetName::new("s").unwrap(), KEYS.into());
        let options = CacheOptions {
            freshness,
            evict: policy(number),
            prefetch: Some(Box::new(sequential.with_objects_ahead(2))),
            prefetch_size: ByteSize::new(2500),
            dirty_size: ByteSize::new(4000),
            fetches_max: 3,
            ..CacheOptions::default()
        };
        Cache::new(Arc::clone(source), CAPACITY, options)
    }

    fn value(&mut self, len: usize) -> Bytes {
        self.serial = self.serial.wrapping_add(1);
        vec![self.serial; len].into()
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Together(calls) => self.together(calls).await,
            Step::Refuse(n, is_refused) => self.source.refuse(&name(n), is_refused),
            Step::WriteBehind(n, len) => self.write_behind(n, len),
            Step::Flush => self.flush().await,
            Step::Replace => self.replace().await,
            Step::Look(n) => self.look(n).await,
            Step::Sleep(ms) => sleep(Duration::from_millis(ms)).await,
        }
        let Counters { bytes, bytes_dirty, bytes_prefetched, .. } = self.cache.counters();
        assert!(bytes + bytes_dirty <= CAPACITY.bytes() && bytes_dirty <= 4000);
        assert!(bytes_prefetched <= 2500);
    }

    /// Calls at the same time, also of the same key: a read sees what was before, or any write.
    async fn together(&mut self, calls: Vec<(Call, Option<u64>)>) {
        let mut running = Vec::new();
        let mut seen = Model { possible: self.model.possible.clone() };
        for (call, limit) in calls {
            let written = match &call {
                Call::Put(n, len) | Call::PutBack(n, len) => Some((*n, Some(self.value(*len)))),
                Call::Delete(n) => Some((*n, None)),
                _ => None,
            };
            if let Some((n, value)) = &written {
                seen.may_be(*n, value.clone());
            }
            running.push((call, written, limit));
        }
        let cache = &self.cache;
        let ended = running.iter().map(|(call, written, limit)| {
            let limit = Duration::from_millis(limit.unwrap_or(1 << 20));
            let value = written.iter().find_map(|(_, value)| value.clone()).unwrap_or_default();
            perform(cache, &seen, call, value, limit)
        });
        let mut writes: HashMap<u8, Vec<(Value, Option<bool>)>> = HashMap::new();
        for ((_, written, _), outcome) in running.iter().zip(join_all(ended).await) {
            if let Some((n, value)) = written {
                writes.entry(*n).or_default().push((value.clone(), outcome));
            }
        }
        for (n, writes) in writes {
            let was_carried_out = writes.iter().any(|(_, outcome)| *outcome == Some(true));
            let before = if was_carried_out { BTreeSet::new() } else { self.model.of(n) };
            let not_refused = writes.into_iter().filter(|(_, outcome)| *outcome != Some(false));
            let possible = before.into_iter().chain(not_refused.map(|(value, _)| value)).collect();
            self.model.possible.insert(n, possible);
        }
    }

    /// A get that nothing runs beside: from then on the value is what it saw.
    async fn look(&mut self, n: u8) {
        let answer = self.cache.get(&name(n)).await;
        self.model.check(n, &answer, Bytes::clone);
        self.model.is(n, answer.ok().map(|object| object.value));
    }

    /// A write that the cache hears nothing of. Of a key with an accepted value it would be lost.
    fn write_behind(&mut self, n: u8, len: Option<usize>) {
        let is_settled = !self.cache.owner.shared.dirty.contains(&name(n));
        if self.freshness != Freshness::VersionCheck || !is_settled {
            return;
        }
        let value = len.map(|len| self.value(len));
        match &value {
            Some(value) => _ = self.source.write(&name(n), value.clone()),
            None => self.source.erase(&name(n)),
        }
        self.model.is(n, value);
    }

    async fn flush(&mut self) {
        if let Err(error) = self.cache.flush().await {
            self.forget(error.unwritten);
        }
        self.source_has_what_was_accepted();
    }

    async fn replace(&mut self) {
        self.cache = Self::cache(&self.source, self.freshness, self.policy);
        let unwritten = self.source.unwritten().await;
        self.forget(unwritten);
        self.source_has_what_was_accepted();
    }

    /// What is handed back was accepted, and refused.
    fn forget(&mut self, unwritten: Vec<crate::client::Unwritten>) {
        for unwritten in unwritten {
            let n = (0..KEYS).find(|n| name(*n) == unwritten.key).unwrap();
            assert_eq!(unwritten.error.kind(), Kind::OutOfMemory);
            assert!(self.model.of(n).contains(&Some(unwritten.value)), "{n}");
            let current = self.source.current(&unwritten.key).map(|object| object.value);
            self.model.is(n, current);
        }
    }

    fn source_has_what_was_accepted(&self) {
        for n in 0..KEYS {
            let (current, possible) = (self.source.current(&name(n)), self.model.of(n));
            let current = current.map(|object| object.value);
            let (shown, list) = (shown(&current), list(&possible));
            assert!(possible.contains(&current), "{n}: the source has {shown}, not one of {list}");
        }
        assert_eq!(self.cache.counters().bytes_dirty, 0);
    }
}

/// Whether a write was carried out; `None` if it was given up, or was none.
async fn perform(
    cache: &Cache<Arc<MapSource>>,
    model: &Model,
    call: &Call,
    value: Bytes,
    limit: Duration,
) -> Option<bool> {
    let whole = |value: &Bytes| value.clone();
    match call {
        Call::Get(n) => {
            if let Ok(answer) = timeout(limit, cache.get(&name(*n))).await {
                model.check(*n, &answer, whole);
            }
        }
        Call::Range(n, at, len) => {
            if let Ok(answer) = timeout(limit, cache.get_range(&name(*n), *at, *len)).await {
                let end = |value: &Bytes| value.len().min(usize::try_from(at + len).unwrap());
                let from = |value: &Bytes| value.len().min(usize::try_from(*at).unwrap());
                model.check(*n, &answer, |value| value.slice(from(value)..end(value)));
            }
        }
        Call::Many(many) => {
            let keys: Vec<Key> = many.iter().map(|n| name(*n)).collect();
            if let Ok(answers) = timeout(limit, cache.get_many(&keys)).await {
                assert_eq!(answers.len(), keys.len());
                many.iter().zip(&answers).for_each(|(n, answer)| model.check(*n, answer, whole));
            }
        }
        Call::Put(n, _) => {
            return outcome(timeout(limit, cache.put(&name(*n), value)).await);
        }
        Call::PutBack(n, _) => {
            return outcome(timeout(limit, cache.put_back(&name(*n), value)).await);
        }
        Call::Delete(n) => return outcome(timeout(limit, cache.delete(&name(*n))).await),
        Call::Invalidate(n) => cache.invalidate(&name(*n)),
        Call::InvalidateAll => cache.invalidate_prefix(b""),
    }
    None
}

async fn run(steps: Vec<Step>, freshness: Freshness, policy: usize, seed: u64) {
    let mut world = World::new(freshness, policy, seed);
    for step in steps {
        world.step(step).await;
    }
    (0..KEYS).for_each(|n| world.source.refuse(&name(n), false));
    world.flush().await;
    for n in 0..KEYS {
        let answer = world.cache.get(&name(n)).await;
        world.model.check(n, &answer, Bytes::clone);
    }
    world.cache.close().await;
    check_books(&world.cache);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_the_cache_is_a_map(
        steps in steps(),
        freshness in 0..FRESHNESS.len(),
        policy in 0..POLICIES,
        seed: u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps, FRESHNESS[freshness], policy, seed));
    }
}
