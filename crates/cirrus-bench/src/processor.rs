//! Processors: who runs where, and what it cost.
//!
//! Owns pinning, processor time and system calls of a process. Invariant: a number that this
//! machine cannot give is `None` with a reason, never a guess.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The processors of a comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processors {
    pub(crate) server: usize,
    pub(crate) client: usize,
}

impl Processors {
    /// The first two that this process may use.
    pub(crate) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
        let mut free = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        match (free.next(), free.next()) {
            (Some(server), Some(client)) => Ok(Self { server, client }),
            _ => bail!("a comparison needs two processors: one for the server, one for the client"),
        }
    }
}

/// Lets this thread, and what it starts from now on, run on both.
pub(crate) fn unpin(Processors { server, client }: Processors) -> Result<()> {
    let mut both = CpuSet::new();
    both.set(server);
    both.set(client);
    sched_setaffinity(None, &both).context("cannot run on two processors")
}

/// Keeps this thread, and what it starts from now on, on one processor.
pub(crate) fn pin(processor: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only).with_context(|| format!("cannot move to processor {processor}"))
}

/// Processor time of the calling thread.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds)
        + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// Processor time of all threads that a process has, to the nanosecond while it waits; a process
/// that runs is up to a tick ahead of it. What threads used that have ended is not in it.
pub(crate) fn process_time(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut total = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("{tasks}: is the server gone?"))? {
        let path = task.context("a thread of the server")?.path().join("schedstat");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if has_ended(&error) => continue,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let run: Option<u64> = text.split(' ').next().and_then(|ns| ns.parse().ok());
        total += run.with_context(|| format!("{} says {text:?}", path.display()))?;
    }
    Ok(Duration::from_nanos(total))
}

/// Processor time of the processes that this one has started and that have ended, and of theirs, in ticks of
/// about 10 ms.
pub(crate) fn children_time() -> Result<Duration> {
    let path = "/proc/self/stat";
    let text = fs::read_to_string(path).context(path)?;
    // Behind the name, which may hold anything: proc(5) counts from 1, and the name is the second.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: Option<u64> =
        fields.split_whitespace().skip(13).take(2).map(|n| n.parse::<u64>().ok()).sum();
    let ticks = ticks.with_context(|| format!("{path} says {text:?}"))?;
    let each = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_nanos(ticks * each))
}

/// Whether a thread has ended before its file was opened, or before it was read.
fn has_ended(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// Processor time of the whole machine and of what the bench runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineTime {
    /// Ticks in which no processor was idle, and all ticks.
    busy: u64,
    all: u64,
    /// Ticks of this process and its children.
    own: u64,
}

impl MachineTime {
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|tick| tick.parse().ok()).collect();
        let [user, nice, system, idle, wait, irq, softirq, steal] = ticks[..] else {
            bail!("/proc/stat says {line:?}");
        };
        let busy = user + nice + system + irq + softirq + steal;
        Ok(Self { busy, all: busy + idle + wait, own: family_ticks(std::process::id())? })
    }

    /// The share of the machine that others have had since then.
    pub(crate) fn elsewhere(&self) -> Result<f64> {
        let now = Self::now()?;
        let (busy, all) = (now.busy - self.busy, now.all - self.all);
        let others = busy.saturating_sub(now.own.saturating_sub(self.own));
        #[expect(clippy::cast_precision_loss, reason = "ticks of a few seconds")]
        let share = others as f64 / all.max(1) as f64;
        Ok((share * 100.0).round() / 100.0)
    }
}

/// Ticks that a process and its children have used, those that have ended included.
fn family_ticks(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(path.clone())?;
    // The name may hold anything but ends at the last bracket; utime is the 14th column.
    let columns = text.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(4);
    let own: u64 = columns.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).context(path)?;
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    // A child that has ended meanwhile is in its parent's account.
    Ok(own + children.map(|child| family_ticks(child).unwrap_or_default()).sum::<u64>())
}

/// Memory that a process has resident, what it shares included.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/statm");
    let text = fs::read_to_string(&path).context(path.clone())?;
    let pages: Option<u64> = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    let pages = pages.with_context(|| format!("{path} says {text:?}"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// The most memory that a process has had resident so far.
pub(crate) fn peak_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("{path} has no VmHWM"))? * 1024)
}

/// Which system calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    All,
    /// `fdatasync` only.
    Syncs,
}

impl Calls {
    fn event(self) -> &'static str {
        match self {
            Self::All => "raw_syscalls:sys_enter",
            Self::Syncs => "syscalls:sys_enter_fdatasync",
        }
    }
}

/// Counts the system calls of a process while it is open, with `perf stat`: unlike `strace` it
/// hardly slows the process down, so batches keep their size.
#[derive(Debug)]
pub(crate) struct SyscallWindow {
    perf: Child,
}

impl SyscallWindow {
    /// Whether `perf` can count here; the reason if not.
    pub(crate) fn probe() -> Result<(), String> {
        let missing = "system calls are not counted: install perf (apt-get install linux-perf) \
                       and run as root";
        let mut this = Self::open(std::process::id(), Calls::All)
            .map_err(|error| format!("{missing}: {error:#}"))?;
        let _ = this.perf.stdin.take();
        let counted = this.close().map_err(|error| format!("{missing}: {error:#}"))?;
        if counted == 0 { Err(missing.to_owned()) } else { Ok(()) }
    }

    /// Begins to count.
    pub(crate) fn open(pid: u32, calls: Calls) -> Result<Self> {
        // The command says when counting has begun, and ends when its stdin is closed.
        let mut perf = Command::new("perf")
            .args(["stat", "-x", ",", "-e", calls.event(), "-p", &pid.to_string()])
            .args(["--", "sh", "-c", "echo; read end; exit 0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start perf")?;
        let stdout = perf.stdout.as_mut().context("perf's stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("perf's first line")?;
        let this = Self { perf };
        if line.is_empty() {
            // It ended at once and says why.
            this.close()?;
            bail!("perf did not start to count");
        }
        Ok(this)
    }

    /// Ends counting.
    pub(crate) fn close(mut self) -> Result<u64> {
        drop(self.perf.stdin.take());
        let mut text = String::new();
        let stderr = self.perf.stderr.as_mut().context("perf's stderr")?;
        stderr.read_to_string(&mut text).context("perf's answer")?;
        self.perf.wait().context("perf")?;
        let count = text.lines().find(|line| line.contains("sys_enter"));
        let count = count.and_then(|line| line.split(',').next()?.parse().ok());
        count.with_context(|| format!("perf said {:?}", text.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_grows_with_work() {
        let pid = std::process::id();
        let (thread, process) = (thread_time(), process_time(pid).unwrap());
        let mut sum = 0u64;
        while thread_time() - thread < Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        // What runs is a tick behind in the process's account.
        assert!(process_time(pid).unwrap() - process > Duration::from_millis(10));
    }

    #[test]
    fn two_processors_are_different() {
        if let Ok(processors) = Processors::choose() {
            assert_ne!(processors.server, processors.client);
        }
    }
}
