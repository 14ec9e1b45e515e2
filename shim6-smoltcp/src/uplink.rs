//! One uplink: its device, and what waits for it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use smoltcp::phy::{Device, PacketMeta, TxToken};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::Ipv6Cidr;

/// How long smoltcp is asked to wait for a device that takes nothing, unless
/// [`set_patience`](crate::Shim6Device::set_patience) says otherwise. Then it counts as stuck, so that the other uplinks can be used.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// Packets that wait for the device of an uplink at most: those of the shim itself, which cannot wait elsewhere. Others are
/// dropped and counted.
pub const QUEUE: usize = 256;

/// What became of the packets of one uplink, since the wrapper was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UplinkCounters {
    /// Given to the device.
    pub sent: u64,
    /// Taken from the device.
    pub received: u64,
    /// Dropped, because the device took nothing for long or was said to be down, or because too many waited for it.
    pub dropped: u64,
    /// Dropped, because they are longer than the device's MTU.
    pub too_long: u64,
}

#[derive(Debug)]
pub(crate) struct Uplink<D> {
    pub(crate) device: D,
    /// Packets with such a source leave here.
    pub(crate) prefix: Ipv6Cidr,
    pub(crate) counters: UplinkCounters,
    pub(crate) patience: Duration,
    mtu: usize,
    is_up: bool,
    queue: VecDeque<(PacketMeta, Box<[u8]>)>,
    /// Since when the device has taken nothing, though it was asked.
    refusing_since: Option<Instant>,
}

impl<D: Device> Uplink<D> {
    pub(crate) fn new(device: D, prefix: Ipv6Cidr) -> Self {
        Self {
            mtu: device.capabilities().max_transmission_unit,
            device,
            prefix,
            counters: UplinkCounters::default(),
            patience: PATIENCE,
            is_up: true,
            queue: VecDeque::new(),
            refusing_since: None,
        }
    }

    pub(crate) fn mtu(&self) -> usize {
        self.mtu
    }

    pub(crate) fn set_up(&mut self, is_up: bool) {
        self.is_up = is_up;
        self.refusing_since = None;
        if !is_up {
            self.drop_queue();
        }
    }

    /// Sends a packet now, or as soon as the device takes it.
    pub(crate) fn send(&mut self, at: Instant, packet: &[u8], meta: PacketMeta) {
        self.flush(at);
        if packet.len() > self.mtu {
            self.counters.too_long += 1;
        } else if self.is_up && self.queue.is_empty() && self.transmit(at, packet, meta) {
            self.refusing_since = None;
        } else if !self.is_up || self.is_stuck(at) || self.queue.len() >= QUEUE {
            self.counters.dropped += 1;
        } else {
            self.queue.push_back((meta, packet.into()));
            self.refusing_since.get_or_insert(at);
        }
    }

    /// Gives the device what waits for it, as far as it takes it.
    pub(crate) fn flush(&mut self, at: Instant) {
        while let Some((meta, packet)) = self.queue.pop_front() {
            if self.transmit(at, &packet, meta) {
                self.refusing_since = (!self.queue.is_empty()).then_some(at);
                continue;
            }
            self.queue.push_front((meta, packet));
            if self.is_stuck(at) {
                self.drop_queue();
            }
            return;
        }
    }

    /// Whether packets wait that are worth waiting for.
    pub(crate) fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// When the device will be stuck, if it takes nothing until then.
    pub(crate) fn poll_at(&self) -> Option<Instant> {
        self.refusing_since
            .filter(|_| self.is_busy())
            .map(|since| since + self.patience)
    }

    fn is_stuck(&self, at: Instant) -> bool {
        self.refusing_since.is_some_and(|since| since + self.patience <= at)
    }

    fn drop_queue(&mut self) {
        self.counters.dropped += self.queue.len() as u64;
        self.queue.clear();
    }

    /// True: the device has taken it.
    fn transmit(&mut self, at: Instant, packet: &[u8], meta: PacketMeta) -> bool {
        let Some(mut token) = self.device.transmit(at) else {
            return false;
        };
        token.set_meta(meta);
        token.consume(packet.len(), |buffer| buffer.copy_from_slice(packet));
        self.counters.sent += 1;
        true
    }
}
