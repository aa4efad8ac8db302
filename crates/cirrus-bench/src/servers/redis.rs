//! redis-server, without persistence or with a log that is synced before each reply.

use std::path::Path;

use anyhow::Result;

use crate::servers::launch::{Launch, version_of};
use crate::servers::{Instance, Kind, free_address};

pub(super) fn start(launch: &Launch) -> Result<Instance> {
    started(launch, Kind::Redis, &["--appendonly", "no"])
}

/// Its log is never rewritten while it is measured.
pub(super) fn start_durable(launch: &Launch, folder: &Path) -> Result<Instance> {
    let folder = folder.display().to_string();
    let durable = ["--appendonly", "yes", "--appendfsync", "always", "--dir", &folder];
    let kept = ["--auto-aof-rewrite-percentage", "0"];
    started(launch, Kind::DurableRedis, &[&durable[..], &kept].concat())
}

fn started(launch: &Launch, kind: Kind, persistence: &[&str]) -> Result<Instance> {
    // "Redis server v=7.0.15 sha=…"
    let version = version_of("redis-server")?;
    let number = version.split("v=").nth(1).and_then(|rest| rest.split(' ').next());
    let version = format!("redis {}", number.unwrap_or(&version));
    let address = free_address()?;
    let port = address.port().to_string();
    let common = ["--bind", "127.0.0.1", "--port", &port, "--save", ""];
    let arguments = common.iter().chain(persistence).map(|&word| word.to_owned());
    let child = launch.program("redis-server", &arguments.collect::<Vec<_>>())?;
    Instance::started(kind, version, child, address)
}
