//! The thread inside a link.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;

use super::capture::CapturedFrame;
use super::element::Chain;
use super::lane::{Fate, Lane};
use super::{Direction, Impairment, Shared};
use crate::sys::frame_socket::FrameSocket;

/// Frames that are taken from one end before the clock is looked at again.
const BATCH: usize = 64;
/// Octets of the longest frame: whatever the MTU of the ends is.
const MAX_FRAME: usize = 65_536 + ETHERNET;
/// Octets of an Ethernet header.
const ETHERNET: usize = 14;
/// The EtherType of IPv6.
const IPV6: [u8; 2] = [0x86, 0xdd];
/// The EtherType of IPv4's address resolution.
const ARP: [u8; 2] = [8, 6];
const ICMPV6: u8 = 58;
/// What Neighbor Discovery is sent with.
const ON_LINK_HOP_LIMIT: u8 = 255;
/// From Router Solicitation to Redirect.
const NEIGHBOR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// Carries frames between two ends.
pub(super) struct Worker<'a> {
    ends: &'a [FrameSocket; 2],
    lanes: [Lane; 2],
    chain: Chain,
    shared: &'a Shared,
}

impl<'a> Worker<'a> {
    pub(super) fn new(ends: &'a [FrameSocket; 2], chain: Chain, seed: u64, shared: &'a Shared) -> Self {
        // Each direction draws lots of its own, so that what passes one way changes nothing the other way.
        let lanes = [Lane::new(seed), Lane::new(!seed)];
        Self {
            ends,
            lanes,
            chain,
            shared,
        }
    }

    /// Works until `stop` is closed or an end is gone.
    pub(super) fn run(mut self, stop: &UnixStream) {
        // Else the kernel may let this thread sleep for 50 us longer than it asked for. Not fatal.
        let _ = set_timerslack(1);
        let mut buffer = vec![0; MAX_FRAME];
        loop {
            self.deliver();
            let timeout = self.lanes.iter().filter_map(Lane::next_due).min().map(until);
            let Some(readable) = self.wait(stop, timeout) else {
                return;
            };
            for direction in Direction::ALL {
                if readable[direction.index()] && self.collect(direction, &mut buffer).is_err() {
                    return;
                }
            }
        }
    }

    /// Waits until an end has frames or `timeout` is over, and says which ends have; nothing when it is time to stop.
    fn wait(&self, stop: &UnixStream, timeout: Option<Duration>) -> Option<[bool; 2]> {
        let fds = [&self.ends[0].as_fd(), &self.ends[1].as_fd(), &stop.as_fd()];
        let mut waited = fds.map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
        match ppoll(&mut waited, timeout.map(TimeSpec::from), None) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Some([false; 2]),
            Err(_) => return None,
        }
        let [first, second, stop] = waited.map(|fd| fd.any().unwrap_or(false));
        (!stop).then_some([first, second])
    }

    /// Takes what has come in at the near end of a direction.
    fn collect(&mut self, direction: Direction, buffer: &mut [u8]) -> io::Result<()> {
        let index = direction.index();
        let impairment = self.shared.impairment(index);
        if self.shared.elements_changed.swap(false, Ordering::Acquire)
            && let Some(elements) = super::unpoisoned(&self.shared.elements).take()
        {
            self.chain = Chain::new(&elements);
        }
        for _ in 0..BATCH {
            let length = match self.ends[index].try_recv(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Once after an end was set down. It may come up again.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => break,
                Err(error) => return Err(error),
            };
            let frame = &mut buffer[..length];
            let captures = self.shared.captures.load(Ordering::Relaxed);
            let as_it_came = captures.then(|| (SystemTime::now(), frame.to_vec()));
            let fate = self.take(direction, frame, &impairment);
            self.shared.count(index, fate);
            if let Some((at, frame)) = as_it_came {
                let remark = fate.remark();
                self.shared.show(CapturedFrame {
                    direction,
                    at,
                    frame,
                    remark,
                });
            }
        }
        Ok(())
    }

    /// Decides on a frame, and keeps it if it is to arrive.
    fn take(&mut self, direction: Direction, frame: &mut [u8], impairment: &Impairment) -> Fate {
        let now = Instant::now();
        let index = direction.index();
        let kind = frame.get(12..ETHERNET).and_then(|kind| kind.first_chunk().copied());
        let is_ipv6 = kind == Some(IPV6);
        let packet = frame.get_mut(ETHERNET..).unwrap_or_default();
        // What fails is behind the first hop: to the neighbours, the link is well.
        let is_neighbour = kind == Some(ARP) || (is_ipv6 && is_neighbor_discovery(packet));
        if self.shared.broken[index].load(Ordering::Relaxed) && !is_neighbour {
            return Fate::Broken;
        }
        if is_ipv6 {
            if let Err(element) = self.chain.pass(direction, packet, now) {
                return Fate::Filtered(element);
            }
            if impairment.congested {
                mark(packet);
            }
        }
        let octets = packet.len();
        self.lanes[index].take(frame, octets, impairment, now)
    }

    /// Puts out at the far ends what is due.
    fn deliver(&mut self) {
        for (direction, lane) in self.lanes.iter_mut().enumerate() {
            while let Some(frame) = lane.pop(Instant::now()) {
                let counters = &self.shared.counters[direction];
                match self.ends[1 - direction].try_send(&frame) {
                    Ok(()) => &counters.passed,
                    Err(_) => &counters.dropped,
                }
                .fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn until(due: Instant) -> Duration {
    due.saturating_duration_since(Instant::now())
}

fn is_neighbor_discovery(packet: &[u8]) -> bool {
    matches!((packet.get(6), packet.get(7), packet.get(40)),
        (Some(&ICMPV6), Some(&ON_LINK_HOP_LIMIT), Some(kind)) if NEIGHBOR_DISCOVERY.contains(kind))
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
