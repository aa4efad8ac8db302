//! Which commands there are: names, arities, flags and where their keys stand.
//!
//! Owns [`Spec`] and looking one up. What it says is what redis-server 7.0 says of the same
//! commands. Invariant: every command of the table is carried out, and no other.
//!
//! A lookup: the name folded into 16 bytes, one multiplication, one comparison; no allocation.

pub(super) use crate::server::resp::rows::{COMMANDS, Name, SUBCOMMANDS};

/// What is known of a command.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) id: Name,
    /// In lower case; of a subcommand with its container's: `client|id`.
    pub(super) name: &'static str,
    /// Arguments with the name; negative: at least so many.
    pub(super) arity: i8,
    /// The first key, the last one (negative: from the end) and the step between; 0 for none.
    pub(super) keys: (i8, i8, i8),
    /// Words, with spaces between, here and below.
    pub(super) flags: &'static str,
    pub(super) categories: &'static str,
    pub(super) tips: &'static str,
    pub(super) key_flags: &'static str,
    pub(super) since: &'static str,
    pub(super) group: &'static str,
    pub(super) summary: &'static str,
}

impl Spec {
    /// Whether a command may have so many arguments.
    pub(super) fn takes(&self, arguments: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { arguments >= arity } else { arguments == arity }
    }

    pub(super) fn has_flag(&self, flag: &str) -> bool {
        self.flags.split(' ').any(|one| one == flag)
    }

    /// Where its keys stand among so many arguments.
    pub(super) fn keys_of(&self, arguments: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let (first, last, step) = self.keys;
        let from_end = usize::from(last.unsigned_abs());
        let last = if last < 0 { arguments.saturating_sub(from_end) } else { from_end };
        let first = usize::from(first.unsigned_abs());
        let end = if first == 0 { 0 } else { (last + 1).min(arguments) };
        (first..end).step_by(usize::from(step.unsigned_abs()).max(1))
    }

    /// Whether it looks at values, and not only at names, versions and ends.
    pub(super) fn needs_values(&self, arguments: usize) -> bool {
        match self.id {
            Name::Set => arguments > 3,
            Name::Del
            | Name::Exists
            | Name::Expiretime
            | Name::MemoryUsage
            | Name::Mset
            | Name::Msetnx
            | Name::Pexpiretime
            | Name::Psetex
            | Name::Pttl
            | Name::Setex
            | Name::Setnx
            | Name::Touch
            | Name::Ttl
            | Name::Type
            | Name::Unlink => false,
            _ => self.keys.0 != 0,
        }
    }

    /// Its subcommands.
    pub(super) fn subcommands(&self) -> impl Iterator<Item = &'static Spec> {
        let name = self.name;
        SUBCOMMANDS.iter().filter(move |spec| {
            spec.name.split_once('|').is_some_and(|(container, _)| container == name)
        })
    }

    /// The subcommand of this name, in any case.
    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands().find(|spec| {
            let own = spec.name.split_once('|').map_or("", |(_, name)| name);
            own.as_bytes().eq_ignore_ascii_case(name)
        })
    }
}

/// The command of this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    let folded = fold(name)?;
    let index = usize::from(SLOTS[slot_of(folded, MULTIPLIER)]);
    let found = index < COMMANDS.len() && NAMES[index] == folded;
    found.then(|| &COMMANDS[index])
}

/// The command or subcommand (`client|id`) of this name, in any case.
pub(super) fn find_any(name: &[u8]) -> Option<&'static Spec> {
    match name.iter().position(|byte| *byte == b'|') {
        Some(at) => find(&name[..at])?.subcommand(&name[at + 1..]),
        None => find(name),
    }
}

/// The longest name of a command.
const NAME_BYTES_MAX: usize = 15;

/// Places in the table of names, many for each, so that each has one of its own.
const SLOT_COUNT: usize = 2048;

/// A name in lower case and its length.
#[inline]
const fn fold(name: &[u8]) -> Option<u128> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut bytes = [0; 16];
    let mut at = 0;
    while at < name.len() {
        bytes[at] = name[at].to_ascii_lowercase();
        at += 1;
    }
    Some(u128::from_le_bytes(bytes) | (name.len() as u128) << 120)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "halves of a number")]
const fn slot_of(folded: u128, multiplier: u64) -> usize {
    let half = (folded as u64) ^ ((folded >> 64) as u64).rotate_left(23);
    (half.wrapping_mul(multiplier) >> 53) as usize
}

const NAMES: [u128; COMMANDS.len()] = {
    let mut names = [0; COMMANDS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = match fold(COMMANDS[at].name.as_bytes()) {
            Some(folded) => folded,
            None => panic!("a name is too long"),
        };
        at += 1;
    }
    names
};

/// The first multiplier of a fixed sequence that gives each name a slot of its own.
const MULTIPLIER: u64 = {
    let mut multiplier = 0x9E37_79B9_7F4A_7C15_u64;
    while slots(multiplier).is_none() {
        multiplier = multiplier.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(2);
    }
    multiplier
};

/// Which command each slot has.
static SLOTS: [u8; SLOT_COUNT] = match slots(MULTIPLIER) {
    Some(slots) => slots,
    None => panic!("the multiplier was tried"),
};

#[expect(clippy::cast_possible_truncation, reason = "fewer than 255 commands")]
const fn slots(multiplier: u64) -> Option<[u8; SLOT_COUNT]> {
    let mut slots = [u8::MAX; SLOT_COUNT];
    let mut at = 0;
    while at < NAMES.len() {
        let slot = slot_of(NAMES[at], multiplier);
        if slots[slot] != u8::MAX {
            return None;
        }
        slots[slot] = at as u8;
        at += 1;
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for spec in COMMANDS {
            for name in [spec.name.to_owned(), spec.name.to_ascii_uppercase()] {
                assert_eq!(find(name.as_bytes()).unwrap().id, spec.id, "{name}");
                assert!(find(format!("{name}~").as_bytes()).is_none());
                assert!(find(format!("{name}\0").as_bytes()).is_none());
            }
        }
        for name in ["", "nothing", "a-name-that-is-far-too-long-for-a-command"] {
            assert!(find(name.as_bytes()).is_none(), "{name}");
        }
        for spec in SUBCOMMANDS {
            assert_eq!(find_any(spec.name.as_bytes()).unwrap().id, spec.id);
        }
    }

    #[test]
    fn keys_are_where_the_table_says() {
        let keys = |name: &str, arguments| {
            find_any(name.as_bytes()).unwrap().keys_of(arguments).collect::<Vec<_>>()
        };
        assert_eq!(keys("get", 2), [1]);
        assert_eq!(keys("mget", 4), [1, 2, 3]);
        assert_eq!(keys("mset", 5), [1, 3]);
        assert_eq!(keys("blpop", 4), [1, 2]);
        assert_eq!(keys("memory|usage", 3), [2]);
        assert_eq!(keys("ping", 2), [] as [usize; 0]);
    }
}
