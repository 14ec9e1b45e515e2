//! Traffic between two hosts, as fast as it goes, on threads of its own with blocking sockets.

mod latency;
mod tcp;
mod udp;

use std::io;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use shim6_tun::demo::stage::Locators;
use shim6_tun::lab::Topology;
use socket2::Socket;

use super::Kind;
use super::case::Placement;

/// How long a call on a socket may take before the traffic is taken for dead.
const STALLED: Duration = Duration::from_secs(5);

/// What has been sent and has arrived so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Octets of payload that arrived.
    pub octets: u64,
    /// Datagrams that arrived.
    pub datagrams: u64,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Datagrams that arrived after one that was sent later.
    pub reordered: u64,
}

impl Add for Progress {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            octets: self.octets + other.octets,
            datagrams: self.datagrams + other.datagrams,
            sent: self.sent + other.sent,
            reordered: self.reordered + other.reordered,
        }
    }
}

impl Sub for Progress {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            octets: self.octets - earlier.octets,
            datagrams: self.datagrams - earlier.datagrams,
            sent: self.sent - earlier.sent,
            reordered: self.reordered - earlier.reordered,
        }
    }
}

/// A request that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// When its answer was there.
    pub at: Instant,
    /// How long that took.
    pub took: Duration,
}

/// What the threads share.
#[derive(Debug, Default)]
struct Shared {
    octets: AtomicU64,
    datagrams: AtomicU64,
    sent: AtomicU64,
    reordered: AtomicU64,
    round_trips: Mutex<Vec<RoundTrip>>,
    over: AtomicBool,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Traffic that is under way. Dropping it ends it.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    /// Shut down in the end, so that no thread waits on them.
    sockets: Vec<Socket>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    placement: Placement,
}

impl Load {
    /// Starts traffic between these addresses of host a and host b. Blocks for as long as a connection takes.
    ///
    /// # Errors
    /// A socket could not be made or connected.
    pub fn start(kind: Kind, topology: &Topology, addresses: Locators) -> anyhow::Result<Self> {
        let mut load = Self {
            shared: Arc::default(),
            sockets: Vec::new(),
            threads: Vec::new(),
            placement: kind.placement(),
        };
        match kind {
            Kind::Tcp { streams, direction } => tcp::start(&mut load, topology, addresses, streams, direction),
            Kind::Udp { octets } => udp::start(&mut load, topology, addresses, octets),
            Kind::Latency { .. } => latency::start(&mut load, topology, addresses),
        }?;
        Ok(load)
    }

    /// What has happened so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        // In the order in which a datagram is counted, so that never more have arrived than were sent.
        let (reordered, datagrams, octets) = (load(&shared.reordered), load(&shared.datagrams), load(&shared.octets));
        Progress {
            octets,
            datagrams,
            sent: load(&shared.sent),
            reordered,
        }
    }

    /// Ends the traffic; gives the round trips, if it consisted of such.
    ///
    /// # Errors
    /// Something broke before.
    pub fn finish(mut self) -> anyhow::Result<Vec<RoundTrip>> {
        self.end().context("the traffic broke")?;
        let mut round_trips = self.shared.round_trips.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *round_trips))
    }

    fn spawn(&mut self, work: impl FnOnce(&Shared) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let processor = match self.placement {
            Placement::Anywhere => None,
            Placement::Apart => Some(self.threads.len()),
            Placement::Together => Some(0),
        };
        let work = move || match place(processor).and_then(|()| work(&shared)) {
            // Whatever happens to a socket that is shut down.
            Err(_) if shared.is_over() => Ok(()),
            result => result,
        };
        self.threads
            .push(thread::Builder::new().name("load".to_owned()).spawn(work)?);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.shared.over.store(true, Ordering::Relaxed);
        for socket in self.sockets.drain(..) {
            // It may be closed already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let ended = thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
            result = result.and(ended);
        }
        result
    }
}

/// Keeps the calling thread on one of the processors that this process may use, by number; they are used in turns.
fn place(number: Option<usize>) -> io::Result<()> {
    let Some(number) = number else { return Ok(()) };
    let this = Pid::from_raw(0);
    let usable = sched_getaffinity(this)?;
    let usable: Vec<usize> = (0..CpuSet::count())
        .filter(|&cpu| usable.is_set(cpu).unwrap_or(false))
        .collect();
    let mut only = CpuSet::new();
    only.set(
        *usable
            .get(number % usable.len().max(1))
            .ok_or(io::ErrorKind::NotFound)?,
    )?;
    Ok(sched_setaffinity(this, &only)?)
}

impl Drop for Load {
    fn drop(&mut self) {
        // Without threads nothing happens here.
        let _ = self.end();
    }
}
