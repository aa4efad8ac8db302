//! What can be asked of the state without changing it.
//!
//! Owns the copies that leave it: views, status, ledger, garbage. May not know HTTP.
//! Invariant: reading changes nothing.

use std::collections::BTreeMap;

use super::members::add_counters;
use super::{Durable, State};
use crate::api::{Counters, PoolView, Refusal, SetView, Sweep};
use crate::coordinator::ledger::{Ledger, LedgerLine};
use crate::coordinator::status::{
    ChannelStatus, MemberStatus, ReportLine, SetStatus, Status, TaskStatus,
};
use crate::split::SplitPlan;

impl State {
    /// Who serves `pool`, as of now.
    pub(crate) fn pool_view(&self, pool: &str) -> Result<PoolView, Refusal> {
        self.graph.pool(pool)?;
        Ok(self.durable.pools.get(pool).cloned().unwrap_or_default())
    }

    pub(crate) fn set_view(&self, set: &str) -> Result<SetView, Refusal> {
        self.graph.set(set)?;
        let written = self.durable.sets.get(set).filter(|set| set.is_written);
        let count = written.and_then(|set| set.count);
        Ok(SetView { set: set.to_owned(), count })
    }

    /// The oldest `max` things to delete. Only what is durable may be acted on: see
    /// [`State::handle`].
    pub(crate) fn pending_sweeps(&self, max: usize) -> Vec<Sweep> {
        self.durable.sweeps.oldest(max)
    }

    /// The lines of ledger runs `from..from + len`, and where the next run begins if there is one.
    pub(crate) fn ledger_lines(
        &self,
        channel: &str,
        from: usize,
        len: usize,
    ) -> Result<(Vec<LedgerLine>, Option<usize>), Refusal> {
        let none = (Vec::new(), None);
        let Some((plan, ledger)) = self.ledger(channel)? else { return Ok(none) };
        let next = from.saturating_add(len);
        let more = (next < ledger.len()).then_some(next);
        Ok((ledger.lines(plan, from, len).collect(), more))
    }

    /// Whether everybody was asked to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.durable.stopping
    }

    pub(crate) fn status(&self) -> Status {
        let Durable { boots, stopping, pools, reports, sweeps, .. } = &self.durable;
        let report = |((task, replica, key), json): (&(String, u32, String), &String)| ReportLine {
            task: task.clone(),
            replica: *replica,
            key: key.clone(),
            value: serde_json::from_str(json).unwrap_or_default(),
        };
        Status {
            name: self.graph.name.clone(),
            run: self.graph.run.clone(),
            boots: *boots,
            stopping: *stopping,
            tasks: self.task_status(),
            sets: self.graph.sets.iter().map(|s| (s.clone(), self.set_status(s))).collect(),
            channels: self
                .graph
                .channels
                .keys()
                .map(|channel| (channel.clone(), self.channel_status(channel)))
                .collect(),
            pools: pools.clone(),
            reports: reports.iter().map(report).collect(),
            sweeps: sweeps.len() as u64,
        }
    }

    fn ledger(&self, channel: &str) -> Result<Option<(&SplitPlan, &Ledger)>, Refusal> {
        let set = &self.graph.channel(channel)?.set;
        let plan = self.durable.sets.get(set).and_then(|set| set.plan.as_ref());
        let ledger = self.durable.channels.get(channel).map(|channel| &channel.ledger);
        Ok(plan.zip(ledger))
    }

    fn task_status(&self) -> BTreeMap<String, TaskStatus> {
        let mut tasks: BTreeMap<String, TaskStatus> =
            self.graph.tasks.iter().map(|task| (task.clone(), TaskStatus::default())).collect();
        for (task, counters) in &self.durable.members.forgotten {
            add_counters(&mut tasks.entry(task.clone()).or_default().counters, counters);
        }
        for (id, member) in self.durable.members.all() {
            let told: Option<&Counters> = self.volatile.counters.get(&id);
            let counters = told.unwrap_or(&member.counters).clone();
            let task = tasks.entry(member.call.task.clone()).or_default();
            add_counters(&mut task.counters, &counters);
            task.members.push(MemberStatus {
                member: id,
                replica: member.call.replica,
                pid: member.call.pid,
                address: member.call.address.clone(),
                ending: member.ending.clone(),
                counters,
            });
        }
        tasks
    }

    fn set_status(&self, name: &str) -> SetStatus {
        let Some(set) = self.durable.sets.get(name) else { return SetStatus::default() };
        let count = set.count;
        let Some(plan) = &set.plan else { return SetStatus { count, ..SetStatus::default() } };
        let (splits, pending) = (plan.splits(), set.pending_splits(plan));
        let (leased, committed) = (set.leases.len() as u64, set.committed.len() as u64);
        let done = splits - pending - leased - committed;
        SetStatus { count, splits, pending, leased, committed, done }
    }

    fn channel_status(&self, name: &str) -> ChannelStatus {
        let (Ok(ends), Some(channel)) = (self.graph.channel(name), self.durable.channels.get(name))
        else {
            return ChannelStatus::default();
        };
        let set = self.durable.sets.get(&ends.set);
        let plan = set.and_then(|set| set.plan.as_ref());
        ChannelStatus {
            generation: channel.generation,
            cursor: channel.cursor(),
            delivered: plan.map_or(0, |plan| channel.delivered_beyond_cursor(plan)),
            batches: plan.map_or(0, SplitPlan::batches),
            retained_bytes: channel.retained_bytes,
            capacity_bytes: ends.capacity,
            full: set.zip(plan).is_some_and(|(set, plan)| self.is_full(name, set, plan)),
            closed: channel.closed,
        }
    }
}
