//! What one key's object may do: the sequential specification that histories are checked against.
//!
//! Owns [`State`] and which answer each action may have in it. Knows nothing of concurrency.
//! Invariant: a state that `after` returns is one in which the answer was true.
//!
//! Versions are numbers that only grow; one that nobody has been told is known as "at least". An
//! object with an end may be absent from that moment on and must be absent after it; the node's
//! clock and ours are the same one, read in milliseconds, so they agree to [`CLOCK_TOLERANCE_MS`].

use std::collections::VecDeque;
use std::fmt;

use cirrus_store::{Condition, Version};

/// How far two readings of the clock may be out of order.
pub(crate) const CLOCK_TOLERANCE_MS: u64 = 2;

/// Stands for an end that never comes, and for an answer that never came.
pub(crate) const NEVER: u64 = 0;

/// What a client asks for. Values are numbers; see [`value_of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Get,
    Put {
        value: i64,
        condition: Condition,
        expires_at: u64,
    },
    Delete {
        condition: Condition,
    },
    Add {
        delta: i64,
    },
    Push {
        value: i64,
    },
    Pop,
    /// The node is replaced by an empty one.
    Restart,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nobody knows whether it happened; it may happen at any later time.
    Unknown,
    Value {
        value: i64,
        version: u64,
        expires_at: u64,
    },
    /// A value without its version and end, which RESP does not tell.
    Seen(i64),
    Written {
        version: u64,
    },
    /// A put whose version RESP does not tell.
    Stored,
    /// A put if absent was refused.
    Exists,
    /// A delete or a restart was carried out.
    Done,
    Sum(i64),
    /// A push: the items in the queue.
    Items(u64),
    Popped(i64),
    NotFound,
    WrongType,
    /// The version that is there; 0 for none.
    WrongVersion(u64),
    /// Nothing was changed, for a reason that says nothing about the object: no room, for example.
    Refused,
}

/// One action of one client on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: u64,
    pub(crate) key: String,
    pub(crate) action: Action,
    pub(crate) answer: Answer,
    /// Places in the order of all beginnings and ends; an unknown answer has no end.
    pub(crate) began: u64,
    pub(crate) ended: Option<u64>,
    /// Unix time.
    pub(crate) began_ms: u64,
    pub(crate) ended_ms: u64,
}

impl Operation {
    /// Whether its answer says that it changed nothing, whatever the state was.
    pub(crate) fn is_reading(&self) -> bool {
        match self.answer {
            Answer::Value { .. }
            | Answer::Seen(_)
            | Answer::Exists
            | Answer::NotFound
            | Answer::WrongType
            | Answer::WrongVersion(_)
            | Answer::Refused => true,
            Answer::Unknown
            | Answer::Written { .. }
            | Answer::Stored
            | Answer::Done
            | Answer::Sum(_)
            | Answer::Items(_)
            | Answer::Popped(_) => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    Absent,
    Value(i64),
    Queue(VecDeque<i64>),
}

/// A key's object as far as the answers tell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) content: Content,
    /// The object's version, or the least that it can be; for an absent object the last one known.
    version: u64,
    is_exact: bool,
    expires_at: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { content: Content::Absent, version: 1, is_exact: false, expires_at: NEVER }
    }
}

impl State {
    /// The states that `operation` may leave behind: none if its answer cannot be.
    pub(crate) fn after(&self, operation: &Operation) -> Vec<Self> {
        let mut states = Vec::new();
        let ends = self.expires_at;
        if ends == NEVER || operation.began_ms <= ends + CLOCK_TOLERANCE_MS {
            states.extend(self.clone().apply(operation));
        }
        if ends != NEVER && operation.ended_ms.saturating_add(CLOCK_TOLERANCE_MS) >= ends {
            states.extend(self.clone().removed().apply(operation));
        }
        states
    }

    fn apply(self, operation: &Operation) -> Option<Self> {
        let answer = operation.answer;
        if answer == Answer::Refused {
            return Some(self);
        }
        match operation.action {
            Action::Get => self.read(answer),
            Action::Put { value, condition, expires_at } => {
                self.put(value, condition, expires_at, answer)
            }
            Action::Delete { condition } => self.delete(condition, answer),
            Action::Add { delta } => self.add(delta, answer),
            Action::Push { value } => self.push(value, answer),
            Action::Pop => self.pop(answer),
            Action::Restart => Some(Self::default()),
        }
    }

    fn read(self, answer: Answer) -> Option<Self> {
        match (&self.content, answer) {
            (Content::Value(held), Answer::Value { value, version, expires_at })
                if *held == value && self.expires_at == expires_at =>
            {
                self.bound(version)
            }
            (Content::Value(held), Answer::Seen(value)) => (*held == value).then_some(self),
            (Content::Absent, Answer::NotFound) | (Content::Queue(_), Answer::WrongType) => {
                Some(self)
            }
            _ => None,
        }
    }

    fn put(
        self,
        value: i64,
        condition: Condition,
        expires_at: u64,
        answer: Answer,
    ) -> Option<Self> {
        if let Answer::WrongVersion(there) = answer {
            return self.refused(condition, there);
        }
        if answer == Answer::Exists {
            return (condition == Condition::IfAbsent && !self.is_absent()).then_some(self);
        }
        let before = match condition {
            Condition::Always => self,
            Condition::IfAbsent => Some(self).filter(Self::is_absent)?,
            // No object has version 0, so it stands for none.
            Condition::IfVersion(Version(0)) => Some(self).filter(Self::is_absent)?,
            Condition::IfVersion(wanted) => {
                Some(self).filter(|state| !state.is_absent())?.bound(wanted.0)?
            }
        };
        let content = Content::Value(value);
        match answer {
            Answer::Written { version } if before.is_larger(version) => {
                Some(Self { content, version, is_exact: true, expires_at })
            }
            Answer::Unknown | Answer::Stored => {
                Some(Self { content, expires_at, ..before }.rewritten())
            }
            _ => None,
        }
    }

    fn delete(self, condition: Condition, answer: Answer) -> Option<Self> {
        match answer {
            Answer::NotFound => Some(self).filter(Self::is_absent),
            Answer::WrongVersion(there) => self.refused(condition, there),
            Answer::Done | Answer::Unknown if !self.is_absent() => match condition {
                Condition::IfVersion(wanted) => self.bound(wanted.0).map(Self::removed),
                Condition::Always => Some(self.removed()),
                Condition::IfAbsent => None,
            },
            _ => None,
        }
    }

    fn add(self, delta: i64, answer: Answer) -> Option<Self> {
        let (before, expires_at) = match self.content {
            Content::Value(value) => (value, self.expires_at),
            Content::Absent => (0, NEVER),
            Content::Queue(_) => return (answer == Answer::WrongType).then_some(self),
        };
        let sum = before.checked_add(delta)?;
        (answer == Answer::Sum(sum) || answer == Answer::Unknown)
            .then(|| Self { content: Content::Value(sum), expires_at, ..self }.rewritten())
    }

    fn push(mut self, value: i64, answer: Answer) -> Option<Self> {
        let mut queue = match &mut self.content {
            Content::Queue(queue) => std::mem::take(queue),
            Content::Absent => VecDeque::new(),
            Content::Value(_) => return (answer == Answer::WrongType).then_some(self),
        };
        queue.push_back(value);
        (answer == Answer::Items(queue.len() as u64) || answer == Answer::Unknown)
            .then(|| Self { content: Content::Queue(queue), ..self }.rewritten())
    }

    fn pop(mut self, answer: Answer) -> Option<Self> {
        let queue = match &mut self.content {
            Content::Queue(queue) => queue,
            Content::Absent => return (answer == Answer::NotFound).then_some(self),
            Content::Value(_) => return (answer == Answer::WrongType).then_some(self),
        };
        let first = queue.pop_front()?;
        let is_empty = queue.is_empty();
        (answer == Answer::Popped(first) || answer == Answer::Unknown).then(|| match is_empty {
            true => self.removed(),
            false => self.rewritten(),
        })
    }

    /// A write that was refused because of the version that is there.
    fn refused(self, condition: Condition, there: u64) -> Option<Self> {
        let is_absent = self.is_absent();
        match condition {
            Condition::IfAbsent if !is_absent => self.bound(there),
            Condition::IfVersion(wanted) if is_absent => {
                (there == 0 && wanted.0 != 0).then_some(self)
            }
            Condition::IfVersion(wanted) if wanted.0 != there => self.bound(there),
            Condition::Always | Condition::IfAbsent | Condition::IfVersion(_) => None,
        }
    }

    fn is_absent(&self) -> bool {
        self.content == Content::Absent
    }

    /// The object has this version, if it can.
    fn bound(self, version: u64) -> Option<Self> {
        let may_be = self.version == version || (!self.is_exact && self.version < version);
        may_be.then_some(Self { version, is_exact: true, ..self })
    }

    /// Whether a next version may be this one.
    fn is_larger(&self, version: u64) -> bool {
        version > self.version || (!self.is_exact && version == self.version)
    }

    /// The same with a new version that nobody was told.
    fn rewritten(self) -> Self {
        let version = self.version + u64::from(self.is_exact);
        Self { version, is_exact: false, ..self }
    }

    fn removed(self) -> Self {
        let version = self.version + u64::from(self.is_exact);
        Self { content: Content::Absent, version, is_exact: false, expires_at: NEVER }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Absent => return write!(f, "no object"),
            Content::Value(value) => write!(f, "value {value}")?,
            Content::Queue(items) => write!(f, "queue {items:?}")?,
        }
        let known = if self.is_exact { "" } else { "at least " };
        write!(f, ", version {known}{}", self.version)?;
        match self.expires_at {
            NEVER => Ok(()),
            end => write!(f, ", ends at {end}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => write!(f, "get"),
            Self::Put { value, condition, expires_at } => {
                write!(f, "put {value}{}", When(*condition))?;
                match *expires_at {
                    NEVER => Ok(()),
                    end => write!(f, " until {end}"),
                }
            }
            Self::Delete { condition } => write!(f, "delete{}", When(*condition)),
            Self::Add { delta } => write!(f, "add {delta}"),
            Self::Push { value } => write!(f, "push {value}"),
            Self::Pop => write!(f, "pop"),
            Self::Restart => write!(f, "restart of the node"),
        }
    }
}

struct When(Condition);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Condition::Always => Ok(()),
            Condition::IfAbsent => write!(f, " if absent"),
            Condition::IfVersion(version) => write!(f, " if version {}", version.0),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.ended.map_or("...".to_owned(), |ended| ended.to_string());
        let (began, client, action) = (self.began, self.client, self.action);
        write!(f, "[{began:>5} {ended:>5}]  client {client:<3} {action}  ->  {:?}", self.answer)
    }
}

/// The bytes that stand for a number: its digits and, up to `len`, filler that follows from them.
/// Only a value without filler can be added to.
pub(crate) fn value_of(number: i64, len: usize) -> Vec<u8> {
    let mut value = number.to_string().into_bytes();
    if len > value.len() {
        value.push(b' ');
        let filler = crate::rig::bytes(len.saturating_sub(value.len()), number.unsigned_abs());
        value.extend_from_slice(&filler);
    }
    value
}

/// The number that a value stands for; `None` if it is no value that was ever written.
pub(crate) fn number_of(value: &[u8]) -> Option<i64> {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let number: i64 = std::str::from_utf8(&value[..end]).ok()?.parse().ok()?;
    (value_of(number, value.len()) == value).then_some(number)
}
