//! What a failure carries, and what it says in words.
//!
//! Owns [`Fault`]. The words are made by the reader: no peer can put text into a log.
//! Invariant: a fault of any kind has words for any request.

use cirrus_units::ByteSize;

use crate::error::{Error, Kind};
use crate::wire::request::Request;

/// Why a request was not carried out: a kind and the number that goes with it
/// ([`Error::detail`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong.
    pub kind: Kind,
    /// The number that goes with the kind.
    pub detail: u64,
}

impl From<Kind> for Fault {
    fn from(kind: Kind) -> Self {
        Self { kind, detail: 0 }
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), detail: error.detail() }
    }
}

impl Request {
    /// What a node's fault means for this request, in words.
    pub fn fault(&self, fault: Fault) -> Error {
        let what = match self.key() {
            Some(key) => format!("{key:?}"),
            None => match self {
                Self::Step { table, .. } | Self::Call { table, .. } => format!("table {table:?}"),
                _ => "the request".to_owned(),
            },
        };
        let number = fault.detail;
        let text = match fault.kind {
            Kind::NotFound => format!("{what} is not there"),
            Kind::OutOfMemory => format!(
                "no room for {what}: {} is free; delete objects or give the node more capacity",
                ByteSize::new(number)
            ),
            Kind::TooLarge => format!("{what} is over the node's limit of {number}"),
            Kind::WrongVersion if matches!(self, Self::Step { .. } | Self::Call { .. }) => format!(
                "{what} is of generation {number}, or the worker has lost its seat; begin anew"
            ),
            Kind::WrongVersion if number == 0 => format!("{what} is not there"),
            Kind::WrongVersion => format!("{what} has version {number}"),
            Kind::WrongType => format!("{what} is an object of another kind"),
            Kind::Moved => format!("{what} has moved to another node (epoch {number})"),
            Kind::Busy => format!("the node is too busy for {what}"),
            Kind::Timeout => format!("{what} did not change in time"),
            Kind::Unknown => format!("whether {what} was written is not known"),
            Kind::Unauthorized => "the node does not accept the token".to_owned(),
            Kind::Corrupt => format!("the value of {what} was damaged on its way"),
            Kind::Closed => "the node is closing".to_owned(),
            Kind::Protocol => format!("the node does not understand the request for {what}"),
            Kind::Invalid => format!("the node finds the request for {what} invalid"),
            Kind::Io if self.writes() > 0 => format!("the node's disk failed to write {what}"),
            Kind::Io => format!("the node's disk, or the bucket behind it, failed to read {what}"),
        };
        Error::new(fault.kind, text).with_detail(number)
    }
}
