//! What a person sees of a running application.
//!
//! Owns the body of `GET /v1/status`. May not know how the state is kept or changed.
//! Invariant: it is a copy; nothing is decided from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::{Counters, Generation, MemberId, PoolView};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) run: String,
    /// Times the coordinator started on this journal.
    pub(crate) boots: u64,
    pub(crate) stopping: bool,
    pub(crate) tasks: BTreeMap<String, TaskStatus>,
    pub(crate) sets: BTreeMap<String, SetStatus>,
    pub(crate) channels: BTreeMap<String, ChannelStatus>,
    pub(crate) pools: BTreeMap<String, PoolView>,
    pub(crate) reports: Vec<ReportLine>,
    /// Deletions that are still to be made.
    pub(crate) sweeps: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskStatus {
    /// Summed over its members, those that ended included.
    pub(crate) counters: Counters,
    pub(crate) members: Vec<MemberStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberStatus {
    pub(crate) member: MemberId,
    pub(crate) replica: u32,
    pub(crate) pid: u32,
    pub(crate) address: Option<String>,
    /// `None` while it lives.
    pub(crate) ending: Option<Ending>,
    pub(crate) counters: Counters,
}

/// Why a member is no longer one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    /// Its body returned.
    Done,
    /// Its body failed.
    Failed { kind: crate::error::Kind, message: String, retryable: bool },
    /// Its heartbeats stopped.
    Expired,
    /// The engine saw its process exit.
    Gone,
    /// The same task and replica registered again.
    Replaced,
}

/// Splits by state; they add up to `splits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetStatus {
    /// Records, once sealed.
    pub(crate) count: Option<u64>,
    pub(crate) splits: u64,
    pub(crate) pending: u64,
    pub(crate) leased: u64,
    pub(crate) committed: u64,
    pub(crate) done: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChannelStatus {
    pub(crate) generation: Generation,
    /// The first global batch that no checkpoint holds.
    pub(crate) cursor: u64,
    /// Batches beyond the cursor that the current generation was given.
    pub(crate) delivered: u64,
    pub(crate) batches: u64,
    /// Committed and not freed.
    pub(crate) retained_bytes: u64,
    pub(crate) capacity_bytes: u64,
    /// A worker that is free waits: the next split has no room in the bytes or in the window.
    #[serde(default)]
    pub(crate) full: bool,
    /// The reader ended.
    pub(crate) closed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReportLine {
    pub(crate) task: String,
    pub(crate) replica: u32,
    pub(crate) key: String,
    pub(crate) value: serde_json::Value,
}
