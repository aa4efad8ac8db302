//! Which split a channel's consumer is given next.
//!
//! Owns the answer to `next`. May not know checkpoints beyond what they cover.
//! Invariant: only committed splits are given, within the window of the durable cursor.

use std::collections::BTreeSet;

use super::channels::ChannelState;
use super::feeds::SetState;
use super::graph::ChannelEnds;
use super::{Decided, Decision, Event, State};
use crate::api::{Attempt, Committed, Next, NextAnswer, Refusal, RefusalKind, Reply};
use crate::coordinator::plant::{Bug, is_planted};
use crate::split::SplitPlan;

impl State {
    pub(super) fn next(&self, call: &Next) -> Decided {
        let ends = self.graph.channel(&call.channel)?;
        let channel = self.current(&call.channel, call.generation)?;
        let answer = |answer| Ok(Decision::reply(Reply::Next(answer)));
        let Some(set) = self.durable.sets.get(&ends.set) else { return answer(NextAnswer::Wait) };
        let Some(plan) = &set.plan else { return answer(NextAnswer::Wait) };
        if plan.split(call.split).is_none() {
            return answer(NextAnswer::Ended);
        }
        let cursor = channel.cursor_split(plan);
        let window = self.window(ends);
        check_next(call, ends, cursor, window)?;
        let end = cursor.saturating_add(window).min(plan.splits());
        let last = if ends.unordered { end } else { end.min(call.split + 1) };
        let taken: BTreeSet<u64> = call.taken.iter().copied().collect();
        let mut wanted = (call.split..last).filter(|split| !taken.contains(split));
        let given = wanted.clone().find_map(|split| {
            let (attempt, checksum) = set.output_of(&call.channel, split)?;
            Some((split, attempt, checksum))
        });
        let Some((split, attempt, checksum)) = given else {
            let made = wanted.any(|split| set.leases.contains_key(&split));
            // At the cursor a split is granted whatever the bytes.
            let starved = !made && call.split > cursor && channel.is_over(ends);
            let full = starved || call.split >= end;
            return answer(if full { NextAnswer::WindowFull } else { NextAnswer::Wait });
        };
        let known = channel.delivered.get(&split) == Some(&attempt);
        let event = Event::Delivered { channel: call.channel.clone(), split, attempt };
        let committed = committed(plan, channel, ends, (split, attempt, checksum));
        let reply = committed.map_or(NextAnswer::Ended, NextAnswer::Committed);
        let reply = Reply::Next(reply);
        Ok(Decision { events: if known { vec![] } else { vec![event] }, reply })
    }
}

fn check_next(call: &Next, ends: &ChannelEnds, cursor: u64, window: u64) -> Result<(), Refusal> {
    let input = |problem: String| Err(Refusal::new(RefusalKind::Input, problem));
    if call.split < cursor {
        return input(format!(
            "split {} of channel `{}` lies before the checkpoint in split {cursor} and is freed; \
             start from the checkpoint's cursor",
            call.split, call.channel
        ));
    }
    let most = if ends.unordered { window } else { 0 };
    if call.taken.len() as u64 > most || call.taken.contains(&call.split) {
        return input(format!(
            "{} splits of channel `{}` beyond split {} cannot be taken: at most {most} may",
            call.taken.len(),
            call.channel,
            call.split
        ));
    }
    Ok(())
}

fn committed(
    plan: &SplitPlan,
    channel: &ChannelState,
    ends: &ChannelEnds,
    (split, attempt, checksum): (u64, Attempt, u32),
) -> Option<Committed> {
    let range = plan.split(split)?;
    let batches = range.batches;
    let half = channel.retained_bytes >= ends.capacity / 2;
    let checkpoint_due = half || channel.is_short_of_bytes(ends);
    Some(Committed { split, attempt, range, batches, checksum, checkpoint_due })
}

impl SetState {
    /// The accepted attempt at a split, and the checksum of what that wrote to `channel`.
    fn output_of(&self, channel: &str, split: u64) -> Option<(Attempt, u32)> {
        if let Some(committed) = self.committed.get(&split) {
            let mut outputs = committed.outputs.iter().map(|held| &held.output);
            let output = outputs.find(|output| output.channel == channel)?;
            return Some((committed.attempt, output.checksum));
        }
        let lease = self.leases.get(&split).filter(|_| is_planted(Bug::UncommittedRead))?;
        Some((lease.attempt, 0))
    }
}
