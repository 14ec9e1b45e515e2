//! The TUN device: steered packets come out of it, and restored packets go into it.
//!
//! A thin layer over the `tun-rs` crate, used without its address management: it opens the device
//! and moves packets, and assigns no address, adds no route and changes no setting of the system.

mod header;
mod polled;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::net::if_::if_nametoindex;
use nix::sys::uio::{readv, writev};
use shim6_core::dataplane::offload::{MAX_PACKETS, Offload};
use tun_rs::{DeviceBuilder, SyncDevice};

pub use polled::PolledTun;

use super::while_doing;

/// The device node that makes TUN devices.
const DEVICE_NODE: &str = "/dev/net/tun";

/// The longest name of an interface, in octets.
const MAX_NAME_OCTETS: usize = libc::IFNAMSIZ - 1;

/// The smallest MTU that carries IPv6 (RFC 8200 section 5).
const MIN_MTU: u32 = 1280;

/// Octets of the longest packet that comes out of a queue, one that stands for several included.
pub const MAX_PACKET_OCTETS: usize = 65_536 + 40;

/// Most pieces of memory that a packet may be written from.
pub const MAX_PARTS: usize = MAX_PACKETS;

/// A TUN device of our own, gone when it is dropped.
///
/// It does for its packets what network cards do: the kernel gives it packets that stand for several, with a checksum that is
/// only begun, and takes such packets from it.
#[derive(Debug)]
pub struct Tun {
    queues: Vec<TunQueue>,
    name: String,
    index: u32,
}

/// One of the device's queues. The packets of one flow come out of one of them: that into which packets of the flow were
/// written last, else one that follows from its addresses and ports. None of its methods waits: `poll` its descriptor.
pub struct TunQueue {
    device: SyncDevice,
}

impl Tun {
    /// Creates the device in the network namespace of the calling thread and sets it up, with an
    /// MTU of `mtu` octets and so many `queues`, at least one.
    ///
    /// It has no address, not even a link-local one.
    ///
    /// # Errors
    ///
    /// - `InvalidInput`: a name that no interface can have, or an MTU below 1280 or above 65,535.
    /// - `AlreadyExists`: there is an interface of this name; it is left alone.
    /// - `NotFound`: there is no `/dev/net/tun`.
    /// - `PermissionDenied`: without `CAP_NET_ADMIN`, or without access to `/dev/net/tun`.
    ///
    /// All say what to do about it.
    pub fn create(name: &str, mtu: u32, queues: usize) -> io::Result<Self> {
        let (device, index) = open(name, mtu, Kind::Offloading { queues })?;
        let more = (1..queues).map(|_| device.try_clone());
        let more = more.collect::<io::Result<Vec<_>>>();
        let more = more.map_err(|error| while_doing(format_args!("opening the queues of {name}"), error))?;
        let queues = std::iter::once(device).chain(more);
        Ok(Self {
            queues: queues.map(TunQueue::new).collect::<io::Result<_>>()?,
            name: name.to_owned(),
            index,
        })
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's interface index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its queues, at least one.
    #[must_use]
    pub fn queues(&self) -> &[TunQueue] {
        &self.queues
    }

    /// Whether it takes UDP datagrams put together to one packet (Linux 6.2).
    #[must_use]
    pub fn takes_joined_datagrams(&self) -> bool {
        self.queues.iter().all(|queue| queue.device.udp_gso())
    }

    /// Gives a complete packet to the kernel as if it had come in on the device.
    ///
    /// # Errors
    ///
    /// As for [`TunQueue::try_send`].
    pub fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        self.queues[0].try_send(Offload::default(), &[IoSlice::new(packet)])
    }
}

impl TunQueue {
    fn new(device: SyncDevice) -> io::Result<Self> {
        device.set_nonblocking(true)?;
        Ok(Self { device })
    }

    /// Reads a packet that the kernel routed into the device; gives its length and what is still to be done to it. What
    /// does not fit is lost, so `buffer` should have [`MAX_PACKET_OCTETS`]. To keep headroom, pass the end of a longer one.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none, otherwise the kernel's error, for example if the device was deleted.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        let mut header = [0; header::OCTETS];
        let read = readv(self, &mut [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)])?;
        let length = read.saturating_sub(header::OCTETS);
        Ok((length, header::parse(&header)))
    }

    /// Gives a packet to the kernel as if it had come in on the device. It is what `parts`, at most [`MAX_PARTS`], have one
    /// after the other.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for too many parts; otherwise the kernel's, for example for octets that are not an IP packet or while the
    /// device is down.
    pub fn try_send(&self, offload: Offload, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let header = header::emit(offload);
        let mut all = [IoSlice::new(&header); MAX_PARTS + 1];
        let all = all.get_mut(..=parts.len()).ok_or(io::ErrorKind::InvalidInput)?;
        all[1..].copy_from_slice(parts);
        let octets = all.iter().map(|part| part.len()).sum();
        complete(writev(self, all)?, octets)
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl std::fmt::Debug for TunQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TunQueue").field("device", &self.as_fd()).finish()
    }
}

/// What a device is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Packets as they are, in one queue.
    Plain,
    /// Packets with a header that says what is still to be done to them.
    Offloading { queues: usize },
}

/// Creates a device, up, as [`Tun::create`] says; also gives its interface index.
fn open(name: &str, mtu: u32, kind: Kind) -> io::Result<(SyncDevice, u32)> {
    check_name(name)?;
    let mtu = u16::try_from(mtu)
        .ok()
        .filter(|&mtu| u32::from(mtu) >= MIN_MTU)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("an MTU of {mtu} is out of range for {name}: expected 1280 to 65535"),
            )
        })?;
    // tun-rs would make the device node itself, which is not for us to do.
    if !Path::new(DEVICE_NODE).exists() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "cannot create {name}: there is no {DEVICE_NODE} (load the module with \
                 `modprobe tun`; in a container, pass the device through, as \
                 with `--device {DEVICE_NODE}`)"
            ),
        ));
    }
    // Without this check a TUN device that someone else has left behind would be taken over.
    if if_nametoindex(name).is_ok() {
        return Err(in_use(name));
    }
    let device = DeviceBuilder::new()
        .name(name)
        .mtu(mtu)
        .enable(false)
        .offload(kind != Kind::Plain)
        .multi_queue(matches!(kind, Kind::Offloading { queues } if queues > 1))
        .build_sync()
        .map_err(|error| explain(name, error))?;
    // With a link-local address the kernel would send router solicitations and multicast
    // reports into the device. Not fatal: where the setting cannot be written, those packets
    // are read and ignored.
    let setting = format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode");
    if let Err(error) = fs::write(&setting, "1") {
        tracing::debug!(%setting, %error, "the TUN device keeps its link-local address");
    }
    device
        .enabled(true)
        .map_err(|error| while_doing(format_args!("setting {name} up"), error))?;
    let index = device
        .if_index()
        .map_err(|error| while_doing(format_args!("looking up {name}"), error))?;
    Ok((device, index))
}

/// A packet is written whole or not at all, but the number is the kernel's.
fn complete(written: usize, expected: usize) -> io::Result<()> {
    if written == expected {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

fn check_name(name: &str) -> io::Result<()> {
    // A `%` would make the kernel choose a number; the others cannot be in the name of an
    // interface.
    let forbidden = |octet: u8| octet.is_ascii_whitespace() || matches!(octet, b'/' | b':' | b'%' | 0);
    if name.is_empty() || name.len() > MAX_NAME_OCTETS || matches!(name, "." | "..") || name.bytes().any(forbidden) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{name:?} is not a name for an interface: expected 1 to 15 octets without \
                 `/`, `:`, `%` and spaces"
            ),
        ));
    }
    Ok(())
}

fn in_use(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!(
            "cannot create {name}: an interface of this name exists (is another daemon running? \
             choose another name, or remove it with `ip link delete {name}`)"
        ),
    )
}

/// Says what is missing where the error's number tells.
fn explain(name: &str, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => in_use(name),
        Some(libc::EPERM) => io::Error::new(
            error.kind(),
            format!(
                "cannot create {name}: {error} (needs CAP_NET_ADMIN: run as root, or grant the \
                 binary cap_net_admin)"
            ),
        ),
        Some(libc::EACCES) => io::Error::new(
            error.kind(),
            format!(
                "cannot create {name}: {error} (no access to {DEVICE_NODE}: it should have \
                 mode 0666)"
            ),
        ),
        Some(libc::ENODEV | libc::ENXIO | libc::ENOENT) => io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "cannot create {name}: {error} (the kernel has no TUN driver: load it with \
                 `modprobe tun`)"
            ),
        ),
        _ => while_doing(format_args!("creating {name}"), error),
    }
}
