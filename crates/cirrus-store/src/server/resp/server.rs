//! Commands on the node: its numbers, its clock, its settings, and emptying it.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::server::resp::call::{Call, Result, SYNTAX, made};
use crate::server::resp::connection::REDIS_VERSION;
use crate::server::resp::glob;
use crate::server::resp::number::Decimal;
use crate::server::resp::parse::ARGUMENT_BYTES_MAX;
use crate::server::resp::reply::Output;

/// FLUSHDB and FLUSHALL: objects of this node, whatever protocol they came by.
pub(super) fn flush(call: &Call<'_>, out: &mut Output) -> Result {
    if call.len() > 2 || (call.len() == 2 && !call.is(1, "sync") && !call.is(1, "async")) {
        return Err(SYNTAX);
    }
    call.node.keyspace.clear(call.turn(), call.node.epoch())?;
    out.ok();
    Ok(())
}

pub(super) fn time(call: &Call<'_>, out: &mut Output) {
    out.array(2);
    out.bulk(Decimal::of_unsigned(call.now_ms / 1000).as_bytes());
    out.bulk(Decimal::of_unsigned(call.now_ms % 1000 * 1000).as_bytes());
}

/// The sections of INFO, in their order.
const SECTIONS: [&str; 6] = ["server", "clients", "memory", "stats", "replication", "keyspace"];

pub(super) fn info(call: &Call<'_>, out: &mut Output) {
    let mut wanted: Vec<&str> = Vec::new();
    for index in 1..call.len() {
        let is_group = ["all", "default", "everything"].iter().any(|word| call.is(index, word));
        let named = SECTIONS.iter().chain(["cluster"].iter());
        wanted.extend(named.filter(|section| is_group || call.is(index, section)));
    }
    if call.len() == 1 {
        wanted.extend(SECTIONS.iter().chain(["cluster"].iter()));
    }
    let mut text = String::new();
    for section in wanted {
        if !text.is_empty() {
            text += "\r\n";
        }
        text += &section_text(call, section);
    }
    out.verbatim(text.as_bytes());
}

fn section_text(call: &Call<'_>, section: &str) -> String {
    let node = call.node;
    let memory = node.keyspace.memory();
    let mode = if node.options.cluster { "cluster" } else { "standalone" };
    let mut lines: Vec<(&str, String)> = Vec::new();
    match section {
        "server" => {
            lines.push(("redis_version", REDIS_VERSION.to_owned()));
            lines.push(("redis_mode", mode.to_owned()));
            lines.push(("cirrus_version", env!("CARGO_PKG_VERSION").to_owned()));
            lines.push(("run_id", format!("{:040x}", node.incarnation)));
            lines.push(("process_id", std::process::id().to_string()));
            lines.push(("arch_bits", usize::BITS.to_string()));
        }
        "clients" => {
            lines.push(("connected_clients", node.resp.clients.len().to_string()));
            lines.push(("maxclients", node.options.connections_max.to_string()));
            lines.push(("blocked_clients", node.resp.lines.waiting().to_string()));
        }
        "memory" => {
            lines.push(("used_memory", memory.used().to_string()));
            lines.push(("maxmemory", memory.capacity().to_string()));
            lines.push(("maxmemory_policy", "noeviction".to_owned()));
        }
        "stats" => {
            let requests = node.requests.load(Ordering::Relaxed);
            lines.push(("total_commands_processed", requests.to_string()));
        }
        "replication" => {
            lines.push(("role", "master".to_owned()));
            lines.push(("connected_slaves", "0".to_owned()));
        }
        "cluster" => {
            lines.push(("cluster_enabled", i32::from(node.options.cluster).to_string()));
        }
        _ => {
            let objects = node.keyspace.len();
            if objects > 0 {
                lines.push(("db0", format!("keys={objects},expires=0,avg_ttl=0")));
            }
        }
    }
    let (first, rest) = section.split_at(1);
    let mut text = format!("# {}{rest}\r\n", first.to_ascii_uppercase());
    for (name, value) in lines {
        write!(text, "{name}:{value}\r\n").expect("a string takes any text");
    }
    text
}

/// What CONFIG GET knows: none of it can be changed while the node runs.
fn settings(call: &Call<'_>) -> Vec<(&'static str, String)> {
    let options = &call.node.options;
    vec![
        ("appendonly", "no".to_owned()),
        ("cluster-enabled", if options.cluster { "yes" } else { "no" }.to_owned()),
        ("databases", "1".to_owned()),
        ("maxclients", options.connections_max.to_string()),
        ("maxmemory", options.capacity.bytes().to_string()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("proto-max-bulk-len", ARGUMENT_BYTES_MAX.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ]
}

pub(super) fn config_get(call: &Call<'_>, out: &mut Output) {
    let matches = |name: &str| {
        (2..call.len())
            .any(|index| glob::matches(&call.arg(index).to_ascii_lowercase(), name.as_bytes()))
    };
    let found: Vec<_> = settings(call).into_iter().filter(|(name, _)| matches(name)).collect();
    out.map(found.len());
    for (name, value) in found {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
}

/// CONFIG SET: every setting is given when the node starts.
pub(super) fn config_set(call: &Call<'_>) -> Result {
    if call.len() % 2 == 1 {
        return Err(SYNTAX);
    }
    let known = settings(call);
    for index in (2..call.len()).step_by(2) {
        let name = call.arg(index).to_ascii_lowercase();
        if !known.iter().any(|(own, _)| own.as_bytes() == name) {
            let name = String::from_utf8_lossy(call.arg(index)).into_owned();
            return Err(made(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            )));
        }
    }
    let name = String::from_utf8_lossy(call.arg(2)).into_owned();
    Err(made(format!(
        "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable \
         config"
    )))
}

/// DBSIZE counts objects of this node.
pub(super) fn dbsize(call: &Call<'_>, out: &mut Output) {
    out.count(call.node.keyspace.len());
}
