//! The lab's own link emulator: a link that treats packets as a long or bad line would.
//!
//! An emulated link is two virtual Ethernets, one for each of its ends, whose far ends are in a namespace that no packet is routed
//! through, and one thread between those, which takes the frames that come in at one, does to them what the [`Impairment`] of their
//! direction and the [`Element`]s say, and puts them out at the other. It needs no traffic control of the kernel's, and its clock is
//! the kernel's high-resolution timer: packets are late by what it takes to wake a thread.

mod capture;
mod element;
mod impairment;
mod lane;
mod queue;
mod worker;

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

pub use capture::{Capture, CaptureWriter, CapturedFrame};
pub use element::Element;
pub use impairment::{DEFAULT_QUEUE, Impairment, Rate, Setting, Share};

use self::capture::Sink;
use self::element::Chain;
use self::lane::Fate;
use self::worker::Worker;
use super::LabError;
use super::node::{Node, add_pair, ready};
use crate::sys::ethtool::disable_offloads;
use crate::sys::frame_socket::FrameSocket;

/// The MTU of the ends that the emulator holds: they shall take whatever the nodes send.
const MTU: u32 = 65_535;

/// A direction of a [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the first end to the second: what a customer sends to its ISP, and an ISP to the core router.
    Up,
    /// From the second end to the first.
    Down,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Up, Self::Down];

    /// `up` or `down`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// The other one.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Up => 0,
            Self::Down => 1,
        }
    }
}

/// What one direction of a link has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct LinkCounters {
    /// Packets that came out at the far end.
    pub passed: u64,
    /// Packets that did not, for whatever reason.
    pub dropped: u64,
    /// Of these, those that were lost as the impairment says.
    pub lost: u64,
    /// Of these, those that were longer than the MTU.
    pub too_big: u64,
    /// Of these, those that would have had to wait too long at the rate of the link.
    pub overflowed: u64,
    /// Of these, those that came while the link was broken.
    pub broken: u64,
    /// Of these, those that an element took.
    pub filtered: u64,
    /// Packets that came out twice.
    pub duplicated: u64,
}

/// What makes a [`Link`], beside its ends.
#[derive(Debug, Default)]
pub(super) struct LinkOptions {
    pub(super) elements: Vec<Element>,
    pub(super) seed: u64,
}

/// An emulated link between two nodes. It lives as long as this value and the topology that it is in.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    /// The worker ends when this is closed.
    stop: UnixStream,
    worker: Option<JoinHandle<()>>,
    /// The namespace in which its thread's ends are, and their indexes.
    wire: Node,
    inner: [u32; 2],
}

/// What the handle and the worker share, one of each per direction.
#[derive(Debug, Default)]
struct Shared {
    impairments: [Mutex<Impairment>; 2],
    broken: [AtomicBool; 2],
    counters: [Counters; 2],
    /// What is to stand in the way instead of what does, until the worker has seen it.
    elements: Mutex<Option<Vec<Element>>>,
    elements_changed: AtomicBool,
    /// Whether there are sinks.
    captures: AtomicBool,
    sinks: Mutex<Vec<Sink>>,
}

#[derive(Debug, Default)]
struct Counters {
    passed: AtomicU64,
    dropped: AtomicU64,
    lost: AtomicU64,
    too_big: AtomicU64,
    overflowed: AtomicU64,
    broken: AtomicU64,
    filtered: AtomicU64,
    duplicated: AtomicU64,
}

impl Shared {
    fn impairment(&self, direction: usize) -> Impairment {
        *unpoisoned(&self.impairments[direction])
    }

    /// Counts a frame that is decided on. Those that leave are counted when they do.
    fn count(&self, direction: usize, fate: Fate) {
        let counters = &self.counters[direction];
        let counter = match fate {
            Fate::Passes => return,
            Fate::Doubles => {
                counters.duplicated.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Fate::Lost => &counters.lost,
            Fate::TooBig => &counters.too_big,
            Fate::Overflows => &counters.overflowed,
            Fate::Broken => &counters.broken,
            Fate::Filtered(_) => &counters.filtered,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        counters.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn show(&self, frame: CapturedFrame) {
        let mut sinks = unpoisoned(&self.sinks);
        sinks.retain(|sink| sink.put(frame.clone()));
        self.captures.store(!sinks.is_empty(), Ordering::Relaxed);
    }
}

impl Link {
    /// Links two nodes by way of `wire`; the interfaces get these names. Also gives their indexes.
    pub(super) async fn between(
        wire: &Node,
        [first, second]: [(&Node, &str); 2],
        options: &LinkOptions,
    ) -> Result<(Self, [u32; 2]), LabError> {
        let (first_outer, first_inner) = add_end(wire, first).await?;
        let (second_outer, second_inner) = add_end(wire, second).await?;
        let inner = [first_inner, second_inner];
        let failed = |source: io::Error| LabError::namespace(wire.namespace.name(), "start a link", source);
        let open = || io::Result::Ok([FrameSocket::open(first_inner)?, FrameSocket::open(second_inner)?]);
        let ends = wire.namespace.run(open)?.map_err(failed)?;
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        let shared = Arc::new(Shared::default());
        let for_worker = Arc::clone(&shared);
        let chain = Chain::new(&options.elements);
        let seed = options.seed;
        let worker = thread::Builder::new()
            .name(format!("link {}", second.1))
            .spawn(move || Worker::new(&ends, chain, seed, &for_worker).run(&stopped))
            .map_err(failed)?;
        let link = Self {
            shared,
            stop,
            worker: Some(worker),
            wire: wire.clone(),
            inner,
        };
        tokio::try_join!(
            ready(first.0, first.1, first_outer),
            ready(second.0, second.1, second_outer)
        )?;
        Ok((link, [first_outer, second_outer]))
    }

    /// What happens to packets that enter from now on; those inside are not touched. A shorter delay
    /// than before lets packets overtake others.
    pub fn impair(&self, direction: Direction, impairment: Impairment) {
        *unpoisoned(&self.shared.impairments[direction.index()]) = impairment;
    }

    /// What happens to packets of this direction.
    #[must_use]
    pub fn impairment(&self, direction: Direction) -> Impairment {
        self.shared.impairment(direction.index())
    }

    /// Makes everything vanish that enters in this direction, or ends that. Neighbor Discovery passes: it fails behind the first hop,
    /// and the ends do not notice.
    pub fn blackhole(&self, direction: Direction, broken: bool) {
        self.shared.broken[direction.index()].store(broken, Ordering::Relaxed);
    }

    /// Whether everything vanishes that enters in this direction.
    #[must_use]
    pub fn is_blackhole(&self, direction: Direction) -> bool {
        self.shared.broken[direction.index()].load(Ordering::Relaxed)
    }

    /// Puts these elements in the way of packets that enter from now on, in place of those that stood there and of what those
    /// remember.
    pub fn put(&self, elements: &[Element]) {
        *unpoisoned(&self.shared.elements) = Some(elements.to_vec());
        self.shared.elements_changed.store(true, Ordering::Release);
    }

    /// Takes the carrier from both ends, or gives it back.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn set_carrier(&self, carrier: bool) -> Result<(), LabError> {
        for index in self.inner {
            if carrier {
                self.wire.set_up(index).await?;
            } else {
                self.wire.set_down(index).await?;
            }
        }
        Ok(())
    }

    /// Captures what enters the link from now on, both ways.
    #[must_use]
    pub fn capture(&self) -> Capture {
        let (sink, capture) = Capture::new();
        unpoisoned(&self.shared.sinks).push(sink);
        self.shared.captures.store(true, Ordering::Relaxed);
        capture
    }

    /// What this direction has done so far.
    #[must_use]
    pub fn counters(&self, direction: Direction) -> LinkCounters {
        let counters = &self.shared.counters[direction.index()];
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkCounters {
            passed: load(&counters.passed),
            dropped: load(&counters.dropped),
            lost: load(&counters.lost),
            too_big: load(&counters.too_big),
            overflowed: load(&counters.overflowed),
            broken: load(&counters.broken),
            filtered: load(&counters.filtered),
            duplicated: load(&counters.duplicated),
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

/// Connects an interface of a node with a new one in `wire`. Gives the indexes of both.
async fn add_end(wire: &Node, (node, name): (&Node, &str)) -> Result<(u32, u32), LabError> {
    // Interfaces are never deleted one by one there, so that their number is a name that is free.
    let links = wire.netlink.links().await;
    let number = links.map_err(|error| wire.error(error))?.len();
    let inner_name = format!("w{number}");
    let (outer, inner) = add_pair((node, name), (wire, &inner_name)).await?;
    // Else addresses would be tentative for one to two seconds.
    node.namespace.set(&format!("{name}/accept_dad"), "0")?;
    wire.namespace.set(&format!("{inner_name}/disable_ipv6"), "1")?;
    let wide = wire.netlink.set_mtu(inner, MTU).await;
    wide.map_err(|error| wire.error(error))?;
    // What the node sends shall be what would be on a wire: cut, and with its checksums.
    let finished = node.namespace.run(|| disable_offloads(name))?;
    finished.map_err(|source| LabError::namespace(node.namespace.name(), "carry packet by packet", source))?;
    wire.set_up(inner).await?;
    Ok((outer, inner))
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
