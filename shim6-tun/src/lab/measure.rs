//! How well the link emulator does what it is told, on this machine.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use serde::Serialize;
use socket2::SockRef;

use super::link::{Direction, Impairment, Rate, Setting, Share};
use super::{Description, Lab, LabError, LinkSpec};

/// Delays that are tried, in milliseconds.
const DELAYS: [u64; 6] = [0, 1, 5, 20, 50, 200];
/// Rates that are tried, in Mbit/s.
const RATES: [u64; 5] = [1, 10, 100, 500, 1000];
/// Between two datagrams whose delay is measured.
const PACE: Duration = Duration::from_micros(1_100);
/// Octets of a datagram where the rate counts, and of the headers in front of it.
const DATAGRAM: usize = 1_400;
const HEADERS: usize = 14 + 40 + 8;
/// A datagram that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// The share of packets that is lost on purpose, in percent.
const LOSS: u32 = 1;
/// Packets for that come this fast, in Mbit/s.
const LOSS_RATE: u64 = 200;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Per delay, by how much packets were late.
    pub delays: Vec<DelayFigure>,
    /// With a delay of 20 ms and a jitter of 5 ms: for how long packets were held, in microseconds, least and most.
    pub jitter_us: (u64, u64),
    /// Per rate, what came through.
    pub rates: Vec<RateFigure>,
    /// What comes through without a rate.
    pub capacity: Capacity,
    /// Of so many packets, so many were lost where 1 % shall be.
    pub lost_of: (u64, u64),
}

/// How a delay was kept, in microseconds, from the sender's call until the receiver's kernel had the packet.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DelayFigure {
    /// What was set.
    pub set_us: u64,
    /// Half of the packets were late by so much at most.
    pub median_late_us: u64,
    /// 99 of a hundred were.
    pub p99_late_us: u64,
    /// All were.
    pub max_late_us: u64,
    /// Packets that left too early.
    pub early: u64,
}

/// How a rate was kept.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RateFigure {
    /// What was set, in bits per second.
    pub set: u64,
    /// What was measured over each second or so, in bits per second, headers included.
    pub measured: u64,
}

/// What one direction of a link carries.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Capacity {
    /// Bits per second, headers included.
    pub bits: u64,
    /// Packets per second.
    pub packets: u64,
}

/// Measures for about so long.
///
/// # Errors
/// No lab can be built here.
pub async fn measure(duration: Duration) -> Result<Report, LabError> {
    let description = Description::new().host("a").host("b").link(LinkSpec::between("a", "b"));
    let lab = Lab::up(&description).await?;
    let bench = Bench::new(&lab)?;
    // A part of the time for each thing that is measured.
    let slice = duration / (DELAYS.len() + RATES.len() + 3) as u32;
    // Neighbours find each other.
    bench.set(Impairment::default())?;
    bench.delays(10);
    let probes = (slice.as_micros() / PACE.as_micros()).max(10) as u32;
    let mut delays = Vec::new();
    for delay in DELAYS.map(Duration::from_millis) {
        bench.set(Impairment::delay(delay))?;
        delays.push(DelayFigure::of(delay, bench.delays(probes)));
    }
    let [base, jitter] = [20, 5].map(Duration::from_millis);
    bench.set(Impairment::delay(base).with(Setting::Jitter(jitter)))?;
    let held = bench.delays(probes);
    let micros = |time: Option<&Duration>| time.map_or(0, |time| time.as_micros() as u64);
    let jitter_us = (micros(held.iter().min()), micros(held.iter().max()));
    let mut rates = Vec::new();
    for rate in RATES.map(Rate::mbit) {
        bench.set(Impairment::default().with(Setting::Rate(Some(rate))))?;
        let (bits, _) = bench.flood(slice, Some(rate));
        rates.push(RateFigure {
            set: rate.bits_per_second(),
            measured: bits,
        });
    }
    bench.set(Impairment::default())?;
    let (bits, packets) = bench.flood(slice, None);
    bench.set(Impairment::default().with(Setting::Loss(Share::percent(LOSS))))?;
    let before = bench.counters()?;
    bench.flood(slice, Some(Rate::mbit(LOSS_RATE)));
    let after = bench.counters()?;
    Ok(Report {
        delays,
        jitter_us,
        rates,
        capacity: Capacity { bits, packets },
        lost_of: (after.0 - before.0, after.1 - before.1),
    })
}

struct Bench<'a> {
    lab: &'a Lab,
    sender: UdpSocket,
    receiver: UdpSocket,
    to: SocketAddr,
}

impl<'a> Bench<'a> {
    fn new(lab: &'a Lab) -> Result<Self, LabError> {
        let link = &lab.links()[0];
        let open = |end: usize| {
            let namespace = lab.nodes()[end].namespace();
            let address = link.address(end);
            let open = || {
                let socket = UdpSocket::bind(SocketAddr::from((address, 0)))?;
                // Enough for what comes while the reader is not on a processor.
                SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                // Until a program has read a packet, others may have used the processor. That is not the link's.
                setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
                let to = socket.local_addr()?;
                io::Result::Ok((socket, to))
            };
            namespace
                .run(open)?
                .map_err(|source| LabError::namespace(namespace.name(), "open a socket", source))
        };
        let ((sender, _), (receiver, to)) = (open(0)?, open(1)?);
        Ok(Self {
            lab,
            sender,
            receiver,
            to,
        })
    }

    fn set(&self, impairment: Impairment) -> Result<(), LabError> {
        // What is still under way counts for what was before.
        while self.receiver.recv(&mut [0]).is_ok() {}
        self.lab.links()[0].emulator()?.impair(Direction::Up, impairment);
        Ok(())
    }

    /// Packets that were lost, and all.
    fn counters(&self) -> Result<(u64, u64), LabError> {
        let counters = self.lab.links()[0].emulator()?.counters(Direction::Up);
        Ok((counters.lost, counters.passed + counters.dropped))
    }

    /// For how long each of some datagrams was under way.
    fn delays(&self, probes: u32) -> Vec<Duration> {
        let started = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..probes {
                    let at = started + PACE * number;
                    thread::sleep(at.saturating_duration_since(Instant::now()));
                    let sent = since_epoch(SystemTime::now()).as_nanos() as u64;
                    let _ = self.sender.send_to(&sent.to_be_bytes(), self.to);
                }
            });
            let mut held = Vec::new();
            let mut stamp = [0; 8];
            while held.len() < probes as usize
                && let Some(arrived) = self.receive(&mut stamp)
            {
                let sent = Duration::from_nanos(u64::from_be_bytes(stamp));
                held.push(arrived.saturating_sub(sent));
            }
            held
        })
    }

    /// Sends half as much again as the rate, or as fast as it goes; gives the bits and packets that arrive in a second.
    fn flood(&self, duration: Duration, rate: Option<Rate>) -> (u64, u64) {
        let started = Instant::now();
        let until = started + duration;
        let gap = rate.map_or(Duration::ZERO, |rate| rate.time_of(DATAGRAM + HEADERS) * 2 / 3);
        // The first half fills the queue and brings everything to speed.
        let from = since_epoch(SystemTime::now()) + duration / 2;
        thread::scope(|scope| {
            scope.spawn(|| {
                let datagram = [0; DATAGRAM];
                let mut next = started;
                while Instant::now() < until {
                    // No more sleeps than the system can give: then several go at once.
                    if next > Instant::now() + Duration::from_micros(200) {
                        thread::sleep(next - Instant::now());
                    }
                    next += gap;
                    if self.sender.send_to(&datagram, self.to).is_err() {
                        thread::yield_now();
                    }
                }
            });
            let mut arrivals = (0_u64, None, Duration::ZERO);
            while Instant::now() < until
                && let Some(arrived) = self.receive(&mut [0; DATAGRAM])
            {
                if arrived >= from {
                    arrivals = (arrivals.0 + 1, arrivals.1.or(Some(arrived)), arrived);
                }
            }
            let (count, Some(first), last) = arrivals else {
                return (0, 0);
            };
            let seconds = last.saturating_sub(first).as_secs_f64().max(1e-9);
            let packets = count.saturating_sub(1) as f64 / seconds;
            ((packets * ((DATAGRAM + HEADERS) * 8) as f64) as u64, packets as u64)
        })
    }

    /// Receives a datagram; says when it came, in time since the epoch. Nothing if none comes for long.
    fn receive(&self, buffer: &mut [u8]) -> Option<Duration> {
        let mut control = cmsg_space!(TimeSpec);
        let mut parts = [IoSliceMut::new(buffer)];
        let descriptor = self.receiver.as_raw_fd();
        let received = recvmsg::<SockaddrIn6>(descriptor, &mut parts, Some(&mut control), MsgFlags::empty()).ok()?;
        let arrived = received.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
            _ => None,
        });
        // The kernel stamps what comes after it was asked to.
        Some(arrived.unwrap_or_else(|| since_epoch(SystemTime::now())))
    }
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl DelayFigure {
    fn of(set: Duration, mut held: Vec<Duration>) -> Self {
        held.sort();
        let early = held.iter().filter(|&&held| held < set).count() as u64;
        let late = |of_a_hundred: usize| {
            let index = (held.len() * of_a_hundred / 100).min(held.len().saturating_sub(1));
            let found = held.get(index).copied().unwrap_or_default();
            found.saturating_sub(set).as_micros() as u64
        };
        Self {
            set_us: set.as_micros() as u64,
            median_late_us: late(50),
            p99_late_us: late(99),
            max_late_us: late(100),
            early,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_say_how_late_packets_were() {
        let held = (1..=1000).map(|number| Duration::from_micros(5_000 + number)).collect();
        let figure = DelayFigure::of(Duration::from_millis(5), held);
        assert_eq!(
            (figure.median_late_us, figure.p99_late_us, figure.max_late_us),
            (501, 991, 1000)
        );
        assert_eq!(figure.early, 0);
        let early = DelayFigure::of(Duration::from_millis(5), vec![Duration::from_millis(4)]);
        assert_eq!((early.early, early.max_late_us), (1, 0));
    }
}
