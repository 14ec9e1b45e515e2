//! The session that a scenario is about: a TCP connection one way, and datagrams as of a voice call the other way.

use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use shim6_tun::demo::stage;
use shim6_tun::demo::traffic::Pattern;
use shim6_tun::lab::Host;
use tokio::task::spawn_blocking;

use crate::failover::analysis::scheduled;
use crate::failover::flow::{Ends, Flow};

/// Octets of a datagram: its number, then data that depends on it.
const DATAGRAM: usize = 160;
const NUMBER: usize = 8;
/// How often a thread that waits for a socket looks whether it has to end.
const TICK: Duration = Duration::from_millis(50);
/// How long what is under way at the end may take to arrive.
const DRAIN: Duration = Duration::from_secs(10);

/// A message each 5 ms in either direction: over TCP from the first host to the second, as datagrams back.
#[derive(Debug)]
pub(super) struct Traffic {
    tcp: Flow,
    udp: Datagrams,
}

/// A moment on the clocks of a [`Traffic`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    tcp: Duration,
    udp: Duration,
}

/// What came of a [`Traffic`].
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// What is wrong with the connection, if anything is: it broke, or not everything arrived in time.
    pub(super) tcp: Result<(), String>,
    /// What came of the datagrams.
    pub(super) udp: Datagram,
}

/// What came of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Datagram {
    /// How many were sent.
    pub(super) sent: u64,
    /// How many different ones have arrived.
    pub(super) arrived: u64,
    /// How many arrived that had arrived before.
    pub(super) repeated: u64,
    /// How many arrived behind one that was sent later.
    pub(super) overtaken: u64,
    /// How many were none of ours, or had changed.
    pub(super) strange: u64,
}

impl Traffic {
    /// Connects `ulids` of the two hosts, and begins.
    pub(super) async fn start([a, b]: [&Host; 2], [ulid_a, ulid_b]: [Ipv6Addr; 2], seed: u64) -> anyhow::Result<Self> {
        let (listener, destination) = stage::listen(b, ulid_b, None)?;
        let ends = Ends {
            sender: stage::tcp_client(a, ulid_a)?.into(),
            listener: listener.into(),
            destination,
        };
        let (receiver, to) = stage::udp(a, ulid_a)?;
        let (sender, _) = stage::udp(b, ulid_b)?;
        let tcp = spawn_blocking(|| Flow::start(ends)).await?.context("cannot connect")?;
        let udp = Datagrams::start(sender, receiver, to, seed).context("cannot send datagrams")?;
        Ok(Self { tcp, udp })
    }

    /// Now.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            tcp: self.tcp.now(),
            udp: self.udp.origin.elapsed(),
        }
    }

    /// How many messages have arrived, over TCP and as datagrams.
    pub(super) fn arrived(&self) -> [usize; 2] {
        [self.tcp.arrivals().len(), self.udp.log().times.len()]
    }

    /// The longest time without a message since `mark`, up to now: of the connection, and of the datagrams.
    pub(super) fn longest_gaps(&self, mark: Mark) -> [Duration; 2] {
        let now = self.mark();
        [
            longest_gap(&self.tcp.arrivals(), mark.tcp, now.tcp),
            longest_gap(&self.udp.log().times, mark.udp, now.udp),
        ]
    }

    /// What broke the connection, if something has.
    pub(super) fn error(&self) -> Option<String> {
        self.tcp.error()
    }

    /// Sends no more, and waits for what is under way.
    pub(super) async fn finish(self) -> anyhow::Result<Delivery> {
        let Self { tcp, udp } = self;
        let ended = spawn_blocking(move || (tcp.finish(DRAIN), udp.finish())).await?;
        let (tcp, udp) = ended;
        let arrived = tcp.arrivals.len();
        let tcp = match tcp.error {
            Some(error) => Err(error),
            None if arrived < tcp.sent => Err(format!("{arrived} of {} messages arrived", tcp.sent)),
            None => Ok(()),
        };
        Ok(Delivery { tcp, udp })
    }
}

/// Datagrams from the second host to the first, and nothing back.
#[derive(Debug)]
pub(super) struct OneWay(Datagrams);

impl OneWay {
    /// Begins to send between `ulids` of the two hosts.
    pub(super) fn start([a, b]: [&Host; 2], [ulid_a, ulid_b]: [Ipv6Addr; 2], seed: u64) -> anyhow::Result<Self> {
        let (receiver, to) = stage::udp(a, ulid_a)?;
        let (sender, _) = stage::udp(b, ulid_b)?;
        let started = Datagrams::start(sender, receiver, to, seed).context("cannot send datagrams")?;
        Ok(Self(started))
    }

    /// Sends no more, and waits for what is under way: what came of it, and the longest time without a datagram.
    pub(super) async fn finish(self) -> anyhow::Result<(Datagram, Duration)> {
        let Self(datagrams) = self;
        let gap = longest_gap(&datagrams.log().times, Duration::ZERO, datagrams.origin.elapsed());
        let came = spawn_blocking(move || datagrams.finish()).await?;
        Ok((came, gap))
    }
}

/// The longest time between two of the `arrivals`, from the last before `from` on, or since the last one.
fn longest_gap(arrivals: &[Duration], from: Duration, now: Duration) -> Duration {
    let (before, after) = arrivals.split_at(arrivals.partition_point(|&at| at <= from));
    let mut last = before.last().copied().unwrap_or(from);
    let mut longest = Duration::ZERO;
    for &at in after.iter().chain([&now]) {
        longest = longest.max(at.saturating_sub(last));
        last = at;
    }
    longest
}

/// Numbered datagrams, one each 5 ms, that nobody sends again. Dropping it ends it.
#[derive(Debug)]
struct Datagrams {
    shared: Arc<Shared>,
    origin: Instant,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    sent: AtomicU64,
    enough: AtomicBool,
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct Log {
    /// When datagrams arrived, whichever.
    times: Vec<Duration>,
    /// Which have arrived, by number.
    seen: Vec<bool>,
    came: Datagram,
}

impl Datagrams {
    fn start(sender: UdpSocket, receiver: UdpSocket, to: SocketAddrV6, seed: u64) -> io::Result<Self> {
        sender.set_nonblocking(false)?;
        receiver.set_nonblocking(false)?;
        receiver.set_read_timeout(Some(TICK))?;
        let origin = Instant::now();
        let mut datagrams = Self {
            shared: Arc::default(),
            origin,
            threads: Vec::new(),
        };
        datagrams.thread("datagrams out", move |shared| send(&sender, to, seed, origin, shared))?;
        datagrams.thread("datagrams in", move |shared| receive(&receiver, seed, origin, shared))?;
        Ok(datagrams)
    }

    fn thread(&mut self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned());
        self.threads.push(thread.spawn(move || work(&shared))?);
        Ok(())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        unpoisoned(&self.shared.log)
    }

    /// Sends no more; what has been sent and does not arrive within a moment is lost.
    fn finish(self) -> Datagram {
        self.shared.enough.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + 10 * TICK;
        let all_came = || self.log().came.arrived == self.shared.sent.load(Ordering::Relaxed);
        while Instant::now() < deadline && !all_came() {
            thread::sleep(TICK / 10);
        }
        let came = self.log().came;
        Datagram {
            sent: self.shared.sent.load(Ordering::Relaxed),
            ..came
        }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Log {
    fn note(&mut self, at: Duration, datagram: &[u8], seed: u64) {
        let number = datagram.first_chunk().map(|&number| u64::from_be_bytes(number));
        // A day of them.
        let known = number.filter(|&number| number < 24 * 3600 * 200 && datagram == payload(seed, number));
        let Some(number) = known.and_then(|number| usize::try_from(number).ok()) else {
            self.came.strange += 1;
            return;
        };
        if number < self.seen.len() {
            self.came.overtaken += u64::from(!self.seen[number]);
        } else {
            self.seen.resize(number + 1, false);
        }
        if std::mem::replace(&mut self.seen[number], true) {
            self.came.repeated += 1;
            return;
        }
        self.came.arrived += 1;
        self.times.push(at);
    }
}

fn payload(seed: u64, number: u64) -> [u8; DATAGRAM] {
    let mut payload = [0; DATAGRAM];
    payload[..NUMBER].copy_from_slice(&number.to_be_bytes());
    Pattern::at(seed, number * DATAGRAM as u64).fill(&mut payload[NUMBER..]);
    payload
}

fn send(socket: &UdpSocket, to: SocketAddrV6, seed: u64, origin: Instant, shared: &Shared) {
    for number in 0.. {
        thread::sleep((origin + scheduled(number)).saturating_duration_since(Instant::now()));
        if shared.enough.load(Ordering::Relaxed) || shared.over.load(Ordering::Relaxed) {
            return;
        }
        // What cannot be sent is lost, as on its way.
        let _ = socket.send_to(&payload(seed, number as u64), to);
        shared.sent.fetch_add(1, Ordering::Relaxed);
    }
}

fn receive(socket: &UdpSocket, seed: u64, origin: Instant, shared: &Shared) {
    let mut buffer = [0; 2 * DATAGRAM];
    while !shared.over.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(length) => unpoisoned(&shared.log).note(origin.elapsed(), &buffer[..length], seed),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // One that the network reported for something earlier; it is used up.
            Err(_) => {}
        }
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn longest_gap_begins_before_the_mark_and_may_not_be_over() {
        let arrivals = [1, 2, 3, 10, 11].map(|at| at * MS);
        assert_eq!(longest_gap(&arrivals, 5 * MS, 12 * MS), 7 * MS);
        assert_eq!(longest_gap(&arrivals, 11 * MS, 12 * MS), MS);
        assert_eq!(longest_gap(&arrivals, 11 * MS, 31 * MS), 20 * MS);
        assert_eq!(longest_gap(&[], 5 * MS, 9 * MS), 4 * MS);
        assert_eq!(longest_gap(&arrivals[3..], 5 * MS, 12 * MS), 5 * MS);
    }

    #[test]
    fn datagrams_are_told_apart() {
        let mut log = Log::default();
        for number in [0, 2, 1, 2, 5] {
            log.note(MS, &payload(7, number), 7);
        }
        log.note(MS, &payload(8, 3), 7);
        log.note(MS, b"short", 7);
        let expected = Datagram {
            sent: 0,
            arrived: 4,
            repeated: 1,
            overtaken: 1,
            strange: 2,
        };
        assert_eq!(log.came, expected);
        assert_eq!(log.times.len(), 4);
    }
}
