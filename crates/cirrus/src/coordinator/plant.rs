//! Bugs that tests plant, to see that the simulation of whole runs finds them.
//!
//! Owns which one this thread has. May not know what a bug breaks. Invariant: in a build that is not
//! for tests there is none, and the compiler removes the question.

#[cfg(test)]
use std::cell::Cell;

#[cfg(test)]
thread_local! {
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// One way each to break a promise of exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// An answer leaves before what it rests on is durable.
    AnswerBeforeSync,
    /// What is read from the state leaves before it is durable.
    ReadBeforeSync,
    /// A snapshot says that it ends where the events begin that are already in it.
    SnapshotTooEarly,
    /// Any attempt may commit.
    NoAttemptFence,
    /// Members that ended go on.
    NoMemberFence,
    /// Consumers that were replaced go on.
    NoGenerationFence,
    /// A repeated commit counts again.
    RepeatedCommitCounts,
    /// A late word of a loss discards what was made since.
    AnyLossCounts,
    /// A late checkpoint takes the cursor back.
    CursorGoesBack,
    /// A split that is leased is leased again.
    LeasedTwice,
    /// An attempt's number depends on the split only.
    AttemptReused,
    /// A lease never runs out.
    LeaseForEver,
    /// Leases do not wait for room in the channel.
    NoBackPressure,
    /// What a checkpoint holds beyond its cursor is not remembered.
    BeyondForgotten,
    /// A split is freed when a checkpoint holds a part of it.
    FreedInPart,
    /// Batches are handed out while their attempt is made.
    UncommittedRead,
    /// What was rolled back counts.
    RolledBackKept,
    /// Attempts that were taken away are not remembered until their split is done.
    AbandonedForgotten,
    /// What a consumer stored and did not live to record stays.
    CheckpointsForgotten,
    /// A member that is silent stays one.
    SilentForEver,
    /// A run that is resumed has the commits of its former life, whose batches are gone.
    ResumedKeepsCommits,
    /// A checkpoint may hold batches that were given to nobody.
    UndeliveredCovered,
    /// A checkpoint may have a key that is about to be deleted.
    DoomedKeyRecorded,

    // These three are the simulated workers' and trainer's.
    /// A worker commits before its batches are stored.
    #[cfg(test)]
    CommitBeforePut,
    /// A worker's batches depend on the attempt.
    #[cfg(test)]
    AttemptInBatches,
    /// A trainer tells a cursor before its checkpoint is stored.
    #[cfg(test)]
    CursorBeforeCheckpoint,
}

/// A bug, for as long as this lives.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Planted(());

#[cfg(test)]
impl Planted {
    pub(crate) fn new(bug: Bug) -> Self {
        BUG.set(Some(bug));
        Self(())
    }
}

#[cfg(test)]
impl Drop for Planted {
    fn drop(&mut self) {
        BUG.set(None);
    }
}

#[cfg(test)]
pub(crate) fn is_planted(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}

#[cfg(not(test))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}
