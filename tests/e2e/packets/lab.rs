//! A lab with a steered context, and sockets in it.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use shim6_tests::binary;
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{self, Locators, Stage};
use shim6_tun::demo::traffic::{Dialogue, Pattern, converse, echo};
use shim6_tun::lab::{Failure, Host, Namespace, Topology};
use shim6_tun::netlink::{MAIN_TABLE, RouteKind, RouteSpec};
use shim6_tun::status::{ContextStatus, Status};
use shim6_tun::sys::ancillary::set_option;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, timeout};

use crate::plans::assert_clean;

/// Longer than anything takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// The same for the way back: a host whose processors are taken misses answers, and then waits longer until the path is stable.
const WAY_BACK: Duration = Duration::from_secs(60);
/// How long a socket waits for a packet: much longer than it takes to come.
const WAIT: Duration = Duration::from_secs(5);
/// Routers between the hosts, on every path.
pub(crate) const ROUTERS: i32 = 3;
/// The counters of packets with a wrong checksum, of each protocol.
const CHECKSUM_ERRORS: [&str; 4] = [
    "Udp6InCsumErrors",
    "Icmp6InCsumErrors",
    "UdpLite6InCsumErrors",
    "InCsumErrors",
];

/// Two hosts with daemons that have a context for the addresses on their first uplinks, which is always in use.
pub(crate) struct Lab {
    pub(crate) stage: Stage,
    pub(crate) ulids: Locators,
    chatter: Vec<AbortHandle>,
    checksum_errors: [u64; 2],
}

/// An address of a host.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) namespace: Namespace,
    pub(crate) address: Ipv6Addr,
}

/// Where packets go from and to.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) from: Side,
    pub(crate) to: Side,
}

impl Lab {
    /// Starts the daemons, with `more` in their configuration, and waits for the context. Nothing has failed yet.
    pub(crate) async fn start(topology: Topology, more: &str) -> Self {
        let stage = Stage::on(topology, binary::shim6(), Arc::new(Live::default())).expect("a stage");
        Self::start_on(stage, more).await
    }

    /// As [`start`](Self::start), on a stage that has been prepared.
    pub(crate) async fn start_on(mut stage: Stage, more: &str) -> Self {
        stage.configure(more);
        let mut lab = Self::quiet(stage).await;
        lab.chatter = chatter(&lab.stage, lab.ulids);
        lab.stage
            .wait_established(lab.ulids, Instant::now() + LIMIT)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        lab
    }

    /// Starts the daemons only. There is no context as long as nobody talks.
    pub(crate) async fn quiet(mut stage: Stage) -> Self {
        for host in [&stage.topology().a, &stage.topology().b] {
            route_by_source(host).await;
        }
        let checksum_errors = checksum_errors(&stage);
        stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        let ulids = stage.ulids().await.expect("addresses");
        Self {
            stage,
            ulids,
            chatter: Vec::new(),
            checksum_errors,
        }
    }

    /// [`start`](Self::start) and [`steer`](Self::steer).
    pub(crate) async fn steered(topology: Topology) -> Self {
        let lab = Self::start(topology, "").await;
        lab.steer().await;
        lab
    }

    /// Cuts the path of the context silently, and waits until both hosts have it on another one.
    pub(crate) async fn steer(&self) {
        self.steer_by(Failure::Blackhole).await;
    }

    /// As [`steer`](Self::steer), by a failure of this kind.
    pub(crate) async fn steer_by(&self, failure: Failure) {
        self.stage.cut(failure).await.expect("a cut");
        self.until("both hosts are on another path", |a, b| {
            [a, b]
                .iter()
                .all(|context| context.steered && context.reap == "operational")
        })
        .await;
    }

    /// Heals that path, and waits until both hosts are back on it.
    pub(crate) async fn heal(&self) {
        self.stage.heal().await.expect("a whole path");
        self.until_within(WAY_BACK, "both hosts are back", |a, b| {
            [a, b]
                .iter()
                .all(|context| !context.steered && context.reap == "operational")
        })
        .await;
    }

    /// Waits until the contexts of both hosts are so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&ContextStatus, &ContextStatus) -> bool) {
        self.until_within(LIMIT, what, is_so).await;
    }

    /// As [`until`](Self::until), for so long.
    async fn until_within(&self, limit: Duration, what: &str, is_so: impl Fn(&ContextStatus, &ContextStatus) -> bool) {
        let mut tick = interval(Duration::from_millis(10));
        let wait = async {
            loop {
                tick.tick().await;
                let a = self.stage.context_a(self.ulids).await;
                let b = self.stage.context_b(self.ulids).await;
                if let (Ok(Some(a)), Ok(Some(b))) = (a, b)
                    && is_so(&a, &b)
                {
                    return;
                }
            }
        };
        if timeout(limit, wait).await.is_err() {
            panic!("not so: {what}\n{}", self.stage.logs());
        }
    }

    /// What the daemons say of themselves.
    pub(crate) async fn status(&self) -> [Status; 2] {
        let of = async |daemon: &shim6_tun::demo::daemon::Daemon| daemon.status().await.expect("a status");
        [
            of(self.stage.daemon_a().expect("it runs")).await,
            of(self.stage.daemon_b().expect("it runs")).await,
        ]
    }

    /// From host a to host b between the ULIDs.
    pub(crate) fn pair(&self) -> Pair {
        let topology = self.stage.topology();
        Pair {
            name: "between the ULIDs, from a to b",
            from: Side::on(&topology.a, self.ulids[0]),
            to: Side::on(&topology.b, self.ulids[1]),
        }
    }

    /// Between the plain addresses on the second uplinks.
    pub(crate) fn plain(&self) -> Pair {
        let topology = self.stage.topology();
        let on = |host: &Host| Side::on(host, host.uplinks[1].address);
        Pair {
            name: "between plain addresses, from a to b",
            from: on(&topology.a),
            to: on(&topology.b),
        }
    }

    /// Runs `probe` on both kinds of pair, each in both directions. It does not return here what differs from the plain path.
    pub(crate) async fn compare<R>(&self, what: &str, probe: impl Fn(&Pair) -> R + Send + 'static)
    where
        R: PartialEq + std::fmt::Debug + Send + 'static,
    {
        let (ulids, plain) = (self.pair(), self.plain());
        let what = what.to_owned();
        let compare = move || {
            for (plain, ulids) in [
                (plain.clone(), ulids.clone()),
                (
                    plain.reversed("between plain addresses, from b to a"),
                    ulids.reversed("between the ULIDs, from b to a"),
                ),
            ] {
                let expected = probe(&plain);
                let found = probe(&ulids);
                assert_eq!(expected, found, "{what}, {}", ulids.name);
            }
        };
        self.blocking(compare).await;
    }

    /// Runs what waits for sockets on a thread of its own.
    pub(crate) async fn blocking<R: Send + 'static>(&self, body: impl FnOnce() -> R + Send + 'static) -> R {
        match tokio::task::spawn_blocking(body).await {
            Ok(answer) => answer,
            Err(error) => {
                for status in self.status().await {
                    let counted = status.counters.dataplane.into_iter().filter(|(_, count)| *count > 0);
                    eprintln!("{:?}", counted.collect::<Vec<_>>());
                }
                eprintln!("{}", self.stage.logs());
                std::panic::resume_unwind(error.into_panic())
            }
        }
    }

    /// Ends the questions and answers, and waits until the last of them are through.
    pub(crate) async fn silence(&self) {
        self.chatter.iter().for_each(AbortHandle::abort);
        let (mut tick, mut last) = (interval(Duration::from_millis(50)), None);
        loop {
            tick.tick().await;
            let now = self
                .status()
                .await
                .map(|status| status.counters.dataplane["in_restored"]);
            if last.replace(now) == Some(now) {
                return;
            }
        }
    }

    /// Nothing had a wrong checksum meanwhile, and nothing is left behind.
    pub(crate) async fn end(self) {
        self.end_with_wrong_checksums([0; 2]).await;
    }

    /// As [`end`](Self::end), but so many packets that arrived at host a and at host b had a wrong checksum.
    pub(crate) async fn end_with_wrong_checksums(mut self, wrong: [u64; 2]) {
        self.chatter.iter().for_each(AbortHandle::abort);
        let before = self.checksum_errors;
        assert_eq!(
            checksum_errors(&self.stage),
            [before[0] + wrong[0], before[1] + wrong[1]]
        );
        assert_clean(&self.stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.chatter.iter().for_each(AbortHandle::abort);
    }
}

impl Side {
    pub(crate) fn on(host: &Host, address: Ipv6Addr) -> Self {
        Self {
            namespace: host.namespace.clone(),
            address,
        }
    }

    /// A socket of this host, bound to the address and a port of the kernel's choice.
    pub(crate) fn socket(&self, kind: Type, protocol: i32) -> Socket {
        self.unbound(kind, protocol, Some(self.address))
    }

    pub(crate) fn udp(&self) -> Socket {
        self.socket(Type::DGRAM, libc::IPPROTO_UDP)
    }

    /// One that is not bound unless `address` says so.
    pub(crate) fn unbound(&self, kind: Type, protocol: i32, address: Option<Ipv6Addr>) -> Socket {
        let open = || {
            let socket = Socket::new(Domain::IPV6, kind, Some(Protocol::from(protocol)))?;
            socket.set_read_timeout(Some(WAIT))?;
            socket.set_write_timeout(Some(WAIT))?;
            if let Some(address) = address {
                socket.bind(&SocketAddrV6::new(address, 0, 0, 0).into())?;
            }
            Ok::<_, std::io::Error>(socket)
        };
        self.namespace.run(open).expect("a namespace").expect("a socket")
    }
}

impl Pair {
    pub(crate) fn reversed(&self, name: &'static str) -> Self {
        Self {
            name,
            from: self.to.clone(),
            to: self.from.clone(),
        }
    }
}

/// The address that a socket is bound to.
pub(crate) fn address_of(socket: &Socket) -> SocketAddrV6 {
    let address = socket.local_addr().expect("an address");
    address.as_socket_ipv6().expect("an IPv6 address")
}

/// Sets an option that is an `int`.
pub(crate) fn set(socket: &Socket, level: i32, name: i32, value: i32) {
    set_option(socket, level, name, &value.to_ne_bytes())
        .unwrap_or_else(|error| panic!("socket option {level}/{name} to {value}: {error}"));
}

/// So many octets of a pattern that is different for each seed.
pub(crate) fn octets(seed: usize, length: usize) -> Vec<u8> {
    let mut octets = vec![0; length];
    Pattern::new(seed as u64).fill(&mut octets);
    octets
}

/// Lets what comes from the plain address of the second uplink leave by that one.
async fn route_by_source(host: &Host) {
    let netlink = host.namespace.netlink().expect("a connection");
    let uplink = &host.uplinks[1];
    let link = netlink.link(&uplink.interface).await.expect("an interface");
    let route = RouteSpec {
        destination: (Ipv6Addr::UNSPECIFIED, 0),
        source: Some((uplink.address, 128)),
        gateway: Some(uplink.gateway),
        output: Some(link.index),
        table: MAIN_TABLE,
        metric: None,
        kind: RouteKind::Unicast,
    };
    netlink.add_route(&route).await.expect("a route");
}

/// A question from a to b each 5 ms, and its answer, without an end.
fn chatter(stage: &Stage, ulids: Locators) -> Vec<AbortHandle> {
    let (server, bound) = stage::udp(&stage.topology().b, ulids[1]).expect("a server");
    let (client, _) = stage::udp(&stage.topology().a, ulids[0]).expect("a client");
    let dialogue = Dialogue {
        seed: 1,
        requests: u64::MAX,
        interval: Duration::from_millis(5),
    };
    let asking = async move { converse(client, bound, dialogue, Instant::now() + 10 * LIMIT, |_| ()).await };
    vec![
        tokio::spawn(echo(server)).abort_handle(),
        tokio::spawn(asking).abort_handle(),
    ]
}

/// How many packets with a wrong checksum the kernel of each host has seen.
fn checksum_errors(stage: &Stage) -> [u64; 2] {
    let of = |host: &Host| {
        let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).expect("counters");
        let text = host
            .namespace
            .run(|| [read("snmp6"), read("snmp")])
            .expect("a namespace");
        let six = text[0].lines().filter_map(|line| {
            let (name, value) = line.split_once(char::is_whitespace)?;
            let value: u64 = value.trim().parse().ok()?;
            CHECKSUM_ERRORS.contains(&name).then_some(value)
        });
        let lines: Vec<_> = text[1].lines().collect();
        // A line of names, and one of values.
        let four = lines.chunks_exact(2).flat_map(|lines| {
            let names = lines[0].split_whitespace();
            names.zip(lines[1].split_whitespace()).filter_map(|(name, value)| {
                let value: u64 = value.parse().ok()?;
                CHECKSUM_ERRORS.contains(&name).then_some(value)
            })
        });
        six.chain(four).sum()
    };
    [of(&stage.topology().a), of(&stage.topology().b)]
}
