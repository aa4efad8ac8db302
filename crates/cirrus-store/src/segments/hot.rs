//! What was used of late: entries of the index.
//!
//! Owns a clock of lines, bounded in bytes. Knows nothing of disks. Invariant: a line says what the
//! newest record of its row says, because whoever changes a row changes or removes its line.

use std::hash::RandomState;

use hashbrown::HashMap;

use crate::segments::entry::{Entry, Row};

/// What a line costs beside its row: the row twice, the entry, the map at its mean load.
const LINE_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct Hot {
    capacity: usize,
    used: usize,
    places: HashMap<Row, usize, RandomState>,
    lines: Vec<Option<Line>>,
    free: Vec<usize>,
    hand: usize,
}

#[derive(Debug)]
struct Line {
    row: Row,
    entry: Entry,
    used: bool,
}

impl Line {
    fn bytes(&self) -> usize {
        LINE_BYTES + 2 * self.row.as_bytes().len()
    }
}

impl Hot {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            used: 0,
            places: HashMap::with_hasher(RandomState::new()),
            lines: Vec::new(),
            free: Vec::new(),
            hand: 0,
        }
    }

    pub(super) fn get(&mut self, row: &Row) -> Option<Entry> {
        let line = self.lines[*self.places.get(row)?].as_mut()?;
        line.used = true;
        Some(line.entry)
    }

    /// Sets the row's line; what has not been used for longest makes room.
    pub(super) fn insert(&mut self, row: &Row, entry: Entry) {
        self.remove(row);
        let line = Line { row: row.clone(), entry, used: false };
        let bytes = line.bytes();
        if bytes > self.capacity {
            return;
        }
        while self.used + bytes > self.capacity {
            self.evict();
        }
        self.used += bytes;
        let place = self.free.pop().unwrap_or(self.lines.len());
        if place == self.lines.len() {
            self.lines.push(None);
        }
        self.lines[place] = Some(line);
        self.places.insert(row.clone(), place);
    }

    /// Its record was moved: the same content in another place.
    pub(super) fn relocate(&mut self, row: &Row, entry: Entry) {
        if let Some(place) = self.places.get(row)
            && let Some(line) = self.lines[*place].as_mut()
        {
            line.entry = entry;
        }
    }

    pub(super) fn remove(&mut self, row: &Row) {
        if let Some(place) = self.places.remove(row)
            && let Some(line) = self.lines[place].take()
        {
            self.used -= line.bytes();
            self.free.push(place);
        }
    }

    /// There is a line, because some bytes are used.
    fn evict(&mut self) {
        loop {
            self.hand = (self.hand + 1) % self.lines.len().max(1);
            match self.lines.get_mut(self.hand).and_then(Option::as_mut) {
                Some(line) if line.used => line.used = false,
                Some(line) => {
                    let row = line.row.clone();
                    self.remove(&row);
                    return;
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::entry::Place;
    use crate::segments::record::RecordKind;

    #[test]
    fn it_stays_within_its_bytes_and_keeps_what_is_used() {
        let mut hot = Hot::new(100_000);
        let entry = Entry {
            kind: RecordKind::Value,
            place: Place::default(),
            key_len: 1,
            value_len: 1000,
            modified_at: 0,
            version: 1,
            expires_at: 0,
            oldest: 1,
        };
        let row = |n: u32| Row::object(1, &n.to_le_bytes());
        for n in 0..1000 {
            hot.insert(&row(n), entry);
            assert!(hot.used <= hot.capacity);
            assert!(hot.get(&row(0)).is_some(), "row 0 was used before insert {n}");
        }
        assert!(hot.get(&row(1)).is_none());
        for n in 0..1000 {
            hot.remove(&row(n));
        }
        assert_eq!((hot.used, hot.places.len()), (0, 0));
    }
}
