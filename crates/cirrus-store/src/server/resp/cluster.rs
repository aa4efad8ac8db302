//! CLUSTER: the node's view of its pool, as Redis Cluster clients read it.
//!
//! The view is not gossip: its epoch is the configuration epoch, and no node is ever failing.

use std::fmt::Write;

use crate::key::{SLOTS, Slot};
use crate::server::resp::call::{Call, Failure, Result};
use crate::server::resp::connection::Client;
use crate::server::resp::keys::in_slot;
use crate::server::resp::reply::Output;
use crate::view::{NodeId, SlotRange, View, ViewNode};

/// A node's name of 40 hexadecimal digits.
fn name_of(id: NodeId) -> String {
    format!("{:040x}", u32::from(id.0) + 1)
}

/// Where clients reach a node: one whose address is not known is the one that they speak with.
fn address_of(node: &ViewNode, client: &Client) -> (String, u16) {
    let address =
        if node.address.is_empty() { client.card.local_address() } else { node.address.clone() };
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, "0"));
    (host.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or(0))
}

/// Where the holder of a slot is, for `MOVED`; `None` while nobody holds it.
pub(super) fn holder_of(view: &View, slot: Slot, client: &Client) -> Option<String> {
    let (host, port) = address_of(view.holder(slot)?, client);
    Some(format!("{host}:{port}"))
}

fn ranges_of(view: &View, id: NodeId) -> impl Iterator<Item = &SlotRange> {
    view.slots.iter().filter(move |range| range.node == id)
}

pub(super) fn slots(call: &Call<'_>, client: &Client, out: &mut Output) {
    let (_, view) = call.node.standing();
    out.array(view.slots.len());
    for range in &view.slots {
        out.array(3);
        out.integer(range.first.into());
        out.integer(range.last.into());
        let holder = view.nodes.iter().find(|node| node.id == range.node);
        let (host, port) = holder.map_or_else(Default::default, |node| address_of(node, client));
        out.array(4);
        out.bulk(host.as_bytes());
        out.integer(port.into());
        out.bulk(name_of(range.node).as_bytes());
        out.array(0);
    }
}

pub(super) fn shards(call: &Call<'_>, client: &Client, out: &mut Output) {
    let (_, view) = call.node.standing();
    out.array(view.nodes.len());
    for node in &view.nodes {
        let (host, port) = address_of(node, client);
        out.map(2);
        out.bulk(b"slots");
        out.array(2 * ranges_of(&view, node.id).count());
        for range in ranges_of(&view, node.id) {
            out.integer(range.first.into());
            out.integer(range.last.into());
        }
        out.bulk(b"nodes");
        out.array(1);
        out.map(7);
        out.bulk(b"id");
        out.bulk(name_of(node.id).as_bytes());
        out.bulk(b"port");
        out.integer(port.into());
        for name in ["ip", "endpoint"] {
            out.bulk(name.as_bytes());
            out.bulk(host.as_bytes());
        }
        out.bulk(b"role");
        out.bulk(b"master");
        out.bulk(b"replication-offset");
        out.integer(0);
        out.bulk(b"health");
        out.bulk(b"online");
    }
}

pub(super) fn nodes(call: &Call<'_>, client: &Client, out: &mut Output) {
    let (own, view) = call.node.standing();
    let mut text = String::new();
    for node in &view.nodes {
        let (host, port) = address_of(node, client);
        let flags = if node.id == own { "myself,master" } else { "master" };
        let name = name_of(node.id);
        let bus = u32::from(port) + 10_000;
        let epoch = view.epoch;
        write!(text, "{name} {host}:{port}@{bus} {flags} - 0 0 {epoch} connected")
            .expect("a string takes any text");
        for SlotRange { first, last, .. } in ranges_of(&view, node.id) {
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            write!(text, " {range}").expect("a string takes any text");
        }
        text.push('\n');
    }
    out.verbatim(text.as_bytes());
}

pub(super) fn info(call: &Call<'_>, out: &mut Output) {
    let (_, view) = call.node.standing();
    let width = |range: &SlotRange| u32::from(range.last - range.first) + 1;
    let assigned: u32 = view.slots.iter().map(width).sum();
    let state = if assigned == u32::from(SLOTS) { "ok" } else { "fail" };
    let (known, epoch) = (view.nodes.len(), view.epoch);
    let text = format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
         cluster_slots_ok:{assigned}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
         cluster_known_nodes:{known}\r\ncluster_size:{known}\r\n\
         cluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\n"
    );
    out.verbatim(text.as_bytes());
}

pub(super) fn my_id(call: &Call<'_>, out: &mut Output) {
    out.bulk(name_of(call.node.standing().0).as_bytes());
}

pub(super) fn key_slot(call: &Call<'_>, out: &mut Output) {
    out.integer(Slot::of(call.arg(2)).number().into());
}

pub(super) fn count_keys_in_slot(call: &Call<'_>, out: &mut Output) -> Result {
    let slot = checked(call.integer(2)?).ok_or(Failure::Text("ERR Invalid slot"))?;
    out.count(in_slot(call, slot, u64::MAX).len() as u64);
    Ok(())
}

fn checked(slot: i64) -> Option<u16> {
    u16::try_from(slot).ok().filter(|slot| *slot < SLOTS)
}

pub(super) fn keys_in_slot(call: &Call<'_>, out: &mut Output) -> Result {
    let invalid = Failure::Text("ERR Invalid slot or number of keys");
    let number = call.integer(2)?;
    let limit = call.integer(3)?;
    let slot = checked(number).ok_or(invalid.clone())?;
    let limit = u64::try_from(limit).map_err(|_| invalid)?;
    let names = in_slot(call, slot, limit);
    out.array(names.len());
    for name in names {
        out.bulk(name.as_bytes());
    }
    Ok(())
}

/// Without `--cluster` there is nothing to see.
pub(super) fn check_enabled(call: &Call<'_>) -> Result {
    if call.node.options.cluster {
        return Ok(());
    }
    Err(Failure::Text("ERR This instance has cluster support disabled"))
}
