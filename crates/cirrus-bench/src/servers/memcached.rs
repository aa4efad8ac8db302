//! memcached with one worker thread, so that it has as many processors as the others.

use anyhow::Result;

use crate::servers::launch::{Launch, version_of};
use crate::servers::{Instance, Kind, free_address};

pub(super) fn start(launch: &Launch) -> Result<Instance> {
    let version = version_of("memcached")?;
    let address = free_address()?;
    let port = address.port().to_string();
    // -I: the largest value. -u: root has to say that it means to be root.
    let arguments = [
        "-l",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "0",
        "-t",
        "1",
        "-m",
        "2048",
        "-I",
        "2m",
        "-u",
        "root",
    ]
    .map(str::to_owned);
    let child = launch.program("memcached", &arguments)?;
    Instance::started(Kind::Memcached, version, child, address)
}
