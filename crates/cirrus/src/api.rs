//! What tasks and engines say to the coordinator, and what it answers.
//!
//! Owns the bodies of every call and their paths. May not know how they travel or are decided.
//! Invariant: every call may be repeated, late or twice, without a second effect.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::covered::Covered;
use crate::error::{Error, Kind};
use crate::split::SplitRange;

/// How often a member sends its [`Heartbeat`].
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Named numbers that only grow, as a member last told them.
pub(crate) type Counters = BTreeMap<String, u64>;

/// A process that registered. Never reused within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct MemberId(pub(crate) u64);

/// One lease of one split. Never reused within a run, restarts of the coordinator included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Attempt(pub(crate) u64);

/// One opening of a channel by its consumer. 0: never opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Generation(pub(crate) u64);

/// A memory node within its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct NodeId(pub(crate) u16);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A body that is posted to `/v1/<PATH>`, and what comes back.
pub(crate) trait Call: Serialize + DeserializeOwned {
    /// The last part of the path.
    const PATH: &'static str;
    /// The body of a 200.
    type Answer: Serialize + DeserializeOwned;
}

macro_rules! calls {
    ($($call:ident => $path:literal -> $answer:ty),* $(,)?) => {
        /// Any call, as the state machine takes them.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) enum Command {
            $($call($call)),*
        }

        $(
            impl Call for $call {
                const PATH: &'static str = $path;
                type Answer = $answer;
            }

            impl From<$call> for Command {
                fn from(call: $call) -> Self {
                    Self::$call(call)
                }
            }
        )*
    };
}

calls! {
    Register => "register" -> Registered,
    Heartbeat => "heartbeat" -> Beat,
    MemberGone => "gone" -> Accepted,
    End => "end" -> Accepted,
    SealSet => "seal" -> Accepted,
    Lease => "lease" -> LeaseAnswer,
    Commit => "commit" -> Accepted,
    Return => "return" -> Accepted,
    OpenConsumer => "open" -> Opened,
    Next => "next" -> NextAnswer,
    Checkpoint => "checkpoint" -> Accepted,
    Lost => "lost" -> Accepted,
    Report => "report" -> Accepted,
    RequestStop => "stop" -> Accepted,
    Swept => "swept" -> Accepted,
}

/// What a call is answered with when it is not refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Reply {
    Registered(Registered),
    Beat(Beat),
    Lease(LeaseAnswer),
    Opened(Opened),
    Next(NextAnswer),
    Accepted(Accepted),
}

impl Reply {
    /// Whether the asker would rather hear something later.
    pub(crate) fn is_wait(&self) -> bool {
        match self {
            Self::Lease(answer) => *answer == LeaseAnswer::Wait,
            Self::Next(answer) => *answer == NextAnswer::Wait,
            Self::Registered(_) | Self::Beat(_) | Self::Opened(_) | Self::Accepted(_) => false,
        }
    }
}

/// Done, and nothing more to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accepted {}

/// A process begins. Replaces an earlier member of the same task and replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Register {
    /// A task of the application, or `memory:<pool>` for a memory node.
    pub(crate) task: String,
    pub(crate) replica: u32,
    pub(crate) pid: u32,
    /// Where a memory node listens.
    pub(crate) address: Option<String>,
    /// Drawn once per process, so that a repeat is told from a successor.
    pub(crate) nonce: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    pub(crate) member: MemberId,
}

/// The member lives. One that holds leases must count something now and then, or loses them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) member: MemberId,
    pub(crate) counters: Counters,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// The member should finish or return what it holds, and end.
    pub(crate) stop: bool,
}

/// The engine saw the process exit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberGone {
    pub(crate) task: String,
    pub(crate) replica: u32,
    pub(crate) pid: u32,
}

/// The member's body returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) member: MemberId,
    pub(crate) outcome: Outcome,
    /// Its last counters; empty keeps those of its last heartbeat.
    #[serde(default)]
    pub(crate) counters: Counters,
}

/// How a body returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Done,
    Failed { kind: Kind, message: String, retryable: bool },
}

/// The set has all its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealSet {
    pub(crate) set: String,
    /// Records.
    pub(crate) count: u64,
}

/// A worker wants a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) member: MemberId,
    pub(crate) set: String,
    /// Grows by one per grant that the member takes; a repeat is answered with the same grant.
    pub(crate) request: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum LeaseAnswer {
    Granted(Grant),
    /// Nothing can be leased yet.
    Wait,
    /// Nothing will be leased any more.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) split: u64,
    pub(crate) attempt: Attempt,
    pub(crate) range: SplitRange,
}

/// The attempt's output lies in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) member: MemberId,
    pub(crate) set: String,
    pub(crate) split: u64,
    pub(crate) attempt: Attempt,
    /// One for each channel that the task writes.
    pub(crate) outputs: Vec<Output>,
}

/// What an attempt wrote to one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Output {
    pub(crate) channel: String,
    pub(crate) batches: u32,
    pub(crate) bytes: u64,
    /// Over all the bytes, in order.
    pub(crate) checksum: u32,
}

/// The worker gives a split back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Return {
    pub(crate) member: MemberId,
    pub(crate) set: String,
    pub(crate) split: u64,
    pub(crate) attempt: Attempt,
}

/// The reader of a channel begins, or begins again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenConsumer {
    pub(crate) member: MemberId,
    pub(crate) channel: String,
    /// Grows with every opening by this member; a repeat is answered with the same generation.
    pub(crate) request: u64,
    /// What came of the splits since the checkpoint is lost beside the channel: those that are
    /// committed or leased are leased again.
    #[serde(default)]
    pub(crate) afresh: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) generation: Generation,
    /// What to restore; `None` starts at batch 0.
    pub(crate) checkpoint: Option<CheckpointRecord>,
}

/// Where a consumer's durable state lies, and how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointRecord {
    /// The first global batch that it does not hold.
    pub(crate) cursor: u64,
    /// Runs of batches beyond the cursor that it holds; none in a channel that is read in order.
    #[serde(default)]
    pub(crate) beyond: Vec<Range<u64>>,
    pub(crate) key: String,
    pub(crate) version: u64,
    pub(crate) bytes: u64,
    pub(crate) checksum: u32,
}

impl CheckpointRecord {
    /// The batches that it holds; `None` where its runs make no sense.
    pub(crate) fn covered(&self) -> Option<Covered> {
        Covered::new(self.cursor, &self.beyond)
    }
}

/// The consumer wants to know where a split's batches lie; in a channel that is read in any order,
/// those of any split that it has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Next {
    pub(crate) channel: String,
    pub(crate) generation: Generation,
    /// The first that it has not.
    pub(crate) split: u64,
    /// Those beyond that it has; none in a channel that is read in order.
    #[serde(default)]
    pub(crate) taken: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum NextAnswer {
    Committed(Committed),
    /// Not committed yet.
    Wait,
    /// It cannot come before a checkpoint: the window or the bytes are used up.
    WindowFull,
    /// There is no such split: the channel is at its end.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) split: u64,
    pub(crate) attempt: Attempt,
    pub(crate) range: SplitRange,
    pub(crate) batches: u32,
    /// Over all the bytes, in order, as its writer told.
    pub(crate) checksum: u32,
    /// Half of the channel's bytes are used: checkpoint soon, or workers will wait.
    pub(crate) checkpoint_due: bool,
}

/// The consumer's state up to `record.cursor` is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) channel: String,
    pub(crate) generation: Generation,
    #[serde(flatten)]
    pub(crate) record: CheckpointRecord,
}

/// A committed split cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    pub(crate) channel: String,
    pub(crate) generation: Generation,
    pub(crate) split: u64,
    pub(crate) attempt: Attempt,
}

/// A result to print at the end; the last value of a key stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) member: MemberId,
    pub(crate) key: String,
    pub(crate) value: serde_json::Value,
}

/// Everybody should end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestStop {}

/// These were deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Swept {
    pub(crate) sweeps: Vec<u64>,
}

/// Something in the store that nobody needs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    pub(crate) sweep: u64,
    pub(crate) what: Garbage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Garbage {
    /// Every object whose key begins so.
    Prefix(String),
    /// One object.
    Key(String),
}

/// A pool's nodes, and who has which slots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolView {
    /// Grows with every change; 0 before the first node.
    pub(crate) epoch: u32,
    pub(crate) nodes: Vec<Node>,
    pub(crate) slots: Vec<SlotRange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    /// Another one is another memory: the node came back empty.
    pub(crate) incarnation: u64,
}

/// Slots `first..=last` are on `node`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) node: NodeId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetView {
    pub(crate) set: String,
    /// Records, once it is sealed.
    pub(crate) count: Option<u64>,
}

/// Why a call has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// One line that names the thing and says what to do.
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefusalKind {
    /// The member is unknown, replaced or ended: the process ends itself.
    MemberExpired,
    /// The attempt is no longer the split's: go on with another split.
    StaleAttempt,
    /// Another consumer opened the channel, or the checkpoint is behind the recorded one.
    StaleGeneration,
    /// A late repeat of a request whose grant is over: ask with a new number.
    StaleRequest,
    NotFound,
    Input,
    TooLarge,
    Corrupt,
    /// The coordinator cannot keep its promises (its disk fails) or is ending.
    Unavailable,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The refusal underneath an error of [`crate::control::Control`], if that is what it is.
    pub(crate) fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.kind {
            RefusalKind::MemberExpired
            | RefusalKind::StaleAttempt
            | RefusalKind::StaleGeneration
            | RefusalKind::StaleRequest => Kind::Stale,
            RefusalKind::NotFound => Kind::NotFound,
            RefusalKind::Input => Kind::Input,
            RefusalKind::TooLarge => Kind::TooLarge,
            RefusalKind::Corrupt => Kind::Corrupt,
            RefusalKind::Unavailable => Kind::Unavailable,
        };
        Self::new(kind, "the coordinator refused").with_source(refusal)
    }
}
