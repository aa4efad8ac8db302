//! Which node holds which slot.
//!
//! Owns [`View`], the table that a coordinator hands out and that nodes and clients compare by its
//! epoch. Knows nothing of how it travels. Invariant: a view names at most one node for a slot.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::key::{SLOTS, Slot};

/// A node's number in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u16);

/// A node of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewNode {
    /// Its number.
    pub id: NodeId,
    /// `HOST:PORT`.
    pub address: String,
}

/// A run of slots that one node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRange {
    /// The first slot.
    pub first: u16,
    /// The last slot, included.
    pub last: u16,
    /// Who holds them.
    pub node: NodeId,
}

/// Who holds which slot, as of an epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Grows with every change.
    pub epoch: u32,
    /// The nodes.
    pub nodes: Vec<ViewNode>,
    /// Runs of slots, ascending, without overlap.
    pub slots: Vec<SlotRange>,
}

impl View {
    /// The view in which one node holds every slot.
    pub fn single(epoch: u32, address: impl Into<String>) -> Self {
        let node = NodeId(0);
        Self {
            epoch,
            nodes: vec![ViewNode { id: node, address: address.into() }],
            slots: vec![SlotRange { first: 0, last: SLOTS - 1, node }],
        }
    }

    /// Checks what a peer sent: ranges ascend, do not overlap, and name nodes of the view.
    pub fn validated(self) -> Result<Self> {
        let mut next = 0;
        for range in &self.slots {
            let known = self.nodes.iter().any(|node| node.id == range.node);
            if range.first < next || range.last < range.first || range.last >= SLOTS || !known {
                let text = format!("view {}: slots {range:?} are out of order", self.epoch);
                return Err(Error::new(Kind::Protocol, text));
            }
            next = range.last + 1;
        }
        Ok(self)
    }

    /// Who holds `slot`; `None` while nobody does.
    pub fn holder(&self, slot: Slot) -> Option<&ViewNode> {
        let at = self.slots.partition_point(|range| range.last < slot.number());
        let range = self.slots.get(at).filter(|range| range.first <= slot.number())?;
        self.nodes.iter().find(|node| node.id == range.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_at_most_one_holder() {
        let node = |id| ViewNode { id: NodeId(id), address: format!("h:{id}") };
        let range = |first, last, id| SlotRange { first, last, node: NodeId(id) };
        let slots = vec![range(0, 99, 1), range(200, 299, 0)];
        let view = View { epoch: 3, nodes: vec![node(0), node(1)], slots }.validated().unwrap();
        let holder = |slot| view.holder(Slot::new(slot).unwrap()).map(|node| node.id.0);
        assert_eq!([holder(0), holder(99), holder(100)], [Some(1), Some(1), None]);
        assert_eq!([holder(199), holder(200), holder(300)], [None, Some(0), None]);
        for slots in [vec![range(0, 9, 7)], vec![range(0, 9, 0), range(9, 12, 1)]] {
            let view = View { epoch: 3, nodes: vec![node(0), node(1)], slots };
            assert_eq!(view.validated().unwrap_err().kind(), Kind::Protocol);
        }
    }
}
