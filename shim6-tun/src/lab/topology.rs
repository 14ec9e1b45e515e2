//! Multihomed hosts, their ISPs and what lies between.

use std::net::Ipv6Addr;
use std::time::Duration;

use nix::net::if_::if_nameindex;

use super::failure::Access;
use super::link::{Direction, Impairment, Link};
use super::network::LabNode;
use super::{Description, Element, Failure, Lab, LabError, LinkSpec, Namespace, NodeKind, Prefix};
use crate::sys::ethtool::disable_offloads;

const HOSTS: [&str; 2] = ["a", "b"];
const CORE: &str = "core";
/// Uplinks of each host.
const UPLINKS: usize = 2;
/// The core router's own address, from which it would send ICMP errors.
const CORE_ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);
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
    lab: Lab,
    /// Per host, one per uplink.
    accesses: [Vec<Access>; 2],
}

/// What connects the ISPs with the core router.
#[derive(Clone, Copy, PartialEq, Eq)]
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
        Self::build(Backbone::Plain, &[], 0).await
    }

    /// As [`Topology::two_by_two`], but each ISP reaches the core router over an emulated [`Link`],
    /// which does nothing to the packets until it is told to.
    ///
    /// # Errors
    /// As for [`Topology::two_by_two`].
    pub async fn emulated() -> Result<Self, LabError> {
        Self::emulated_with(&[]).await
    }

    /// As [`Topology::emulated`], with elements between ISPs and the core router: each behind an uplink of a host, counted from 0.
    ///
    /// # Errors
    /// As for [`Topology::two_by_two`]; [`LabError::NoSuchUplink`].
    pub async fn emulated_with(elements: &[(&str, usize, Element)]) -> Result<Self, LabError> {
        Self::emulated_from(0, elements).await
    }

    /// As [`Topology::emulated_with`]; what is lost at random, and the like, is drawn from `seed`, which is 0 with the others.
    ///
    /// # Errors
    /// As for [`Topology::emulated_with`].
    pub async fn emulated_from(seed: u64, elements: &[(&str, usize, Element)]) -> Result<Self, LabError> {
        let has = |host: &str, uplink: usize| HOSTS.contains(&host) && uplink < UPLINKS;
        if let Some((host, uplink, _)) = elements.iter().find(|(host, uplink, _)| !has(host, *uplink)) {
            return Err(LabError::NoSuchUplink {
                host: (*host).to_owned(),
                uplink: *uplink,
            });
        }
        Self::build(Backbone::Emulated, elements, seed).await
    }

    /// [`Topology::emulated`] with a round-trip time of `rtt` between the hosts on every path, to
    /// which comes the time that this machine takes for the packets.
    ///
    /// # Errors
    /// As for [`Topology::two_by_two`].
    pub async fn with_rtt(rtt: Duration) -> Result<Self, LabError> {
        let topology = Self::emulated().await?;
        let impairment = Impairment::delay(rtt / CROSSINGS);
        for link in topology.lab.links() {
            if let Ok(link) = link.emulator() {
                Direction::ALL
                    .iter()
                    .for_each(|&direction| link.impair(direction, impairment));
            }
        }
        Ok(topology)
    }

    async fn build(backbone: Backbone, elements: &[(&str, usize, Element)], seed: u64) -> Result<Self, LabError> {
        let lab = Lab::up(&description(backbone, elements).seed(seed)).await?;
        let mut accesses = [Vec::new(), Vec::new()];
        for (accesses, host) in accesses.iter_mut().zip(HOSTS) {
            for (number, uplink) in lab.host(host)?.uplinks.iter().enumerate() {
                let isp = isp_name(host, number);
                let link = lab.link(&format!("{host}-{isp}"))?;
                let node = lab.node(&isp)?.node().clone();
                accesses.push(Access::new(node, link.index(1), uplink.prefix).await?);
            }
        }
        Ok(Self {
            a: lab.host(HOSTS[0])?.clone(),
            b: lab.host(HOSTS[1])?.clone(),
            lab,
            accesses,
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
        self.side(host, uplink)?;
        let link = self.lab.link(&format!("{}-core", isp_name(&host.name, uplink)))?;
        link.emulator().map_err(|_| LabError::NotEmulated)
    }

    /// Makes the kernels of all nodes carry packet by packet: no interface sends or receives a packet larger than its MTU
    /// any more, whatever its sender does. Without this, veth passes on what TCP makes of up to 64 KiB as one.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn disable_offloads(&self) -> Result<(), LabError> {
        for namespace in self.lab.nodes().iter().map(LabNode::namespace) {
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
        let core = self.lab.nodes().iter().find(|node| node.name() == CORE);
        core.expect("the description has it").namespace()
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

/// Two hosts, a core router, and two ISPs for each host.
fn description(backbone: Backbone, elements: &[(&str, usize, Element)]) -> Description {
    let mut description = Description::new().node(CORE, NodeKind::Router, Some(CORE_ADDRESS));
    for (host, prefixes) in HOSTS
        .iter()
        .zip([[prefix(0xa1), prefix(0xa2)], [prefix(0xb1), prefix(0xb2)]])
    {
        description = description.host(host);
        for (number, prefix) in prefixes.into_iter().enumerate() {
            let isp = isp_name(host, number);
            let access = LinkSpec::between(host, &isp).interfaces(&format!("eth{number}"), "access");
            let trunk = LinkSpec::between(&isp, CORE).interfaces(CORE, &isp);
            let behind = elements.iter().filter(|behind| (behind.0, behind.1) == (*host, number));
            let trunk = behind.fold(trunk, |trunk, (_, _, element)| trunk.element(element.clone()));
            let trunk = if backbone == Backbone::Plain {
                trunk.plain()
            } else {
                trunk
            };
            description = description.isp(&isp).link(trunk);
            description = description.link(access.prefix(Prefix::of(prefix, 64)).plain());
        }
    }
    description
}

/// The ISP of a host's uplink, counted from 0.
fn isp_name(host: &str, uplink: usize) -> String {
    format!("isp-{host}{}", uplink + 1)
}

/// 2001:db8:`third`::
const fn prefix(third: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, third, 0, 0, 0, 0, 0)
}
