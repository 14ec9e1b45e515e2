//! Datagrams between all addresses of two hosts.

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use crate::lab::{Host, Topology};
use crate::netlink::{MAIN_TABLE, RouteKind, RouteSpec};

const PORT: u16 = 7000;
/// A datagram that may still come does so within this time: the path is one machine.
const STRAGGLERS: Duration = Duration::from_millis(200);
const RESEND: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(20);

/// One direction between two addresses, as host and uplink: `a0` to `b1`.
pub(super) type Path = (String, String);

/// A socket on every address of both hosts.
pub(super) struct Mesh {
    sockets: Vec<Endpoint>,
    round: u8,
}

struct Endpoint {
    label: String,
    address: SocketAddr,
    socket: UdpSocket,
}

impl Mesh {
    /// Also makes each host send by the uplink that owns the source address.
    pub(super) async fn new(topology: &Topology) -> Self {
        let mut sockets = Vec::new();
        for host in [&topology.a, &topology.b] {
            route_by_source(host).await;
            for (number, uplink) in host.uplinks.iter().enumerate() {
                let address = SocketAddrV6::new(uplink.address, PORT, 0, 0).into();
                let bind = || std::net::UdpSocket::bind(address);
                let socket = host.namespace.run(bind).unwrap().unwrap();
                socket.set_nonblocking(true).unwrap();
                sockets.push(Endpoint {
                    label: format!("{}{number}", host.name),
                    address,
                    socket: UdpSocket::from_std(socket).unwrap(),
                });
            }
        }
        Self { sockets, round: 0 }
    }

    /// Every direction between the two hosts: eight of them.
    pub(super) fn all(&self) -> BTreeSet<Path> {
        self.directions()
            .map(|(from, to)| (from.label.clone(), to.label.clone()))
            .collect()
    }

    /// Sends in every direction, once, and waits until all of `expected` have arrived.
    pub(super) async fn first_datagrams_pass(&mut self, expected: &BTreeSet<Path>) {
        self.check(expected, LIMIT).await;
    }

    /// Sends in every direction, again where nothing came, until all of `expected` have arrived;
    /// none other may.
    pub(super) async fn passes_exactly(&mut self, expected: &BTreeSet<Path>) {
        self.check(expected, RESEND).await;
    }

    async fn check(&mut self, expected: &BTreeSet<Path>, resend: Duration) {
        // Marks this check's datagrams, so that those of earlier ones do not count.
        self.round += 1;
        let deadline = Instant::now() + LIMIT;
        let mut arrived = BTreeSet::new();
        while !expected.is_subset(&arrived) {
            assert!(
                Instant::now() < deadline,
                "nothing came on {:?}",
                expected.difference(&arrived)
            );
            self.send().await;
            self.receive(expected, &mut arrived, resend).await;
        }
        self.receive(&self.all(), &mut arrived, STRAGGLERS).await;
        assert_eq!(&arrived, expected);
    }

    async fn send(&self) {
        for (from, to) in self.directions() {
            let datagram = [&[self.round], from.label.as_bytes()].concat();
            // A host without a carrier may refuse to send: then nothing arrives.
            let _ = from.socket.send_to(&datagram, to.address).await;
        }
    }

    /// Receives until `enough` has arrived or `wait` is over.
    async fn receive(&self, enough: &BTreeSet<Path>, arrived: &mut BTreeSet<Path>, wait: Duration) {
        let until = Instant::now() + wait;
        for to in &self.sockets {
            let missing = |arrived: &BTreeSet<Path>| {
                let mut towards = enough.iter().filter(|path| path.1 == to.label);
                towards.any(|path| !arrived.contains(path))
            };
            let mut buffer = [0; 16];
            while missing(arrived) {
                let received = timeout_at(until, to.socket.recv_from(&mut buffer)).await;
                let Ok(Ok((length, _))) = received else { break };
                if buffer[0] == self.round {
                    let from = String::from_utf8_lossy(&buffer[1..length]).into_owned();
                    arrived.insert((from, to.label.clone()));
                }
            }
        }
    }

    fn directions(&self) -> impl Iterator<Item = (&Endpoint, &Endpoint)> {
        let pairs = self
            .sockets
            .iter()
            .flat_map(|from| self.sockets.iter().map(move |to| (from, to)));
        pairs.filter(|(from, to)| from.label[..1] != to.label[..1])
    }
}

async fn route_by_source(host: &Host) {
    let netlink = host.namespace.netlink().unwrap();
    for uplink in &host.uplinks {
        let route = RouteSpec {
            destination: ("::".parse().unwrap(), 0),
            source: Some((uplink.prefix, 64)),
            gateway: Some(uplink.gateway),
            output: Some(netlink.link(&uplink.interface).await.unwrap().index),
            table: MAIN_TABLE,
            metric: None,
            kind: RouteKind::Unicast,
        };
        netlink.add_route(&route).await.unwrap();
    }
}

/// The directions of `all` that do not touch the address `label`.
pub(super) fn without(all: &BTreeSet<Path>, label: &str) -> BTreeSet<Path> {
    let mut rest = all.clone();
    rest.retain(|(from, to)| from != label && to != label);
    rest
}

/// The directions of `all` that do not end at the address `label`.
pub(super) fn without_towards(all: &BTreeSet<Path>, label: &str) -> BTreeSet<Path> {
    let mut rest = all.clone();
    rest.retain(|(_, to)| to != label);
    rest
}

/// How many ICMP errors a host has received.
pub(super) fn icmp_errors(host: &Host) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let counters = host.namespace.run(read).unwrap();
    let value = |name: &str| {
        let line = counters.lines().find(|line| line.starts_with(name));
        let value = line.unwrap().split_whitespace().nth(1).unwrap();
        value.parse::<u64>().unwrap()
    };
    value("Icmp6InDestUnreachs") + value("Icmp6InTimeExcds") + value("Icmp6InPktTooBigs")
}

/// Waits for `future`, but not for ever.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("it takes too long")
}
