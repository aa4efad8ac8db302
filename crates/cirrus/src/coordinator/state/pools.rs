//! Which memory nodes a pool has, and which slots they hold.
//!
//! Owns the changes of a [`PoolView`]. May not know sockets or what nodes store.
//! Invariant: the epoch grows with every change of nodes or slots.

use super::Durable;
use super::graph::memory_pool;
use crate::api::{MemberId, Node, NodeId, PoolView, Register, SlotRange};

/// The last slot, as in Redis Cluster.
const SLOT_LAST: u16 = 16_383;

impl Durable {
    /// A memory node registered; its member is its incarnation, since a process starts empty.
    pub(super) fn node_joins(&mut self, member: MemberId, call: &Register) {
        let (Some(pool), Some(address)) = (memory_pool(&call.task), &call.address) else { return };
        let Ok(id) = u16::try_from(call.replica) else { return };
        let node = Node { id: NodeId(id), address: address.clone(), incarnation: member.0 };
        let view = self.pools.entry(pool.to_owned()).or_default();
        view.nodes.push(node);
        view.nodes.sort_by_key(|node| node.id);
        changed(view);
    }

    pub(super) fn node_leaves(&mut self, member: MemberId, call: &Register) {
        let Some(pool) = memory_pool(&call.task) else { return };
        let view = self.pools.entry(pool.to_owned()).or_default();
        view.nodes.retain(|node| node.incarnation != member.0);
        changed(view);
    }
}

/// All slots are node 0's while it is there. They do not move to another node when it goes: that
/// one would answer `NotFound` for objects that the application never deleted.
fn changed(view: &mut PoolView) {
    view.epoch += 1;
    let holder = view.nodes.iter().find(|node| node.id == NodeId(0));
    view.slots = holder
        .map(|node| SlotRange { first: 0, last: SLOT_LAST, node: node.id })
        .into_iter()
        .collect();
}
