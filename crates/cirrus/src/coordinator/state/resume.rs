//! What is left of a run whose processes were all killed, when it is gone on with.
//!
//! Owns the step from one life of a run to the next. May not know who starts processes.
//! Invariant: what a checkpoint covers stays as it is; everything else is made again.

use std::ops::Range;

use super::{Durable, Graph};
use crate::coordinator::plant::{Bug, is_planted};

impl Durable {
    /// Nobody lives, memory is empty: sets are written again, and so is what no checkpoint covers.
    pub(super) fn resumes(&mut self, graph: &Graph) {
        self.stopping = false;
        for (id, call) in self.members.forget_all() {
            self.node_leaves(id, &call);
            self.revoke_all(graph, id);
        }
        // A reader that was done begins at its last checkpoint, and finds nothing to do.
        self.channels.values_mut().for_each(|channel| channel.closed = false);
        let names: Vec<String> = self.sets.keys().cloned().collect();
        names.iter().for_each(|name| self.set_is_lost(graph, name));
    }

    fn set_is_lost(&mut self, graph: &Graph, name: &str) {
        let set = self.sets.entry(name.to_owned()).or_default();
        set.is_written = false;
        let (next, Some(plan)) = (set.next_split(), set.plan.clone()) else { return };
        let Some(feed) = graph.feeds.get(name) else { return };
        // Without a channel a split is done with its commit.
        if feed.outputs.is_empty() || is_planted(Bug::ResumedKeepsCommits) {
            return;
        }
        let passed = |name: &String| self.channels.get(name).map_or(vec![], |c| c.passed(&plan));
        let passed: Vec<Vec<Range<u64>>> = feed.outputs.iter().map(passed).collect();
        let is_passed = |split: &u64| {
            passed.iter().all(|channel| channel.iter().any(|splits| splits.contains(split)))
        };
        let lost: Vec<u64> = (0..next).filter(|split| !is_passed(split)).collect();
        lost.into_iter().for_each(|split| self.split_is_lost(name, split));
    }
}
