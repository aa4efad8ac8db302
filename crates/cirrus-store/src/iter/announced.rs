//! What a reader will read, said before it does.
//!
//! Owns the translation of an order into gets of objects. Knows nothing of caches.
//! Invariant: the times of an announcement are the gets of its reader in their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;

use super::order::Order;
use super::share::Share;
use crate::cache::{Foresight, Trace};
use crate::key::Key;
use crate::set::Set;

/// Steps that are looked up at a time where a list is made.
const RUN_MAX: u64 = 4096;

/// The gets that a reader of a share of an order makes, for
/// [`Clairvoyant`](crate::cache::evict::Clairvoyant) and
/// [`Ordered`](crate::cache::prefetch::Ordered).
///
/// With one record to an object, and an order that can be asked where a record comes
/// ([`Order::lookup`]), it takes no memory. Otherwise it is a list: 24 bytes a get and about 100 for
/// each object, where records of an object that are no further apart than [`Order::span`] are one
/// get.
#[derive(Debug)]
pub struct Announced {
    set: Set,
    order: Arc<dyn Order>,
    share: Share,
    /// The list, and at which step of the share each get is.
    list: Option<(Trace, Vec<u64>)>,
    /// Steps that the reader has made.
    steps: AtomicU64,
}

impl Announced {
    /// What the reader of `share` reads of `set` in `order`, from the first position to the last.
    pub fn new(set: Set, order: Arc<dyn Order>, share: Share) -> Arc<Self> {
        let is_direct = set.manifest().packing() == 1 && order.lookup().is_some();
        let list = (!is_direct).then(|| list(&set, &*order, share));
        Arc::new(Self { set, order, share, list, steps: AtomicU64::new(0) })
    }

    /// The reader has made so many steps.
    pub(super) fn pass(&self, steps: u64) {
        self.steps.fetch_max(steps, Relaxed);
    }
}

/// The gets of objects, and the step of each.
fn list(set: &Set, order: &dyn Order, share: Share) -> (Trace, Vec<u64>) {
    let (mut keys, mut steps, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut last_at: HashMap<u64, u64, foldhash::fast::RandomState> = HashMap::default();
    let span = order.span();
    let mut step = 0;
    loop {
        let run = share.run(step, order.len());
        let end = run.end.min(run.start.saturating_add(RUN_MAX));
        records.clear();
        order.run(run.start..end, &mut records);
        if records.is_empty() {
            return (Trace::new(keys), steps);
        }
        for (position, record) in (run.start..).zip(&records) {
            if let Some(location) = set.manifest().locate(*record) {
                let last = last_at.insert(location.object, position);
                if last.is_none_or(|last| position - last > span) {
                    keys.push(set.name().object_key(location.object));
                    steps.push(step);
                }
            }
            step += 1;
        }
    }
}

impl Foresight for Announced {
    fn object_of(&self, key: &Key) -> Option<u64> {
        match &self.list {
            Some((trace, _)) => trace.object_of(key),
            None => {
                let index = self.set.name().index_of(key)?;
                (index < self.set.manifest().objects()).then_some(index)
            }
        }
    }

    fn next_use(&self, object: u64, time: u64) -> Option<u64> {
        if let Some((trace, _)) = &self.list {
            return trace.next_use(object, time);
        }
        let (lookup, len) = (self.order.lookup()?, self.order.len());
        let mut from = self.share.run(time, len).start;
        loop {
            let position = lookup.position_of(object, from)?;
            if let Some(step) = self.share.step_of(position, len) {
                return Some(step);
            }
            // It is another reader's this time.
            from = position + 1;
        }
    }

    fn key_at(&self, time: u64) -> Option<Key> {
        if let Some((trace, _)) = &self.list {
            return trace.key_at(time);
        }
        let position = self.share.run(time, self.order.len()).next()?;
        let location = self.set.manifest().locate(self.order.record(position)?)?;
        Some(self.set.name().object_key(location.object))
    }

    fn passed(&self) -> u64 {
        let steps = self.steps.load(Relaxed);
        match &self.list {
            Some((_, starts)) => starts.partition_point(|start| *start < steps) as u64,
            None => steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ByteSize;
    use crate::cache::evict::{Clairvoyant, Lru};
    use crate::cache::map_source::MapSource;
    use crate::cache::{Cache, CacheOptions, Evict, Freshness};
    use crate::iter::{EpochSeed, Epochs, Listed, Records, RecordsOptions, Shuffled, Windowed};
    use crate::set::{Manifest, SetName, pack};

    fn set(count: u64, packing: u32) -> Set {
        let manifest = Manifest::empty().with_count(count).with_packing(packing).unwrap();
        Set::new(SetName::new("s").unwrap(), manifest)
    }

    fn shuffled(records: u64, epochs: u64) -> Arc<dyn Order> {
        let seed = |epoch| EpochSeed { seed: 1, epoch };
        Arc::new(Epochs::new(epochs, move |epoch| Arc::new(Shuffled::new(seed(epoch), records))))
    }

    #[test]
    fn what_is_computed_is_what_a_list_says() {
        let (set, order) = (set(50, 1), shuffled(50, 4));
        for (rank, of) in [(0, 1), (0, 3), (2, 3)] {
            let share = Share::new(rank, of, 10).unwrap();
            let computed = Announced::new(set.clone(), order.clone(), share);
            assert!(computed.list.is_none());
            let mut keys = Vec::new();
            while let Some(key) = computed.key_at(keys.len() as u64) {
                keys.push(key);
            }
            assert_eq!(keys.len() as u64, share.len(200));
            let trace = Trace::new(keys);
            for record in 0..50 {
                let key = set.name().object_key(record);
                let object = computed.object_of(&key).unwrap();
                for time in 0..=trace.len() {
                    let next = trace.object_of(&key).and_then(|o| trace.next_use(o, time));
                    assert_eq!(computed.next_use(object, time), next, "{record} {time}");
                }
            }
            computed.pass(7);
            computed.pass(3);
            assert_eq!(computed.passed(), 7);
        }
    }

    #[test]
    fn records_that_come_together_are_one_get() {
        let set = set(20, 5);
        let windowed = Windowed::new(EpochSeed { seed: 2, epoch: 0 }, set.manifest(), 2);
        let announced = Announced::new(set.clone(), Arc::new(windowed), Share::WHOLE);
        assert_eq!((0..9).map_while(|time| announced.key_at(time)).count(), 4);
        let listed = Arc::new(Listed::new([0, 1, 7, 2, 3, 19]));
        let announced = Announced::new(set.clone(), listed, Share::WHOLE);
        let keys: Vec<Key> = (0..9).map_while(|time| announced.key_at(time)).collect();
        assert_eq!(keys, [0, 1, 0, 3].map(|object| set.name().object_key(object)));
        announced.pass(3);
        assert_eq!((announced.passed(), announced.next_use(0, 1)), (2, Some(2)));
    }

    /// Hits of a cache of a quarter of the objects, read in 6 epochs.
    async fn hits(
        packing: u32,
        order: &Arc<dyn Order>,
        evict: impl FnOnce(Arc<Announced>) -> Box<dyn Evict>,
    ) -> u64 {
        let set = set(400, packing);
        let source = MapSource::default();
        let value = match packing {
            1 => bytes::Bytes::from(vec![1; 1000]),
            _ => pack(&vec![vec![1; 1000]; packing as usize]).unwrap(),
        };
        for object in 0..set.manifest().objects() {
            source.write(&set.name().object_key(object), value.clone());
        }
        let announced = Announced::new(set.clone(), order.clone(), Share::WHOLE);
        let (freshness, evict) = (Freshness::Immutable, evict(announced.clone()));
        let options = CacheOptions { freshness, evict, ..CacheOptions::default() };
        let entry = value.len() as u64 + 500;
        let capacity = ByteSize::new(entry * set.manifest().objects() / 4);
        let cache = Arc::new(Cache::new(source, capacity, options));
        let options = RecordsOptions { ahead_size: ByteSize::kib(16), ..RecordsOptions::default() };
        let mut records = Records::new(cache.clone(), set, order.clone(), 0..u64::MAX, options)
            .announced(announced);
        while let Some(record) = records.next().await {
            record.unwrap();
        }
        cache.counters().hits
    }

    #[tokio::test(start_paused = true)]
    async fn a_cache_that_knows_the_order_keeps_what_comes_next() {
        let order = shuffled(400, 6);
        let clairvoyant = hits(1, &order, |announced| Box::new(Clairvoyant::new(announced))).await;
        let lru = hits(1, &order, |_| Box::new(Lru::new())).await;
        // Belady's share of a shuffle that is read again and again is near to that of the capacity.
        assert!(clairvoyant > 450 && lru < 150, "{clairvoyant} {lru}");
        let seed = |epoch| EpochSeed { seed: 1, epoch };
        let manifest = Manifest::empty().with_count(400).with_packing(5).unwrap();
        let windowed =
            move |epoch| Arc::new(Windowed::new(seed(epoch), &manifest, 2)) as Arc<dyn Order>;
        let order: Arc<dyn Order> = Arc::new(Epochs::new(6, windowed));
        let clairvoyant = hits(5, &order, |announced| Box::new(Clairvoyant::new(announced))).await;
        let lru = hits(5, &order, |_| Box::new(Lru::new())).await;
        assert!(clairvoyant > 80 && lru < 40, "{clairvoyant} {lru}");
    }
}
