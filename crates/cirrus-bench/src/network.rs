//! The loopback that comparisons run over.
//!
//! Owns a network namespace of the bench's own, where every TCP connection, of whichever server,
//! uses the same congestion control: programs that cannot be told (Redis, memcached) take it from
//! the route. Invariant: nothing outside the bench is changed.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// BBR, the default of some machines, paces what a loopback need not pace.
const CONGESTION: &str = "cubic";

/// Starts this program again inside a namespace of its own, with `flag` before its arguments.
/// Returns only where that cannot be done, with the reason.
pub(crate) fn enter(flag: &str) -> anyhow::Error {
    let mut probe = Command::new("unshare");
    if let Err(error) = output(probe.args(["--net", "--", "ip", "link", "set", "lo", "up"])) {
        return error.context("no network namespace (it takes root, unshare and ip)");
    }
    let Ok(this) = std::env::current_exe() else {
        return anyhow::anyhow!("the path of this program is not known");
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(this).arg(flag).args(std::env::args_os().skip(1));
    anyhow::Error::new(command.exec()).context("unshare")
}

/// Brings up the loopback of a fresh namespace.
pub(crate) fn set_up() -> Result<()> {
    let ip = |arguments: &str| -> Result<()> {
        let mut command = Command::new("ip");
        output(command.args(arguments.split(' '))).with_context(|| format!("ip {arguments}"))
    };
    ip("link set lo up")?;
    for range in ["127.0.0.0/8", "127.0.0.1"] {
        ip(&format!(
            "route replace local {range} dev lo table local proto kernel scope host \
             src 127.0.0.1 congctl {CONGESTION}"
        ))?;
    }
    Ok(())
}

/// The congestion control that connections over the loopback have here.
pub(crate) fn congestion() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    let stream = TcpStream::connect(listener.local_addr()?).context("loopback")?;
    rustix::net::sockopt::tcp_congestion(&stream).context("TCP_CONGESTION")
}

fn output(command: &mut Command) -> Result<()> {
    let ended = command.stdin(Stdio::null()).output().context("cannot be started")?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{}", said.trim());
    Ok(())
}
