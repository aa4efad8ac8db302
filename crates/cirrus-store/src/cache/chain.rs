//! A doubly linked list of places.
//!
//! Owns the links, 8 bytes a place, in one vector; no allocation for an entry and no pointer.
//! Knows nothing of entries. Invariant: a place is in the list at most once.

use super::evict::Place;

/// Places in an order; every operation takes constant time.
#[derive(Debug, Default)]
pub(super) struct Chain {
    links: Vec<Link>,
    ends: Link,
}

/// The neighbours of a place. In [`Chain::ends`], `next` is the first place and `before` the last.
#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    next: u32,
}

/// No neighbour.
const END: u32 = u32::MAX;
/// Not in the list.
const OUT: u32 = u32::MAX - 1;
/// Places below this can be linked.
pub(super) const PLACES_MAX: u32 = OUT;

impl Default for Link {
    fn default() -> Self {
        Self { before: END, next: END }
    }
}

impl Chain {
    /// The first place.
    pub(super) fn front(&self) -> Option<Place> {
        (self.ends.next != END).then_some(Place::new(self.ends.next))
    }

    /// The place behind `place`; `None` behind the last, and for one that is not in the list.
    pub(super) fn after(&self, place: Place) -> Option<Place> {
        let next = self.links.get(place.index())?.next;
        (next < PLACES_MAX).then_some(Place::new(next))
    }

    /// Makes `place` the last one. It stays where it is when it is in the list already.
    pub(super) fn push_back(&mut self, place: Place) {
        if place.index() >= self.links.len() {
            self.links.resize(place.index() + 1, Link { before: OUT, next: OUT });
        }
        if self.links[place.index()].before != OUT {
            return;
        }
        let last = self.ends.before;
        self.links[place.index()] = Link { before: last, next: END };
        self.link_mut(last).next = place.number();
        self.ends.before = place.number();
    }

    /// Takes `place` out, if it is in the list.
    pub(super) fn remove(&mut self, place: Place) {
        let Some(link) = self.links.get_mut(place.index()) else { return };
        let Link { before, next } = *link;
        if before == OUT {
            return;
        }
        *link = Link { before: OUT, next: OUT };
        self.link_mut(before).next = next;
        self.link_mut(next).before = before;
    }

    fn link_mut(&mut self, number: u32) -> &mut Link {
        if number == END { &mut self.ends } else { &mut self.links[number as usize] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(chain: &Chain) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = chain.ends.next;
        while at != END {
            found.push(at);
            at = chain.links[at as usize].next;
        }
        let mut backwards = Vec::new();
        let mut at = chain.ends.before;
        while at != END {
            backwards.push(at);
            at = chain.links[at as usize].before;
        }
        backwards.reverse();
        assert_eq!(found, backwards);
        found
    }

    #[test]
    fn places_keep_their_order() {
        let mut chain = Chain::default();
        for index in [3, 0, 5, 1] {
            chain.push_back(Place::new(index));
        }
        chain.push_back(Place::new(5));
        assert_eq!(places(&chain), [3, 0, 5, 1]);
        assert_eq!(chain.after(Place::new(0)), Some(Place::new(5)));
        assert_eq!([1, 4, 9].map(|index| chain.after(Place::new(index))), [None; 3]);
        chain.remove(Place::new(0));
        chain.remove(Place::new(0));
        chain.remove(Place::new(99));
        assert_eq!(places(&chain), [3, 5, 1]);
        chain.remove(Place::new(3));
        chain.remove(Place::new(1));
        assert_eq!(places(&chain), [5]);
        assert_eq!(chain.front(), Some(Place::new(5)));
        chain.remove(Place::new(5));
        assert_eq!(chain.front(), None);
        chain.push_back(Place::new(0));
        assert_eq!(places(&chain), [0]);
    }
}
