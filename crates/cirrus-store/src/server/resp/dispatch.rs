//! From a command's name to what carries it out.
//!
//! Owns the checks that come before every command, in Redis's order, and the words of failures.
//! Invariant: a command that fails answers one error and nothing else.

use crate::error::Kind;
use crate::server::keyspace::{End, Filling, Large, Seen};
use crate::server::node::Node;
use crate::server::resp::call::{Call, Failure, Result, made};
use crate::server::resp::connection::Client;
use crate::server::resp::lists::Wait;
use crate::server::resp::parse::Input;
use crate::server::resp::reply::Output;
use crate::server::resp::table::{Name, Spec, find};
use crate::server::resp::{
    cluster, command, connection, expiry, keys, lists, numbers, server, strings,
};

/// How much of a name or an argument an error repeats.
const QUOTED_BYTES_MAX: usize = 128;

/// A whole command and who sent it.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) node: &'a Node,
    pub(super) input: &'a Input<Filling>,
    pub(super) large: &'a [Large],
    pub(super) now_ms: u64,
    pub(super) seen: &'a Seen,
}

impl Request<'_> {
    /// Carries the command out; the reply goes to `out`, unless the client must wait for it.
    pub(super) fn answer(&self, client: &mut Client, out: &mut Output) -> Option<Wait> {
        let mark = out.mark();
        let (name, failure) = match self.spec() {
            Ok(Some(spec)) => match self.carry_out(spec, client, out) {
                Ok(wait) => return wait,
                Err(failure) => (spec.name, failure),
            },
            Ok(None) => {
                // A browser that was made to speak with this port: Redis hangs up as well.
                client.leaves = true;
                return None;
            }
            Err((name, failure)) => (name, failure),
        };
        out.rewind(mark);
        put_failure(self.node, client, name, failure, out);
        None
    }

    fn arg(&self, index: usize) -> &[u8] {
        match self.input.argument(index) {
            crate::server::resp::parse::Argument::Here(bytes) => bytes,
            crate::server::resp::parse::Argument::Large(large) => self.large[large].bytes(),
        }
    }

    /// The keys whose values the command needs.
    pub(super) fn keys_of_values(&self) -> impl Iterator<Item = &[u8]> {
        let count = self.input.argument_count();
        let spec = self.spec().ok().flatten().filter(|spec| spec.needs_values(count));
        spec.into_iter().flat_map(move |spec| spec.keys_of(count)).map(|index| self.arg(index))
    }

    /// The command, with the right number of arguments; `None` for what HTTP begins with.
    #[inline]
    fn spec(&self) -> Result<Option<&'static Spec>, (&'static str, Failure)> {
        let count = self.input.argument_count();
        let name = self.arg(0);
        let Some(mut spec) = find(name) else {
            let is_http = [&b"post"[..], b"host:"].iter().any(|own| name.eq_ignore_ascii_case(own));
            return if is_http { Ok(None) } else { Err(("", self.unknown())) };
        };
        if is_container(spec.id) && count > 1 {
            spec = spec.subcommand(self.arg(1)).ok_or_else(|| {
                let name = c_text(self.arg(1));
                let container = spec.name.to_ascii_uppercase();
                let end = format!("'. Try {container} HELP.");
                let text = [b"ERR unknown subcommand '", name, end.as_bytes()].concat();
                ("", Failure::Made(text))
            })?;
        }
        if spec.takes(count) { Ok(Some(spec)) } else { Err((spec.name, Failure::WrongArity)) }
    }

    fn unknown(&self) -> Failure {
        let mut text = b"ERR unknown command '".to_vec();
        text.extend_from_slice(c_text(self.arg(0)));
        text.extend_from_slice(b"', with args beginning with: ");
        let mut quoted = Vec::new();
        for index in 1..self.input.argument_count() {
            if quoted.len() >= QUOTED_BYTES_MAX {
                break;
            }
            let argument = c_text(self.arg(index));
            let room = argument.len().min(QUOTED_BYTES_MAX - quoted.len());
            quoted.push(b'\'');
            quoted.extend_from_slice(&argument[..room]);
            quoted.extend_from_slice(b"' ");
        }
        text.append(&mut quoted);
        Failure::Made(text)
    }

    fn carry_out(
        &self,
        spec: &'static Spec,
        client: &mut Client,
        out: &mut Output,
    ) -> Result<Option<Wait>> {
        let &Self { node, input, large, now_ms, seen } = self;
        let call = &Call { node, spec, now_ms, seen, input, large };
        if !client.is_trusted && !spec.has_flag("no_auth") {
            return Err(Failure::Text("NOAUTH Authentication required."));
        }
        if node.options.cluster {
            call.check_slots()?;
        }
        match spec.id {
            Name::Blpop => return lists::blocking_pop(call, out, End::Front),
            Name::Brpop => return lists::blocking_pop(call, out, End::Back),
            _ => {}
        }
        on_objects(call, out).unwrap_or_else(|| on_node(call, client, out))?;
        Ok(None)
    }
}

/// Commands on objects; `None` for others.
#[inline]
fn on_objects(call: &Call<'_>, out: &mut Output) -> Option<Result> {
    Some(match call.spec.id {
        Name::Get => strings::get(call, out),
        Name::Set => strings::set(call, out),
        Name::Incr => numbers::add(call, out, 1),
        Name::Mget => strings::mget(call, out),
        Name::Mset => strings::mset(call, out, false),
        Name::Append => strings::append(call, out),
        Name::Decr => numbers::add(call, out, -1),
        Name::Decrby => numbers::decrby(call, out),
        Name::Del | Name::Unlink => keys::del(call, out),
        Name::Exists | Name::Touch => keys::exists(call, out),
        Name::Expire => expiry::expire(call, out, true, false),
        Name::Expireat => expiry::expire(call, out, true, true),
        Name::Expiretime => expiry::ttl(call, out, true, true),
        Name::Getdel => strings::getdel(call, out),
        Name::Getex => strings::getex(call, out),
        Name::Getrange | Name::Substr => strings::getrange(call, out),
        Name::Getset => strings::getset(call, out),
        Name::Incrby => call.integer(2).and_then(|delta| numbers::add(call, out, delta)),
        Name::Incrbyfloat => numbers::incrbyfloat(call, out),
        Name::Keys => keys::keys(call, out),
        Name::Lindex => lists::index(call, out),
        Name::Llen => lists::len(call, out),
        Name::Lpop => lists::pop(call, out, End::Front),
        Name::Lpush => lists::push(call, out, End::Front, false),
        Name::Lpushx => lists::push(call, out, End::Front, true),
        Name::Lrange => lists::range(call, out),
        Name::MemoryUsage => keys::memory_usage(call, out),
        Name::Msetnx => strings::mset(call, out, true),
        Name::Persist => expiry::persist(call, out),
        Name::Pexpire => expiry::expire(call, out, false, false),
        Name::Pexpireat => expiry::expire(call, out, false, true),
        Name::Pexpiretime => expiry::ttl(call, out, false, true),
        Name::Psetex => strings::setex(call, out, false),
        Name::Pttl => expiry::ttl(call, out, false, false),
        Name::Randomkey => keys::randomkey(call, out),
        Name::Rename => keys::rename(call, out, false),
        Name::Renamenx => keys::rename(call, out, true),
        Name::Rpop => lists::pop(call, out, End::Back),
        Name::Rpush => lists::push(call, out, End::Back, false),
        Name::Rpushx => lists::push(call, out, End::Back, true),
        Name::Scan => keys::scan(call, out),
        Name::Setex => strings::setex(call, out, true),
        Name::Setnx => strings::setnx(call, out),
        Name::Setrange => strings::setrange(call, out),
        Name::Strlen => strings::strlen(call, out),
        Name::Ttl => expiry::ttl(call, out, true, false),
        Name::Type => keys::kind(call, out),
        _ => return None,
    })
}

/// Commands on the node and on the connection.
fn on_node(call: &Call<'_>, client: &mut Client, out: &mut Output) -> Result {
    match call.spec.id {
        Name::Auth => return connection::auth(call, client, out),
        Name::ClientId => out.count(client.card.id),
        Name::ClientInfo => connection::info(call, client, out),
        Name::ClientKill => return connection::kill(call, client, out),
        Name::ClientList => return connection::list(call, out),
        Name::ClientGetname => connection::name(client, out),
        Name::ClientNoEvict => return connection::no_evict(call, out),
        Name::ClientReply => return connection::reply(call, client, out),
        Name::ClientSetinfo => return connection::set_info(call, out),
        Name::ClientSetname => return connection::set_name(call, client, out),
        Name::Command => command::all(out),
        Name::CommandCount => out.count(crate::server::resp::table::COMMANDS.len() as u64),
        Name::CommandDocs => command::docs(call, out),
        Name::CommandGetkeys => return command::keys(call, out),
        Name::CommandInfo => command::info(call, out),
        Name::CommandList => return command::list(call, out),
        Name::ConfigGet => server::config_get(call, out),
        Name::ConfigResetstat => out.ok(),
        Name::ConfigSet => return server::config_set(call),
        Name::Dbsize => server::dbsize(call, out),
        Name::Echo => out.bulk(call.arg(1)),
        Name::Flushall | Name::Flushdb => return server::flush(call, out),
        Name::Hello => return connection::hello(call, client, out),
        Name::Info => server::info(call, out),
        Name::Ping => return connection::ping(call, out),
        Name::Quit => {
            client.leaves = true;
            out.ok();
        }
        Name::Reset => connection::reset(call, client, out),
        Name::Select => return connection::select(call, out),
        Name::Time => server::time(call, out),
        _ => return on_cluster(call, client, out),
    }
    Ok(())
}

fn on_cluster(call: &Call<'_>, client: &Client, out: &mut Output) -> Result {
    cluster::check_enabled(call)?;
    match call.spec.id {
        Name::ClusterCountkeysinslot => return cluster::count_keys_in_slot(call, out),
        Name::ClusterGetkeysinslot => return cluster::keys_in_slot(call, out),
        Name::ClusterInfo => cluster::info(call, out),
        Name::ClusterKeyslot => cluster::key_slot(call, out),
        Name::ClusterMyid => cluster::my_id(call, out),
        Name::ClusterNodes => cluster::nodes(call, client, out),
        Name::ClusterShards => cluster::shards(call, client, out),
        Name::ClusterSlots => cluster::slots(call, client, out),
        // The table has no other command.
        _ => return Err(made(format!("ERR '{}' is not carried out", call.spec.name))),
    }
    Ok(())
}

fn is_container(id: Name) -> bool {
    matches!(id, Name::Client | Name::Cluster | Name::Command | Name::Config | Name::Memory)
}

/// What C sees of bytes: up to a zero, and here no more than errors repeat.
fn c_text(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end.min(QUOTED_BYTES_MAX)]
}

pub(super) fn put_failure(
    node: &Node,
    client: &Client,
    name: &str,
    failure: Failure,
    out: &mut Output,
) {
    match failure {
        Failure::Text(text) => out.error(text),
        Failure::Made(text) => out.error(text),
        Failure::WrongArity => {
            out.error(format!("ERR wrong number of arguments for '{name}' command"));
        }
        Failure::ExpireTime => out.error(format!("ERR invalid expire time in '{name}' command")),
        Failure::Moved(slot) => match cluster::holder_of(&node.standing().1, slot, client) {
            Some(address) => out.error(format!("MOVED {} {address}", slot.number())),
            None => out.error("CLUSTERDOWN Hash slot not served"),
        },
        Failure::Fault(fault) => match fault.kind {
            Kind::TooLarge => out.error(format!("ERR over the limit of {} bytes", fault.detail)),
            Kind::Corrupt => out.error("ERR the stored value is damaged"),
            Kind::Io => out.error("MISCONF the node's disk failed; see its log"),
            Kind::Unknown => out.error("ERR whether this was written is known after a restart"),
            kind => out.error(format!("ERR not carried out: {kind:?}")),
        },
    }
}
