//! The answers of recent writes in a shard, kept until their session has acknowledged them.
//!
//! Owns what a repeated write is answered from. Knows nothing of objects. Invariant: a result is
//! forgotten only when its session acknowledged it, or is gone itself.

use std::collections::{BTreeMap, HashMap};

use crate::server::memory::{Memory, Reservation};
use crate::server::session::Census;
use crate::wire::Reply;

/// What the result of a write costs until the client has acknowledged it: its entry in a tree at
/// the mean load.
const RESULT_BYTES: u64 = 2 * size_of::<(u64, Outcome)>() as u64;

/// The most results that a session may leave unacknowledged in one shard.
const RESULTS_MAX: usize = 16_384;

#[derive(Debug)]
struct Outcome {
    reply: Reply,
    _reservation: Reservation,
}

/// By the session's life, then by sequence number.
#[derive(Debug, Default)]
pub(in crate::server) struct Results(HashMap<u64, BTreeMap<u64, Outcome>>);

impl Results {
    /// The reply that this write has had already.
    pub(in crate::server) fn find(&self, life: u64, sequence: u64) -> Option<Reply> {
        let outcome = self.0.get(&life)?.get(&sequence)?;
        Some(outcome.reply.clone())
    }

    /// Forgets what the session has acknowledged; whether it may leave one more result here.
    pub(in crate::server) fn may_record(&mut self, life: u64, acknowledged: u64) -> bool {
        let Some(results) = self.0.get_mut(&life) else { return true };
        forget_up_to(acknowledged, results);
        results.len() < RESULTS_MAX
    }

    /// Keeps a reply until the session acknowledges it.
    pub(in crate::server) fn record(
        &mut self,
        life: u64,
        sequence: u64,
        reply: Reply,
        memory: &Memory,
    ) {
        let popped = match &reply {
            Reply::Popped { value, .. } => value.len() as u64,
            _ => 0,
        };
        let outcome = Outcome { reply, _reservation: memory.charge(RESULT_BYTES + popped) };
        self.0.entry(life).or_default().insert(sequence, outcome);
    }

    /// Forgets what nobody will ask for again.
    pub(super) fn sweep(&mut self, census: &Census) {
        for life in &census.forgotten {
            self.0.remove(life);
        }
        self.0.retain(|life, results| {
            if let Some(acknowledged) = census.acknowledged.get(life) {
                forget_up_to(*acknowledged, results);
            }
            !results.is_empty()
        });
    }
}

fn forget_up_to(acknowledged: u64, results: &mut BTreeMap<u64, Outcome>) {
    while results.first_key_value().is_some_and(|(sequence, _)| *sequence <= acknowledged) {
        results.pop_first();
    }
}
