//! What has happened, as the journal keeps it.
//!
//! Owns [`Event`], the only thing that changes durable state. May not know how it was decided.
//! Invariant: variants are only added at the end, because the journal stores their numbers.

use serde::{Deserialize, Serialize};

use crate::api::{Attempt, CheckpointRecord, Counters, Generation, MemberId, Output, Register};
use crate::coordinator::status::Ending;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The coordinator started on this journal.
    Booted,
    Registered {
        member: MemberId,
        call: Register,
    },
    Ended {
        member: MemberId,
        ending: Ending,
        counters: Counters,
    },
    SetSealed {
        set: String,
        count: u64,
    },
    Leased {
        member: MemberId,
        request: u64,
        set: String,
        split: u64,
        attempt: Attempt,
    },
    Returned {
        set: String,
        split: u64,
    },
    Committed {
        set: String,
        split: u64,
        attempt: Attempt,
        outputs: Vec<Output>,
    },
    ConsumerOpened {
        channel: String,
        member: MemberId,
        request: u64,
        generation: Generation,
    },
    Delivered {
        channel: String,
        split: u64,
        attempt: Attempt,
    },
    Checkpointed {
        channel: String,
        record: CheckpointRecord,
    },
    Lost {
        set: String,
        split: u64,
    },
    /// JSON text, because the journal's encoding does not describe itself.
    Reported {
        task: String,
        replica: u32,
        key: String,
        json: String,
    },
    StopRequested,
    Swept {
        sweeps: Vec<u64>,
    },
    /// A lease stood still for too long, though its member lives.
    Revoked {
        set: String,
        split: u64,
    },
    /// Nobody needs what begins so: checkpoints of a generation that is over.
    Discarded {
        prefix: String,
    },
    /// A run whose processes are all gone is gone on with: their memory is lost.
    Resumed,
}
