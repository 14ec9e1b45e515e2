//! The thread inside a link.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;

use super::queue::Queue;
use super::{MTU, Shared};
use crate::sys::tun::PolledTun;

/// Packets that are taken from one end before the clock is looked at again.
const BATCH: usize = 64;

/// Carries packets between the two ends until `stop` is closed or an end is gone.
pub(super) fn run(ends: &[PolledTun; 2], stop: &UnixStream, shared: &Shared) {
    // Else the kernel may let this thread sleep for 50 us longer than it asked for. Not fatal.
    let _ = set_timerslack(1);
    let mut queues = [Queue::default(), Queue::default()];
    let mut buffer = vec![0; MTU as usize];
    loop {
        deliver(ends, &mut queues, shared);
        let timeout = queues.iter().filter_map(Queue::next_due).min().map(until);
        let Some(readable) = wait(ends, stop, timeout) else {
            return;
        };
        for direction in [0, 1] {
            if readable[direction] && collect(direction, ends, &mut queues, &mut buffer, shared).is_err() {
                return;
            }
        }
    }
}

fn until(due: Instant) -> Duration {
    due.saturating_duration_since(Instant::now())
}

/// Waits until an end has packets or `timeout` is over, and says which ends have; nothing when it is
/// time to stop.
fn wait(ends: &[PolledTun; 2], stop: &UnixStream, timeout: Option<Duration>) -> Option<[bool; 2]> {
    let mut waited = [&ends[0].as_fd(), &ends[1].as_fd(), &stop.as_fd()].map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
    match ppoll(&mut waited, timeout.map(TimeSpec::from), None) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Some([false; 2]),
        Err(_) => return None,
    }
    let [first, second, stop] = waited.map(|fd| fd.any().unwrap_or(false));
    (!stop).then_some([first, second])
}

/// Takes what has come in at the near end of a direction.
fn collect(
    direction: usize,
    ends: &[PolledTun; 2],
    queues: &mut [Queue; 2],
    buffer: &mut [u8],
    shared: &Shared,
) -> io::Result<()> {
    let impairment = shared.impairment(direction);
    let entered = Instant::now();
    for _ in 0..BATCH {
        let length = match ends[direction].try_recv(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        let number = shared.entered[direction].fetch_add(1, Ordering::Relaxed);
        let is_lost = number.checked_rem(impairment.lost_one_of.into()) == Some(0);
        let packet = &mut buffer[..length];
        if impairment.congested {
            mark(packet);
        }
        if is_lost || !queues[direction].push(entered + impairment.delay, packet) {
            shared.dropped[direction].fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Marks an IPv6 packet whose transport knows ECN: both bits at the end of its traffic class. Nothing covers them.
fn mark(packet: &mut [u8]) {
    const ECN: u8 = 0x30;
    if let [version, class, ..] = packet
        && *version >> 4 == 6
        && *class & ECN != 0
    {
        *class |= ECN;
    }
}

/// Puts out at the far ends what is due.
fn deliver(ends: &[PolledTun; 2], queues: &mut [Queue; 2], shared: &Shared) {
    for (direction, queue) in queues.iter_mut().enumerate() {
        while let Some(packet) = queue.pop(Instant::now()) {
            let counter = match ends[1 - direction].try_send(&packet) {
                Ok(()) => &shared.passed,
                Err(_) => &shared.dropped,
            };
            counter[direction].fetch_add(1, Ordering::Relaxed);
        }
    }
}
