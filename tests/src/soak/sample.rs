//! What daemons and hosts hold at a moment.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;
use shim6_tun::config::SteeringConfig;
use shim6_tun::control::Client;
use shim6_tun::netlink::{MAIN_TABLE, Netlink};
use shim6_tun::status::Status;
use tokio::time::timeout;

use crate::throughput::cpu::CpuMeter;

/// How long a daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The daemons that are watched, those of host a and b.
#[derive(Debug)]
pub struct Watched {
    /// Their control sockets.
    pub sockets: [PathBuf; 2],
    pids: [AtomicU32; 2],
}

impl Watched {
    /// These daemons.
    #[must_use]
    pub fn new(sockets: [PathBuf; 2], pids: [Option<u32>; 2]) -> Self {
        let pids = pids.map(|pid| AtomicU32::new(pid.unwrap_or(0)));
        Self { sockets, pids }
    }

    /// The process of the daemon on a side, unless it is meant not to run.
    #[must_use]
    pub fn pid(&self, side: usize) -> Option<u32> {
        match self.pids[side].load(Relaxed) {
            0 => None,
            pid => Some(pid),
        }
    }

    /// There is another one, or none for now.
    pub fn set_pid(&self, side: usize, pid: Option<u32>) {
        self.pids[side].store(pid.unwrap_or(0), Relaxed);
    }
}

/// What a daemon's process holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProcessSample {
    /// Which process; another one after a restart.
    pub pid: u32,
    /// Resident memory, in kilobytes of 1024 octets.
    pub resident_kb: u64,
    /// The part of that which no file is behind.
    pub anonymous_kb: u64,
    /// File descriptors.
    pub descriptors: u64,
    /// Those of them that are eBPF programs, maps and links.
    pub bpf_descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Processor time so far, in seconds.
    pub cpu_s: f64,
}

/// What a daemon says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatusSample {
    /// Contexts.
    pub contexts: usize,
    /// Those of them that are on another path than their own.
    pub steered: usize,
    /// Moves of these contexts since they were made.
    pub failovers: u64,
    /// Things that keep it from its work.
    pub problems: usize,
    /// Control messages sent and received since it started.
    pub messages: u64,
}

/// What a host's kernel holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelSample {
    /// Routes of the main table.
    pub routes: usize,
    /// Routes of the daemon's own table, by which packets are steered.
    pub steering_routes: usize,
    /// Routing rules.
    pub rules: usize,
    /// IPv6 addresses.
    pub addresses: usize,
}

/// A host at a moment. What could not be had is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HostSample {
    /// Whether the daemon's process was meant to run and is not there.
    pub died: bool,
    /// The daemon's process.
    pub process: Option<ProcessSample>,
    /// The daemon's own account.
    pub status: Option<StatusSample>,
    /// The kernel's.
    pub kernel: Option<KernelSample>,
}

/// All at a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the start of the load.
    pub at_s: f64,
    /// Host a and host b.
    pub hosts: [HostSample; 2],
    /// Octets that have arrived so far, by class.
    pub octets: [u64; 4],
    /// Sessions that are lost so far.
    pub lost: usize,
    /// The machine's load average of the last minute.
    pub load: f64,
}

/// Looks at one host.
pub async fn host(watched: &Watched, side: usize, netlink: &Netlink) -> HostSample {
    let pid = watched.pid(side);
    let process = pid.and_then(process);
    // It may have been stopped on purpose in between.
    let died = process.is_none() && pid.is_some() && watched.pid(side) == pid;
    HostSample {
        died,
        process,
        status: status(watched, side).await.as_ref().map(StatusSample::of),
        kernel: kernel(netlink).await,
    }
}

/// What the daemon of a side says.
pub async fn status(watched: &Watched, side: usize) -> Option<Status> {
    let asked = async { Client::connect(&watched.sockets[side]).await.ok()?.status().await.ok() };
    timeout(ANSWER, asked).await.ok().flatten()
}

impl StatusSample {
    fn of(status: &Status) -> Self {
        let Status { contexts, counters, .. } = status;
        Self {
            contexts: contexts.len(),
            steered: contexts.iter().filter(|context| context.steered).count(),
            failovers: contexts.iter().map(|context| context.failovers).sum(),
            problems: status.problems.len(),
            messages: counters.sent.values().chain(counters.received.values()).sum(),
        }
    }
}

async fn kernel(netlink: &Netlink) -> Option<KernelSample> {
    // While it changes the kernel may give no consistent list.
    Some(KernelSample {
        routes: netlink.routes(MAIN_TABLE).await.ok()?.len(),
        steering_routes: netlink.routes(SteeringConfig::default().table).await.ok()?.len(),
        rules: netlink.rule_order().await.ok()?.len(),
        addresses: netlink.addresses().await.ok()?.len(),
    })
}

/// What a process holds; nothing if it has ended.
fn process(pid: u32) -> Option<ProcessSample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let descriptors = descriptors(pid);
    Some(ProcessSample {
        pid,
        // A process that has ended and waits to be noticed has none of these.
        resident_kb: field("VmRSS:")?,
        anonymous_kb: field("RssAnon:")?,
        descriptors: descriptors.len() as u64,
        bpf_descriptors: descriptors.iter().filter(|target| target.contains("bpf")).count() as u64,
        threads: field("Threads:")?,
        cpu_s: CpuMeter::of_process(pid).ok()?.read().ok()?.as_secs_f64(),
    })
}

/// Whether it runs: not one that has ended and waits to be noticed.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    process(pid).is_some()
}

/// What the descriptors of a process lead to.
fn descriptors(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let target = |entry: fs::DirEntry| fs::read_link(entry.path()).unwrap_or_default();
    entries
        .flatten()
        .map(|entry| target(entry).to_string_lossy().into_owned())
        .collect()
}

/// The machine's load average of the last minute.
#[must_use]
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_holds_something_and_one_that_ended_nothing() {
        let own = process(std::process::id()).expect("it runs");
        assert!(own.anonymous_kb > 100 && own.resident_kb >= own.anonymous_kb, "{own:?}");
        assert!(own.descriptors >= 3 && own.threads >= 1 && own.cpu_s > 0.0, "{own:?}");
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let pid = child.id();
        // It has ended, but nobody has asked for its exit code yet.
        while fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| !text.contains("State:\tZ")) {
            std::thread::yield_now();
        }
        assert_eq!(process(pid), None);
        child.wait().expect("it ended");
        assert_eq!(process(pid), None);
    }

    #[tokio::test]
    async fn daemon_that_is_away_on_purpose_has_not_died() {
        let nowhere = [PathBuf::from("/nowhere/a"), PathBuf::from("/nowhere/b")];
        let watched = Watched::new(nowhere, [None, Some(u32::MAX >> 2)]);
        let netlink = Netlink::connect().expect("a socket");
        assert!(!host(&watched, 0, &netlink).await.died);
        assert!(host(&watched, 1, &netlink).await.died);
    }
}
