//! What is planned and not handed out: positions, and the objects that they need.
//!
//! Owns which object serves which positions, and the bytes that objects take. Knows nothing of the
//! order, of sources or of tasks.
//! Invariant: an object is here while a planned position needs it, or while it is on its way.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::object::Object;
use crate::set::{Manifest, Packed, unpack};

/// An object's place in a [`Window`].
pub(super) type Place = usize;

/// A position to hand out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    pub(super) position: u64,
    pub(super) record: u64,
    pub(super) place: Place,
    pub(super) slot: u32,
}

/// The positions in their order, and their objects.
#[derive(Debug, Default)]
pub(super) struct Window {
    planned: VecDeque<Planned>,
    objects: Vec<Wanted>,
    free: Vec<Place>,
    places: HashMap<u64, Place, foldhash::fast::RandomState>,
    /// The object that was planned last: neighbours in a packed object are found without a lookup.
    last: Option<(u64, Place)>,
    /// Bytes of objects that are here.
    pub(super) held_bytes: u64,
    /// Objects on their way.
    pub(super) fetching: usize,
    /// What a get that is on its way will bring at most, as far as is known.
    pub(super) object_bytes_max: Option<u64>,
}

/// An object of the window.
#[derive(Debug)]
struct Wanted {
    number: u64,
    /// Positions that need it.
    users: usize,
    stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
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
pub(super) enum Content {
    One(Bytes),
    Many(Packed),
}

/// What is to be had at the first position.
#[derive(Debug)]
pub(super) enum First {
    Record(Planned, Bytes),
    /// On its way.
    Coming,
    /// To be fetched, now that its turn has come.
    Needed(Place),
    /// Not to be had from an object that got that far.
    Missing(Planned, Stage),
}

impl Window {
    /// Of nothing yet; gets are expected to bring so much.
    pub(super) fn new(object_bytes_max: Option<u64>) -> Self {
        Self { object_bytes_max, ..Self::default() }
    }

    pub(super) fn first(&self) -> Option<&Planned> {
        self.planned.front()
    }

    pub(super) fn len(&self) -> usize {
        self.planned.len()
    }

    /// Whether the record at the first position can be taken.
    pub(super) fn is_ready(&self) -> bool {
        self.planned.front().is_some_and(|first| {
            !matches!(self.objects[first.place].stage, Stage::Fetching | Stage::Absent)
        })
    }

    /// Where object `number` is, if it is here or on its way.
    pub(super) fn find(&mut self, number: u64) -> Option<Place> {
        match self.last {
            Some((last, place)) if last == number => Some(place),
            _ => {
                let place = *self.places.get(&number)?;
                self.last = Some((number, place));
                Some(place)
            }
        }
    }

    /// A place for object `number`, which is about to be fetched.
    pub(super) fn add(&mut self, number: u64) -> Place {
        let wanted = Wanted { number, users: 0, stage: Stage::Fetching };
        let place = match self.free.pop() {
            Some(place) => {
                self.objects[place] = wanted;
                place
            }
            None => {
                self.objects.push(wanted);
                self.objects.len() - 1
            }
        };
        self.fetching += 1;
        self.places.insert(number, place);
        self.last = Some((number, place));
        place
    }

    pub(super) fn plan(&mut self, planned: Planned) {
        self.objects[planned.place].users += 1;
        self.planned.push_back(planned);
    }

    /// Hands out the first record if it is here. `None` when nothing is planned.
    pub(super) fn take(&mut self) -> Option<First> {
        let planned = *self.planned.front()?;
        let wanted = &mut self.objects[planned.place];
        let bytes = match &wanted.stage {
            Stage::Fetching => return Some(First::Coming),
            Stage::Absent => {
                wanted.stage = Stage::Fetching;
                self.fetching += 1;
                return Some(First::Needed(planned.place));
            }
            Stage::Here { content, .. } => content.record(planned.slot),
            Stage::Failed(_) => None,
        };
        let Some(bytes) = bytes else {
            let stage = std::mem::replace(&mut wanted.stage, Stage::Absent);
            if let Stage::Here { bytes, .. } = &stage {
                self.held_bytes -= bytes;
            }
            return Some(First::Missing(planned, stage));
        };
        self.drop_first();
        Some(First::Record(planned, bytes))
    }

    /// Plans the first position no more.
    pub(super) fn drop_first(&mut self) {
        let Some(planned) = self.planned.pop_front() else { return };
        let wanted = &mut self.objects[planned.place];
        wanted.users -= 1;
        if wanted.users == 0 && !matches!(wanted.stage, Stage::Fetching) {
            self.let_go(planned.place);
        }
    }

    /// What came for the object at `place`; how many bytes it was.
    pub(super) fn land(
        &mut self,
        place: Place,
        answer: Result<Object>,
        manifest: &Manifest,
    ) -> Option<u64> {
        self.fetching -= 1;
        let wanted = &mut self.objects[place];
        let landed = answer.and_then(|object| Content::new(object.value, manifest));
        let (stage, landed_bytes) = match landed {
            Ok((content, bytes)) => {
                self.held_bytes += bytes;
                self.object_bytes_max = self.object_bytes_max.max(Some(bytes));
                (Stage::Here { content, bytes }, Some(bytes))
            }
            Err(error) => (Stage::Failed(error), None),
        };
        wanted.stage = stage;
        if wanted.users == 0 {
            self.let_go(place);
        }
        landed_bytes
    }

    pub(super) fn number(&self, place: Place) -> u64 {
        self.objects[place].number
    }

    /// Whether no object is here or on its way.
    pub(super) fn is_bare(&self) -> bool {
        self.places.is_empty()
    }

    fn let_go(&mut self, place: Place) {
        let wanted = &mut self.objects[place];
        let stage = std::mem::replace(&mut wanted.stage, Stage::Absent);
        if let Stage::Here { bytes, .. } = stage {
            self.held_bytes -= bytes;
        }
        self.places.remove(&wanted.number);
        if self.last.is_some_and(|(_, last)| last == place) {
            self.last = None;
        }
        self.free.push(place);
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
