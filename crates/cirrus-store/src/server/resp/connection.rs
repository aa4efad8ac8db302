//! Commands on the connection itself: who the client is, and how it wants its replies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::server::resp::call::{Call, Failure, Result, SYNTAX, made};
use crate::server::resp::clients::Card;
use crate::server::resp::number::parse_integer;
use crate::server::resp::reply::{Dialect, Output};

/// The version of Redis whose behaviour this is.
pub(super) const REDIS_VERSION: &str = "7.0.15";

const WRONG_PASSWORD: Failure =
    Failure::Text("WRONGPASS invalid username-password pair or user is disabled.");
const NAME_CHARACTERS: Failure =
    Failure::Text("ERR Client names cannot contain spaces, newlines or special characters.");

/// What a connection has said about itself.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) card: Arc<Card>,
    /// Whether it has shown the token, where one is asked for.
    pub(super) is_trusted: bool,
    pub(super) replies: Replies,
    /// Whether the connection ends once its replies have left.
    pub(super) leaves: bool,
}

/// Which replies are sent (CLIENT REPLY).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replies {
    On,
    Off,
    /// All but the next one.
    SkipNext,
}

pub(super) fn ping(call: &Call<'_>, out: &mut Output) -> Result {
    match call.len() {
        1 => out.simple("PONG"),
        2 => out.bulk(call.arg(1)),
        _ => return Err(Failure::WrongArity),
    }
    Ok(())
}

pub(super) fn select(call: &Call<'_>, out: &mut Output) -> Result {
    let number = parse_integer(call.arg(1)).and_then(|number| i32::try_from(number).ok());
    match number {
        None => Err(Failure::Text("ERR value is not an integer or out of range")),
        Some(0) => {
            out.ok();
            Ok(())
        }
        Some(_) if call.node.options.cluster => {
            Err(Failure::Text("ERR SELECT is not allowed in cluster mode"))
        }
        Some(_) => Err(Failure::Text("ERR DB index is out of range")),
    }
}

pub(super) fn auth(call: &Call<'_>, client: &mut Client, out: &mut Output) -> Result {
    if call.len() > 3 {
        return Err(SYNTAX);
    }
    if call.len() == 2 && call.node.options.token.is_empty() {
        return Err(Failure::Text(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ));
    }
    let user = if call.len() == 3 { call.arg(1) } else { b"default" };
    authenticate(call, client, user, call.arg(call.len() - 1))?;
    out.ok();
    Ok(())
}

fn authenticate(call: &Call<'_>, client: &mut Client, user: &[u8], secret: &[u8]) -> Result {
    if user != b"default" || !call.node.options.token.admits(secret) {
        return Err(WRONG_PASSWORD);
    }
    client.is_trusted = true;
    Ok(())
}

pub(super) fn hello(call: &Call<'_>, client: &mut Client, out: &mut Output) -> Result {
    let mut dialect = out.dialect;
    let mut at = 1;
    if call.len() > 1 {
        dialect = match parse_integer(call.arg(1)) {
            Some(2) => Dialect::Resp2,
            Some(3) => Dialect::Resp3,
            Some(_) => return Err(Failure::Text("NOPROTO unsupported protocol version")),
            None => {
                let text = "ERR Protocol version is not an integer or out of range";
                return Err(Failure::Text(text));
            }
        };
        at = 2;
    }
    let (mut credentials, mut name) = (None, None);
    while at < call.len() {
        if call.is(at, "auth") && at + 2 < call.len() {
            credentials = Some((call.arg(at + 1), call.arg(at + 2)));
            at += 3;
        } else if call.is(at, "setname") && at + 1 < call.len() {
            name = Some(checked_name(call.arg(at + 1))?);
            at += 2;
        } else {
            let option = String::from_utf8_lossy(call.arg(at));
            return Err(made(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if let Some((user, secret)) = credentials {
        authenticate(call, client, user, secret)?;
    }
    if !client.is_trusted {
        return Err(Failure::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        *client.card.name.lock() = name.to_vec();
    }
    speak(client, out, dialect);
    put_hello(call, client, out);
    Ok(())
}

fn speak(client: &Client, out: &mut Output, dialect: Dialect) {
    out.dialect = dialect;
    client.card.is_resp3.store(dialect == Dialect::Resp3, Ordering::Relaxed);
}

fn put_hello(call: &Call<'_>, client: &Client, out: &mut Output) {
    out.map(7);
    for (name, text) in [("server", "redis"), ("version", REDIS_VERSION)] {
        out.bulk(name.as_bytes());
        out.bulk(text.as_bytes());
    }
    out.bulk(b"proto");
    out.integer(if out.dialect == Dialect::Resp3 { 3 } else { 2 });
    out.bulk(b"id");
    out.count(client.card.id);
    let mode = if call.node.options.cluster { "cluster" } else { "standalone" };
    for (name, text) in [("mode", mode), ("role", "master")] {
        out.bulk(name.as_bytes());
        out.bulk(text.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
}

/// RESET: as after connecting.
pub(super) fn reset(call: &Call<'_>, client: &mut Client, out: &mut Output) {
    client.is_trusted = call.node.options.token.is_empty();
    client.replies = Replies::On;
    client.card.name.lock().clear();
    speak(client, out, Dialect::Resp2);
    out.simple("RESET");
}

fn checked_name(name: &[u8]) -> Result<&[u8]> {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte)).then_some(name).ok_or(NAME_CHARACTERS)
}

pub(super) fn set_name(call: &Call<'_>, client: &Client, out: &mut Output) -> Result {
    let name = checked_name(call.arg(2))?;
    *client.card.name.lock() = name.to_vec();
    out.ok();
    Ok(())
}

pub(super) fn name(client: &Client, out: &mut Output) {
    let name = client.card.name.lock();
    if name.is_empty() { out.null() } else { out.bulk(&name) }
}

/// CLIENT SETINFO, which Redis has from 7.2 on: taken note of by nobody.
pub(super) fn set_info(call: &Call<'_>, out: &mut Output) -> Result {
    if !call.is(2, "lib-name") && !call.is(2, "lib-ver") {
        let option = String::from_utf8_lossy(call.arg(2)).into_owned();
        return Err(made(format!("ERR Unrecognized option '{option}'")));
    }
    out.ok();
    Ok(())
}

pub(super) fn info(call: &Call<'_>, client: &Client, out: &mut Output) {
    out.verbatim((client.card.line(call.now_ms) + "\n").as_bytes());
}

pub(super) fn list(call: &Call<'_>, out: &mut Output) -> Result {
    let mut ids = None;
    if call.len() == 4 && call.is(2, "type") {
        let kind = call.arg(3);
        let known = ["normal", "master", "replica", "slave", "pubsub"];
        if !known.iter().any(|one| kind.eq_ignore_ascii_case(one.as_bytes())) {
            let kind = String::from_utf8_lossy(kind).into_owned();
            return Err(made(format!("ERR Unknown client type '{kind}'")));
        }
        // All are normal ones.
        if !kind.eq_ignore_ascii_case(b"normal") {
            ids = Some(Vec::new());
        }
    } else if call.len() > 3 && call.is(2, "id") {
        let invalid = Failure::Text("ERR Invalid client ID");
        let wanted = (3..call.len()).map(|at| parse_integer(call.arg(at)).ok_or(invalid.clone()));
        ids = Some(wanted.collect::<Result<Vec<i64>>>()?);
    } else if call.len() > 2 {
        return Err(SYNTAX);
    }
    let mut text = String::new();
    for card in call.node.resp.clients.cards() {
        let id = i64::try_from(card.id).unwrap_or(i64::MAX);
        if ids.as_ref().is_none_or(|ids| ids.contains(&id)) {
            text += &card.line(call.now_ms);
            text.push('\n');
        }
    }
    out.verbatim(text.as_bytes());
    Ok(())
}

pub(super) fn no_evict(call: &Call<'_>, out: &mut Output) -> Result {
    if !call.is(2, "on") && !call.is(2, "off") {
        return Err(SYNTAX);
    }
    out.ok();
    Ok(())
}

/// CLIENT REPLY; the command itself is answered only if it turns replies on.
pub(super) fn reply(call: &Call<'_>, client: &mut Client, out: &mut Output) -> Result {
    if call.is(2, "on") {
        client.replies = Replies::On;
        out.ok();
    } else if call.is(2, "off") {
        client.replies = Replies::Off;
    } else if call.is(2, "skip") {
        if client.replies == Replies::On {
            client.replies = Replies::SkipNext;
        }
    } else {
        return Err(SYNTAX);
    }
    Ok(())
}

/// CLIENT KILL: `ADDR`, or filters, all of which must hold.
pub(super) fn kill(call: &Call<'_>, client: &mut Client, out: &mut Output) -> Result {
    let is_old = call.len() == 3;
    let mut filters = Filters { skips_me: !is_old, ..Filters::default() };
    if is_old {
        filters.address = Some(call.arg(2));
    } else {
        let mut at = 3;
        while at < call.len() {
            filters.take(call, at - 1)?;
            at += 2;
        }
        if call.len() % 2 == 1 {
            return Err(SYNTAX);
        }
    }
    let mut killed = 0;
    for card in call.node.resp.clients.cards() {
        let is_me = card.id == client.card.id;
        if !filters.hold(&card) || (is_me && filters.skips_me) {
            continue;
        }
        killed += 1;
        if is_me { client.leaves = true } else { card.killed.cancel() }
    }
    match (is_old, killed) {
        (true, 0) => return Err(Failure::Text("ERR No such client")),
        (true, _) => out.ok(),
        (false, _) => out.count(killed),
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Filters<'a> {
    id: Option<u64>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    is_nobody: bool,
    skips_me: bool,
}

impl<'a> Filters<'a> {
    fn take(&mut self, call: &Call<'a>, at: usize) -> Result {
        let value = call.arg(at + 1);
        if call.is(at, "id") {
            let id = parse_integer(value).and_then(|id| u64::try_from(id).ok());
            let wrong = Failure::Text("ERR client-id should be greater than 0");
            self.id = Some(id.filter(|id| *id > 0).ok_or(wrong)?);
        } else if call.is(at, "addr") {
            self.address = Some(value);
        } else if call.is(at, "laddr") {
            self.local_address = Some(value);
        } else if call.is(at, "type") {
            self.is_nobody |= !value.eq_ignore_ascii_case(b"normal");
        } else if call.is(at, "user") {
            if value != b"default" {
                let user = String::from_utf8_lossy(value).into_owned();
                return Err(made(format!("ERR No such user '{user}'")));
            }
        } else if call.is(at, "skipme") {
            self.skips_me = match value.to_ascii_lowercase().as_slice() {
                b"yes" => true,
                b"no" => false,
                _ => return Err(SYNTAX),
            };
        } else {
            return Err(SYNTAX);
        }
        Ok(())
    }

    fn hold(&self, card: &Card) -> bool {
        let is = |wanted: Option<&[u8]>, own: String| {
            wanted.is_none_or(|wanted| wanted == own.as_bytes())
        };
        !self.is_nobody
            && self.id.is_none_or(|id| id == card.id)
            && is(self.address, card.address())
            && is(self.local_address, card.local_address())
    }
}
