//! What goes wrong in a simulated run, and how often.
//!
//! Owns how often processes, the coordinator and its disk fail; what befalls a message is counted
//! here. May not know what must hold then.
//! Invariant: whatever happens is counted, so that a quiet run is noticed.

use std::pin::pin;
use std::task::{Context, Waker};

use super::{LATE_MS_MAX, Message, Sim, start_core};
use crate::api::MemberGone;
use crate::coordinator::gate::Log as _;

/// What happened, so that a quiet simulation cannot pass for a test of faults.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) crashes: u64,
    pub(super) resumptions: u64,
    pub(super) from_snapshot: u64,
    pub(super) forgotten_events: u64,
    pub(super) standstills: u64,
    pub(super) disk_hangs: u64,
    pub(super) deaths: u64,
    pub(super) late_successors: u64,
    pub(super) freezes: u64,
    pub(super) hangs: u64,
    pub(super) overtaken: u64,
    pub(super) returns: u64,
    pub(super) wipes: u64,
    pub(super) lost: u64,
    pub(super) rolled_back: u64,
    pub(super) refused: u64,
    pub(super) messages_lost: u64,
    pub(super) messages_doubled: u64,
    pub(super) messages_late: u64,
    /// Times that the channel came to have no room for a split.
    pub(super) channel_full: u64,
    /// Of virtual time.
    pub(super) ms: u64,
}

impl Tally {
    /// What happened, and how often.
    pub(super) fn faults(&self) -> [(&'static str, u64); 20] {
        [
            ("crashes", self.crashes),
            ("runs resumed", self.resumptions),
            ("recoveries from a snapshot", self.from_snapshot),
            ("forgotten events", self.forgotten_events),
            ("standstills", self.standstills),
            ("hangs of the disk", self.disk_hangs),
            ("deaths", self.deaths),
            ("late successors", self.late_successors),
            ("freezes", self.freezes),
            ("hangs", self.hangs),
            ("overtaken attempts", self.overtaken),
            ("returns", self.returns),
            ("wipes", self.wipes),
            ("lost batches", self.lost),
            ("rolled back deliveries", self.rolled_back),
            ("refusals", self.refused),
            ("messages lost", self.messages_lost),
            ("messages doubled", self.messages_doubled),
            ("messages late", self.messages_late),
            ("full channels", self.channel_full),
        ]
    }
}

impl Sim {
    pub(super) fn faults(&mut self) {
        if self.dice.one_in(500) {
            self.crash(false);
        }
        if self.dice.one_in(3000) {
            self.kill_everybody();
        }
        if self.dice.one_in(1500) {
            self.tally.standstills += 1;
            self.still_until_ms = self.now_ms + self.dice.below(3000);
            self.judge.woke(self.still_until_ms);
        }
        if self.dice.one_in(1000) {
            self.tally.disk_hangs += 1;
            self.disk_hangs_until_ms = self.now_ms + self.dice.below(1000);
        }
        if self.dice.one_in(2000) {
            self.tally.wipes += 1;
            self.store.wipe(self.now_ms);
        }
        if self.dice.one_in(150) && !self.actors.is_empty() {
            let index = self.dice.below(self.actors.len() as u64);
            let index = usize::try_from(index).unwrap();
            if !self.actors[index].is_finished() {
                self.kill_or_freeze(index);
            }
        }
    }

    /// The coordinator comes back with what was durable; answers that it owed are never sent.
    fn crash(&mut self, resumes: bool) {
        self.tally.crashes += 1;
        // The engine says so again to the next one if this one was never ready.
        self.resumes = resumes || (self.resumes && !self.is_ready());
        self.pending.clear();
        self.tally.forgotten_events += self.disk.lose_power(&mut self.dice);
        self.core = start_core(&self.graph, &self.disk, self.resumes);
        self.judge.started(self.now_ms);
        self.tally.from_snapshot += u64::from(self.disk.has_snapshot());
    }

    /// Whether the coordinator's own boot is durable.
    fn is_ready(&self) -> bool {
        let passed = pin!(self.core.log.gate().passed(self.core.durable_through));
        passed.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Every process dies, memory nodes too, and the run is resumed; words of the dead may come late.
    fn kill_everybody(&mut self) {
        self.tally.resumptions += 1;
        self.store.wipe(self.now_ms);
        self.network.retain(|_, message| !matches!(message, Message::Put { .. }));
        self.actors.clear();
        self.successors.clear();
        self.judge.resumed(self.now_ms);
        self.crash(true);
        self.start_everybody();
    }

    /// Either way another process takes its place, at once or when the engine comes to it; a frozen
    /// one wakes up later, knowing nothing, and may be the first to be heard again.
    fn kill_or_freeze(&mut self, index: usize) {
        let (role, replica, pid) = self.actors[index].identity();
        if self.dice.one_in(2) {
            self.tally.freezes += 1;
            let wake_ms = self.now_ms + 100 + self.dice.below(LATE_MS_MAX);
            self.actors[index].freeze(wake_ms);
        } else {
            self.tally.deaths += 1;
            self.actors.remove(index);
            if self.dice.one_in(2) {
                let task = role.task().to_owned();
                let command = MemberGone { task, replica, pid }.into();
                self.send(Message::Call { from: 0, call: 0, command });
            }
        }
        let mut due_ms = self.now_ms;
        if self.dice.one_in(2) {
            self.tally.late_successors += 1;
            due_ms += self.dice.below(LATE_MS_MAX);
        }
        self.successors.push((due_ms, role, replica));
    }
}
