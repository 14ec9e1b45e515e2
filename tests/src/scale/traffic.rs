//! Datagrams from one socket to all peers, and what comes back.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Where the peers' applications listen.
const PORT: u16 = 7;
/// Octets of payload: the peer's number, when it was sent, and room.
const OCTETS: usize = 64;
const LOOK: Duration = Duration::from_millis(20);
/// The sender makes up for at most this much of lost time.
const LATEST: Duration = Duration::from_millis(20);
/// Datagrams that are due earlier are sent at once: a sleep takes longer than it is asked to.
const SHORTEST_SLEEP: Duration = Duration::from_micros(500);

/// Traffic with all peers. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    epoch: Instant,
    /// Which peers have a turn; those of the second range have one for each of the first.
    turns: Mutex<[Range<usize>; 2]>,
    per_second: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// For each peer, when an answer came to a datagram that was sent after `since`: in microseconds, 0 for not yet.
    answered: Vec<AtomicU64>,
    since: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Traffic {
    /// Starts without any.
    pub(super) fn start(socket: UdpSocket, peers: &[Ipv6Addr]) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK))?;
        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            turns: Mutex::new([0..0, 0..0]),
            per_second: AtomicU64::new(1),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            answered: peers.iter().map(|_| AtomicU64::new(0)).collect(),
            since: AtomicU64::new(u64::MAX),
            over: AtomicBool::new(false),
        });
        let destinations = peers.iter().map(|&peer| SocketAddrV6::new(peer, PORT, 0, 0));
        let destinations: Vec<_> = destinations.collect();
        let sending = (socket.try_clone()?, Arc::clone(&shared));
        let receiving = (socket, Arc::clone(&shared));
        Ok(Self {
            shared,
            threads: vec![
                thread::spawn(move || send(&sending.0, &destinations, &sending.1)),
                thread::spawn(move || receive(&receiving.0, &receiving.1)),
            ],
        })
    }

    /// From now on so many datagrams a second, in turns: one to a peer of the one range, one to a peer of the other.
    pub(super) fn set(&self, per_second: u64, turns: [Range<usize>; 2]) {
        self.shared.per_second.store(per_second.max(1), Ordering::Relaxed);
        *self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner) = turns;
    }

    /// Datagrams sent and answers received so far.
    pub(super) fn counts(&self) -> [u64; 2] {
        // In this order, so that no more were received than sent.
        let received = self.shared.received.load(Ordering::Relaxed);
        [self.shared.sent.load(Ordering::Relaxed), received]
    }

    /// Looks out for answers to what is sent from now on.
    pub(super) fn mark(&self) {
        for answered in &self.shared.answered {
            answered.store(0, Ordering::Relaxed);
        }
        self.shared.since.store(self.shared.now(), Ordering::Relaxed);
    }

    /// How long after the mark the first such answer of each of these peers came; nothing for those from which none came
    /// yet.
    pub(super) fn answered(&self, peers: Range<usize>) -> Vec<Option<Duration>> {
        let since = self.shared.since.load(Ordering::Relaxed);
        let at = |answered: &AtomicU64| match answered.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Duration::from_micros(at.saturating_sub(since))),
        };
        self.shared.answered[peers].iter().map(at).collect()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn send(socket: &UdpSocket, destinations: &[SocketAddrV6], shared: &Shared) {
    let mut payload = [0x5a; OCTETS];
    let mut next = [0, 0];
    let mut due = Instant::now();
    while !shared.over.load(Ordering::Relaxed) {
        let turns = shared.turns.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let idle = turns.iter().all(Range::is_empty);
        for (turn, next) in turns.into_iter().zip(&mut next) {
            if turn.is_empty() {
                continue;
            }
            // The ranges change.
            let peer = if turn.contains(&*next) { *next } else { turn.start };
            *next = peer + 1;
            payload[..8].copy_from_slice(&(peer as u64).to_be_bytes());
            payload[8..16].copy_from_slice(&shared.now().to_be_bytes());
            // What cannot be sent is lost, as it may be later.
            let _ = socket.send_to(&payload, destinations[peer]);
            shared.sent.fetch_add(1, Ordering::Relaxed);
            due +=
                Duration::from_secs(1) / u32::try_from(shared.per_second.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        }
        let now = Instant::now();
        // Also when there was nothing to send.
        due = due.max(now.checked_sub(LATEST).unwrap_or(now));
        if idle {
            thread::sleep(LOOK);
        } else if due > now + SHORTEST_SLEEP {
            thread::sleep(due - now);
        }
    }
}

fn receive(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; OCTETS + 1];
    while !shared.over.load(Ordering::Relaxed) {
        let Ok(OCTETS) = socket.recv(&mut buffer) else {
            continue;
        };
        shared.received.fetch_add(1, Ordering::Relaxed);
        let Some((peer, sent)) = read(&buffer) else {
            continue;
        };
        let answered = usize::try_from(peer).ok().and_then(|peer| shared.answered.get(peer));
        if let Some(answered) = answered.filter(|_| sent > shared.since.load(Ordering::Relaxed)) {
            let _ = answered.compare_exchange(0, shared.now(), Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// The peer's number, and when the datagram was sent.
fn read(payload: &[u8]) -> Option<(u64, u64)> {
    let (&peer, rest) = payload.split_first_chunk()?;
    let (&sent, _) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(peer), u64::from_be_bytes(sent)))
}
