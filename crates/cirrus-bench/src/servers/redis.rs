//! redis-server, without persistence.

use anyhow::Result;

use crate::servers::launch::{Launch, version_of};
use crate::servers::{Instance, Kind, free_address};

pub(super) fn start(launch: &Launch) -> Result<Instance> {
    // "Redis server v=7.0.15 sha=…"
    let version = version_of("redis-server")?;
    let number = version.split("v=").nth(1).and_then(|rest| rest.split(' ').next());
    let version = format!("redis {}", number.unwrap_or(&version));
    let address = free_address()?;
    let port = address.port().to_string();
    let arguments = ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]
        .map(str::to_owned);
    let child = launch.program("redis-server", &arguments)?;
    Instance::started(Kind::Redis, version, child, address)
}
