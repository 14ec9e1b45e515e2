//! Shim6 under [smoltcp]: connections of a host with several uplinks survive the failure of one.
//!
//! A [`Shim6Device`] is a [`phy::Device`](smoltcp::phy::Device) over the devices of the uplinks. A smoltcp `Interface` on it has one
//! address from each uplink, sockets use them as ever, and a session goes on with the addresses that it began with while
//! its packets take whichever path works. The peer needs Shim6 as well: the same wrapper, the daemon of the `shim6` project, or
//! any other implementation of RFC 5533. With other peers everything is as without the wrapper.
//!
//! ```
//! use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
//! use shim6_smoltcp::shim6_core::cga::{HbaSet, Sec};
//! use shim6_smoltcp::shim6_core::{Identity, Shim, ShimConfig};
//! use shim6_smoltcp::smoltcp::iface::{Config, Interface, SocketSet};
//! use shim6_smoltcp::smoltcp::phy::{Loopback, Medium};
//! use shim6_smoltcp::smoltcp::time::Instant;
//! use shim6_smoltcp::smoltcp::wire::{HardwareAddress, IpCidr, Ipv6Address, Ipv6Cidr};
//! use shim6_smoltcp::Shim6Device;
//!
//! // Two uplinks, each with the prefix that its provider gives; Loopback stands for real devices.
//! let prefixes: [Ipv6Cidr; 2] = ["2001:db8:a1::/64".parse().unwrap(), "2001:db8:a2::/64".parse().unwrap()];
//! let uplinks = prefixes.map(|prefix| (Loopback::new(Medium::Ip), prefix));
//!
//! // This host's addresses, made so that peers can verify that they belong together. Draw the seeds from real entropy; keep
//! // the set, so that the addresses stay the same.
//! let mut rng = ChaCha12Rng::from_seed([7; 32]);
//! let set = HbaSet::generate(&prefixes.map(|prefix| prefix.address().into()), Sec::ZERO, &mut rng)?;
//! let shim = Shim::new(ShimConfig::default(), Identity::from_hba_set(&set, &mut rng), [42; 32]);
//! let mut device = Shim6Device::new(shim, uplinks)?;
//!
//! // From here on smoltcp as ever. All addresses stay on the interface, also while an uplink is down.
//! let mut now = Instant::ZERO;
//! let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, now);
//! interface.update_ip_addrs(|addresses| {
//!     for &address in set.addresses() {
//!         addresses.push(IpCidr::new(address.into(), 64)).expect("smoltcp's iface-max-addr-count says how many fit");
//!     }
//! });
//! interface.routes_mut().add_default_ipv6_route(Ipv6Address::UNSPECIFIED).expect("room for a route");
//! let mut sockets = SocketSet::new(Vec::new());
//! interface.poll(now, &mut device, &mut sockets);
//! // Sleep until a device has something, or until then:
//! let wake_at = [interface.poll_at(now, &sockets), device.poll_at()].into_iter().flatten().min();
//! assert_eq!(wake_at, None, "no sockets, no contexts");
//! while let Some(event) = device.poll_event() {
//!     println!("{event:?}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is different from a plain device
//!
//! - **Timers.** The protocol has some. They run in [`receive`](smoltcp::phy::Device::receive), so in each `Interface::poll`, which
//!   therefore has to be called at [`Shim6Device::poll_at`] as well.
//! - **MTU.** The smallest of the uplinks, less [`HEADROOM`](shim6_core::shim::HEADROOM): a packet grows by as many octets
//!   when it takes another path.
//! - **Checksums** are left to smoltcp, whatever the devices offer: after a failure hardware would have to look behind a Shim6
//!   header, for a checksum over addresses that are not in the packet. The same goes for segmentation offload.
//! - **IPv6 only.** IPv4 packets are dropped and counted. Give them an interface of their own.
//! - **A device that takes nothing** holds up its uplink alone. smoltcp is asked to wait while one of the devices is busy, as with a plain
//!   device; but after some time ([`Shim6Device::set_patience`]) the device counts as stuck, and what would leave on it is dropped, until it takes packets again.
//! - **Ethernet.** smoltcp resolves neighbours on the one device of an `Interface`, which here is the wrapper; and which uplink a packet
//!   takes, and so whose neighbour is to be asked, is known only below it. So the uplinks' devices are of
//!   [`Medium::Ip`](smoltcp::phy::Medium::Ip), and `EthernetUplink` (feature `ethernet`) makes an Ethernet device one of them.
//!
//! The rest of Shim6 is within reach: [`Shim6Device::shim`] to look at, [`Shim6Device::command`] to set up, move or fork contexts
//! and to give hints, [`Shim6Device::poll_event`] for what happens.
//!
//! [smoltcp]: https://docs.rs/smoltcp
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod device;
#[cfg(feature = "ethernet")]
mod ethernet;
#[cfg(test)]
mod tests;
mod uplink;

pub use device::{RxToken, Shim6Device, TxToken, UplinkError};
#[cfg(feature = "ethernet")]
pub use ethernet::{EthernetError, EthernetTxToken, EthernetUplink};
pub use shim6_core;
pub use smoltcp;
pub use uplink::{PATIENCE, QUEUE, UplinkCounters};

/// smoltcp's time as that of Shim6. Both count microseconds; Shim6 knows none before the epoch, and takes it instead.
pub fn to_shim6(at: smoltcp::time::Instant) -> shim6_core::Instant {
    shim6_core::Instant::from_micros(u64::try_from(at.total_micros()).unwrap_or(0))
}

/// Shim6's time as that of smoltcp.
pub fn to_smoltcp(at: shim6_core::Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
}
