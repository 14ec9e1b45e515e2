//! A topology that is up.

use std::net::Ipv6Addr;

use tokio::sync::Mutex;

use super::advertise::{Advertisement, Advertiser};
use super::description::{Description, Destination, LinkSpec, NodeKind, Plan, PlannedLink};
use super::failure::GATEWAY;
use super::link::{Capture, Direction, Link, LinkOptions, Setting};
use super::node::{Node, connect, wait_for_address};
use super::status::{DirectionStatus, LabStatus, LinkState, LinkStatus, NodeStatus};
use super::{Host, LabError, Namespace, Uplink};
use crate::config::read::instead;

/// Metric of the first uplink's default route, which is what router advertisements give; each
/// further uplink has this much more.
const DEFAULT_ROUTE_METRIC: u32 = 1024;
/// Metric of a router's last resort for a prefix of its own: higher than that of any other route.
const AGGREGATE_METRIC: u32 = 4096;
const EVERYWHERE: (Ipv6Addr, u8) = (Ipv6Addr::UNSPECIFIED, 0);
const LOOPBACK: u32 = 1;
/// Octets of a packet that a link carries unless it is told otherwise, as an Ethernet does.
const DEFAULT_MTU: u32 = 1500;

/// A topology of namespaces and links, up. Dropping it takes it down.
///
/// The namespaces live on while a process or socket is in them or a clone of a [`Namespace`] is kept. The runtime on which it was made
/// has to run while it is used.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<LabNode>,
    links: Vec<LabLink>,
    plan: Plan,
    _advertisers: Vec<Advertiser>,
}

/// A node of a [`Lab`].
#[derive(Debug)]
pub struct LabNode {
    kind: NodeKind,
    host: Host,
    node: Node,
}

/// A link of a [`Lab`].
#[derive(Debug)]
pub struct LabLink {
    spec: LinkSpec,
    planned: PlannedLink,
    ends: [Node; 2],
    indexes: [u32; 2],
    /// `None` for a plain one.
    emulator: Option<Link>,
    /// Whether its ends have been left without carrier. Held while that changes.
    carrier: Mutex<bool>,
}

/// How a link of a [`Lab`] is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// Packets vanish silently. The ends do not notice: their neighbours are still there.
    #[default]
    Blackhole,
    /// Both ends lose the carrier.
    LinkDown,
}

impl Lab {
    /// Builds what is described. When this returns, packets pass.
    ///
    /// # Errors
    /// The description makes no sense, or the kernel refused something: the caller has to be root in a user namespace
    /// ([`enter_user_namespace`](super::enter_user_namespace), [`isolated`](super::isolated)).
    pub async fn up(description: &Description) -> Result<Self, LabError> {
        description.check().map_err(LabError::Description)?;
        let plan = Plan::of(description);
        let mut nodes = Vec::new();
        for (spec, planned) in description.nodes.iter().zip(&plan.nodes) {
            let node = if spec.kind.forwards() {
                Node::router(&spec.name)?
            } else {
                Node::host(&spec.name)?
            };
            if let Some(address) = planned.address {
                node.add_address(LOOPBACK, address, 128).await?;
            }
            let host = Host {
                name: spec.name.clone(),
                namespace: node.namespace.clone(),
                uplinks: Vec::new(),
            };
            nodes.push(LabNode {
                kind: spec.kind,
                host,
                node,
            });
        }
        let mut lab = Self {
            nodes,
            links: Vec::new(),
            plan,
            _advertisers: Vec::new(),
        };
        let wire = if description.links.iter().all(|link| link.plain) {
            None
        } else {
            Some(Node::host("wire")?)
        };
        for (number, spec) in description.links.iter().enumerate() {
            // Different lots for each link.
            let seed = description
                .seed
                .wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            lab.connect(number, spec, wire.as_ref(), seed).await?;
        }
        for number in 0..lab.nodes.len() {
            lab.route(number).await?;
        }
        lab.configure_hosts().await?;
        Ok(lab)
    }

    /// The nodes, in the order of the description.
    #[must_use]
    pub fn nodes(&self) -> &[LabNode] {
        &self.nodes
    }

    /// The links, in the order of the description.
    #[must_use]
    pub fn links(&self) -> &[LabLink] {
        &self.links
    }

    /// A node by its name: a host, or a router.
    ///
    /// # Errors
    /// [`LabError::NoSuch`].
    pub fn node(&self, name: &str) -> Result<&LabNode, LabError> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.ok_or_else(|| no_such("node", name, self.nodes.iter().map(LabNode::name)))
    }

    /// A host by its name.
    ///
    /// # Errors
    /// [`LabError::NoSuch`].
    pub fn host(&self, name: &str) -> Result<&Host, LabError> {
        let hosts = || self.nodes.iter().filter(|node| !node.kind.forwards());
        let found = hosts().find(|node| node.name() == name);
        let found = found.ok_or_else(|| no_such("host", name, hosts().map(LabNode::name)))?;
        Ok(&found.host)
    }

    /// A link by its name.
    ///
    /// # Errors
    /// [`LabError::NoSuch`].
    pub fn link(&self, name: &str) -> Result<&LabLink, LabError> {
        let found = self.links.iter().find(|link| link.name() == name);
        found.ok_or_else(|| no_such("link", name, self.links.iter().map(LabLink::name)))
    }

    /// What is there, and what has happened.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub async fn status(&self) -> Result<LabStatus, LabError> {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            nodes.push(node.status().await?);
        }
        let mut links = Vec::new();
        for link in &self.links {
            links.push(link.status().await);
        }
        Ok(LabStatus { nodes, links })
    }

    async fn connect(
        &mut self,
        number: usize,
        spec: &LinkSpec,
        wire: Option<&Node>,
        seed: u64,
    ) -> Result<(), LabError> {
        let planned = self.plan.links[number].clone();
        let ends = planned.nodes.map(|node| self.nodes[node].node.clone());
        let [first, second] = [0, 1].map(|end| (&ends[end], planned.interfaces[end].as_str()));
        let (emulator, indexes) = match wire {
            Some(wire) if !spec.plain => {
                let elements = spec.elements.clone();
                let options = LinkOptions { elements, seed };
                let (link, indexes) = Link::between(wire, [first, second], &options).await?;
                (Some(link), indexes)
            }
            _ => {
                let (first, second) = connect(first, second).await?;
                (None, [first, second])
            }
        };
        for end in [0, 1] {
            if let Some(gateway) = planned.gateways[end] {
                ends[end].add_address(indexes[end], gateway, 64).await?;
            }
            if let Some(address) = planned.addresses[end] {
                ends[end].add_address(indexes[end], address, 64).await?;
            }
        }
        let link = LabLink {
            spec: spec.clone(),
            planned,
            ends,
            indexes,
            emulator,
            carrier: Mutex::new(true),
        };
        for direction in Direction::ALL {
            if let Some(emulator) = &link.emulator {
                emulator.impair(direction, spec.impairments[direction.index()]);
            }
        }
        if spec.impairments.iter().any(|impairment| impairment.mtu.is_some()) {
            link.set_mtu().await?;
        }
        self.links.push(link);
        Ok(())
    }

    /// Gives a router its routes.
    async fn route(&self, number: usize) -> Result<(), LabError> {
        let node = &self.nodes[number].node;
        for &(destination, by) in &self.plan.nodes[number].routes {
            let link = &self.links[by];
            let end = link.planned.end_of(number).unwrap_or_default();
            // Both ends of a link between routers have one.
            let gateway = link.planned.gateways[1 - end].unwrap_or(GATEWAY);
            let destination = match destination {
                Destination::Everywhere => EVERYWHERE,
                Destination::Prefix(prefix) => (prefix.address(), prefix.length()),
            };
            let output = link.indexes[end];
            node.add_route(destination, gateway, output, DEFAULT_ROUTE_METRIC)
                .await?;
        }
        if !self.nodes[number].kind.forwards() {
            return Ok(());
        }
        for link in &self.links {
            if let (Some(prefix), Some(_)) = (link.planned.prefix, link.planned.end_of(number)) {
                // While the access link is down, packets to the customer would else follow the default route
                // back, and circle until their hop limit ends.
                node.add_blackhole((prefix.address(), prefix.length()), AGGREGATE_METRIC)
                    .await?;
            }
        }
        Ok(())
    }

    /// Gives hosts their default routes, or has them make these and their addresses out of advertisements.
    async fn configure_hosts(&mut self) -> Result<(), LabError> {
        for (number, host) in self
            .nodes
            .iter_mut()
            .enumerate()
            .filter(|(_, node)| !node.kind.forwards())
        {
            for link in &self.links {
                let Some(end) = link.planned.end_of(number) else {
                    continue;
                };
                let (Some(prefix), Some(gateway)) = (link.planned.prefix, link.planned.gateways[1 - end]) else {
                    continue;
                };
                let uplinks = host.host.uplinks.len() as u32;
                let output = link.indexes[end];
                let address = if link.spec.advertise {
                    let monitor = host.node.namespace.monitor()?;
                    let advertisement = Advertisement {
                        prefix,
                        mtu: link.mtu(),
                        is_second_choice: uplinks > 0,
                    };
                    let router = &link.ends[1 - end];
                    let advertiser = Advertiser::start(router, link.indexes[1 - end], gateway, &advertisement)?;
                    self._advertisers.push(advertiser);
                    let interface = (link.planned.interfaces[end].as_str(), output);
                    let is_ours = |address: &crate::netlink::Address| prefix.contains(address.address);
                    wait_for_address(&host.node, interface, monitor, is_ours).await?
                } else {
                    let metric = DEFAULT_ROUTE_METRIC * (uplinks + 1);
                    host.node.add_route(EVERYWHERE, gateway, output, metric).await?;
                    link.planned.addresses[end].unwrap_or(prefix.with(1))
                };
                host.host.uplinks.push(Uplink {
                    interface: link.planned.interfaces[end].clone(),
                    prefix: prefix.address(),
                    address,
                    gateway,
                });
            }
        }
        Ok(())
    }
}

impl LabNode {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// Its namespace: [`Namespace::command`] starts programs in it, [`Namespace::run`] opens sockets.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.host.namespace
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    async fn status(&self) -> Result<NodeStatus, LabError> {
        let netlink = &self.node.netlink;
        let links = netlink.links().await.map_err(|error| self.node.error(error))?;
        let addresses = netlink.addresses().await.map_err(|error| self.node.error(error))?;
        let global = addresses.into_iter().filter(|address| address.global);
        let named = global.filter_map(|address| {
            let link = links.iter().find(|link| link.index == address.index)?;
            Some((link.name.clone(), address.address))
        });
        let mut addresses: Vec<_> = named.collect();
        addresses.sort();
        Ok(NodeStatus {
            name: self.name().to_owned(),
            kind: self.kind,
            addresses,
        })
    }
}

impl LabLink {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.planned.name
    }

    /// The nodes at its ends.
    #[must_use]
    pub fn ends(&self) -> [&str; 2] {
        [0, 1].map(|end| self.spec.ends[end].as_str())
    }

    /// Its emulator.
    ///
    /// # Errors
    /// [`LabError::Plain`] if it has none.
    pub fn emulator(&self) -> Result<&Link, LabError> {
        self.emulator.as_ref().ok_or_else(|| LabError::Plain {
            link: self.name().to_owned(),
        })
    }

    /// Changes what happens to packets that enter in these directions from now on. An MTU that is set for both is one of the
    /// interfaces, too: then routers say that a packet is too big; for one direction only, such packets vanish.
    ///
    /// # Errors
    /// [`LabError::Plain`], or the kernel refused an MTU.
    pub async fn set(&self, directions: &[Direction], settings: &[Setting]) -> Result<(), LabError> {
        let emulator = self.emulator()?;
        for &direction in directions {
            let changed = settings
                .iter()
                .fold(emulator.impairment(direction), |impairment, setting| {
                    impairment.with(*setting)
                });
            emulator.impair(direction, changed);
        }
        if settings.iter().any(|setting| matches!(setting, Setting::Mtu(_))) {
            self.set_mtu().await?;
        }
        Ok(())
    }

    /// Breaks it. A carrier is taken from both ends, whichever directions are given. What is broken already is left alone.
    ///
    /// # Errors
    /// [`LabError::Plain`], or the kernel refused.
    pub async fn cut(&self, how: Break, directions: &[Direction]) -> Result<(), LabError> {
        match how {
            Break::Blackhole => {
                let emulator = self.emulator()?;
                directions
                    .iter()
                    .for_each(|&direction| emulator.blackhole(direction, true));
                Ok(())
            }
            Break::LinkDown => self.set_carrier(false).await,
        }
    }

    /// Undoes whatever [`LabLink::cut`] did. Settings stay.
    ///
    /// # Errors
    /// The kernel refused; calling it again tries again.
    pub async fn heal(&self) -> Result<(), LabError> {
        if let Some(emulator) = &self.emulator {
            Direction::ALL
                .iter()
                .for_each(|&direction| emulator.blackhole(direction, false));
        }
        self.set_carrier(true).await
    }

    /// Captures what enters the link from now on, both ways.
    ///
    /// # Errors
    /// [`LabError::Plain`].
    pub fn capture(&self) -> Result<Capture, LabError> {
        Ok(self.emulator()?.capture())
    }

    /// The global address at an end, `::` for none.
    pub(super) fn address(&self, end: usize) -> Ipv6Addr {
        self.planned.addresses[end].unwrap_or(Ipv6Addr::UNSPECIFIED)
    }

    pub(super) fn index(&self, end: usize) -> u32 {
        self.indexes[end]
    }

    async fn set_carrier(&self, wanted: bool) -> Result<(), LabError> {
        let mut carrier = self.carrier.lock().await;
        if *carrier == wanted {
            return Ok(());
        }
        match &self.emulator {
            Some(emulator) => emulator.set_carrier(wanted).await?,
            None => self.set_access(wanted).await?,
        }
        *carrier = wanted;
        Ok(())
    }

    /// Sets the router's end of a plain access link up or down: the host sees the carrier.
    async fn set_access(&self, up: bool) -> Result<(), LabError> {
        let routers: Vec<_> = (0..2).filter(|&end| self.planned.gateways[end].is_some()).collect();
        let [end] = routers[..] else {
            return Err(LabError::Plain {
                link: self.name().to_owned(),
            });
        };
        let (node, index) = (&self.ends[end], self.indexes[end]);
        if !up {
            return node.set_down(index).await;
        }
        node.set_up(index).await?;
        // The kernel removed them when the interface went down.
        let own = [self.planned.gateways[end], self.planned.addresses[end]];
        for address in own.into_iter().flatten() {
            node.add_address(index, address, 64).await?;
        }
        Ok(())
    }

    /// Gives the interfaces the larger of the MTUs of both directions.
    async fn set_mtu(&self) -> Result<(), LabError> {
        let mtu = self.mtu();
        for (node, index) in self.ends.iter().zip(self.indexes) {
            node.set_mtu(index, mtu).await?;
        }
        Ok(())
    }

    fn mtu(&self) -> u32 {
        let of = |direction: Direction| {
            let impairment = self.emulator.as_ref().map(|emulator| emulator.impairment(direction));
            impairment.and_then(|impairment| impairment.mtu).unwrap_or(DEFAULT_MTU)
        };
        of(Direction::Up).max(of(Direction::Down))
    }

    async fn status(&self) -> LinkStatus {
        let direction = |direction: Direction| {
            let of = |emulator: &Link| DirectionStatus {
                settings: emulator.impairment(direction).to_string(),
                blackhole: emulator.is_blackhole(direction),
                counters: emulator.counters(direction),
            };
            self.emulator.as_ref().map(of).unwrap_or_default()
        };
        let (up, down) = (direction(Direction::Up), direction(Direction::Down));
        let state = match *self.carrier.lock().await {
            false => LinkState::NoCarrier,
            true if up.blackhole || down.blackhole => LinkState::Blackhole,
            true => LinkState::Up,
        };
        LinkStatus {
            name: self.name().to_owned(),
            ends: self.spec.ends.clone(),
            interfaces: self.planned.interfaces.clone(),
            prefix: self.planned.prefix.map(|prefix| prefix.to_string()),
            state,
            plain: self.emulator.is_none(),
            elements: self.spec.elements.iter().map(ToString::to_string).collect(),
            up,
            down,
        }
    }
}

fn no_such<'a>(what: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> LabError {
    LabError::NoSuch {
        what,
        name: name.to_owned(),
        instead: instead(name, &known.collect::<Vec<_>>()),
    }
}
