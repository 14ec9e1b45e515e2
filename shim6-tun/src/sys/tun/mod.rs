//! The TUN device: steered packets come out of it, and restored packets go into it.
//!
//! A thin layer over the `tun-rs` crate, used without its address management: it opens the device
//! and moves packets, and assigns no address, adds no route and changes no setting of the system.

mod polled;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::Path;

use nix::net::if_::if_nametoindex;
use tun_rs::{AsyncDevice, DeviceBuilder, SyncDevice};

pub use polled::PolledTun;

use super::while_doing;

/// The device node that makes TUN devices.
const DEVICE_NODE: &str = "/dev/net/tun";

/// The longest name of an interface, in octets.
const MAX_NAME_OCTETS: usize = libc::IFNAMSIZ - 1;

/// The smallest MTU that carries IPv6 (RFC 8200 section 5).
const MIN_MTU: u32 = 1280;

/// A TUN device of our own, gone when it is dropped. Its packets are plain IPv6 packets without
/// anything in front.
pub struct Tun {
    device: AsyncDevice,
    name: String,
    index: u32,
}

impl Tun {
    /// Creates the device in the network namespace of the calling thread and sets it up, with an
    /// MTU of `mtu` octets.
    ///
    /// It has no address, not even a link-local one. Must be called on a tokio runtime with I/O
    /// enabled.
    ///
    /// # Errors
    ///
    /// - `InvalidInput`: a name that no interface can have, or an MTU below 1280 or above 65,535.
    /// - `AlreadyExists`: there is an interface of this name; it is left alone.
    /// - `NotFound`: there is no `/dev/net/tun`.
    /// - `PermissionDenied`: without `CAP_NET_ADMIN`, or without access to `/dev/net/tun`.
    ///
    /// All say what to do about it.
    pub fn create(name: &str, mtu: u32) -> io::Result<Self> {
        let (device, index) = open(name, mtu)?;
        let device = AsyncDevice::new(device).map_err(|error| explain(name, error))?;
        Ok(Self {
            device,
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

    /// Waits for a packet that the kernel routed into the device and reads it into `buffer`;
    /// returns its length. What does not fit is lost, so `buffer` should have the MTU's length. To
    /// keep headroom, pass the end of a longer one.
    ///
    /// Cancel safe: no packet is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// The kernel's, for example if the device was deleted.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.recv(buffer).await
    }

    /// Reads a packet that is already there, as [`Tun::recv`] does; for emptying the queue after
    /// one wake-up.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none, otherwise the kernel's error.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.try_recv(buffer)
    }

    /// Gives a packet to the kernel as if it had come in on the device, waiting if the device's
    /// buffer is full.
    ///
    /// # Errors
    ///
    /// The kernel's, for example for octets that are not an IP packet or while the device is down.
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        complete(self.device.send(packet).await?, packet.len())
    }

    /// As [`Tun::send`], without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the device's buffer is full, otherwise the kernel's error.
    pub fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        complete(self.device.try_send(packet)?, packet.len())
    }
}

impl std::fmt::Debug for Tun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tun")
            .field("name", &self.name)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Creates a device, up, as [`Tun::create`] says; also gives its interface index.
fn open(name: &str, mtu: u32) -> io::Result<(SyncDevice, u32)> {
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
