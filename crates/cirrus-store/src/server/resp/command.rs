//! COMMAND: what the table says, in Redis's words.

use crate::server::resp::call::{Call, Failure, Result, SYNTAX, made};
use crate::server::resp::glob;
use crate::server::resp::reply::Output;
use crate::server::resp::table::{COMMANDS, Name, Spec, find, find_any};

pub(super) fn all(out: &mut Output) {
    out.array(COMMANDS.len());
    for spec in COMMANDS {
        put_spec(out, spec);
    }
}

pub(super) fn info(call: &Call<'_>, out: &mut Output) {
    if call.len() == 2 {
        return all(out);
    }
    out.array(call.len() - 2);
    for index in 2..call.len() {
        match find_any(call.arg(index)) {
            Some(spec) => put_spec(out, spec),
            None => out.null(),
        }
    }
}

fn put_spec(out: &mut Output, spec: &Spec) {
    let (first, last, step) = spec.keys;
    out.array(10);
    out.bulk(spec.name.as_bytes());
    out.integer(spec.arity.into());
    put_words(out, spec.flags);
    out.integer(first.into());
    out.integer(last.into());
    out.integer(step.into());
    put_words(out, spec.categories);
    put_tips(out, spec.tips);
    put_key_specs(out, spec);
    match spec.subcommands().count() {
        0 => out.set(0),
        count => out.array(count),
    }
    for subcommand in spec.subcommands() {
        put_spec(out, subcommand);
    }
}

/// Words as a set of simple strings.
fn put_words(out: &mut Output, words: &str) {
    out.set(words.split_ascii_whitespace().count());
    for word in words.split_ascii_whitespace() {
        out.simple(word);
    }
}

/// Words as a set of bulks.
fn put_tips(out: &mut Output, words: &str) {
    out.set(words.split_ascii_whitespace().count());
    for word in words.split_ascii_whitespace() {
        out.bulk(word.as_bytes());
    }
}

fn put_key_specs(out: &mut Output, spec: &Spec) {
    let (first, last, step) = spec.keys;
    match spec.id {
        Name::Rename | Name::Renamenx => {
            let written = if spec.id == Name::Rename { "OW update" } else { "OW insert" };
            out.set(2);
            put_key_spec(out, "", spec.key_flags, (1, 0, 1));
            put_key_spec(out, "", written, (2, 0, 1));
        }
        _ if first == 0 => out.set(0),
        _ => {
            let notes = match spec.id {
                Name::Set => "RW and ACCESS due to the optional `GET` argument",
                Name::Getex => "RW and UPDATE because it changes the TTL",
                _ => "",
            };
            let last = if last < 0 { last } else { last - first };
            out.set(1);
            put_key_spec(out, notes, spec.key_flags, (first, last, step));
        }
    }
}

fn put_key_spec(out: &mut Output, notes: &str, flags: &str, (first, last, step): (i8, i8, i8)) {
    out.map(if notes.is_empty() { 3 } else { 4 });
    if !notes.is_empty() {
        out.bulk(b"notes");
        out.bulk(notes.as_bytes());
    }
    out.bulk(b"flags");
    put_words(out, flags);
    out.bulk(b"begin_search");
    put_step(out, "index", &[("index", first)]);
    out.bulk(b"find_keys");
    put_step(out, "range", &[("lastkey", last), ("keystep", step), ("limit", 0)]);
}

fn put_step(out: &mut Output, kind: &str, fields: &[(&str, i8)]) {
    out.map(2);
    out.bulk(b"type");
    out.bulk(kind.as_bytes());
    out.bulk(b"spec");
    out.map(fields.len());
    for (name, value) in fields {
        out.bulk(name.as_bytes());
        out.integer((*value).into());
    }
}

pub(super) fn docs(call: &Call<'_>, out: &mut Output) {
    let found: Vec<&Spec> = if call.len() == 2 {
        COMMANDS.iter().collect()
    } else {
        (2..call.len()).filter_map(|index| find_any(call.arg(index))).collect()
    };
    out.map(found.len());
    for spec in found {
        out.bulk(spec.name.as_bytes());
        put_docs(out, spec);
    }
}

fn put_docs(out: &mut Output, spec: &Spec) {
    let subcommands = spec.subcommands().count();
    out.map(if subcommands > 0 { 4 } else { 3 });
    for (name, text) in [("summary", spec.summary), ("since", spec.since), ("group", spec.group)] {
        out.bulk(name.as_bytes());
        out.bulk(text.as_bytes());
    }
    if subcommands > 0 {
        out.bulk(b"subcommands");
        out.map(subcommands);
        for subcommand in spec.subcommands() {
            out.bulk(subcommand.name.as_bytes());
            put_docs(out, subcommand);
        }
    }
}

pub(super) fn list(call: &Call<'_>, out: &mut Output) -> Result {
    let filter = match call.len() {
        2 => None,
        5 if call.is(2, "filterby") => Some((call.arg(3).to_ascii_lowercase(), call.arg(4))),
        _ => return Err(SYNTAX),
    };
    let holds = |spec: &&Spec| match &filter {
        None => Some(true),
        Some((by, _)) if by == b"module" => Some(false),
        Some((by, category)) if by == b"aclcat" => Some(
            spec.categories
                .split(' ')
                .any(|own| own.trim_start_matches('@').as_bytes().eq_ignore_ascii_case(category)),
        ),
        Some((by, pattern)) if by == b"pattern" => {
            Some(glob::matches(&pattern.to_ascii_lowercase(), spec.name.as_bytes()))
        }
        Some(_) => None,
    };
    if COMMANDS.first().is_some_and(|spec| holds(&spec).is_none()) {
        return Err(SYNTAX);
    }
    let found: Vec<&Spec> = COMMANDS.iter().filter(|spec| holds(spec) == Some(true)).collect();
    out.array(found.len());
    for spec in found {
        out.bulk(spec.name.as_bytes());
    }
    Ok(())
}

pub(super) fn keys(call: &Call<'_>, out: &mut Output) -> Result {
    let Some(container) = find(call.arg(2)) else {
        return Err(Failure::Text("ERR Invalid command specified"));
    };
    let subcommand = (call.len() > 3).then(|| container.subcommand(call.arg(3))).flatten();
    let spec = subcommand.unwrap_or(container);
    if spec.keys.0 == 0 {
        return Err(Failure::Text("ERR The command has no key arguments"));
    }
    let arguments = call.len() - 2;
    if !spec.takes(arguments) {
        return Err(made("ERR Invalid number of arguments specified for command".to_owned()));
    }
    let keys: Vec<usize> = spec.keys_of(arguments).collect();
    out.array(keys.len());
    for index in keys {
        out.bulk(call.arg(index + 2));
    }
    Ok(())
}
