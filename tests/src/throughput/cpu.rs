//! The processor time that traffic takes.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::ClockId;
use nix::unistd::Pid;

/// Adds up the processor time of everything that takes part in moving packets: this process, in which senders and receivers
/// are, the daemons, and the kernel's `ksoftirqd` threads.
///
/// What the kernel does for a packet (a veth pair, routers, the receiving side of TCP) it does in a software interrupt, mostly
/// right after the call that sent it, on behalf of the thread that called; the rest in `ksoftirqd`. So these clocks have
/// it all, however busy the machine is with other things, of which only their own network traffic gets in. The
/// machine-wide figures of `/proc/stat` would count everything that runs beside. Software interrupts that interrupt an idle processor
/// or a stranger are missed, and a kernel built with `CONFIG_IRQ_TIME_ACCOUNTING` keeps interrupts out of the threads' clocks: there
/// the figures are too low, for all states alike.
#[derive(Debug)]
pub struct CpuMeter {
    clocks: Vec<ClockId>,
}

impl CpuMeter {
    /// A meter of this process, `processes` and the kernel's threads.
    ///
    /// # Errors
    /// There is no such process.
    pub fn new(processes: &[u32]) -> io::Result<Self> {
        let clock = |&pid: &u32| ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()));
        let mut clocks = vec![ClockId::CLOCK_PROCESS_CPUTIME_ID];
        for process in processes {
            clocks.push(clock(process)?);
        }
        // In a container they may be out of sight.
        clocks.extend(softirq_threads()?.iter().filter_map(|thread| clock(thread).ok()));
        Ok(Self { clocks })
    }

    /// The processor time taken so far.
    ///
    /// # Errors
    /// A process has ended.
    pub fn read(&self) -> io::Result<Duration> {
        let times = self.clocks.iter().map(|clock| Ok(duration(clock.now()?)));
        times.sum()
    }
}

fn duration(time: TimeSpec) -> Duration {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec())) + Duration::from_nanos(part(time.tv_nsec()))
}

/// The process ids of the kernel's threads that work off software interrupts, one for each processor.
fn softirq_threads() -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with("ksoftirqd/") {
            found.push(pid);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    #[test]
    fn own_work_and_that_of_other_processes_is_counted() {
        let own = CpuMeter::new(&[]).expect("a meter");
        let before = own.read().expect("a time");
        let start = Instant::now();
        while own.read().expect("a time") < before + Duration::from_millis(20) {
            assert!(start.elapsed() < Duration::from_secs(20), "no time passes");
        }
        // An endless loop, ended below.
        let mut child = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()
            .expect("a shell");
        let meter = CpuMeter {
            clocks: CpuMeter::new(&[child.id()]).expect("a meter").clocks[1..2].to_vec(),
        };
        while meter.read().expect("a time") < Duration::from_millis(20) {
            assert!(start.elapsed() < Duration::from_secs(20), "no time passes");
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(CpuMeter::new(&[child.id()]).is_err(), "it is gone");
    }
}
