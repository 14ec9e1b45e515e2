//! Processes that run in a lab when it ends.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, LabNode};

/// How long processes may take to end by themselves.
const PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

/// Ends the processes in a lab's nodes: asks them to, and kills those that stay. Says how many there were.
pub(super) fn end(lab: &Lab) -> usize {
    let namespaces: BTreeSet<_> = lab.nodes().iter().filter_map(identity).collect();
    let all = processes(&namespaces);
    let started = Instant::now();
    signal(&all, Signal::SIGTERM);
    loop {
        let left = processes(&namespaces);
        if left.is_empty() {
            return all.len();
        }
        if started.elapsed() > PATIENCE {
            signal(&left, Signal::SIGKILL);
        }
        if started.elapsed() > 2 * PATIENCE {
            return all.len();
        }
        sleep(POLL);
    }
}

/// Those that have ended meanwhile need none.
fn signal(processes: &[Pid], signal: Signal) {
    for &process in processes {
        let _ = kill(process, signal);
    }
}

/// Device and inode of a node's network namespace.
fn identity(node: &LabNode) -> Option<(u64, u64)> {
    let descriptor = std::os::fd::AsFd::as_fd(node.namespace()).as_raw_fd();
    let found = fs::metadata(format!("/proc/self/fd/{descriptor}")).ok()?;
    Some((found.dev(), found.ino()))
}

/// The processes whose network namespace is one of these.
fn processes(namespaces: &BTreeSet<(u64, u64)>) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_inside = |number: &i32| {
        let found = fs::metadata(format!("/proc/{number}/ns/net"));
        // Those that have ended are still listed until their parents have noticed.
        found.is_ok_and(|found| namespaces.contains(&(found.dev(), found.ino())))
    };
    numbers.filter(is_inside).map(Pid::from_raw).collect()
}
