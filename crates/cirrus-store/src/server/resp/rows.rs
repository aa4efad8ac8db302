//! The rows of the table of commands.
//!
//! Owns names, flags and summaries as COMMAND shows them. Knows nothing of what commands do.
//! Invariant: a row says of its command what redis-server 7.0 says.

use crate::server::resp::table::Spec;

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
