//! The lab's own link emulator: a link that treats packets as a long or bad line would.
//!
//! A [`Link`] is a TUN device in each of two namespaces and one thread between them, which takes the
//! packets out of each device, holds them for as long as the [`Impairment`] of their direction says,
//! and puts them into the other. It needs no traffic control of the kernel's, and its clock is the
//! kernel's high-resolution timer: packets are late by what it takes to wake a thread.

mod queue;
mod worker;

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::LabError;
use super::node::Node;
use crate::sys::tun::PolledTun;

/// Octets of a packet that a link carries, as an Ethernet does.
const MTU: u32 = 1500;

/// A direction of a [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the ISP to the core router: what its customer sends.
    ToCore,
    /// From the core router to the ISP: what its customer receives.
    FromCore,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ToCore, Self::FromCore];

    fn index(self) -> usize {
        match self {
            Self::ToCore => 0,
            Self::FromCore => 1,
        }
    }
}

/// What happens to the packets of one direction. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Impairment {
    /// How long each packet is held.
    pub delay: Duration,
    /// Of so many packets one is lost, at regular intervals; 0 for none.
    pub lost_one_of: u32,
    /// Whether packets of transports that know ECN are marked as having met congestion (RFC 3168 section 5).
    pub congested: bool,
}

impl Impairment {
    /// Holds each packet for `delay`.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Loses one of `packets`, at regular intervals: each run is the same.
    #[must_use]
    pub fn losing_one_of(self, packets: u32) -> Self {
        Self {
            lost_one_of: packets,
            ..self
        }
    }

    /// Marks all packets of transports that know ECN.
    #[must_use]
    pub fn congested(self) -> Self {
        Self {
            congested: true,
            ..self
        }
    }
}

/// What one direction of a link has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkCounters {
    /// Packets that came out at the far end.
    pub passed: u64,
    /// Packets that did not, because the impairment says so, more were held than there is room for, or the far end was down.
    pub dropped: u64,
}

/// An emulated link between an ISP and the core router. Dropping it removes its two interfaces.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    /// The worker ends when this is closed.
    stop: UnixStream,
    worker: Option<JoinHandle<()>>,
}

/// What the handle and the worker share, one of each per direction.
#[derive(Debug, Default)]
struct Shared {
    impairments: [Mutex<Impairment>; 2],
    entered: [AtomicU64; 2],
    passed: [AtomicU64; 2],
    dropped: [AtomicU64; 2],
}

impl Shared {
    fn impairment(&self, direction: usize) -> Impairment {
        *self.impairments[direction]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Links an ISP and the core router; the interfaces get these names. Also gives their indexes.
    pub(super) fn between(
        (isp, isp_name): (&Node, &str),
        (core, core_name): (&Node, &str),
    ) -> Result<(Self, u32, u32), LabError> {
        let device = |node: &Node, name: &str| {
            let namespace = &node.namespace;
            let created = namespace.run(|| PolledTun::create(name, MTU))?;
            created.map_err(|source| LabError::namespace(namespace.name(), format!("add the link {name}"), source))
        };
        let ends = [device(isp, isp_name)?, device(core, core_name)?];
        let [at_isp, at_core] = [ends[0].index(), ends[1].index()];
        let failed = |source: io::Error| LabError::namespace(core.namespace.name(), "start a link's thread", source);
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        let shared = Arc::new(Shared::default());
        let for_worker = Arc::clone(&shared);
        let worker = thread::Builder::new()
            .name(format!("link {core_name}"))
            .spawn(move || worker::run(&ends, &stopped, &for_worker))
            .map_err(failed)?;
        let link = Self {
            shared,
            stop,
            worker: Some(worker),
        };
        Ok((link, at_isp, at_core))
    }

    /// What happens to packets that enter from now on; those inside are not touched. A shorter delay
    /// than before lets packets overtake others.
    pub fn impair(&self, direction: Direction, impairment: Impairment) {
        let mut current = self.shared.impairments[direction.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = impairment;
    }

    /// What happens to packets of this direction.
    #[must_use]
    pub fn impairment(&self, direction: Direction) -> Impairment {
        self.shared.impairment(direction.index())
    }

    /// What this direction has done so far.
    #[must_use]
    pub fn counters(&self, direction: Direction) -> LinkCounters {
        let load = |counters: &[AtomicU64; 2]| counters[direction.index()].load(Ordering::Relaxed);
        LinkCounters {
            passed: load(&self.shared.passed),
            dropped: load(&self.shared.dropped),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It cannot fail in a way that leaves the worker waiting: at worst it is closed already.
        let _ = self.stop.shutdown(Shutdown::Both);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
