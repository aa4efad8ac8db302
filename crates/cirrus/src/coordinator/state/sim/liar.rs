//! A consumer that tells what is not so: the simulated trainer, like the shipped one, never does.
//!
//! Owns checkpoints that are refused wherever a run stands. May not change the state: it asks what
//! would follow. Invariant: each has one fault only, and would be recorded without it.

use super::super::State;
use super::super::tests::CHANNEL;
use super::dice::Shape;
use crate::api::*;
use crate::covered::Covered;
use crate::split::SplitPlan;

/// Tells the coordinator lies in the name of the current consumer.
pub(super) fn lie(state: &State, plan: &SplitPlan, shape: Shape, seed: u64) {
    let Some(channel) = state.durable().channels.get(CHANNEL) else { return };
    let tell = |held: &Covered, key: &str| {
        let (cursor, beyond) = (held.cursor(), held.beyond().to_vec());
        let (key, version, bytes, checksum) = (key.to_owned(), 1, 1, 1);
        let record = CheckpointRecord { cursor, beyond, key, version, bytes, checksum };
        let (channel, generation) = (CHANNEL.to_owned(), channel.generation);
        state.decide(&Checkpoint { channel, generation, record }.into())
    };
    // Nobody was given the split behind the window.
    let behind = channel.cursor_split(plan) + u64::from(shape.window);
    if behind < plan.splits() {
        let told = tell(&Covered::below(plan.batches_of(behind).end), "a new key");
        assert!(told.is_err(), "seed {seed}: split {behind}, given to nobody, is recorded");
    }
    let sweeps = state.pending_sweeps(usize::MAX);
    let doomed = sweeps.iter().find_map(|sweep| match &sweep.what {
        Garbage::Key(key) => Some(key),
        Garbage::Prefix(_) => None,
    });
    if let (Some(held), Some(doomed)) = (one_more(state, plan, shape), doomed) {
        let told = tell(&held, "a new key");
        assert!(told.is_ok(), "seed {seed}: {held:?}, which was given, is refused: {told:?}");
        let told = tell(&held, doomed);
        assert!(told.is_err(), "seed {seed}: {doomed}, which is about to be deleted, is recorded");
    }
}

/// What the last checkpoint holds, and a batch that was given since, if there is one.
fn one_more(state: &State, plan: &SplitPlan, shape: Shape) -> Option<Covered> {
    let channel = state.durable().channels.get(CHANNEL)?;
    let held = channel.covered();
    let given = channel.delivered.keys().flat_map(|split| plan.batches_of(*split));
    let batch = given.into_iter().find(|batch| !held.holds(&(*batch..batch + 1)))?;
    let mut more = held;
    more.add(batch..batch + 1);
    (shape.unordered || more.beyond().is_empty()).then_some(more)
}
