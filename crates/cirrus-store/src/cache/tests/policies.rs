//! Policies that users bring, good and wrong ones.

use std::collections::VecDeque;

use super::*;

/// First in, first out: a user's policy, in as many lines as it takes.
#[derive(Debug, Default)]
struct Fifo {
    queue: VecDeque<Place>,
}

impl Evict for Fifo {
    fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
        self.queue.push_back(place);
    }

    fn on_access(&mut self, _place: Place) {}

    fn on_remove(&mut self, place: Place) {
        self.queue.retain(|queued| *queued != place);
    }

    fn victim(&mut self) -> Option<Place> {
        self.queue.front().copied()
    }
}

/// Never finds a victim, or one that is not there.
#[derive(Debug)]
struct Wrong(Option<Place>);

impl Evict for Wrong {
    fn admit(&mut self, entry: Entry<'_>) -> bool {
        entry.key.as_bytes() != b"unwanted"
    }

    fn on_insert(&mut self, _place: Place, _entry: Entry<'_>) {}

    fn on_access(&mut self, _place: Place) {}

    fn on_remove(&mut self, _place: Place) {}

    fn victim(&mut self) -> Option<Place> {
        self.0
    }
}

#[tokio::test]
async fn policies_are_user_code() {
    let held_after = async |evict: Box<dyn Evict>| {
        let capacity = ByteSize::new(3 * (ENTRY + 2));
        let cache =
            Cache::new(MapSource::default(), capacity, CacheOptions { evict, ..immutable() });
        for name in ["a", "b", "c", "d", "unwanted"] {
            cache.source().write(&key(name), "x");
        }
        for name in ["a", "b", "c", "a", "d"] {
            cache.get(&key(name)).await.unwrap();
        }
        let held: String = ["a", "b", "c", "d"]
            .into_iter()
            .filter(|name| {
                let table = &cache.owner.shared.desk.table;
                table.find(table.hash(&key(name)), &key(name), |_| Some(())).is_some()
            })
            .collect();
        assert!(cache.counters().bytes <= capacity.bytes());
        held
    };
    assert_eq!(held_after(Box::new(Fifo::default())).await, "bcd");
    assert_eq!(held_after(Box::new(evict::Lru::new())).await, "acd");
    assert_eq!(held_after(Box::new(Wrong(None))).await, "abc");
    assert_eq!(held_after(Box::new(Wrong(Some(Place::new(77))))).await, "abc");

    let cache = cache_of(
        MapSource::default(),
        CacheOptions { evict: Box::new(Wrong(None)), ..immutable() },
    );
    cache.source().write(&key("unwanted"), "x");
    assert_eq!(cache.get(&key("unwanted")).await.unwrap().value, "x");
    assert_eq!((cache.counters().entries, cache.counters().not_kept), (0, 1));
}
