//! Until when members may be silent, and leases may stand still.
//!
//! Owns the clocks. A restart forgets them: then everybody has the whole time again. May not know
//! what follows when a time is over. Invariant: nothing durable depends on them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::{HEARTBEAT_INTERVAL, MemberId};
use crate::coordinator::plant::{Bug, is_planted};

/// No lease gets more than 2 to this times the timeout.
const DOUBLINGS_MAX: u32 = 6;

/// How long silence is tolerated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// A member that was silent for so long has expired.
    pub(crate) heartbeat_timeout: Duration,
    /// A lease is revoked when its member lives and has counted nothing for so long. More where
    /// this is too short for the records: twice as long with each time that the split ran out,
    /// and twice the longest pause after which a worker of the set went on.
    pub(crate) lease_timeout: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { heartbeat_timeout: 5 * HEARTBEAT_INTERVAL, lease_timeout: Duration::from_secs(60) }
    }
}

/// Times are since the coordinator started.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    last_tick: Duration,
    /// When each live member was heard last.
    members: BTreeMap<MemberId, Duration>,
    /// By set and split; also of a split that ran out and was not leased again.
    leases: BTreeMap<(String, u64), LeaseClock>,
    /// When each member was granted a lease or counted something last.
    worked: BTreeMap<MemberId, Duration>,
    /// The longest pause of each set's workers.
    pauses: BTreeMap<String, Duration>,
}

#[derive(Debug, Default)]
struct LeaseClock {
    /// When its member counted something last.
    moved: Duration,
    /// Times that the split ran out.
    ran_out: u32,
}

impl Deadlines {
    pub(super) fn booted(now: Duration) -> Self {
        Self { last_tick: now, ..Self::default() }
    }

    pub(super) fn member_was_heard(&mut self, now: Duration, member: MemberId) {
        self.members.insert(member, now);
    }

    pub(super) fn member_ended(&mut self, member: MemberId) {
        self.members.remove(&member);
        self.worked.remove(&member);
    }

    pub(super) fn lease_was_granted(
        &mut self,
        now: Duration,
        member: MemberId,
        set: &str,
        split: u64,
    ) {
        self.worked.insert(member, now);
        self.lease_moved(now, set, split);
    }

    /// A worker of `set` counted something; also one whose lease ran out meanwhile.
    pub(super) fn worker_went_on(&mut self, now: Duration, member: MemberId, set: &str) {
        let Some(worked) = self.worked.get_mut(&member) else { return };
        let pause = now.saturating_sub(std::mem::replace(worked, now));
        let longest = self.pauses.entry(set.to_owned()).or_default();
        *longest = pause.max(*longest);
    }

    /// Its member counted something.
    pub(super) fn lease_moved(&mut self, now: Duration, set: &str, split: u64) {
        self.leases.entry((set.to_owned(), split)).or_default().moved = now;
    }

    pub(super) fn lease_ran_out(&mut self, set: &str, split: u64) {
        self.leases.entry((set.to_owned(), split)).or_default().ran_out += 1;
    }

    pub(super) fn split_is_committed(&mut self, set: &str, split: u64) {
        self.leases.remove(&(set.to_owned(), split));
    }

    /// Whether the coordinator itself stood still since the last tick (a stopped machine): what
    /// members said meanwhile may wait unread in its sockets, so everybody has the whole time
    /// again.
    pub(super) fn tick(&mut self, now: Duration, timeouts: &Timeouts) -> bool {
        let pause = now.saturating_sub(self.last_tick);
        self.last_tick = now;
        let stood_still = pause > timeouts.heartbeat_timeout / 2;
        if stood_still {
            self.members.values_mut().for_each(|heard| *heard = now);
            self.leases.values_mut().for_each(|lease| lease.moved = now);
            self.worked.values_mut().for_each(|worked| *worked = now);
        }
        stood_still
    }

    pub(super) fn silent_members(&self, now: Duration, timeouts: &Timeouts) -> Vec<MemberId> {
        let silent = |heard: Duration| {
            heard + timeouts.heartbeat_timeout <= now && !is_planted(Bug::SilentForEver)
        };
        self.members.iter().filter(|(_, heard)| silent(**heard)).map(|(id, _)| *id).collect()
    }

    /// Sets and splits whose leases, if they still are leased, stood still for too long.
    pub(super) fn idle_leases(&self, now: Duration, timeouts: &Timeouts) -> Vec<(String, u64)> {
        let times = |doublings: u32| timeouts.lease_timeout * 2u32.pow(doublings);
        let idle = |set: &str, lease: &LeaseClock| {
            let pause = self.pauses.get(set).copied().unwrap_or_default();
            let patience = times(lease.ran_out.min(DOUBLINGS_MAX)).max(2 * pause);
            let patience = patience.min(times(DOUBLINGS_MAX));
            lease.moved + patience <= now && !is_planted(Bug::LeaseForEver)
        };
        let leases = self.leases.iter().filter(|((set, _), lease)| idle(set, lease));
        leases.map(|(at, _)| at.clone()).collect()
    }
}
