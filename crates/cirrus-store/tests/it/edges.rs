//! Who may use whom: modules of this crate, and crates of the workspace.
//!
//! The tables below are those of ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules of cirrus-store and what each may import beside itself. `view` is data like an object;
/// `ByteSize` comes from cirrus-units.
const MODULES: [(&str, &[&str]); 18] = [
    ("error", &[]),
    ("key", &["error"]),
    ("checksum", &["error"]),
    ("object", &["key"]),
    ("token", &[]),
    ("view", &["error", "key"]),
    ("rule", &[]),
    ("table", &["error", "rule"]),
    ("wire", &["checksum", "error", "key", "table", "token"]),
    ("transport", &["checksum", "error", "wire"]),
    ("segments", &["checksum", "error", "key"]),
    (
        "server",
        &[
            "checksum",
            "error",
            "key",
            "rule",
            "segments",
            "table",
            "token",
            "transport",
            "view",
            "wire",
        ],
    ),
    (
        "client",
        &["checksum", "error", "key", "object", "table", "token", "transport", "view", "wire"],
    ),
    ("cache", &["client", "error", "key", "object", "set"]),
    ("set", &["error", "key"]),
    ("iter", &["cache", "error", "key", "object", "set"]),
    ("objects", &["client", "error", "key", "object"]),
    ("lib", &["checksum", "client", "error", "key", "object", "token"]),
];

/// Rooms of the server and which others of it each may import beside itself.
const SERVER: [(&str, &[&str]); 15] = [
    ("loops", &[]),
    ("memory", &[]),
    ("session", &[]),
    ("settling", &[]),
    ("arena", &["memory"]),
    ("keyspace", &["arena", "memory", "session"]),
    ("tables", &["arena", "memory"]),
    ("operations", &["keyspace"]),
    (
        "node",
        &[
            "keyspace",
            "memory",
            "operations",
            "pins",
            "resp",
            "session",
            "settling",
            "tables",
            "NodeOptions",
        ],
    ),
    ("pins", &["memory"]),
    ("stats", &["node", "pins"]),
    ("disk", &["keyspace", "node"]),
    ("connection", &["disk", "keyspace", "memory", "node", "pins", "session", "tables"]),
    ("resp", &["connection", "disk", "keyspace", "memory", "node", "session"]),
    ("mod", &["connection", "loops", "node", "pins", "resp", "stats", "tables"]),
];

/// Crates and which of the others each may depend on; tests of a crate may use more.
const CRATES: [(&str, &[&str]); 9] = [
    ("cirrus-units", &[]),
    ("cirrus-store", &["cirrus-units"]),
    ("cirrus-plan", &["cirrus-units"]),
    ("cirrus-trace", &["cirrus-plan"]),
    ("cirrus-macros", &["cirrus-units"]),
    ("cirrus", &["cirrus-macros", "cirrus-plan", "cirrus-store", "cirrus-units"]),
    ("cirrus-learn", &["cirrus", "cirrus-store", "cirrus-units"]),
    ("cirrus-bench", &["cirrus-plan", "cirrus-store", "cirrus-trace", "cirrus-units"]),
    (
        "cirrus-cli",
        &[
            "cirrus",
            "cirrus-learn",
            "cirrus-macros",
            "cirrus-plan",
            "cirrus-store",
            "cirrus-trace",
            "cirrus-units",
        ],
    ),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => rust_files(&path, files),
            false if path.extension().is_some_and(|extension| extension == "rs") => {
                files.push(path)
            }
            false => {}
        }
    }
}

/// The code of a file: no comments, and nothing from its tests on, which stand last.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let is_tests = |at: &(usize, &str)| {
        text[at.0..].lines().nth(1).is_some_and(|line| line.contains("mod tests"))
    };
    let end = text.match_indices("#[cfg(test)]\n").find(is_tests).map_or(text.len(), |(at, _)| at);
    let text = &text[..end];
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules of the crate's root that the code names: `crate::name`, and `super::name` where
/// `super` is the root.
fn imports(code: &str, depth: usize) -> BTreeSet<String> {
    let to_root = "super::".repeat(depth);
    let mut names = BTreeSet::new();
    for start in ["crate::", to_root.as_str()] {
        if start.is_empty() {
            continue;
        }
        for (at, _) in code.match_indices(start) {
            let is_start = !code[..at].ends_with("super::") && !code[..at].ends_with('$');
            let rest = &code[at + start.len()..];
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if is_start && !name.is_empty() && name != "super" {
                names.insert(name);
            }
            assert!(!rest.starts_with('{'), "a list right behind `{start}` hides its modules");
        }
    }
    names
}

/// Where the names that lib.rs re-exports come from.
fn home(name: &str) -> &str {
    match name {
        "BLOCK_BYTES" | "Sums" | "checksum_of" => "checksum",
        "ByteSize" => "units",
        "BlockingClient" | "Client" | "ClientOptions" | "Condition" | "PutOptions" => "client",
        "Error" | "Kind" | "Result" => "error",
        "KEY_BYTES_MAX" | "Key" | "SLOTS" | "Slot" | "Version" => "key",
        "Object" | "Stat" => "object",
        "Token" => "token",
        module => module,
    }
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut files = Vec::new();
    rust_files(&source(), &mut files);
    let mut wrong = Vec::new();
    for path in &files {
        let inside = path.strip_prefix(source()).unwrap();
        if inside.ends_with("tests.rs") {
            continue;
        }
        let parts: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        let module = parts[0].trim_end_matches(".rs");
        let row = MODULES.iter().find(|(name, _)| *name == module);
        let Some((_, allowed)) = row else {
            panic!("module {module} is not in the table of who may use whom");
        };
        let is_root = parts.last() == Some(&"mod.rs");
        let depth = if is_root { parts.len() - 1 } else { parts.len() };
        for name in imports(&code(path), depth) {
            let used = home(&name);
            if used != module && used != "units" && !allowed.contains(&used) {
                wrong.push(format!("{} uses {used}", inside.display()));
            }
        }
    }
    assert!(files.len() > 40, "{} files found", files.len());
    assert!(wrong.is_empty(), "edges that the table does not have:\n{}", wrong.join("\n"));
}

#[test]
fn rooms_of_the_server_import_only_what_the_table_allows() {
    let root = source().join("server");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut wrong = Vec::new();
    for path in files.iter().filter(|path| !path.ends_with("tests.rs")) {
        let inside = path.strip_prefix(&root).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let room = first.trim_end_matches(".rs");
        let row = SERVER.iter().find(|(name, _)| *name == room);
        let Some((_, allowed)) = row else {
            panic!("room {room} of the server is not in the table of who may use whom");
        };
        let code = code(path);
        for (at, start) in code.match_indices("crate::server::") {
            let name: String = code[at + start.len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if name != room && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} uses {name}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that the table does not have:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_what_is_there() {
    let code = "use crate::wire::{Head, Reply};\nfn f() { super::super::client::x() }\n\
                use super::shard;\ncrate::Key::new()";
    let found: Vec<String> = imports(code, 2).into_iter().collect();
    assert_eq!(found, ["Key", "client", "wire"]);
    assert_eq!(home("Key"), "key");
}

#[test]
fn server_and_client_never_meet() {
    let row = |name| MODULES.iter().find(|(module, _)| *module == name).unwrap().1;
    assert!(!row("server").contains(&"client") && !row("client").contains(&"server"));
}

#[test]
fn crates_depend_only_on_what_the_table_allows() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for entry in fs::read_dir(crates).unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else { continue };
        let mut section = "";
        let mut name = "";
        let mut used = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if let ("[package]", Some(rest)) = (section, line.strip_prefix("name = \"")) {
                name = rest.trim_end_matches('"');
            } else if section == "[dependencies]" || section.ends_with("-dependencies]") {
                let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
                if dependency.starts_with("cirrus") && section != "[dev-dependencies]" {
                    used.push(dependency);
                }
            }
        }
        let row = CRATES.iter().find(|(member, _)| *member == name);
        let Some((_, allowed)) = row else {
            panic!("crate {name} is not in the table of who may use whom");
        };
        for dependency in used {
            assert!(allowed.contains(&dependency), "{name} depends on {dependency}");
        }
    }
}
