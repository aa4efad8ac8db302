//! Which commands there are: names, arities, flags and where their keys stand.
//!
//! Owns [`Spec`] and looking one up. What it says is what redis-server 7.0 says of the same
//! commands. Invariant: every command of the table is carried out, and no other.
//!
//! A lookup: the name folded into 16 bytes, one multiplication, one comparison; no allocation.

/// What is known of a command.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) id: Id,
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

macro_rules! table {
    ($(#[$doc:meta])* $list:ident; $($id:ident $name:literal $arity:literal $keys:tt $flags:literal
        $categories:literal $tips:literal $key_flags:literal $since:literal $group:literal
        $summary:literal;)*) => {
        $(#[$doc])*
        pub(super) const $list: &[Spec] = &[$(Spec {
            id: Id::$id,
            name: $name,
            arity: $arity,
            keys: $keys,
            flags: $flags,
            categories: $categories,
            tips: $tips,
            key_flags: $key_flags,
            since: $since,
            group: $group,
            summary: $summary,
        }),*];
    };
}

/// Names of commands and subcommands in code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Append,
    Auth,
    Blpop,
    Brpop,
    Client,
    Cluster,
    Command,
    Config,
    Dbsize,
    Decr,
    Decrby,
    Del,
    Echo,
    Exists,
    Expire,
    Expireat,
    Expiretime,
    Flushall,
    Flushdb,
    Get,
    Getdel,
    Getex,
    Getrange,
    Getset,
    Hello,
    Incr,
    Incrby,
    Incrbyfloat,
    Info,
    Keys,
    Lindex,
    Llen,
    Lpop,
    Lpush,
    Lpushx,
    Lrange,
    Memory,
    Mget,
    Mset,
    Msetnx,
    Persist,
    Pexpire,
    Pexpireat,
    Pexpiretime,
    Ping,
    Psetex,
    Pttl,
    Quit,
    Randomkey,
    Rename,
    Renamenx,
    Reset,
    Rpop,
    Rpush,
    Rpushx,
    Scan,
    Select,
    Set,
    Setex,
    Setnx,
    Setrange,
    Strlen,
    Substr,
    Time,
    Touch,
    Ttl,
    Type,
    Unlink,
    ClientId,
    ClientSetname,
    ClientGetname,
    ClientInfo,
    ClientList,
    ClientNoEvict,
    ClientReply,
    ClientKill,
    ClientSetinfo,
    ClusterSlots,
    ClusterShards,
    ClusterNodes,
    ClusterInfo,
    ClusterKeyslot,
    ClusterCountkeysinslot,
    ClusterGetkeysinslot,
    ClusterMyid,
    CommandCount,
    CommandDocs,
    CommandInfo,
    CommandList,
    CommandGetkeys,
    ConfigGet,
    ConfigSet,
    ConfigResetstat,
    MemoryUsage,
}

table! {
    /// Commands, by name.
    COMMANDS;
    Append "append" 3 (1, 1, 1) "write denyoom fast" "@write @string @fast"
        "" "RW insert" "2.0.0" "string"
        "Append a value to a key";
    Auth "auth" -2 (0, 0, 0) "noscript loading stale fast no_auth allow_busy" "@fast @connection"
        "" "" "1.0.0" "connection"
        "Authenticate to the server";
    Blpop "blpop" -3 (1, -2, 1) "write noscript blocking" "@write @list @slow @blocking"
        "" "RW access delete" "2.0.0" "list"
        "Remove and get the first element in a list, or block until one is available";
    Brpop "brpop" -3 (1, -2, 1) "write noscript blocking" "@write @list @slow @blocking"
        "" "RW access delete" "2.0.0" "list"
        "Remove and get the last element in a list, or block until one is available";
    Client "client" -2 (0, 0, 0) "" "@slow"
        "" "" "2.4.0" "connection"
        "A container for client connection commands";
    Cluster "cluster" -2 (0, 0, 0) "" "@slow"
        "" "" "3.0.0" "cluster"
        "A container for cluster commands";
    Command "command" -1 (0, 0, 0) "loading stale" "@slow @connection"
        "nondeterministic_output_order" "" "2.8.13" "server"
        "Get array of Redis command details";
    Config "config" -2 (0, 0, 0) "" "@slow"
        "" "" "2.0.0" "server"
        "A container for server configuration commands";
    Dbsize "dbsize" 1 (0, 0, 0) "readonly fast" "@keyspace @read @fast"
        "request_policy:all_shards response_policy:agg_sum" "" "1.0.0" "server"
        "Return the number of keys in the selected database";
    Decr "decr" 2 (1, 1, 1) "write denyoom fast" "@write @string @fast"
        "" "RW access update" "1.0.0" "string"
        "Decrement the integer value of a key by one";
    Decrby "decrby" 3 (1, 1, 1) "write denyoom fast" "@write @string @fast"
        "" "RW access update" "1.0.0" "string"
        "Decrement the integer value of a key by the given number";
    Del "del" -2 (1, -1, 1) "write" "@keyspace @write @slow"
        "request_policy:multi_shard response_policy:agg_sum" "RM delete" "1.0.0" "generic"
        "Delete a key";
    Echo "echo" 2 (0, 0, 0) "loading stale fast" "@fast @connection"
        "" "" "1.0.0" "connection"
        "Echo the given string";
    Exists "exists" -2 (1, -1, 1) "readonly fast" "@keyspace @read @fast"
        "request_policy:multi_shard response_policy:agg_sum" "RO" "1.0.0" "generic"
        "Determine if a key exists";
    Expire "expire" -3 (1, 1, 1) "write fast" "@keyspace @write @fast"
        "" "RW update" "1.0.0" "generic"
        "Set a key's time to live in seconds";
    Expireat "expireat" -3 (1, 1, 1) "write fast" "@keyspace @write @fast"
        "" "RW update" "1.2.0" "generic"
        "Set the expiration for a key as a UNIX timestamp";
    Expiretime "expiretime" 2 (1, 1, 1) "readonly fast" "@keyspace @read @fast"
        "" "RO access" "7.0.0" "generic"
        "Get the expiration Unix timestamp for a key";
    Flushall "flushall" -1 (0, 0, 0) "write" "@keyspace @write @slow @dangerous"
        "request_policy:all_shards response_policy:all_succeeded" "" "1.0.0" "server"
        "Remove all keys from all databases";
    Flushdb "flushdb" -1 (0, 0, 0) "write" "@keyspace @write @slow @dangerous"
        "request_policy:all_shards response_policy:all_succeeded" "" "1.0.0" "server"
        "Remove all keys from the current database";
    Get "get" 2 (1, 1, 1) "readonly fast" "@read @string @fast"
        "" "RO access" "1.0.0" "string"
        "Get the value of a key";
    Getdel "getdel" 2 (1, 1, 1) "write fast" "@write @string @fast"
        "" "RW access delete" "6.2.0" "string"
        "Get the value of a key and delete the key";
    Getex "getex" -2 (1, 1, 1) "write fast" "@write @string @fast"
        "" "RW access update" "6.2.0" "string"
        "Get the value of a key and optionally set its expiration";
    Getrange "getrange" 4 (1, 1, 1) "readonly" "@read @string @slow"
        "" "RO access" "2.4.0" "string"
        "Get a substring of the string stored at a key";
    Getset "getset" 3 (1, 1, 1) "write denyoom fast" "@write @string @fast"
        "" "RW access update" "1.0.0" "string"
        "Set the string value of a key and return its old value";
    Hello "hello" -1 (0, 0, 0) "noscript loading stale fast no_auth allow_busy" "@fast @connection"
        "" "" "6.0.0" "connection"
        "Handshake with Redis";
    Incr "incr" 2 (1, 1, 1) "write denyoom fast" "@write @string @fast"
        "" "RW access update" "1.0.0" "string"
        "Increment the integer value of a key by one";
    Incrby "incrby" 3 (1, 1, 1) "write denyoom fast" "@write @string @fast"
        "" "RW access update" "1.0.0" "string"
        "Increment the integer value of a key by the given amount";
    Incrbyfloat "incrbyfloat" 3 (1, 1, 1) "write denyoom fast" "@write @string @fast"
        "" "RW access update" "2.6.0" "string"
        "Increment the float value of a key by the given amount";
    Info "info" -1 (0, 0, 0) "loading stale" "@slow @dangerous"
        "nondeterministic_output request_policy:all_shards response_policy:special" "" "1.0.0"
        "server"
        "Get information and statistics about the server";
    Keys "keys" 2 (0, 0, 0) "readonly" "@keyspace @read @slow @dangerous"
        "request_policy:all_shards nondeterministic_output_order" "" "1.0.0" "generic"
        "Find all keys matching the given pattern";
    Lindex "lindex" 3 (1, 1, 1) "readonly" "@read @list @slow"
        "" "RO access" "1.0.0" "list"
        "Get an element from a list by its index";
    Llen "llen" 2 (1, 1, 1) "readonly fast" "@read @list @fast"
        "" "RO" "1.0.0" "list"
        "Get the length of a list";
    Lpop "lpop" -2 (1, 1, 1) "write fast" "@write @list @fast"
        "" "RW access delete" "1.0.0" "list"
        "Remove and get the first elements in a list";
    Lpush "lpush" -3 (1, 1, 1) "write denyoom fast" "@write @list @fast"
        "" "RW insert" "1.0.0" "list"
        "Prepend one or multiple elements to a list";
    Lpushx "lpushx" -3 (1, 1, 1) "write denyoom fast" "@write @list @fast"
        "" "RW insert" "2.2.0" "list"
        "Prepend an element to a list, only if the list exists";
    Lrange "lrange" 4 (1, 1, 1) "readonly" "@read @list @slow"
        "" "RO access" "1.0.0" "list"
        "Get a range of elements from a list";
    Memory "memory" -2 (0, 0, 0) "" "@slow"
        "" "" "4.0.0" "server"
        "A container for memory diagnostics commands";
    Mget "mget" -2 (1, -1, 1) "readonly fast" "@read @string @fast"
        "request_policy:multi_shard" "RO access" "1.0.0" "string"
        "Get the values of all the given keys";
    Mset "mset" -3 (1, -1, 2) "write denyoom" "@write @string @slow"
        "request_policy:multi_shard response_policy:all_succeeded" "OW update" "1.0.1" "string"
        "Set multiple keys to multiple values";
    Msetnx "msetnx" -3 (1, -1, 2) "write denyoom" "@write @string @slow"
        "request_policy:multi_shard response_policy:agg_min" "OW insert" "1.0.1" "string"
        "Set multiple keys to multiple values, only if none of the keys exist";
    Persist "persist" 2 (1, 1, 1) "write fast" "@keyspace @write @fast"
        "" "RW update" "2.2.0" "generic"
        "Remove the expiration from a key";
    Pexpire "pexpire" -3 (1, 1, 1) "write fast" "@keyspace @write @fast"
        "" "RW update" "2.6.0" "generic"
        "Set a key's time to live in milliseconds";
    Pexpireat "pexpireat" -3 (1, 1, 1) "write fast" "@keyspace @write @fast"
        "" "RW update" "2.6.0" "generic"
        "Set the expiration for a key as a UNIX timestamp specified in milliseconds";
    Pexpiretime "pexpiretime" 2 (1, 1, 1) "readonly fast" "@keyspace @read @fast"
        "" "RO access" "7.0.0" "generic"
        "Get the expiration Unix timestamp for a key in milliseconds";
    Ping "ping" -1 (0, 0, 0) "fast" "@fast @connection"
        "request_policy:all_shards response_policy:all_succeeded" "" "1.0.0" "connection"
        "Ping the server";
    Psetex "psetex" 4 (1, 1, 1) "write denyoom" "@write @string @slow"
        "" "OW update" "2.6.0" "string"
        "Set the value and expiration in milliseconds of a key";
    Pttl "pttl" 2 (1, 1, 1) "readonly fast" "@keyspace @read @fast"
        "nondeterministic_output" "RO access" "2.6.0" "generic"
        "Get the time to live for a key in milliseconds";
    Quit "quit" -1 (0, 0, 0) "noscript loading stale fast no_auth allow_busy" "@fast @connection"
        "" "" "1.0.0" "connection"
        "Close the connection";
    Randomkey "randomkey" 1 (0, 0, 0) "readonly" "@keyspace @read @slow"
        "request_policy:all_shards nondeterministic_output" "" "1.0.0" "generic"
        "Return a random key from the keyspace";
    Rename "rename" 3 (1, 2, 1) "write" "@keyspace @write @slow"
        "" "RW access delete" "1.0.0" "generic"
        "Rename a key";
    Renamenx "renamenx" 3 (1, 2, 1) "write fast" "@keyspace @write @fast"
        "" "RW access delete" "1.0.0" "generic"
        "Rename a key, only if the new key does not exist";
    Reset "reset" 1 (0, 0, 0) "noscript loading stale fast no_auth allow_busy" "@fast @connection"
        "" "" "6.2.0" "connection"
        "Reset the connection";
    Rpop "rpop" -2 (1, 1, 1) "write fast" "@write @list @fast"
        "" "RW access delete" "1.0.0" "list"
        "Remove and get the last elements in a list";
    Rpush "rpush" -3 (1, 1, 1) "write denyoom fast" "@write @list @fast"
        "" "RW insert" "1.0.0" "list"
        "Append one or multiple elements to a list";
    Rpushx "rpushx" -3 (1, 1, 1) "write denyoom fast" "@write @list @fast"
        "" "RW insert" "2.2.0" "list"
        "Append an element to a list, only if the list exists";
    Scan "scan" -2 (0, 0, 0) "readonly" "@keyspace @read @slow"
        "nondeterministic_output request_policy:special" "" "2.8.0" "generic"
        "Incrementally iterate the keys space";
    Select "select" 2 (0, 0, 0) "loading stale fast" "@fast @connection"
        "" "" "1.0.0" "connection"
        "Change the selected database for the current connection";
    Set "set" -3 (1, 1, 1) "write denyoom" "@write @string @slow"
        "" "RW access update variable_flags" "1.0.0" "string"
        "Set the string value of a key";
    Setex "setex" 4 (1, 1, 1) "write denyoom" "@write @string @slow"
        "" "OW update" "2.0.0" "string"
        "Set the value and expiration of a key";
    Setnx "setnx" 3 (1, 1, 1) "write denyoom fast" "@write @string @fast"
        "" "OW insert" "1.0.0" "string"
        "Set the value of a key, only if the key does not exist";
    Setrange "setrange" 4 (1, 1, 1) "write denyoom" "@write @string @slow"
        "" "RW update" "2.2.0" "string"
        "Overwrite part of a string at key starting at the specified offset";
    Strlen "strlen" 2 (1, 1, 1) "readonly fast" "@read @string @fast"
        "" "RO" "2.2.0" "string"
        "Get the length of the value stored in a key";
    Substr "substr" 4 (1, 1, 1) "readonly" "@read @string @slow"
        "" "RO access" "1.0.0" "string"
        "Get a substring of the string stored at a key";
    Time "time" 1 (0, 0, 0) "loading stale fast" "@fast"
        "nondeterministic_output" "" "2.6.0" "server"
        "Return the current server time";
    Touch "touch" -2 (1, -1, 1) "readonly fast" "@keyspace @read @fast"
        "request_policy:multi_shard response_policy:agg_sum" "RO" "3.2.1" "generic"
        "Alters the last access time of a key(s). Returns the number of existing keys specified";
    Ttl "ttl" 2 (1, 1, 1) "readonly fast" "@keyspace @read @fast"
        "nondeterministic_output" "RO access" "1.0.0" "generic"
        "Get the time to live for a key in seconds";
    Type "type" 2 (1, 1, 1) "readonly fast" "@keyspace @read @fast"
        "" "RO" "1.0.0" "generic"
        "Determine the type stored at key";
    Unlink "unlink" -2 (1, -1, 1) "write fast" "@keyspace @write @fast"
        "request_policy:multi_shard response_policy:agg_sum" "RM delete" "4.0.0" "generic"
        "Delete a key, as DEL does";
}

table! {
    /// Subcommands, by container.
    SUBCOMMANDS;
    ClientId "client|id" 2 (0, 0, 0) "noscript loading stale" "@slow @connection"
        "" "" "5.0.0" "connection"
        "Returns the client ID for the current connection";
    ClientSetname "client|setname" 3 (0, 0, 0) "noscript loading stale" "@slow @connection"
        "" "" "2.6.9" "connection"
        "Set the current connection name";
    ClientGetname "client|getname" 2 (0, 0, 0) "noscript loading stale" "@slow @connection"
        "" "" "2.6.9" "connection"
        "Get the current connection name";
    ClientInfo "client|info" 2 (0, 0, 0) "noscript loading stale" "@slow @connection"
        "nondeterministic_output" "" "6.2.0" "connection"
        "Returns information about the current client connection";
    ClientList "client|list" -2 (0, 0, 0) "admin noscript loading stale"
        "@admin @slow @dangerous @connection"
        "nondeterministic_output" "" "2.4.0" "connection"
        "Get the list of client connections";
    ClientNoEvict "client|no-evict" 3 (0, 0, 0) "admin noscript loading stale"
        "@admin @slow @dangerous @connection"
        "" "" "7.0.0" "connection"
        "Set client eviction mode for the current connection";
    ClientReply "client|reply" 3 (0, 0, 0) "noscript loading stale" "@slow @connection"
        "" "" "3.2.0" "connection"
        "Instruct the server whether to reply to commands";
    ClientKill "client|kill" -3 (0, 0, 0) "admin noscript loading stale"
        "@admin @slow @dangerous @connection"
        "" "" "2.4.0" "connection"
        "Kill the connection of a client";
    ClientSetinfo "client|setinfo" 4 (0, 0, 0) "noscript loading stale" "@slow @connection"
        "" "" "7.2.0" "connection"
        "Name the client library and its version";
    ClusterSlots "cluster|slots" 2 (0, 0, 0) "stale" "@slow"
        "nondeterministic_output" "" "3.0.0" "cluster"
        "Get array of Cluster slot to node mappings";
    ClusterShards "cluster|shards" 2 (0, 0, 0) "stale" "@slow"
        "nondeterministic_output" "" "7.0.0" "cluster"
        "Get array of cluster slots to node mappings";
    ClusterNodes "cluster|nodes" 2 (0, 0, 0) "stale" "@slow"
        "nondeterministic_output" "" "3.0.0" "cluster"
        "Get Cluster config for the node";
    ClusterInfo "cluster|info" 2 (0, 0, 0) "stale" "@slow"
        "nondeterministic_output" "" "3.0.0" "cluster"
        "Provides info about Redis Cluster node state";
    ClusterKeyslot "cluster|keyslot" 3 (0, 0, 0) "stale" "@slow"
        "" "" "3.0.0" "cluster"
        "Returns the hash slot of the specified key";
    ClusterCountkeysinslot "cluster|countkeysinslot" 3 (0, 0, 0) "stale" "@slow"
        "" "" "3.0.0" "cluster"
        "Return the number of local keys in the specified hash slot";
    ClusterGetkeysinslot "cluster|getkeysinslot" 4 (0, 0, 0) "stale" "@slow"
        "nondeterministic_output" "" "3.0.0" "cluster"
        "Return local key names in the specified hash slot";
    ClusterMyid "cluster|myid" 2 (0, 0, 0) "stale" "@slow"
        "" "" "3.0.0" "cluster"
        "Return the node id";
    CommandCount "command|count" 2 (0, 0, 0) "loading stale" "@slow @connection"
        "" "" "2.8.13" "server"
        "Get total number of Redis commands";
    CommandDocs "command|docs" -2 (0, 0, 0) "loading stale" "@slow @connection"
        "nondeterministic_output_order" "" "7.0.0" "server"
        "Get array of specific Redis command documentation";
    CommandInfo "command|info" -2 (0, 0, 0) "loading stale" "@slow @connection"
        "nondeterministic_output_order" "" "2.8.13" "server"
        "Get array of specific Redis command details, or all when no argument is given";
    CommandList "command|list" -2 (0, 0, 0) "loading stale" "@slow @connection"
        "nondeterministic_output_order" "" "7.0.0" "server"
        "Get an array of Redis command names";
    CommandGetkeys "command|getkeys" -4 (0, 0, 0) "loading stale" "@slow @connection"
        "" "" "2.8.13" "server"
        "Extract keys given a full Redis command";
    ConfigGet "config|get" -3 (0, 0, 0) "admin noscript loading stale" "@admin @slow @dangerous"
        "" "" "2.0.0" "server"
        "Get the values of configuration parameters";
    ConfigSet "config|set" -4 (0, 0, 0) "admin noscript loading stale" "@admin @slow @dangerous"
        "request_policy:all_nodes response_policy:all_succeeded" "" "2.0.0" "server"
        "Set configuration parameters to the given values";
    ConfigResetstat "config|resetstat" 2 (0, 0, 0) "admin noscript loading stale"
        "@admin @slow @dangerous"
        "" "" "2.0.0" "server"
        "Reset the stats returned by INFO";
    MemoryUsage "memory|usage" -3 (2, 2, 1) "readonly" "@read @slow"
        "" "RO" "4.0.0" "server"
        "Estimate the memory usage of a key";
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
