//! Multihomed hosts, their ISPs and what lies between.

use std::net::Ipv6Addr;
use std::time::Duration;

use nix::net::if_::if_nameindex;

use super::failure::{Access, GATEWAY};
use super::link::{Direction, Impairment, Link};
use super::node::{Node, connect};
use super::{Failure, LabError, Namespace};
use crate::sys::ethtool::disable_offloads;

/// Metric of the first uplink's default route, which is what router advertisements give; each
/// further uplink has this much more.
const DEFAULT_ROUTE_METRIC: u32 = 1024;
/// Metric of an ISP's last resort for a customer's prefix: higher than that of any other route.
const AGGREGATE_METRIC: u32 = 4096;
/// The core router's end of its links.
const CORE_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xc);
/// The core router's own address, from which it would send ICMP errors.
const CORE_ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);
const EVERYWHERE: (Ipv6Addr, u8) = (Ipv6Addr::UNSPECIFIED, 0);
/// How often a round trip from host to host crosses a link between an ISP and the core router.
const CROSSINGS: u32 = 4;

/// One of a host's connections to the Internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Name of the host's interface.
    pub interface: String,
    /// The /64 that the ISP gives to this link.
    pub prefix: Ipv6Addr,
    /// The host's plain address, `prefix::1`, which no Shim6 mechanism protects.
    pub address: Ipv6Addr,
    /// The ISP's link-local address on this link.
    pub gateway: Ipv6Addr,
}

/// A multihomed host, configured as router advertisements would: one address and one plain
/// default route per uplink, the first uplink preferred.
#[derive(Clone, Debug)]
pub struct Host {
    /// The host's name within its topology.
    pub name: String,
    /// The namespace that is this host.
    pub namespace: Namespace,
    /// Its uplinks, most preferred first.
    pub uplinks: Vec<Uplink>,
}

/// Two hosts and everything between them. Dropping it takes it down.
///
/// ```text
///            +- isp-a1 -+          +- isp-b1 -+
///   host a --+          +-- core --+          +-- host b
///            +- isp-a2 -+          +- isp-b2 -+
/// ```
///
/// The namespaces live on while a process or socket is in them or a clone of a
/// [`Namespace`] is kept. The runtime on which it was made has to run while it is used.
#[derive(Debug)]
pub struct Topology {
    /// The first host; its uplinks have 2001:db8:a1::/64 and 2001:db8:a2::/64.
    pub a: Host,
    /// The second host; its uplinks have 2001:db8:b1::/64 and 2001:db8:b2::/64.
    pub b: Host,
    core: Node,
    /// Per host, one per uplink.
    accesses: [Vec<Access>; 2],
    /// As `accesses`, between the ISP and the core router; empty where those are plain.
    links: [Vec<Link>; 2],
}

/// What connects the ISPs with the core router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backbone {
    Plain,
    Emulated,
}

impl Topology {
    /// Two hosts, `a` and `b`, each with `eth0` and `eth1` to an ISP of its own; the four ISPs
    /// meet in one core router. When this returns, packets pass.
    ///
    /// # Errors
    /// The kernel refused something: the caller has to be root in a user namespace
    /// ([`enter_user_namespace`](super::enter_user_namespace)).
    pub async fn two_by_two() -> Result<Self, LabError> {
        Self::build(Backbone::Plain).await
    }

    /// As [`Topology::two_by_two`], but each ISP reaches the core router over an emulated [`Link`],
    /// which does nothing to the packets until it is told to.
    ///
    /// # Errors
    /// As for [`Topology::two_by_two`].
    pub async fn emulated() -> Result<Self, LabError> {
        Self::build(Backbone::Emulated).await
    }

    /// [`Topology::emulated`] with a round-trip time of `rtt` between the hosts on every path, to
    /// which comes the time that this machine takes for the packets.
    ///
    /// # Errors
    /// As for [`Topology::two_by_two`].
    pub async fn with_rtt(rtt: Duration) -> Result<Self, LabError> {
        let topology = Self::emulated().await?;
        let impairment = Impairment::delay(rtt / CROSSINGS);
        for link in topology.links.iter().flatten() {
            for direction in Direction::ALL {
                link.impair(direction, impairment);
            }
        }
        Ok(topology)
    }

    async fn build(backbone: Backbone) -> Result<Self, LabError> {
        let core = Node::router("core")?;
        let lo = 1;
        core.add_address(lo, CORE_ADDRESS, 128).await?;
        let (a, a_accesses, a_links) = add_host(&core, "a", &[prefix(0xa1), prefix(0xa2)], backbone).await?;
        let (b, b_accesses, b_links) = add_host(&core, "b", &[prefix(0xb1), prefix(0xb2)], backbone).await?;
        Ok(Self {
            a,
            b,
            core,
            accesses: [a_accesses, b_accesses],
            links: [a_links, b_links],
        })
    }

    /// Cuts one uplink of a host, counted from 0. A cut that is there already is replaced.
    /// Nothing else is disturbed.
    ///
    /// # Errors
    /// [`LabError::NoSuchUplink`], or the kernel refused; [`Topology::heal`] then undoes what
    /// was done.
    pub async fn cut(&self, failure: Failure, host: &Host, uplink: usize) -> Result<(), LabError> {
        self.access(host, uplink)?.cut(failure).await
    }

    /// Undoes whatever cut there is on one uplink of a host, counted from 0; without a cut, does
    /// nothing. After [`Failure::LinkDown`] the host sees the carrier again, and takes a moment
    /// to act on it.
    ///
    /// # Errors
    /// [`LabError::NoSuchUplink`], or the kernel refused; calling it again tries again.
    pub async fn heal(&self, host: &Host, uplink: usize) -> Result<(), LabError> {
        self.access(host, uplink)?.heal().await
    }

    /// The router that is the ISP of one uplink of a host, counted from 0.
    ///
    /// # Errors
    /// [`LabError::NoSuchUplink`].
    pub fn isp(&self, host: &Host, uplink: usize) -> Result<&Namespace, LabError> {
        Ok(&self.access(host, uplink)?.isp.namespace)
    }

    /// The emulated link behind one uplink of a host, counted from 0: between its ISP and the core
    /// router.
    ///
    /// # Errors
    /// [`LabError::NoSuchUplink`]; [`LabError::NotEmulated`] in a plain [`Topology::two_by_two`].
    pub fn link(&self, host: &Host, uplink: usize) -> Result<&Link, LabError> {
        let side = self.side(host, uplink)?;
        self.links[side].get(uplink).ok_or(LabError::NotEmulated)
    }

    /// Makes the kernels of all nodes carry packet by packet: no interface sends or receives a packet larger than its MTU
    /// any more, whatever its sender does. Without this, veth passes on what TCP makes of up to 64 KiB as one.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn disable_offloads(&self) -> Result<(), LabError> {
        let isps = self.accesses.iter().flatten().map(|access| &access.isp.namespace);
        let hosts = [&self.a.namespace, &self.b.namespace, self.core()];
        for namespace in isps.chain(hosts) {
            let switch_off = || {
                for interface in &if_nameindex()? {
                    let name = interface.name().to_string_lossy();
                    if name != "lo" {
                        disable_offloads(&name)?;
                    }
                }
                std::io::Result::Ok(())
            };
            let done = namespace.run(switch_off)?;
            done.map_err(|source| LabError::namespace(namespace.name(), "carry packet by packet", source))?;
        }
        Ok(())
    }

    /// The router in which all ISPs meet.
    #[must_use]
    pub fn core(&self) -> &Namespace {
        &self.core.namespace
    }

    fn access(&self, host: &Host, uplink: usize) -> Result<&Access, LabError> {
        Ok(&self.accesses[self.side(host, uplink)?][uplink])
    }

    /// Which of the two hosts it is, if it has this uplink.
    fn side(&self, host: &Host, uplink: usize) -> Result<usize, LabError> {
        let hosts = [&self.a, &self.b];
        hosts
            .iter()
            .zip(&self.accesses)
            .position(|(own, accesses)| own.namespace.is(&host.namespace) && uplink < accesses.len())
            .ok_or_else(|| LabError::NoSuchUplink {
                host: host.name.clone(),
                uplink,
            })
    }
}

/// Adds a host with an ISP for each of `prefixes`, all connected to `core`.
async fn add_host(
    core: &Node,
    name: &str,
    prefixes: &[Ipv6Addr],
    backbone: Backbone,
) -> Result<(Host, Vec<Access>, Vec<Link>), LabError> {
    let host = Node::host(name)?;
    let mut uplinks = Vec::new();
    let mut accesses = Vec::new();
    let mut links = Vec::new();
    for (number, &prefix) in (0_u32..).zip(prefixes) {
        let (isp, link) = add_isp(core, &format!("isp-{name}{}", number + 1), prefix, backbone).await?;
        links.extend(link);
        let interface = format!("eth{number}");
        let (at_host, at_isp) = connect((&host, &interface), (&isp, "access")).await?;
        accesses.push(Access::new(isp, at_isp, prefix).await?);

        let address = Ipv6Addr::from_bits(prefix.to_bits() | 1);
        host.add_address(at_host, address, 64).await?;
        let metric = DEFAULT_ROUTE_METRIC * (number + 1);
        host.add_route(EVERYWHERE, GATEWAY, at_host, metric).await?;
        uplinks.push(Uplink {
            interface,
            prefix,
            address,
            gateway: GATEWAY,
        });
    }
    let host = Host {
        name: name.to_owned(),
        namespace: host.namespace,
        uplinks,
    };
    Ok((host, accesses, links))
}

/// Adds a router behind `core` that serves a customer's prefix.
async fn add_isp(
    core: &Node,
    name: &str,
    prefix: Ipv6Addr,
    backbone: Backbone,
) -> Result<(Node, Option<Link>), LabError> {
    let isp = Node::router(name)?;
    let (link, at_isp, at_core) = match backbone {
        Backbone::Plain => {
            let (at_isp, at_core) = connect((&isp, "core"), (core, name)).await?;
            (None, at_isp, at_core)
        }
        Backbone::Emulated => {
            let (link, at_isp, at_core) = Link::between((&isp, "core"), (core, name))?;
            (Some(link), at_isp, at_core)
        }
    };
    isp.add_address(at_isp, GATEWAY, 64).await?;
    core.add_address(at_core, CORE_GATEWAY, 64).await?;
    core.add_route((prefix, 64), GATEWAY, at_core, DEFAULT_ROUTE_METRIC)
        .await?;
    isp.add_route(EVERYWHERE, CORE_GATEWAY, at_isp, DEFAULT_ROUTE_METRIC)
        .await?;
    // While the access link is down, packets to the customer would else follow the default route
    // back to the core, and circle until their hop limit ends.
    isp.add_blackhole((prefix, 64), AGGREGATE_METRIC).await?;
    Ok((isp, link))
}

/// 2001:db8:`third`::
const fn prefix(third: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, third, 0, 0, 0, 0, 0)
}
