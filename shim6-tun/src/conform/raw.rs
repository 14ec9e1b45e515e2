//! A wire on the interfaces of this host.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use anyhow::{Context as _, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Wire;
use super::packet::{IPV6_HEADER, destination, pair};
use crate::netlink::{AddressSpec, MAIN_TABLE, Netlink};
use crate::sys::Readiness;
use crate::sys::packet_socket::PacketSocket;
use crate::sys::wire_socket::WireReceiver;

/// Larger than what any target should send.
const PACKET: usize = 9000;
/// Where the kernel lists raw sockets.
const RAW_SOCKETS: &str = "/proc/self/net/raw6";
const PREFIX_BITS: u8 = 64;

/// An interface of this host under whose prefix the tester takes addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// The first address of the /64.
    pub prefix: Ipv6Addr,
}

/// The interfaces that lead somewhere, that to the target first: those that have a global /64 and a default route, or are the
/// way to the target. With `only`, those of these names.
///
/// # Errors
/// There is none, or no way to the target, or the kernel does not say.
pub async fn interfaces(target: Ipv6Addr, only: &[String]) -> anyhow::Result<Vec<Interface>> {
    let netlink = Netlink::connect().context("cannot ask the kernel for this host's interfaces")?;
    let way = netlink.output_for(Ipv6Addr::UNSPECIFIED, target, 0).await?;
    let Some((first, _)) = way else {
        bail!("there is no route to {target}: see `ip -6 route get {target}`");
    };
    let links = netlink.links().await?;
    for name in only {
        if !links.iter().any(|link| link.name == *name) {
            let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
            bail!("this host has no interface {name}; it has {}", names.join(", "));
        }
    }
    let routes = netlink.routes(MAIN_TABLE).await?;
    let leads_out = |index: u32| {
        let by = |route: &&crate::netlink::RouteSpec| route.destination.1 == 0 && route.output == Some(index);
        index == first || routes.iter().any(|route| by(&route))
    };
    let mut found: Vec<Interface> = Vec::new();
    for address in netlink.addresses().await? {
        let usable = address.global && !address.tentative && !address.dad_failed && address.prefix_len == PREFIX_BITS;
        let Some(link) = links.iter().find(|link| link.index == address.index) else {
            continue;
        };
        let prefix = Ipv6Addr::from_bits(address.address.to_bits() & !u128::from(u64::MAX));
        let wanted = match only {
            [] => leads_out(link.index),
            only => only.contains(&link.name),
        };
        if usable && wanted && !link.loopback && found.iter().all(|other| other.prefix != prefix) {
            found.push(Interface {
                name: link.name.clone(),
                index: link.index,
                prefix,
            });
        }
    }
    if found.is_empty() {
        bail!(
            "no interface of this host has both a global /64 and a way out; give one an address in a /64 of yours, or name one \
             with --interface"
        );
    }
    found.sort_by_key(|interface| interface.index != first);
    Ok(found)
}

/// Whether something on this host has a raw socket for Shim6 already, and would answer for the tester.
#[must_use]
pub fn is_occupied() -> bool {
    let sockets = std::fs::read_to_string(RAW_SOCKETS).unwrap_or_default();
    let of_shim6 = |line: &str| {
        let local = line.split_whitespace().nth(1);
        local.is_some_and(|local| local.ends_with(":008C"))
    };
    sockets.lines().any(of_shim6)
}

/// The sockets and addresses of a wire. [`RawWire::close`] takes the addresses from the interfaces again.
#[derive(Debug)]
pub struct RawWire {
    netlink: Netlink,
    assigned: Vec<(u32, Ipv6Addr)>,
    tasks: JoinSet<()>,
    /// While it is open the kernel does not say that it does not know Shim6.
    _guard: WireReceiver,
}

impl RawWire {
    /// Opens the sockets and gives the addresses to the interfaces of their prefixes.
    ///
    /// # Errors
    /// The kernel refused, as it does without `CAP_NET_RAW` and `CAP_NET_ADMIN`. No address is left then.
    pub async fn open(
        interfaces: &[Interface],
        addresses: impl Iterator<Item = Ipv6Addr>,
    ) -> anyhow::Result<(Self, Wire)> {
        let guard = WireReceiver::open()?;
        let (wire, outbound, deliver) = Wire::new();
        let mut tasks = JoinSet::new();
        let mut senders = Vec::new();
        for (place, interface) in interfaces.iter().enumerate() {
            let new = interfaces[..place].iter().all(|other| other.index != interface.index);
            if new {
                let socket = PacketSocket::open(interface.index)?;
                tasks.spawn(receive(Readiness::of(&socket)?, socket, deliver.clone()));
            }
            senders.push((interface.prefix, sender(&interface.name)?));
        }
        tasks.spawn(send(outbound, senders));
        let mut raw = Self {
            netlink: Netlink::connect().context("cannot reach the kernel's netlink")?,
            assigned: Vec::new(),
            tasks,
            _guard: guard,
        };
        if let Err(error) = raw.assign(interfaces, addresses).await {
            drop(raw.close().await);
            return Err(error);
        }
        Ok((raw, wire))
    }

    async fn assign(
        &mut self,
        interfaces: &[Interface],
        addresses: impl Iterator<Item = Ipv6Addr>,
    ) -> anyhow::Result<()> {
        for address in addresses {
            let Some(interface) = interfaces.iter().find(|interface| is_under(interface.prefix, address)) else {
                continue;
            };
            let spec = AddressSpec {
                index: interface.index,
                address,
                prefix_len: 128,
                // They are drawn from 2^59 each, and gone in a minute.
                no_dad: true,
                // Not for other programs.
                deprecated: true,
                no_prefix_route: true,
            };
            self.netlink
                .add_address(&spec)
                .await
                .with_context(|| format!("cannot give {} an address for the tests", interface.name))?;
            self.assigned.push((interface.index, address));
        }
        Ok(())
    }

    /// Takes the addresses away.
    ///
    /// # Errors
    /// Some are left, the first of which is named.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.tasks.abort_all();
        let mut left = None;
        for (index, address) in self.assigned {
            if let Err(error) = self.netlink.delete_address(index, address, 128).await
                && !error.is_not_found()
            {
                left.get_or_insert_with(|| {
                    anyhow::Error::new(error).context(format!("cannot take {address} away again"))
                });
            }
        }
        left.map_or(Ok(()), Err)
    }
}

fn is_under(prefix: Ipv6Addr, address: Ipv6Addr) -> bool {
    prefix.to_bits() >> 64 == address.to_bits() >> 64
}

/// A socket that sends whole packets on this interface, whatever their source.
fn sender(interface: &str) -> anyhow::Result<Socket> {
    let open = || {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        socket.set_header_included_v6(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        io::Result::Ok(socket)
    };
    open().with_context(|| format!("cannot send packets on {interface}; it takes CAP_NET_RAW: run it as root"))
}

async fn send(mut outbound: mpsc::UnboundedReceiver<Vec<u8>>, senders: Vec<(Ipv6Addr, Socket)>) {
    while let Some(packet) = outbound.recv().await {
        // Those that we send have our address first, and theirs second.
        let Some(pair) = pair(&packet) else { continue };
        let socket = senders.iter().find(|(prefix, _)| is_under(*prefix, pair.peer));
        if let Some((_, socket)) = socket {
            // What cannot be sent is not answered, which is what is reported.
            drop(socket.send_to(&packet, &SocketAddrV6::new(pair.local, 0, 0, 0).into()));
        }
    }
}

async fn receive(readiness: Readiness, socket: PacketSocket, deliver: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; PACKET];
    // An interface that goes down has an error once, and goes on when it is up.
    while !deliver.is_closed() {
        let read = readiness.read(|| socket.receive(&mut buffer)).await;
        let Ok(length) = read else {
            tokio::task::yield_now().await;
            continue;
        };
        let packet = &buffer[..length];
        if destination(packet).is_none() || length < IPV6_HEADER {
            continue;
        }
        // Short frames are filled up behind the packet.
        let end = IPV6_HEADER + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        // Too many at once are lost, as on any network.
        drop(deliver.try_send(packet[..end.min(length)].to_vec()));
    }
}
