//! The records of a set, one after the other, fetched ahead of the reader.
//!
//! Owns the window between the next position to hand out and the last one planned. Knows the set's
//! layout and an order; whether a cache or a client answers is not its business.
//! Invariant: records come in the order's positions, each once, whatever the gets' order.
//!
//! A record costs a get only where its object is not in the window yet; its bytes are those that
//! arrived, not copied. A get is one task, so that gets move on while the reader is busy.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};

use super::order::Order;
use crate::ByteSize;
use crate::cache::Source;
use crate::error::{Error, Kind, Result};
use crate::object::Object;
use crate::set::{Location, Manifest, Packed, Set, SetName, unpack};

/// Positions that are planned ahead of the reader at most, however small the records are.
const WINDOW_POSITIONS_MAX: usize = 65_536;

/// Reads a set's manifest.
pub async fn open_set<S: Source>(source: &S, name: SetName) -> Result<Set> {
    let object = source.get(&name.manifest_key()).await.map_err(|error| {
        wrapped(error, |cause| format!("the manifest of set `{name}` cannot be read ({cause:?})"))
    })?;
    Ok(Set::new(name, Manifest::from_bytes(&object.value)?))
}

/// How far [`Records`] reads ahead; start from the default.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RecordsOptions {
    /// Gets in flight at most, at least 1. Default: 64.
    pub gets_max: usize,
    /// Bytes of objects that are fetched or being fetched, and not handed out, at most; one object
    /// is fetched even if it is larger. What is being fetched counts as the largest object so far,
    /// so a larger one may exceed this once by the difference. Default: 64 MiB.
    pub ahead_size: ByteSize,
    /// The size of an object before the first one came; until then one get is in flight if this is
    /// 0. Default: 0.
    pub object_size_expected: ByteSize,
}

impl Default for RecordsOptions {
    fn default() -> Self {
        Self { gets_max: 64, ahead_size: ByteSize::mib(64), object_size_expected: ByteSize::new(0) }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The position in the order.
    pub position: u64,
    /// The record's index in the set.
    pub index: u64,
    /// The record itself. Of a packed object it is a part, and keeps all of the object alive.
    pub bytes: Bytes,
}

/// Reads records in an order, ahead of its reader.
///
/// Dropping it stops its gets. To go on later, keep [`Records::state`] and start from there.
#[derive(Debug)]
pub struct Records<S> {
    source: Arc<S>,
    set: Set,
    order: Arc<dyn Order>,
    options: RecordsOptions,
    /// Positions to hand out, the next one first; the object of each is in `objects`.
    window: VecDeque<Planned>,
    /// The first position that is not planned.
    frontier: u64,
    end: u64,
    objects: HashMap<u64, Wanted, foldhash::fast::RandomState>,
    gets: JoinSet<(u64, Result<Object>)>,
    held_bytes: u64,
    /// What a get that is in flight will bring at most, as far as is known.
    object_bytes_max: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    position: u64,
    record: u64,
    location: Location,
}

/// An object of the window.
#[derive(Debug)]
struct Wanted {
    /// Positions of the window that need it.
    users: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// To be fetched when its turn comes: it failed before.
    Absent,
    Fetching,
    Here {
        content: Content,
        bytes: u64,
    },
    Failed(Error),
}

#[derive(Debug)]
enum Content {
    One(Bytes),
    Many(Packed),
}

impl<S: Source> Records<S> {
    /// The records of `set` at `positions` of `order`, cut off where the order ends.
    ///
    /// Nothing is fetched before the first [`Records::next`].
    pub fn new(
        source: Arc<S>,
        set: Set,
        order: Arc<dyn Order>,
        positions: Range<u64>,
        options: RecordsOptions,
    ) -> Self {
        let expected = options.object_size_expected.bytes();
        Self {
            end: positions.end.min(order.len()),
            source,
            set,
            order,
            options,
            window: VecDeque::new(),
            frontier: positions.start,
            objects: HashMap::default(),
            gets: JoinSet::new(),
            held_bytes: 0,
            object_bytes_max: (expected > 0).then_some(expected),
        }
    }

    /// The next record, or `None` after the last. Needs a tokio runtime.
    ///
    /// An error names the record and its object, and the position stays: the next call tries
    /// again. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Record>> {
        loop {
            while let Some(landed) = self.gets.try_join_next() {
                self.land(landed);
            }
            if let Err(error) = self.look_ahead() {
                return Some(Err(error));
            }
            let planned = *self.window.front()?;
            if let Some(answer) = self.take(planned) {
                return Some(answer);
            }
            match self.gets.join_next().await {
                Some(landed) => self.land(landed),
                // Its get was dropped without an answer.
                None => return Some(Err(self.failure(planned, Stage::Absent))),
            }
        }
    }

    /// The position of the next record: where to start to go on from here.
    pub fn state(&self) -> u64 {
        self.window.front().map_or(self.frontier, |planned| planned.position)
    }

    /// Hands out the record that was planned first, if its object is here.
    fn take(&mut self, planned: Planned) -> Option<Result<Record>> {
        let Planned { position, record, location } = planned;
        let wanted = self.objects.get_mut(&location.object)?;
        let bytes = match &wanted.stage {
            Stage::Fetching => return None,
            Stage::Absent => {
                wanted.stage = Stage::Fetching;
                self.fetch(location.object);
                return None;
            }
            Stage::Here { content, .. } => content.record(location.slot),
            Stage::Failed(_) => None,
        };
        let Some(bytes) = bytes else {
            let stage = std::mem::replace(&mut wanted.stage, Stage::Absent);
            return Some(Err(self.failure(planned, stage)));
        };
        wanted.users -= 1;
        if wanted.users == 0 {
            self.let_go(location.object);
        }
        self.window.pop_front();
        // What this made room for is on its way while the reader is busy; an error waits for it.
        drop(self.look_ahead());
        Some(Ok(Record { position, index: record, bytes }))
    }

    /// Plans and fetches as far as the budget goes.
    fn look_ahead(&mut self) -> Result<()> {
        while self.frontier < self.end && self.window.len() < WINDOW_POSITIONS_MAX {
            let position = self.frontier;
            let planned = match self.plan(position) {
                Ok(planned) => planned,
                // What comes before a wrong position is handed out first.
                Err(_) if !self.window.is_empty() => return Ok(()),
                Err(error) => return Err(error),
            };
            let object = planned.location.object;
            if let Some(wanted) = self.objects.get_mut(&object) {
                wanted.users += 1;
            } else if self.has_room() {
                self.objects.insert(object, Wanted { users: 1, stage: Stage::Fetching });
                self.fetch(object);
            } else {
                break;
            }
            self.window.push_back(planned);
            self.frontier += 1;
        }
        Ok(())
    }

    fn plan(&self, position: u64) -> Result<Planned> {
        let record = self.order.record(position);
        let location = record.and_then(|record| self.set.manifest().locate(record));
        match (record, location) {
            (Some(record), Some(location)) => Ok(Planned { position, record, location }),
            (record, _) => Err(Error::new(
                Kind::Invalid,
                format!(
                    "the order has record {record:?} at position {position}; set `{}` has {} records",
                    self.set.name(),
                    self.set.manifest().count()
                ),
            )),
        }
    }

    /// Whether one more object may be fetched. The first one always may.
    fn has_room(&self) -> bool {
        if self.objects.is_empty() {
            return true;
        }
        let Some(expected) = self.object_bytes_max else { return false };
        let in_flight = self.gets.len();
        let reserved = expected.saturating_mul(in_flight as u64 + 1);
        in_flight < self.options.gets_max
            && self.held_bytes.saturating_add(reserved) <= self.options.ahead_size.bytes()
    }

    fn fetch(&mut self, object: u64) {
        let source = Arc::clone(&self.source);
        let key = self.set.name().object_key(object);
        self.gets.spawn(async move { (object, source.get(&key).await) });
    }

    fn land(&mut self, landed: std::result::Result<(u64, Result<Object>), JoinError>) {
        let (object, answer) = match landed {
            Ok(landed) => landed,
            // A get that panicked does so in its caller; else the runtime is shutting down.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        let Some(wanted) = self.objects.get_mut(&object) else { return };
        wanted.stage =
            match answer.and_then(|object| Content::new(object.value, self.set.manifest())) {
                Ok((content, bytes)) => {
                    self.held_bytes += bytes;
                    self.object_bytes_max = self.object_bytes_max.max(Some(bytes));
                    Stage::Here { content, bytes }
                }
                Err(error) => Stage::Failed(error),
            };
    }

    fn let_go(&mut self, object: u64) {
        if let Some(Wanted { stage: Stage::Here { bytes, .. }, .. }) = self.objects.remove(&object)
        {
            self.held_bytes -= bytes;
        }
    }

    /// Why the record of `planned` cannot be had from an object that got as far as `stage`.
    fn failure(&mut self, planned: Planned, stage: Stage) -> Error {
        let Planned { position, record, location } = planned;
        let key = self.set.name().object_key(location.object);
        let at =
            format!("record {record} at position {position} (slot {} of {key:?})", location.slot);
        match stage {
            Stage::Failed(error) => wrapped(error, |_| format!("{at} cannot be read")),
            Stage::Here { bytes, .. } => {
                self.held_bytes -= bytes;
                Error::new(Kind::Corrupt, format!("{at} is not in its object of {bytes} bytes"))
            }
            Stage::Absent | Stage::Fetching => {
                Error::new(Kind::Closed, format!("{at} was being read when the runtime ended"))
            }
        }
    }
}

impl Content {
    /// The records in an object's value, and how many bytes they take.
    fn new(value: Bytes, manifest: &Manifest) -> Result<(Self, u64)> {
        let bytes = value.len() as u64;
        let content = match manifest.packing() {
            1 => Self::One(value),
            _ => Self::Many(unpack(value)?),
        };
        Ok((content, bytes))
    }

    fn record(&self, slot: u32) -> Option<Bytes> {
        match self {
            Self::One(value) => (slot == 0).then(|| value.clone()),
            Self::Many(packed) => packed.record(slot as usize),
        }
    }
}

/// `error` with what was wanted, under the same kind.
fn wrapped(error: Error, context: impl FnOnce(Kind) -> String) -> Error {
    Error::new(error.kind(), context(error.kind())).with_detail(error.detail()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::map_source::MapSource;
    use crate::cache::{Cache, CacheOptions, Freshness};
    use crate::iter::{EpochSeed, Sequential, Shuffled};
    use crate::key::{Key, Version};
    use crate::set::pack;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    /// Record `index`, of 1 to 200 bytes.
    fn bytes_of(index: u64) -> Vec<u8> {
        let len = usize::try_from(index * 7919 % 200).unwrap();
        let mut bytes = vec![b'x'; len];
        bytes.extend(index.to_le_bytes());
        bytes
    }

    /// Writes the set `s` of `count` records.
    fn filled(source: MapSource, count: u64, packing: u32) -> (Arc<MapSource>, Set) {
        let manifest = Manifest::empty().with_count(count).with_packing(packing).unwrap();
        let name = SetName::new("s").unwrap();
        source.write(&name.manifest_key(), manifest.to_bytes());
        for object in 0..manifest.objects() {
            let first = object * u64::from(packing);
            let last = count.min(first + u64::from(packing));
            let records: Vec<Vec<u8>> = (first..last).map(bytes_of).collect();
            let value =
                if packing == 1 { records[0].clone().into() } else { pack(&records).unwrap() };
            source.write(&name.object_key(object), value);
        }
        (Arc::new(source), Set::new(name, manifest))
    }

    fn random_ms(key: &Key) -> Duration {
        let mixed =
            key.as_bytes().iter().fold(7u64, |n, b| (n ^ u64::from(*b)).wrapping_mul(0x9E37));
        Duration::from_micros(mixed % 20_000)
    }

    async fn read_all<S: Source>(records: &mut Records<S>) -> Vec<(u64, u64)> {
        let mut read = Vec::new();
        while let Some(record) = records.next().await {
            let Record { position, index, bytes } = record.unwrap();
            assert_eq!(bytes, bytes_of(index));
            read.push((position, index));
            assert_eq!(records.state(), position + 1);
        }
        assert!(records.next().await.is_none());
        assert_eq!((records.held_bytes, records.objects.len()), (0, 0));
        read
    }

    fn shuffled(count: u64) -> Arc<dyn Order> {
        Arc::new(Shuffled::new(EpochSeed { seed: 3, epoch: 1 }, count))
    }

    #[tokio::test(start_paused = true)]
    async fn the_order_holds_whatever_the_delays() {
        for packing in [1, 7] {
            let (source, set) = filled(MapSource::with_latency(random_ms), 500, packing);
            let orders = [shuffled(500), Arc::new(Sequential::new(500))];
            for order in orders {
                let options = RecordsOptions::default();
                let positions = 0..u64::MAX;
                let mut records =
                    Records::new(source.clone(), set.clone(), order.clone(), positions, options);
                let expected: Vec<(u64, u64)> =
                    (0..500).map(|at| (at, order.record(at).unwrap())).collect();
                assert_eq!(read_all(&mut records).await, expected);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn k_gets_in_flight_hide_the_latency_k_times() {
        let one_ms: fn(&Key) -> Duration = |_| Duration::from_millis(1);
        let (source, set) = filled(MapSource::with_latency(one_ms), 6400, 1);
        let options = RecordsOptions::default();
        let mut records = Records::new(source.clone(), set, shuffled(6400), 0..6400, options);
        let began = Instant::now();
        assert_eq!(read_all(&mut records).await.len(), 6400);
        let millis = began.elapsed().as_millis();
        // 100 rounds of 64, and one for the first get, which shows how large objects are.
        assert!((100..=104).contains(&millis), "{millis} ms");
        assert_eq!(source.in_flight_max(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn gets_move_on_while_the_reader_is_busy() {
        let ten_ms: fn(&Key) -> Duration = |_| Duration::from_millis(10);
        let (source, set) = filled(MapSource::with_latency(ten_ms), 100, 1);
        let options = RecordsOptions { gets_max: 4, ..RecordsOptions::default() };
        let order = Arc::new(Sequential::new(100));
        let mut records = Records::new(source, set, order, 0..100, options);
        let began = Instant::now();
        while let Some(record) = records.next().await {
            record.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
        let millis = began.elapsed().as_millis();
        assert!((1000..=1040).contains(&millis), "{millis} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_fetched_once_for_all_of_its_records_in_the_window() {
        let (source, set) = filled(MapSource::with_latency(random_ms), 1000, 100);
        let order = shuffled(1000);
        let mut records =
            Records::new(source.clone(), set, order, 0..1000, RecordsOptions::default());
        read_all(&mut records).await;
        assert_eq!(source.gets(), 10);
    }

    /// Counts the bytes that were sent and not yet read.
    #[derive(Debug)]
    struct Meter {
        source: Arc<MapSource>,
        sent: AtomicU64,
    }

    impl Source for Meter {
        async fn get(&self, key: &Key) -> Result<Object> {
            // Counted as soon as it is asked for: what is in flight is ahead too.
            let bytes = self.source.current(key).map_or(0, |object| object.value.len() as u64);
            self.sent.fetch_add(bytes, SeqCst);
            self.source.get(key).await
        }

        async fn get_if_newer(&self, key: &Key, version: Version) -> Result<Option<Object>> {
            self.source.get_if_newer(key, version).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ahead_stays_in_the_budget() {
        let (source, set) = filled(MapSource::with_latency(random_ms), 800, 1);
        let meter = Arc::new(Meter { source, sent: AtomicU64::new(0) });
        let options = RecordsOptions {
            ahead_size: ByteSize::new(2500),
            object_size_expected: ByteSize::new(208),
            ..RecordsOptions::default()
        };
        let mut records = Records::new(meter.clone(), set, shuffled(800), 0..800, options);
        let (mut read, mut ahead_max) = (0, 0);
        while let Some(record) = records.next().await {
            read += record.unwrap().bytes.len() as u64;
            sleep(Duration::from_micros(read % 900)).await;
            ahead_max = ahead_max.max(meter.sent.load(SeqCst) - read);
        }
        assert!((1800..=2500).contains(&ahead_max), "{ahead_max}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_object_larger_than_the_budget_is_read_all_the_same() {
        let (source, set) = filled(MapSource::with_latency(random_ms), 50, 10);
        let options = RecordsOptions { ahead_size: ByteSize::new(1), ..RecordsOptions::default() };
        let order = Arc::new(Sequential::new(50));
        let mut records = Records::new(source.clone(), set, order, 0..50, options);
        assert_eq!(read_all(&mut records).await.len(), 50);
        assert_eq!((source.gets(), source.in_flight_max()), (5, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_names_the_object_and_the_next_call_tries_again() {
        let (source, set) = filled(MapSource::with_latency(random_ms), 20, 4);
        let key = set.name().object_key(1);
        let value = source.current(&key).unwrap().value;
        source.erase(&key);
        let order = Arc::new(Sequential::new(20));
        let mut records =
            Records::new(source.clone(), set, order, 0..20, RecordsOptions::default());
        for _ in 0..4 {
            records.next().await.unwrap().unwrap();
        }
        for _ in 0..2 {
            let error = records.next().await.unwrap().unwrap_err();
            assert_eq!(error.kind(), Kind::NotFound);
            assert!(error.to_string().contains("s/000000000001"), "{error}");
            assert_eq!(records.state(), 4);
        }
        for (garbage, text) in [(vec![1, 2, 3], "header"), (pack(&["a"]).unwrap().into(), "slot 1")]
        {
            source.write(&key, garbage);
            let mut error = records.next().await.unwrap();
            if error.is_ok() {
                error = records.next().await.unwrap();
            }
            let error = error.unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.to_string().contains(text), "{error}");
        }
        source.write(&key, value);
        let last = records.next().await.unwrap().unwrap();
        assert_eq!((last.position, last.bytes), (5, bytes_of(5).into()));
        assert_eq!(read_all(&mut records).await.len(), 14);
    }

    #[derive(Debug)]
    struct Backwards(u64);

    impl Order for Backwards {
        fn len(&self) -> u64 {
            self.0
        }

        fn record(&self, position: u64) -> Option<u64> {
            self.0.checked_sub(1)?.checked_sub(position)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn orders_are_user_code_and_may_be_wrong() {
        let (source, set) = filled(MapSource::default(), 10, 3);
        let options = RecordsOptions::default();
        let order = Arc::new(Backwards(10));
        let mut records = Records::new(source.clone(), set.clone(), order, 2..5, options);
        assert_eq!(read_all(&mut records).await, [(2, 7), (3, 6), (4, 5)]);

        let beyond = Arc::new(Sequential::new(12));
        let mut records = Records::new(source, set, beyond, 8..12, options);
        assert!(records.next().await.unwrap().is_ok());
        assert!(records.next().await.unwrap().is_ok());
        let error = records.next().await.unwrap().unwrap_err();
        assert_eq!((error.kind(), records.state()), (Kind::Invalid, 10));
    }

    #[tokio::test]
    async fn a_set_is_opened_by_its_manifest() {
        let (source, set) = filled(MapSource::default(), 10, 3);
        let opened = open_set(&*source, set.name().clone()).await.unwrap();
        assert_eq!(opened.manifest(), set.manifest());
        let absent = open_set(&*source, SetName::new("t").unwrap()).await.unwrap_err();
        assert_eq!(absent.kind(), Kind::NotFound);
        assert!(absent.to_string().contains("`t`"), "{absent}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn stopping_and_going_on_reads_each_position_once(
            count in 0u64..60, packing in 1u32..9, stop in 0usize..70, ahead in 0u64..2000,
            gets_max in 0usize..9, cached: bool,
        ) {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                tokio::time::pause();
                let (source, set) = filled(MapSource::with_latency(random_ms), count, packing);
                let freshness = if cached { Freshness::Immutable } else { Freshness::VersionCheck };
                let options = CacheOptions { freshness, ..CacheOptions::default() };
                let cache = Arc::new(Cache::new(source, ByteSize::kib(4), options));
                let options = RecordsOptions {
                    gets_max,
                    ahead_size: ByteSize::new(ahead),
                    ..RecordsOptions::default()
                };
                let reader = |from| {
                    Records::new(cache.clone(), set.clone(), shuffled(count), from..count, options)
                };
                let mut first = reader(0);
                let mut read = Vec::new();
                for _ in 0..stop {
                    // A caller that gives up halfway loses nothing.
                    let limit = Duration::from_millis(5);
                    match tokio::time::timeout(limit, first.next()).await {
                        Ok(Some(record)) => read.push(record.unwrap().position),
                        Ok(None) => break,
                        Err(_) => {}
                    }
                }
                let mut second = reader(first.state());
                drop(first);
                read.extend(read_all(&mut second).await.into_iter().map(|(position, _)| position));
                assert_eq!(read, (0..count).collect::<Vec<_>>());
            });
        }
    }
}
